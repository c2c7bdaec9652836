"""In both frameworks, pruning leaves every random state as it was, and with it the training that goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import secateur_keras as sk
import secateur_torch as st
from secateur import Cubic, Gradient, Magnitude, Recipe
from secateur.batches import is_repeatable

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


class Untouchable:
    """A loader that nobody may begin to read."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("this begins an epoch")


def tensorflow_data() -> Any:
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(8)


REPEATABLE: dict[str, tuple[Callable[[], Any], bool]] = {
    "nothing": (lambda: None, False),
    "arrays": (lambda: (X, Y), True),
    "list": (lambda: [(X, Y)], True),
    "loader": (loader, True),
    "any loader": (Untouchable, True),
    "keras data set": (Drawn, True),
    "tensorflow data set": (tensorflow_data, True),
    "generator": (lambda: (batch for batch in [(X, Y)]), False),
    "iterator of a list": (lambda: iter([(X, Y)]), False),
    "iterator of a loader": (lambda: iter(loader()), False),
    "iterator of a data set": (lambda: iter(tensorflow_data()), False),
}


@pytest.mark.parametrize("data", REPEATABLE)
def test_what_can_be_read_twice_is_told_without_reading(data: str) -> None:
    make, repeatable = REPEATABLE[data]
    made = make()
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert is_repeatable(made) == repeatable
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


@pytest.mark.parametrize("workers", [{}, {"num_workers": 1, "persistent_workers": True}])
def test_a_pruner_and_its_report_leave_a_running_epoch_as_it_was(workers: dict[str, Any], tmp_path: Path) -> None:
    data = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), 8, shuffle=True, **workers)
    model = torch.nn.Linear(6, 3)
    recipe = Recipe(0.5, score=Gradient(), schedule=Cubic(begin=0, end=4, every=1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    epoch = iter(data)
    next(epoch)
    before = torch.get_rng_state()
    pruner = st.Pruner(model, recipe, optimizer, data=data, loss=torch.nn.CrossEntropyLoss())
    pruner.report(tmp_path / "report.html")
    assert torch.equal(torch.get_rng_state(), before)
    assert len(list(epoch)) == 2
