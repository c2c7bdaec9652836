"""Where weights are written at the end of a training step: in PyTorch's optimizers, in those that its hooks do not see,
and in averages of the weights.

PyTorch has a hook on all optimizers, which runs after ``step`` of every class whose constructor calls that of
``Optimizer``. Optimizers that wrap others often do not (Lookahead), and some write weights elsewhere than in ``step``
(schedule-free ones, as they change between training and evaluation). Their methods are wrapped, once and for good.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.optim.swa_utils import AveragedModel

AfterStep = Callable[[Optimizer], None]
AfterAverage = Callable[[list[tuple[torch.Tensor, torch.Tensor]]], None]

_WRITING = ("step", "eval", "train")

_HOOKED = Optimizer.profile_hook_step(lambda optimizer: None).__code__
"""What every ``step`` that runs hooks looks like from inside."""


def watch(after_step: AfterStep, after_average: AfterAverage) -> None:
    """Have the first called after each step of any optimizer, the second with pairs (average, weight) after an average
    was updated. For good: hooks that came and went could change a running loop.
    """
    register_optimizer_step_post_hook(lambda optimizer, args, kwargs: after_step(optimizer))
    _wrap(AveragedModel, "update_parameters", lambda average, model: after_average(_pairs(average, model)))


def watch_unseen(after_step: AfterStep) -> None:
    """The same for the classes of optimizers that exist by now, in what PyTorch's hook does not see."""
    for kind in _derived(Optimizer):
        for name in _WRITING:
            if inspect.isfunction(vars(kind).get(name)):
                _wrap(kind, name, lambda optimizer, *_: after_step(optimizer))


def is_nested(optimizer: Optimizer) -> bool:
    """Asked in a step hook: whether this step was called by another step of the same optimizer.

    PyTorch runs the hooks in both where a class calls ``super().step()``, if its parent was ever used by itself.
    """
    frame, steps = sys._getframe(1), 0
    while (outer := frame.f_back) is not None and steps < 2:
        frame = outer
        steps += frame.f_code is _HOOKED and frame.f_locals["args"][0] is optimizer
    return steps == 2


def was_skipped(optimizer: Optimizer) -> bool:
    """Asked in a step hook: whether the step left all weights alone, since mixed precision found infinite gradients.

    Other optimizers are not called then; fused ones are told by ``GradScaler``, and skip by themselves.
    """
    found = getattr(optimizer, "found_inf", None)
    if not isinstance(found, torch.Tensor) or (found.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False  # while a CUDA graph is captured, no number is known
    return bool(found)


def _wrap(kind: type, name: str, after: Callable[..., None]) -> None:
    original = vars(kind)[name]
    if hasattr(original, "hooked") or hasattr(original, "_is_watched"):
        return

    @functools.wraps(original)
    def wrapped(instance: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(instance, *args, **kwargs)
        if not hasattr(getattr(type(instance), name), "hooked"):  # PyTorch's hook has done it
            after(instance, *args, **kwargs)
        return result

    wrapped._is_watched = True  # type: ignore[attr-defined]
    setattr(kind, name, wrapped)


def _derived(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        yield child
        yield from _derived(child)


def _pairs(average: AveragedModel, model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each average, and what it is an average of: in the order in which PyTorch pairs them."""
    averages, weights = ([*module.parameters(), *module.buffers()] for module in (average.module, model))
    return list(zip(averages, weights, strict=False))
