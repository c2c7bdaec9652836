"""One of two processes that train a model together, to see whether masks hold in both: run by test_distributed.py.

Run: python torch_distributed.py RANK FOLDER
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import secateur_torch as st
from secateur import Cubic, Recipe
from secateur_torch import masking
from secateur_torch.adapter import TorchAdapter
from secateur_torch.arrays import array
from torch_training import (
    LABELS,
    LOSS,
    OPTIMIZERS,
    ROWS,
    Training,
    dense,
    leak,
    makes,
    needs_closure,
    network,
    random_masks,
)

Cell = dict[str, Any]


class Part(Training):
    """Training on this process's half of the data."""

    def __init__(self, model: nn.Module, optimizer: Any, forward: nn.Module) -> None:
        super().__init__(model, optimizer)
        self.forward = forward

    def backward(self) -> torch.Tensor:
        half = slice(dist.get_rank(), None, dist.get_world_size())
        loss: torch.Tensor = LOSS(self.forward(ROWS[half]), LABELS[half])
        loss.backward()
        return loss


def sharded(model: nn.Module) -> nn.Module:
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return model


STEPPING = [name for name, kind in OPTIMIZERS.items() if not needs_closure(kind)]
"""Without those that step as their own process's loss tells, so that processes would go apart."""

SPREAD: dict[str, Callable[[nn.Module], nn.Module]] = {"DDP": DistributedDataParallel, "FSDP2": sharded}


def cell(name: str, mode: str, held_before: bool) -> Cell:
    """Leaks of one optimizer; what it says, if it cannot train a model that is spread, with no mask on it."""
    make = makes(OPTIMIZERS[name])
    model = network(make)
    first, second = random_masks(model, 0), random_masks(model, 1)
    hold = masking.hold(model, first) if held_before else None
    try:
        forward = SPREAD[mode](model)
        training = Part(model, make(model.parameters()), forward)
        training.step()
    except (RuntimeError, ValueError, NotImplementedError, AttributeError, AssertionError, TypeError) as error:
        return {"refused": f"{type(error).__name__}: {error}", "held": held_before}
    leaks = [leak(model, first)] if held_before else []
    hold = hold or masking.hold(model, first, training.optimizer)
    leaks += [_stepped(training, first) for _ in range(2)]
    hold.update(second)
    leaks += [_stepped(training, second) for _ in range(2)]
    hold.release()
    free = max(_stepped(training, second) for _ in range(2))
    return {"leaks": leaks, "free": free, "same": _same_everywhere(model)}


def _stepped(training: Training, masks: dict[str, Any]) -> float:
    training.step()
    return leak(training.model, masks)


def _same_everywhere(model: nn.Module) -> bool:
    """Whether all processes have the same weights."""
    ours = np.concatenate([array(weight).ravel() for weight in model.parameters()])
    theirs = [torch.empty(ours.size) for _ in range(dist.get_world_size())]
    dist.all_gather(theirs, torch.tensor(ours))
    return all(torch.equal(theirs[0], other) for other in theirs)


def zero_redundancy() -> Cell:
    """An optimizer whose state is spread: each process steps some weights and sends them to the others."""
    torch.manual_seed(0)
    model = dense()
    forward = DistributedDataParallel(model)
    training = Part(model, ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=0.05), forward)
    training.step()
    masks = random_masks(model, 0)
    masking.hold(model, masks)
    return {"leaks": [_stepped(training, masks) for _ in range(3)], "same": _same_everywhere(model)}


def pruner(mode: str) -> Cell:
    """A schedule in both processes, and whether its first masks are those of a model that is not spread."""
    torch.manual_seed(0)
    alone, model = (network(makes(OPTIMIZERS["SGD"])) for _ in range(2))
    forward = SPREAD[mode](model)
    training = Part(model, makes(OPTIMIZERS["SGD"])(model.parameters()), forward)
    recipe = Recipe(0.5, schedule=Cubic(begin=0, end=4, every=1, initial=0.2))
    whole = st.Pruner(alone, recipe, optimizer=torch.optim.SGD(alone.parameters(), 0.1))
    spread = st.Pruner(model, recipe, optimizer=training.optimizer)
    alike = all(np.array_equal(mask, whole.masks[name]) for name, mask in spread.masks.items())
    leaks = []
    for _ in range(6):
        training.step()
        leaks.append(leak(model, dict(TorchAdapter().canonical(model, spread.masks))))
    return {"leaks": leaks, "same": _same_everywhere(model), "alike": alike, "sparsity": spread.sparsity}


def main(rank: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    cells = {
        f"{name} | {mode}": cell(name, mode, held_before=index % 2 == 0)
        for index, name in enumerate(STEPPING)
        for mode in SPREAD
    }
    found = {"cells": cells, "zero": zero_redundancy(), "pruner": {mode: pruner(mode) for mode in SPREAD}}
    (folder / f"{rank}.json").write_text(json.dumps(found), "utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
