"""Every optimizer that PyTorch has, found by looking, on a tiny model that it can train, in every way to train."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import secateur_torch as st
from secateur_torch.adapter import TorchAdapter
from secateur_torch.arrays import array

Masks = dict[str, np.ndarray]
Optimizer = torch.optim.Optimizer

ROWS = torch.randint(0, 16, (12, 4), generator=torch.Generator().manual_seed(0))
LABELS = ROWS[:, 0] % 3
LOSS = nn.CrossEntropyLoss()

REVIVING: dict[str, Any] = {"weight_decay": 0.1, "momentum": 0.9, "nesterov": True, "amsgrad": True, "centered": True}
"""Settings that bring masked weights back to life, for the optimizers that have them."""


def found(module: Any) -> dict[str, type[Optimizer]]:
    """The optimizers that a module offers, by name."""
    kinds = {name: kind for name, kind in vars(module).items() if inspect.isclass(kind)}
    return {name: kind for name, kind in sorted(kinds.items()) if issubclass(kind, Optimizer) and kind is not Optimizer}


OPTIMIZERS = found(torch.optim)


def dense() -> nn.Module:
    return nn.Sequential(nn.Embedding(16, 4), nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


def matrices() -> nn.Module:
    return nn.Sequential(nn.Embedding(16, 4), nn.Flatten(), nn.Linear(16, 6, bias=False), nn.Linear(6, 3, bias=False))


def sparse() -> nn.Module:
    return nn.EmbeddingBag(16, 3, sparse=True)


def makes(kind: type[Optimizer], **options: Any) -> Callable[[Any], Optimizer]:
    """The optimizer with settings that revive masked weights, and these; of parameters."""
    known = inspect.signature(kind).parameters
    settings = {name: value for name, value in REVIVING.items() if name in known} | options
    return lambda parameters: kind(parameters, lr=0.05, **settings)


def offers(kind: type[Optimizer], option: str) -> bool:
    return option in inspect.signature(kind).parameters


def needs_closure(kind: type[Optimizer]) -> bool:
    given = inspect.signature(inspect.unwrap(kind.step)).parameters["closure"]
    return given.default is inspect.Parameter.empty


def network(make: Callable[[Any], Optimizer]) -> nn.Module:
    """The first kind of model that the optimizer trains; every new optimizer must train one of them."""
    refusals = []
    for build in (dense, matrices, sparse):
        torch.manual_seed(0)
        model = build()
        try:
            trial = copy.deepcopy(model)
            Training(trial, make(trial.parameters())).step()
        except (RuntimeError, ValueError) as error:
            refusals.append(f"{build.__name__}: {error}")
        else:
            return model
    raise AssertionError(f"no model of these for the optimizer: {refusals}")


def random_masks(model: nn.Module, seed: int) -> Masks:
    """Half of every weight, biases and scales as well."""
    random = np.random.default_rng(seed)
    return {
        parameter.name: random.random(parameter.view.shape) < 0.5
        for parameter in st.parameters(model)
        if "running" not in parameter.name
    }


def leak(model: nn.Module, masks: Masks) -> float:
    """The largest stored magnitude of a masked weight; -0.0 counts as a leak of 1."""
    found = 0.0
    for name, mask in TorchAdapter().native(model, masks).items():
        values = array(model.get_parameter(name))[~mask].astype(np.float64)
        found = max(found, float(np.abs(values).max(initial=0)), float(np.signbit(values).any()))
    return found


@dataclass
class Training:
    """A training loop; ``step`` is one step of the optimizer, however many passes it takes."""

    model: nn.Module
    optimizer: Optimizer

    def __post_init__(self) -> None:
        """Prepare what the way to train needs."""

    def step(self) -> None:
        self.optimizer.step(self.closure)

    def closure(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        return self.backward()

    def backward(self) -> torch.Tensor:
        loss: torch.Tensor = LOSS(self.model(ROWS), LABELS)
        loss.backward()
        return loss

    def watched(self) -> Iterator[nn.Module]:
        """What must be masked."""
        yield self.model

    def pruned(self) -> None:
        """Told after the masks have come, and after they have changed."""


class Accumulating(Training):
    """Three passes a step, and gradients clipped."""

    def step(self) -> None:
        self.optimizer.zero_grad()
        for _ in range(3):
            self.backward()
        nn.utils.clip_grad_norm_([weight for weight in self.model.parameters() if not weight.grad.is_sparse], 0.5)
        self.optimizer.step()


@dataclass
class MixedPrecision(Training):
    """Autocast and a gradient scaler, with a step that is skipped because a gradient is infinite."""

    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", init_scale=16.0))
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = LOSS(self.model(ROWS).float(), LABELS)
        self.scaler.scale(loss * float("inf") if self.steps % 3 == 2 else loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


class InBackward(Training):
    """An optimizer for each weight, which steps as soon as the gradient is there."""

    def __post_init__(self) -> None:
        settings = {key: value for key, value in self.optimizer.param_groups[0].items() if key in self.known()}
        self.each = {weight: type(self.optimizer)([weight], **settings) for weight in self.model.parameters()}
        for weight in self.model.parameters():
            weight.register_post_accumulate_grad_hook(self.update)

    def known(self) -> set[str]:
        return set(inspect.signature(type(self.optimizer)).parameters) - {"params"}

    def update(self, weight: torch.Tensor) -> None:
        self.each[weight].step()
        weight.grad = None

    def step(self) -> None:
        self.backward()


class CompiledStep(Training):
    """``torch.compile`` of the optimizer's step."""

    def __post_init__(self) -> None:
        torch._dynamo.reset()
        self.update = torch.compile(self.optimizer.step, backend="eager")

    def step(self) -> None:
        self.closure()
        self.update()


