"""What several rules need: naming an axis, tying operands, knowing where a tensor is zero once a unit is masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from secateur.structure.elements import FROZEN, Elements, Layout, Nodes, is_plain, plain
from secateur.structure.graph import Operation, in_axis, out_axis

Rule = Callable[[Elements, Operation, Sequence[Layout]], Sequence[Layout]]
Operand = tuple[Layout, bool]
"""The layout of a tensor or parameter, and whether it is zero at the indices of masked units."""

CONTRACTED = "it reads an input that cannot shrink"
SPATIAL = "its window slides along this axis"
COMBINED = "it combines this tensor with one that cannot shrink"


def axis_setting(elements: Elements, operation: Operation, key: str, rank: int) -> int:
    """A setting that names an axis, counted from the front."""
    return checked_axis(elements, operation.settings.get(key), key, rank)


def checked_axis(elements: Elements, axis: object, key: str, rank: int) -> int:
    """An axis, counted from the front."""
    if not isinstance(axis, int) or not -rank <= axis < rank:
        elements.refuse(f"has {key}={axis!r}, which is no axis of a tensor with {rank} axes")
    return axis % rank


def replaced(layout: Layout, axis: int, nodes: Nodes) -> Layout:
    """The layout with other nodes on one axis."""
    return (*layout[:axis], nodes, *layout[axis + 1 :])


def tie_all(elements: Elements, sides: Sequence[Nodes], reason: str) -> Nodes:
    """Tie all to the first, which is returned."""
    for other in sides[1:]:
        elements.tie(sides[0], other, reason)
    return sides[0]


def freeze_others(elements: Elements, layout: Layout, kept: Iterable[int], reason: str) -> None:
    """Freeze all axes but these and the batch."""
    spared = {0, *kept}
    for axis, nodes in enumerate(layout):
        if axis not in spared:
            elements.freeze(nodes, reason)


def parameter_layout(elements: Elements, name: str) -> Layout:
    """The nodes of all axes of a parameter."""
    return tuple(elements.parameter(name, axis) for axis in range(len(elements.described(name).shape)))


def produced(elements: Elements, name: str) -> Nodes:
    """The nodes of a parameter's ``out`` axis."""
    return elements.parameter(name, out_axis(elements.described(name)))


def contract_with(elements: Elements, nodes: Nodes, name: str, axis: int | None = None) -> None:
    """A kernel reads these nodes along its ``in`` axis, or along ``axis``: its slice of a masked unit is zero."""
    axis = in_axis(elements.described(name)) if axis is None else axis
    own = elements.parameter(name, axis)
    elements.tie(nodes, own, CONTRACTED)
    elements.read(own, (name, axis))


def sum_over(elements: Elements, nodes: Nodes, is_zero: bool, reason: str) -> None:
    """These nodes are added up, without a kernel: what is zero where a unit is masked may go, all else stays."""
    if is_zero:
        elements.read(nodes, None)
    else:
        elements.freeze(nodes, reason)


def pass_on(elements: Elements, operation: Operation) -> None:
    """The outputs are zero where the inputs are, unless the operation says otherwise."""
    if operation.settings.get("zero") is not False and all(tensor in elements.zero for tensor in operation.inputs):
        elements.zero.update(operation.outputs)


def vanishes(result: Layout, operands: Sequence[Operand], mode: object) -> bool:
    """Whether the broadcast operands give zero at the indices of a masked unit.

    Args:
        result: the layout of what they give.
        operands: in any number of axes, which are aligned at the last one.
        mode: ``"all"``: it is zero where all operands are; ``"any"``: where one of them is.
    """
    combine = {"all": all, "any": any}.get(mode) if isinstance(mode, str) else None
    if combine is None:
        return False
    return all(
        combine(is_zero and _carries(layout, axis - len(result), nodes) for layout, is_zero in operands)
        for axis, nodes in enumerate(result)
        if not is_plain(nodes)
    )


def _carries(layout: Layout, axis: int, nodes: Nodes) -> bool:
    return len(layout) >= -axis and layout[axis].size == nodes.size and not is_plain(layout[axis])


def like_output(elements: Elements, operation: Operation, number: int = 0) -> list[Nodes]:
    """Axes of an output of which nothing can go, to be filled in."""
    return list(plain(elements.graph.tensors[operation.outputs[number]]))


def frozen(size: int) -> Nodes:
    """So many indices that stay."""
    return np.full(size, FROZEN, dtype=np.int64)
