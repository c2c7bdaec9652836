"""Where tensors meet one another, or an axis is summed up: arithmetic, products, attention, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from secateur.structure.elements import Elements, Layout, Nodes, is_plain
from secateur.structure.graph import Operation
from secateur.structure.rules.common import (
    COMBINED,
    SPATIAL,
    Operand,
    axis_setting,
    freeze_others,
    frozen,
    like_output,
    parameter_layout,
    pass_on,
    sum_over,
    tie_all,
    vanishes,
)

ADDED = "it adds up along this axis, where a masked unit need not be zero"
SCALED = "its scale depends on the number of features"
ATTENDED = "it attends along this axis"


def elementwise(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties all operands, parameters among them, index by index; an axis of size 1 follows the others."""
    operands = _operands(elements, operation, inputs)
    layouts = [layout for layout, _ in operands]
    result = tuple(_broadcast(elements, layouts, axis) for axis in range(-max(map(len, layouts)), 0))
    if vanishes(result, operands, operation.settings.get("zero")):
        elements.zero.update(operation.outputs)
    return [result] * len(operation.outputs)


def _operands(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> list[Operand]:
    tensors = [(layout, tensor in elements.zero) for layout, tensor in zip(inputs, operation.inputs, strict=True)]
    return [*tensors, *((parameter_layout(elements, name), True) for name in operation.parameters.values())]


def _broadcast(elements: Elements, layouts: Sequence[Layout], axis: int) -> Nodes:
    sides = [layout[axis] for layout in layouts if len(layout) >= -axis]
    size = max(nodes.size for nodes in sides)
    if any(nodes.size not in (1, size) for nodes in sides):
        elements.refuse(f"combines axes of sizes {sorted({nodes.size for nodes in sides})}")
    return tie_all(elements, [nodes for nodes in sides if nodes.size == size], COMBINED)


def contract(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties equal labels; what is summed over may go where one of the factors is zero."""
    labels = cast(Sequence[Sequence[int]], operation.settings["labels"])
    result = cast(Sequence[int], operation.settings["result"])
    known = {label: _labelled(elements, labels, inputs, label) for label in dict.fromkeys(sum(map(tuple, labels), ()))}
    if unknown := [label for label in result if label not in known]:
        elements.refuse(f"gives axes {unknown} that no input has")
    zero = [tensor in elements.zero for tensor in operation.inputs]
    carried = {label: _factors(labels, inputs, label, nodes, zero) for label, nodes in known.items()}
    summed = [label for label in known if label not in result]
    for label in summed:
        sum_over(elements, known[label], any(carried[label]), ADDED)
    if any(len(carried[label]) > 1 for label in summed):
        for label in result:
            if len(carried[label]) > 1:
                elements.heads.append(known[label])
    if all(any(carried[label]) for label in result if not is_plain(known[label])):
        elements.zero.update(operation.outputs)
    return [tuple(known[label] for label in result)]


def _labelled(elements: Elements, labels: Sequence[Sequence[int]], inputs: Sequence[Layout], label: int) -> Nodes:
    pairs = [pair for own, layout in zip(labels, inputs, strict=True) for pair in zip(own, layout, strict=True)]
    return _broadcast(elements, [(nodes,) for own, nodes in pairs if own == label], -1)


def _factors(
    labels: Sequence[Sequence[int]], inputs: Sequence[Layout], label: int, nodes: Nodes, zero: Sequence[bool]
) -> list[bool]:
    """For each input that has the label at full length, whether it is zero where a unit is masked."""
    rows = zip(labels, inputs, zero, strict=True)
    return [
        is_zero
        for own, layout, is_zero in rows
        if any(name == label and side.size == nodes.size for name, side in zip(own, layout, strict=True))
    ]


def attention(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties queries, keys and values head by head; the features of the products stay if they set the scale."""
    query, key, value, *masks = inputs
    query_zero, key_zero, value_zero = (tensor in elements.zero for tensor in operation.inputs[:3])
    for sides in zip(query[:-3], key[:-3], value[:-3], strict=True):
        tie_all(elements, sides, COMBINED)
    for nodes in (key[-2], value[-2]):
        elements.freeze(nodes, ATTENDED)
    elements.tie(query[-1], key[-1], "it multiplies queries and keys along this axis")
    scaled = operation.settings.get("scaled", True)
    sum_over(elements, query[-1], (query_zero or key_zero) and not scaled, SCALED if scaled else ADDED)
    heads = query[-3] if len(query) > 2 else None
    if heads is not None:
        for side in (key[-3], value[-3]):
            _serve(elements, heads, side)
        elements.heads.append(heads)
    for mask in masks:
        _masked(elements, (*query[:-1], key[-2]), mask)
    shared = heads is None or is_plain(heads) or value[-3].size > 1
    if value_zero and shared:
        elements.zero.update(operation.outputs)
    return [(*query[:-1], value[-1])]


def _serve(elements: Elements, heads: Nodes, served: Nodes) -> None:
    """A key and value head goes with all the query heads that it serves; the only one stays."""
    if served.size == 1 < heads.size:
        elements.freeze(served, "it serves all heads of the queries")
    elif heads.size % served.size:
        elements.refuse(f"has {heads.size} heads of queries and {served.size} of keys or values")
    else:
        elements.tie(heads, np.repeat(served, heads.size // served.size), "it attends head by head")


def _masked(elements: Elements, weights: Layout, mask: Layout) -> None:
    """A mask is added to the weights, along the axes that it has."""
    for axis in range(-min(len(mask), len(weights)), 0):
        if mask[axis].size == weights[axis].size:
            elements.tie(weights[axis], mask[axis], COMBINED)


def concat(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Strings the indices of one axis together and ties the others."""
    axis = axis_setting(elements, operation, "axis", len(inputs[0]))
    result = [
        np.concatenate(sides)
        if position == axis
        else tie_all(elements, sides, "it joins this tensor to one that cannot shrink")
        for position, sides in enumerate(zip(*inputs, strict=True))
    ]
    pass_on(elements, operation)
    return [tuple(result)]


def pool(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Keeps batch and channels; whatever it slides along stays."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "channel_axis", len(layout))
    freeze_others(elements, layout, (axis,), SPATIAL)
    result = like_output(elements, operation)
    result[0], result[axis] = layout[0], layout[axis]
    pass_on(elements, operation)
    return [tuple(result)]


def reduce(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes the axes that it averages: a removed index would change the result. Zeros may be left out of a sum."""
    (layout,) = inputs
    reduced = {axis % len(layout) for axis in cast(Sequence[int], operation.settings["axes"])}
    adds_zero = operation.settings.get("sum") is True and operation.inputs[0] in elements.zero
    for axis in sorted(reduced):
        sum_over(elements, layout[axis], adds_zero, "it reduces over this axis")
    pass_on(elements, operation)
    if operation.settings.get("keepdims", False):
        return [tuple(frozen(1) if axis in reduced else nodes for axis, nodes in enumerate(layout))]
    return [tuple(nodes for axis, nodes in enumerate(layout) if axis not in reduced)]


def softmax(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes the axis all of whose indices depend on one another."""
    (layout,) = inputs
    elements.freeze(layout[axis_setting(elements, operation, "axis", len(layout))], "it normalises over this axis")
    return [layout]
