"""Views and their like, which move indices and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from secateur.structure.elements import Elements, Layout, Nodes
from secateur.structure.graph import Operation
from secateur.structure.rules import reshaping
from secateur.structure.rules.common import axis_setting, frozen, pass_on, replaced, tie_all


def reshape(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Moves indices in row-major order."""
    pass_on(elements, operation)
    return [reshaping.reshape(elements, inputs[0], elements.graph.tensors[operation.outputs[0]])]


def permute(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Reorders the axes."""
    (layout,) = inputs
    order = cast(Sequence[int], operation.settings["order"])
    pass_on(elements, operation)
    return [tuple(layout[axis] for axis in order)]


def take(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Picks indices of one axis: kinds ``slice`` and ``take``."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "axis", len(layout))
    pass_on(elements, operation)
    return [replaced(layout, axis, layout[axis][picked(operation, layout[axis].size)])]


def picked(operation: Operation, size: int) -> Nodes:
    """The positions that a ``slice`` or ``take`` picks of an axis of ``size``."""
    if operation.kind == "take":
        return np.asarray(operation.settings["indices"], dtype=np.int64)
    start, stop, step = (operation.settings.get(key) for key in ("start", "stop", "step"))
    return np.arange(size, dtype=np.int64)[slice(start, stop, step)]


def split(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Divides one axis; parts that must stay equally long lose the same indices."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "axis", len(layout))
    sizes = cast(Sequence[int], operation.settings["sizes"])
    parts = np.split(layout[axis], np.cumsum(sizes)[:-1])
    if operation.settings.get("equal"):
        reason = "its parts must stay equally long"
        if len(set(sizes)) == 1:
            tie_all(elements, parts, reason)
        else:
            elements.freeze(layout[axis], reason)
    pass_on(elements, operation)
    return [replaced(layout, axis, part) for part in parts]


def pad(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Constants before and after one axis, which stay."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "axis", len(layout))
    before, after = (frozen(cast(int, operation.settings.get(key, 0))) for key in ("before", "after"))
    pass_on(elements, operation)
    return [replaced(layout, axis, np.concatenate([before, layout[axis], after]))]


def expand(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """What is repeated takes the size of what it meets."""
    (layout,) = inputs
    shape = elements.graph.tensors[operation.outputs[0]]
    aligned: list[Nodes | None] = [*[None] * (len(shape) - len(layout)), *layout]
    carried = [nodes is not None and nodes.size == size for nodes, size in zip(aligned, shape, strict=True)]
    if all(is_carried or size == 1 for is_carried, size in zip(carried, shape, strict=True)):
        pass_on(elements, operation)
    return [
        tuple(
            nodes if is_carried and nodes is not None else elements.free(size)
            for nodes, is_carried, size in zip(aligned, carried, shape, strict=True)
        )
    ]


def fill(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """The same number everywhere, in the size of what it meets."""
    if operation.settings.get("zero"):
        elements.zero.update(operation.outputs)
    return [tuple(map(elements.free, elements.graph.tensors[output])) for output in operation.outputs]
