"""In both frameworks, pruning leaves every random state as it was, and with it the training that goes on."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import secateur_keras as sk
import secateur_torch as st
from secateur import Gradient, Magnitude, Recipe

X = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 24)


class Drawn(keras.utils.PyDataset):
    """Batches drawn by generators of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(2)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        random.random()
        chosen = np.concatenate([np.random.permutation(24)[:4], self.generator.permutation(24)[:4]])
        return X[chosen], Y[chosen]


def loader() -> DataLoader[Any]:
    data = TensorDataset(torch.tensor(X), torch.tensor(Y))
    return DataLoader(data, 8, shuffle=True, generator=torch.Generator().manual_seed(0))


def states(data: Any) -> list[str]:
    own = data.generator.get_state().tolist() if isinstance(data, DataLoader) else data.generator.bit_generator.state
    legacy = np.random.get_state()
    return [
        str(random.getstate()),
        str([legacy[1].tolist(), *legacy[2:]]),
        str(torch.get_rng_state().tolist()),
        str(own),
    ]


def keras_model() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])


CASES: dict[str, tuple[Any, Any, Any]] = {
    "keras": (sk, keras_model, keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
    "torch": (st, lambda: torch.nn.Linear(6, 3), torch.nn.CrossEntropyLoss()),
}


@pytest.mark.parametrize("framework", CASES)
@pytest.mark.parametrize("data", [Drawn, loader])
@pytest.mark.parametrize("score", [Magnitude(), Gradient()])
def test_random_states_are_left_as_found(framework: str, data: Any, score: Any) -> None:
    adapter, build, loss = CASES[framework]
    model, made = build(), data()
    before = states(made)
    adapter.prune(model, Recipe(0.5, score=score), data=made, loss=loss)
    assert states(made) == before
    first, second = (adapter.statistics(model, made, loss, ["mean_gradient"])["mean_gradient"] for _ in range(2))
    assert states(made) == before
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
