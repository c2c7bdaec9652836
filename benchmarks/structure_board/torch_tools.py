"""The tools that prune PyTorch models: Secateur and its peers, each as its documentation starts.

Each takes a model in evaluation, which it may change, and an example, and removes half of the units of each layer, or
half of the parameters.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.structure_board import torch_judging
from benchmarks.structure_board.outcomes import Outcome
from benchmarks.structure_board.secateur_tool import pruned

Tool = Callable[[nn.Module, Any, str], Outcome]


def secateur(model: nn.Module, example: Any, target: str) -> Outcome:
    """Exact by default, so there is nothing to set."""
    from secateur_torch.adapter import TorchAdapter

    return pruned(TorchAdapter(), model, example, target, time.thread_time)


def torch_pruning(model: nn.Module, example: Any, target: str) -> Outcome:
    """Group magnitudes, layer by layer. Layers that write the outputs are named, since it would prune them too."""
    import torch_pruning

    ignored = torch_judging.ends(model, example)
    began = time.thread_time()
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=ignored,
    )
    traced = time.thread_time()
    pruner.step()
    ended = time.thread_time()
    return Outcome(model, seconds={"trace": traced - began, "remove": ended - traced, "total": ended - began})


def torch_kirigami(model: nn.Module, example: Any, target: str) -> Outcome:
    """Group magnitudes, greedily, within each layer or, for a share of parameters, over the whole model."""
    from torch_kirigami import DependencyGraph
    from torch_kirigami.pruning import ChannelRatio, Greedy, GroupMagnitude, ParameterBudget, Pruner

    began = time.thread_time()
    graph = DependencyGraph.build(model, args=example if isinstance(example, tuple) else (example,))
    traced = time.thread_time()
    pruner = Pruner(model, graph=graph)
    half = ChannelRatio(0.5) if target == "units" else ParameterBudget.from_ratio(model, 0.5)
    small, _ = pruner.prune(pruner.discover_candidates(), budget=half, strategy=Greedy(GroupMagnitude(p=2)))
    ended = time.thread_time()
    return Outcome(small, seconds={"trace": traced - began, "remove": ended - traced, "total": ended - began})


TOOLS: Mapping[str, Tool] = {
    "secateur": secateur,
    "torch-pruning": torch_pruning,
    "torch-kirigami": torch_kirigami,
}


class Warming(nn.Module):
    """Convolutions with a skip connection, then a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.second, self.third = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1)
        self.last = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images in, four numbers out."""
        hidden = torch.relu(self.norm(self.first(x)))
        return self.last((hidden + self.third(torch.relu(self.second(hidden)))).mean((2, 3)))


def warm(tool: str, model: nn.Module, example: Any) -> None:
    """Prune something else first and run the model: no tool pays for what is compiled, imported or reserved.

    Nor for collecting garbage among all that the libraries have made when they were imported.
    """
    small = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    TOOLS[tool](Warming().double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64), "units")
    TOOLS[tool](small.double().eval(), torch.randn(2, 6, dtype=torch.float64), "units")
    torch_judging.outputs(model, example)
    gc.collect()
    gc.freeze()
