"""Operators of an exported graph as the functions that they come from, where their arguments stand in another order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from secateur_torch.operations.calls import Call


def as_function(call: Call) -> Call:
    """The same call, as a user would have written it."""
    if not isinstance(call.function, torch._ops.OpOverload):
        return call
    translate = TRANSLATIONS.get(call.name)
    return call if translate is None else replace(call, args=translate(*call.args), kwargs={})


def _normalization(x: Any, scale: Any, shift: Any, mean: Any, variance: Any, *others: Any) -> tuple[Any, ...]:
    return (x, mean, variance, scale, shift, *others)


def _embedding(table: Any, numbers: Any, *others: Any) -> tuple[Any, ...]:
    return (numbers, table, *others)


def _slice(x: Any, axis: int = 0, start: int | None = None, stop: int | None = None, step: int = 1) -> tuple[Any, ...]:
    return x, (*(slice(None),) * (axis % x.ndim), slice(start, stop, step))


def _index(x: Any, indices: Any) -> tuple[Any, ...]:
    return x, tuple(slice(None) if index is None else index for index in indices)


TRANSLATIONS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "batch_norm": _normalization,
    "instance_norm": _normalization,
    "embedding": _embedding,
    "slice": _slice,
    "index": _index,
}
