"""Training steps in PyTorch: free, held by Secateur, masked by PyTorch's own ways."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import secateur_torch as st
from benchmarks import latency_models
from benchmarks.hold_table.rounds import BATCH, LAYERS, SPARSITY, clock, compare
from secateur import Recipe


class Masked(nn.Module):
    """A mask as a parametrization."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        masked: torch.Tensor = weight * self.mask
        return masked


def mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    layers = [layer for sizes in itertools.pairwise(LAYERS) for layer in (nn.Linear(*sizes), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), torch.randn(BATCH, LAYERS[0]), torch.randint(0, LAYERS[-1], (BATCH,))


def resnet18() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    return latency_models.resnet18(), torch.randn(8, 3, 224, 224), torch.randint(0, 1000, (8,))


CASES: dict[str, tuple[Callable[[], Any], int]] = {"MLP": (mlp, 20), "ResNet-18": (resnet18, 1)}
"""Name -> what makes model and batch, and how many steps a round has."""


def measure(case: str, rounds: int, wall: bool) -> dict[str, Any]:
    """Of one model: what :func:`compare` tells of each way, and the largest masked weight that is stored after it."""
    torch.manual_seed(0)
    make, steps = CASES[case]
    model, x, y = make()
    masks = st.prune(twin := copy.deepcopy(model), Recipe(SPARSITY, scope="layer")).masks
    models = {
        "free": copy.deepcopy(model),
        "secateur": twin,
        "torch.nn.utils.prune": with_prune(copy.deepcopy(model), masks),
        "parametrization": parametrized(copy.deepcopy(model), masks),
    }
    ways = {name: Trains(each, x, y, clock(wall)) for name, each in models.items()}
    found = compare(ways, steps, rounds, clock(wall))
    for name, each in models.items():
        found[name]["leak"] = None if name == "free" else leak(each, masks)
    free, held = ways["free"], ways["secateur"]
    found["secateur"]["share"] = (held.holding - free.holding) / free.all  # of as many steps
    return found


class Trains:
    """Makes steps, and counts the seconds of the hooks on all optimizers, which run after the optimizer's own.

    Attributes:
        holding: seconds from the optimizer's own hooks to the end of its step; what holding adds to them is too little
            to be seen in the time of whole steps where other programs run.
        all: seconds of the steps.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, seconds: Callable[[], float]) -> None:
        self.model, self.x, self.y, self.seconds = model, x, y, seconds
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self.optimizer.register_step_post_hook(self._mark)
        self.loss = nn.CrossEntropyLoss()
        self.holding = self.all = self.marked = 0.0

    def __call__(self, count: int) -> None:
        start = self.seconds()
        for _ in range(count):
            self.optimizer.zero_grad()
            self.loss(self.model(self.x), self.y).backward()
            self.optimizer.step()
            self.holding += self.seconds() - self.marked
        self.all += self.seconds() - start

    def _mark(self, *_: Any) -> None:
        self.marked = self.seconds()


def with_prune(model: nn.Module, masks: dict[str, Any]) -> nn.Module:
    for name, mask in masks.items():
        layer, _, local = name.rpartition(".")
        prune.custom_from_mask(model.get_submodule(layer), local, torch.tensor(mask))
    return model


def parametrized(model: nn.Module, masks: dict[str, Any]) -> nn.Module:
    for name, mask in masks.items():
        layer, _, local = name.rpartition(".")
        parametrize.register_parametrization(model.get_submodule(layer), local, Masked(torch.tensor(mask).float()))
    return model


def leak(model: nn.Module, masks: dict[str, Any]) -> float:
    """In the tensors that the optimizer trains and a checkpoint holds."""
    stored, largest = dict(model.named_parameters()), 0.0
    for name, mask in masks.items():
        layer, _, local = name.rpartition(".")
        names = (name, f"{layer}.{local}_orig", f"{layer}.parametrizations.{local}.original")
        tensor = next(stored[each] for each in names if each in stored)
        largest = max(largest, float(tensor.detach()[torch.tensor(~mask)].abs().max()))
    return largest
