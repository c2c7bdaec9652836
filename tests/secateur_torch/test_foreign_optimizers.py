"""Optimizers that PyTorch does not come with: plain ones, ones that wrap others, ones that write weights elsewhere."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

import hold_table
import secateur_torch as st
from benchmarks.structure_board import torch_vision
from secateur import Linear, Recipe, RigL
from secateur.errors import HoldError
from secateur_torch import masking
from torch_training import LABELS, LOSS, ROWS, Training, dense, found, leak, makes, network, random_masks


class Plain(torch.optim.Optimizer):
    """Momentum and weight decay, as one writes an optimizer of one's own."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
                velocity.mul_(0.9).add_(weight.grad + 0.1 * weight)
                weight.data.sub_(group["lr"] * velocity)
        return loss


class Wrapping(torch.optim.Optimizer):
    """Lookahead (Zhang 2019) as it is written: the constructor of ``Optimizer`` is not called, nor are its hooks."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base, self.param_groups, self.state = base, base.param_groups, defaultdict(dict)
        self.slow = {weight: weight.detach().clone() + 1.0 for group in self.param_groups for weight in group["params"]}

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.base.step(closure)
        for weight, slow in self.slow.items():
            weight.copy_(slow.lerp_(weight, 0.5))
        return loss


class Evaluating(Plain):
    """A schedule-free optimizer (Defazio 2024) moves the weights between training and evaluation."""

    @torch.no_grad()
    def eval(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                weight.lerp_(self.state[weight]["velocity"], 0.5)

    train = eval


class Sharp(torch.optim.Optimizer):
    """Sharpness-aware minimisation (Foret 2021): climbs, and puts other tensors in the place of the weights."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.base = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.9, weight_decay=0.1)

    @torch.no_grad()
    def step(self, closure: Any) -> None:  # type: ignore[override]
        torch.enable_grad()(closure)()
        weights = [weight for group in self.param_groups for weight in group["params"]]
        before = [weight.data.clone() for weight in weights]
        for weight in weights:
            weight.add_(weight.grad, alpha=0.05)
        torch.enable_grad()(closure)()
        for weight, old in zip(weights, before, strict=True):
            weight.data = old
        self.base.step()


FOREIGN: dict[str, Callable[[Any], Any]] = {
    "Plain": lambda parameters: Plain(parameters, 0.05),
    "Wrapping": lambda parameters: Wrapping(torch.optim.SGD(parameters, 0.05, momentum=0.9)),
    "Evaluating": lambda parameters: Evaluating(parameters, 0.05),
    "Sharp": lambda parameters: Sharp(parameters, 0.05),
}


class TrainingAndEvaluating(Training):
    """With the changes between training and evaluation that schedule-free optimizers ask for."""

    def step(self) -> None:
        super().step()
        self.optimizer.eval()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FOREIGN)
def test_an_optimizer_of_ones_own_holds(name: str) -> None:
    torch.manual_seed(0)
    model = dense()
    training = (TrainingAndEvaluating if name == "Evaluating" else Training)(model, FOREIGN[name](model.parameters()))
    hold_table.record("torch", "torch", f"of one's own: {name}", "step", leaks_of(training))


NEED_MORE = ("Adahessian", "Lookahead")
"""Of timm's: the step needs second derivatives, or another optimizer to wrap (``Wrapping`` does what it does)."""


def test_the_optimizers_of_timm_hold() -> None:
    try:
        torch_vision.load()
    except ImportError as error:
        pytest.skip(f"timm cannot be imported: {error}")
    kinds = found(importlib.import_module("timm.optim"))
    for name, kind in kinds.items():
        if name not in NEED_MORE:
            make = makes(kind)
            model = network(make)
            training = Training(model, make(model.parameters()))
            hold_table.record("torch", "torch", f"timm: {name}", "step", leaks_of(training))


def leaks_of(training: Training) -> list[float]:
    first, second = random_masks(training.model, 0), random_masks(training.model, 1)
    training.step()
    hold = masking.hold(training.model, first)
    leaks = []
    for masks in (first, second):
        hold.update(masks)
        for _ in range(3):
            training.step()
            leaks.append(leak(training.model, masks))
    assert leaks == [0.0] * 6
    hold.release()
    for _ in range(3):
        training.step()
    assert leak(training.model, second) > 0.0
    return leaks


