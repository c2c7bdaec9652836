"""Views and their like, which move indices and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from secateur.structure.elements import Elements, Layout, Nodes
from secateur.structure.graph import Operation
from secateur.structure.rules import reshaping
from secateur.structure.rules.common import (
    COMBINED,
    axis_setting,
    frozen,
    like_output,
    pass_on,
    replaced,
    tie_all,
)


def reshape(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Moves indices in row-major order."""
    shape = elements.graph.tensors[operation.outputs[0]]
    result = reshaping.reshape(elements, inputs[0], shape)
    runs = reshaping.matching_axes([nodes.size for nodes in inputs[0]], shape)
    pass_on(elements, operation, {axis: before for before, after in runs for axis in after})
    return [result]


def permute(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Reorders the axes."""
    (layout,) = inputs
    order = cast(Sequence[int], operation.settings["order"])
    pass_on(elements, operation, {new: (old,) for new, old in enumerate(order)})
    return [tuple(layout[axis] for axis in order)]


def take(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Picks indices of one axis: kinds ``slice`` and ``take``."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "axis", len(layout))
    pass_on(elements, operation)
    taken = layout[axis][picked(operation, layout[axis].size)]
    if taken.size == 1:  # told before choices are settled: nothing could go if they fell on this axis
        elements.freeze(taken, "it reads this index by itself")
    return [replaced(layout, axis, taken)]


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
    added = len(shape) - len(layout)
    pass_on(elements, operation, {axis: (axis - added,) for axis, is_carried in enumerate(carried) if is_carried})
    return [
        tuple(
            nodes if is_carried and nodes is not None else elements.free(size)
            for nodes, is_carried, size in zip(aligned, carried, shape, strict=True)
        )
    ]


def gather(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Places that depend on data stay; along all other axes, what is read and what it is written to go together."""
    carried = cast(Sequence[Sequence[int | None]], operation.settings["carried"])
    result = like_output(elements, operation)
    for axis in range(len(result)):
        pairs = [(layout, own[axis]) for layout, own in zip(inputs, carried, strict=True)]
        sides = [layout[source] for layout, source in pairs if source is not None]
        if sides:
            result[axis] = tie_all(elements, sides, COMBINED)
    for layout, own in zip(inputs, carried, strict=True):
        for axis in set(range(len(layout))) - set(own):
            elements.freeze(layout[axis], "it finds places along this axis by numbers that depend on data")
    _mark_gathered(elements, operation, carried)
    return [tuple(result)]


def _mark_gathered(elements: Elements, operation: Operation, carried: Sequence[Sequence[int | None]]) -> None:
    """Zero where all numbers are that it may take: those that are there, and those that are written."""
    if operation.settings.get("zero") is False:
        return
    values = list(zip(operation.inputs, carried, strict=True))[: operation.settings.get("values")]
    for axis in range(len(carried[0])):
        sources = [(tensor, own[axis]) for tensor, own in values]
        if all(source is not None and elements.is_zero(tensor, source) for tensor, source in sources):
            elements.mark_zero(operation.outputs[0], axis)


def fill(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """The same number everywhere, in the size of what it meets."""
    if operation.settings.get("zero"):
        elements.mark_zero(operation.outputs[0], *range(len(elements.graph.tensors[operation.outputs[0]])))
    return [tuple(map(elements.free, elements.graph.tensors[output])) for output in operation.outputs]
