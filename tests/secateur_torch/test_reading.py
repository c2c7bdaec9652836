"""Pruning reads data that a training reads too, and the training goes on as if nobody had."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset, WeightedRandomSampler

import secateur_torch as st
from secateur import Cubic, Gradient, Magnitude, Recipe, Sparsity
from secateur.batches import undisturbed

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
LOSS = nn.CrossEntropyLoss()
NOTHING = Recipe(Sparsity(0.0))


class Augmented(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Draws noise for each example from every kind of generator that data sets use."""

    def __init__(self) -> None:
        self.rng, self.old, self.plain = np.random.default_rng(5), np.random.RandomState(6), random.Random(7)
        self.own = torch.Generator().manual_seed(8)

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = [random.random(), np.random.normal(), self.rng.normal(), self.old.normal(), self.plain.random()]
        noise = torch.tensor(drawn).sum() + torch.randn(()) + torch.randn((), generator=self.own)
        return X[index] + 0.1 * noise.float(), Y[index]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


LOADERS: dict[str, Callable[[], DataLoader[Any]]] = {
    "shuffled": lambda: DataLoader(TensorDataset(X, Y), 8, shuffle=True),
    "in order": lambda: DataLoader(TensorDataset(X, Y), 8),
    "own generator": lambda: DataLoader(TensorDataset(X, Y), 8, shuffle=True, generator=seeded()),
    "sampler": lambda: DataLoader(
        TensorDataset(X, Y), 8, sampler=WeightedRandomSampler([1.0] * 24, 24, generator=seeded())
    ),
    "replacement": lambda: DataLoader(TensorDataset(X, Y), 8, sampler=RandomSampler(X, True, 40, seeded())),
    "augmented": lambda: DataLoader(Augmented(), 8, shuffle=True),
    "workers": lambda: DataLoader(TensorDataset(X, Y), 8, shuffle=True, num_workers=1),
    "kept workers": lambda: DataLoader(Augmented(), 8, shuffle=True, num_workers=1, persistent_workers=True),
}


def trained(loader: Callable[[], DataLoader[Any]], between: Callable[[nn.Module, Any], Any]) -> list[torch.Tensor]:
    """Weights after two epochs with dropout, where ``between`` runs before them and in the midst of each."""
    torch.manual_seed(0)
    np.random.seed(1)
    random.seed(2)
    model, data = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 2)), loader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    between(model, data)
    for _ in range(2):
        for number, (inputs, labels) in enumerate(data):
            optimizer.zero_grad()
            LOSS(model(inputs), labels).backward()
            optimizer.step()
            if number == 1:
                between(model, data)
    return [tensor.detach() for tensor in model.parameters()]


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("score", [Magnitude(), Gradient()])
def test_pruning_does_not_change_a_training(loader: str, score: Magnitude | Gradient) -> None:
    def prune(model: nn.Module, data: Any) -> None:
        st.prune(model, Recipe(Sparsity(0.0), score=score), data=data, loss=LOSS)

    undisturbed_weights = trained(LOADERS[loader], lambda model, data: None)
    for left, right in zip(undisturbed_weights, trained(LOADERS[loader], prune), strict=True):
        assert torch.equal(left, right)


def test_the_same_data_twice_gives_the_same_statistics() -> None:
    model, data = nn.Linear(6, 2), LOADERS["augmented"]()
    first, second = (st.statistics(model, data, LOSS, ["mean_gradient"])["mean_gradient"] for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_a_pruner_that_reads_the_training_loader() -> None:
    """Its updates come in the midst of an epoch, over workers that the epoch is using."""
    torch.manual_seed(0)
    model, data = nn.Linear(6, 2), LOADERS["kept workers"]()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recipe = Recipe(0.5, score=Gradient(), schedule=Cubic(begin=0, end=4, every=1))
    pruner = st.Pruner(model, recipe, optimizer=optimizer, data=data, loss=LOSS)
    seen = []
    for _ in range(2):
        for inputs, labels in data:
            optimizer.zero_grad()
            LOSS(model(inputs), labels).backward()
            optimizer.step()
            seen.append(len(inputs))
    assert seen == [8] * 6
    assert pruner.sparsity == 0.5


def test_the_model_may_draw_too() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x + random.random() + np.random.random())

    before = random.getstate(), np.random.get_state()[1].copy()
    st.prune(Noisy(), NOTHING, example=X)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_states_are_restored_after_an_error() -> None:
    def draws() -> Iterator[float]:
        yield from (random.random(), np.random.random())

    random.seed(0)
    np.random.seed(0)
    expected = list(draws())
    random.seed(0)
    np.random.seed(0)
    with pytest.raises(KeyError), undisturbed():
        list(draws())
        raise KeyError
    assert list(draws()) == expected