class Calling(torch.optim.SGD):
    """Calls the step that it inherits, as warm-ups, gradient centralisation and the like do."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for weight in self.param_groups[0]["params"]:
                weight.add_(0.01)
        return loss


def test_a_step_that_calls_the_step_of_its_parent_counts_once() -> None:
    """PyTorch runs step hooks in both as soon as any optimizer of the parent's class exists."""
    torch.manual_seed(0)
    torch.optim.SGD(dense().parameters())
    model = dense()
    training = Training(model, Calling(model.parameters(), 0.05))
    pruner = st.Pruner(model, Recipe(0.5, scope="layer", schedule=Linear(0, 6)), training.optimizer)
    for step in range(1, 7):
        training.step()
        assert pruner.step == step and leak(model, pruner.masks) == 0.0
    assert pruner.finished


def test_a_step_that_fails_within_another_is_forgotten() -> None:
    torch.manual_seed(0)
    model = dense()
    optimizer = Calling(model.parameters(), 0.05)
    pruner = st.Pruner(model, Recipe(0.5, scope="layer", schedule=Linear(0, 6)), optimizer)

    def fails() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(fails)
    assert pruner.step == 0
    Training(model, optimizer).step()
    assert pruner.step == 1


def test_another_optimizer_that_calls_the_step_of_its_parent_has_not_taken_the_place_of_the_first() -> None:
    torch.manual_seed(0)
    torch.optim.SGD(dense().parameters())
    model = dense()
    first, second = Training(model, torch.optim.Adam(model.parameters())), Calling(model.parameters(), 0.01)
    st.Pruner(model, Recipe(0.5, schedule=Linear(0, 9)), first.optimizer)
    for _ in range(2):
        first.step()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            second.step()


@pytest.mark.parametrize("regrowth", [None, RigL(begin=0, end=20, every=1)])
@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_mixed_precision_skips_do_not_count(fused: bool, regrowth: RigL | None) -> None:
    """``GradScaler`` calls a fused optimizer even where it then skips, with gradients that are infinite or NaN."""
    torch.manual_seed(0)
    model = dense()
    optimizer = torch.optim.Adam(model.parameters(), 0.01, fused=fused)
    recipe = Recipe(0.5, scope="layer", schedule=Linear(0, 4), regrowth=regrowth)
    pruner, scaler = st.Pruner(model, recipe, optimizer), torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor in (1.0, float("inf"), 1.0, float("nan"), 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * LOSS(model(ROWS), LABELS)).backward()
        scaler.step(optimizer)
        scaler.update()
        assert leak(model, pruner.masks) == 0.0
    assert pruner.step == 4 and pruner.finished


@pytest.mark.parametrize("make", [st.prune, st.Pruner])
def test_an_optimizer_without_step_hooks_is_refused_in_words(make: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = dense()
    before = [weight.detach().clone() for weight in model.parameters()]
    with pytest.raises(HoldError, match=r"Wrapping has no step hooks.*give the optimizer that it wraps"):
        make(model, Recipe(0.5), optimizer=Wrapping(torch.optim.SGD(model.parameters(), 0.05)))
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_what_no_optimizer_wrote_is_masked_when_asked_and_before_the_model_is_read() -> None:
    """A loop that writes weights itself passes no hook."""
    torch.manual_seed(0)
    model = dense()
    pruned = st.prune(model, Recipe(0.5))
    masks = dict(pruned.adapter.canonical(model, pruned.masks))
    for _ in range(2):
        LOSS(model(ROWS), LABELS).backward()
        for weight in model.parameters():
            weight.data.add_(weight.grad, alpha=-0.1)
        assert leak(model, masks) > 0.0
        pruned.enforce()
        assert leak(model, masks) == 0.0


def test_an_average_of_ones_own_is_masked_when_asked() -> None:
    torch.manual_seed(0)
    model, average = dense(), dense()
    pruned = st.prune(model, Recipe(0.5))
    masks = dict(pruned.adapter.canonical(model, pruned.masks))
    pruned.enforce(average)
    assert leak(average, masks) == 0.0
    assert all(weight.count_nonzero() > 0 for weight in average.parameters() if weight.dim() > 1)