class CompiledModel(Training):
    """``torch.compile`` of the model."""

    def __post_init__(self) -> None:
        torch._dynamo.reset()
        self.forward = torch.compile(self.model, backend="eager")

    def backward(self) -> torch.Tensor:
        loss: torch.Tensor = LOSS(self.forward(ROWS), LABELS)
        loss.backward()
        return loss


class CompiledLoop(Training):
    """``torch.compile`` of forward and backward pass and step together."""

    def __post_init__(self) -> None:
        torch._dynamo.reset()
        self.step = torch.compile(super().step, backend="eager")  # type: ignore[method-assign]


class Averaging(Training):
    """Running averages of the weights, equal and exponential, which must be masked too."""

    def __post_init__(self) -> None:
        means = (None, get_ema_multi_avg_fn(0.9))
        self.averages = [AveragedModel(self.model, multi_avg_fn=mean, use_buffers=True) for mean in means]

    def step(self) -> None:
        super().step()
        for average in self.averages:
            average.update_parameters(self.model)
        torch.optim.swa_utils.update_bn([ROWS], self.averages[0])

    def watched(self) -> Iterator[nn.Module]:
        yield self.model
        yield from (average.module for average in self.averages)


class Copied(Training):
    """A copy of the model trains on, with an optimizer that goes on from the same state."""

    def pruned(self) -> None:
        self.held = self.model  # a hold goes with its model, and is released at the end
        self.model = self.twin(self.model)
        settings = {key: value for key, value in self.optimizer.defaults.items() if offers(type(self.optimizer), key)}
        state = self.optimizer.state_dict()
        self.optimizer = type(self.optimizer)(self.model.parameters(), **settings)
        self.optimizer.load_state_dict(state)

    def twin(self, model: nn.Module) -> nn.Module:
        return copy.deepcopy(model)


class Pickled(Copied):
    """The same through a file."""

    def twin(self, model: nn.Module) -> nn.Module:
        twin: nn.Module = pickle.loads(pickle.dumps(model))
        return twin


class Reloading(Training):
    """States of model and optimizer from before the pruning are loaded in mid-training."""

    def __post_init__(self) -> None:
        self.before = copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict()))

    def pruned(self) -> None:
        self.model.load_state_dict(self.before[0])
        self.optimizer.load_state_dict(self.before[1])


MODES: dict[str, type[Training]] = {
    "step": Training,
    "accumulation, clipping": Accumulating,
    "GradScaler, skipped steps": MixedPrecision,
    "step in backward": InBackward,
    "compiled step": CompiledStep,
    "compiled model": CompiledModel,
    "compiled loop": CompiledLoop,
    "SWA, EMA": Averaging,
    "deepcopy": Copied,
    "pickle": Pickled,
    "states loaded": Reloading,
}

WITH_CLOSURES = ("step", "compiled model", "SWA, EMA", "deepcopy", "pickle", "states loaded")
"""The modes that call the optimizer's step with a closure."""

VARIANTS = ("foreach", "fused")
"""How many optimizers of PyTorch can be told to carry out a step."""
