"""Every optimizer of PyTorch in every way to train: masked weights are exactly zero after each step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import hold_table
from secateur_torch import masking
from torch_training import (
    MODES,
    OPTIMIZERS,
    VARIANTS,
    WITH_CLOSURES,
    Training,
    leak,
    makes,
    needs_closure,
    network,
    offers,
    random_masks,
)


def is_offered(name: str, mode: str) -> bool:
    return not needs_closure(OPTIMIZERS[name]) or mode in WITH_CLOSURES


CELLS = [(name, mode) for name in OPTIMIZERS for mode in MODES]


@pytest.mark.parametrize(("name", "mode"), [cell for cell in CELLS if is_offered(*cell)])
def test_nothing_leaks(name: str, mode: str) -> None:
    hold_table.record("torch", "torch", name, mode, leaks_of(name, MODES[mode]))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_leaks_however_a_step_is_carried_out(name: str, variant: str) -> None:
    offered = offers(OPTIMIZERS[name], variant)
    leaks = leaks_of(name, Training, **{variant: True}) if offered else None
    hold_table.record("torch", "torch", name, variant, leaks)


def leaks_of(name: str, mode: type[Training], **options: Any) -> list[float]:
    """Train, prune, train, prune otherwise, train, release; the leak after each step, all of which must be 0."""
    make = makes(OPTIMIZERS[name], **options)
    model = network(make)
    optimizer = make(model.parameters())
    training, untouched = mode(model, optimizer), traces(model, optimizer)
    training.step()
    first, second = random_masks(model, 0), random_masks(model, 1)
    hold = masking.hold(model, first, optimizer)
    training.pruned()
    leaks = trained(training, first)
    hold.update(second)
    training.pruned()
    leaks += trained(training, first if training.model is not model else second)
    assert leaks == [0.0] * len(leaks)
    hold.release()
    assert traces(model, optimizer) == untouched
    masking.release(training.model)
    for _ in range(3):
        training.step()
    assert leak(training.model, second) > 0.0
    return leaks


def traces(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Where a hold may leave something."""
    return [len(kept) for name, kept in vars(optimizer).items() if name.endswith("hooks")], [
        set(vars(module)) for module in model.modules()
    ]


def trained(training: Training, masks: dict[str, Any], steps: int = 3) -> list[float]:
    """The leak after each of some steps, in all models that must be masked."""
    leaks = []
    for _ in range(steps):
        before = [weight.detach().clone() for weight in training.model.parameters()]
        training.step()
        leaks += [leak(model, masks) for model in training.watched()]
        skips = isinstance(training, MODES["GradScaler, skipped steps"])
        assert skips or any(not torch.equal(*pair) for pair in zip(before, training.model.parameters(), strict=True))
    return leaks
