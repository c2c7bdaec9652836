"""What had to stay is told with its cause, whatever kind of weight makes it: in both frameworks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import NoMatchError

TOKENS = np.arange(10).reshape(2, 5)


class Reader(torch.nn.Module):
    """Embedding, recurrent layer, both normalised over their features, and two dense ones."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.memory = torch.nn.Embedding(10, 4), torch.nn.LSTM(4, 6, batch_first=True)
        self.before, self.after = torch.nn.LayerNorm(4), torch.nn.LayerNorm(6)
        self.hidden, self.head = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        last = self.memory(self.before(self.words(tokens)))[0][:, -1]
        return self.head(self.hidden(self.after(last)).relu())


def keras_reader() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(10, 4, name="words"),
            keras.layers.LayerNormalization(),
            keras.layers.LSTM(6, name="memory"),
            keras.layers.LayerNormalization(),
            keras.layers.Dense(8, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ]
    )


def test_recurrent_kernels_and_embeddings_are_told_in_torch() -> None:
    torch.manual_seed(0)
    pruned = st.prune(Reader(), Recipe(0.5, granularity=Neurons()), example=torch.tensor(TOKENS))
    told = {name for frozen in pruned.summary().frozen for name in frozen.parameters}
    assert {"words.weight", "memory.weight_ih_l0", "memory.weight_hh_l0", "head.weight"} <= told
    assert "hidden.weight" not in told
    assert "stays: words.weight" in str(pruned.summary())


def test_recurrent_kernels_and_embeddings_are_told_in_keras() -> None:
    pruned = sk.prune(keras_reader(), Recipe(0.5, granularity=Neurons()))
    told = {name for frozen in pruned.summary().frozen for name in frozen.parameters}
    recurrent = {item.name for item in pruned.parameters() if item.role == "recurrent"}
    assert len(recurrent) == 2
    assert {"words/embeddings", "head/kernel"} | recurrent <= told
    assert "hidden/kernel" not in told


@pytest.mark.parametrize("adapter", [st, sk])
def test_the_model_itself_is_named_as_a_cause(adapter: object) -> None:
    if adapter is st:
        model, options = torch.nn.Sequential(torch.nn.Linear(6, 3)), {"example": torch.zeros(1, 6)}
    else:
        model, options = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]), {}
    with pytest.raises(NoMatchError, match=r"\(model: it is an output of the model"):
        adapter.prune(model, Recipe(0.5, granularity=Neurons()), **options)  # type: ignore[attr-defined]
