"""Where tensors meet one another, or an axis is summed up: arithmetic, products, attention, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from secateur.structure.elements import Elements, Layout, Nodes
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
    for output in operation.outputs:
        elements.mark_zero(output, *vanishes(result, operands, operation.settings.get("zero")))
    return [result] * len(operation.outputs)


def _operands(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> list[Operand]:
    tensors = [
        (layout, [elements.is_zero(tensor, axis) for axis in range(len(layout))])
        for layout, tensor in zip(inputs, operation.inputs, strict=True)
    ]
    own = [parameter_layout(elements, name) for name in operation.parameters.values()]
    return [*tensors, *((layout, [True] * len(layout)) for layout in own)]


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
    operands = _operands(elements, operation, inputs)
    carried = {label: _factors(labels, operands, label, nodes) for label, nodes in known.items()}
    summed = [label for label in known if label not in result]
    for label in summed:
        sum_over(elements, known[label], any(carried[label]), ADDED)
    if any(len(carried[label]) > 1 for label in summed):
        for label in result:
            if len(carried[label]) > 1:
                elements.heads.append(known[label])
    elements.mark_zero(operation.outputs[0], *(axis for axis, label in enumerate(result) if any(carried[label])))
    return [tuple(known[label] for label in result)]


def _labelled(elements: Elements, labels: Sequence[Sequence[int]], inputs: Sequence[Layout], label: int) -> Nodes:
    pairs = [pair for own, layout in zip(labels, inputs, strict=True) for pair in zip(own, layout, strict=True)]
    return _broadcast(elements, [(nodes,) for own, nodes in pairs if own == label], -1)


def _factors(labels: Sequence[Sequence[int]], operands: Sequence[Operand], label: int, nodes: Nodes) -> list[bool]:
    """For each input that has the label at full length, whether it is zero there where a unit is masked."""
    factors = []
    for own, (layout, zero) in zip(labels, operands, strict=True):
        sides = [axis for axis, name in enumerate(own) if name == label and layout[axis].size == nodes.size]
        factors += [any(zero[axis] for axis in sides)] if sides else []
    return factors


def attention(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties queries, keys and values head by head; the features of the products stay if they set the scale."""
    query, key, value, *masks = inputs
    for sides in zip(query[:-3], key[:-3], value[:-3], strict=True):
        tie_all(elements, sides, COMBINED)
    for nodes in (key[-2], value[-2]):
        elements.freeze(nodes, ATTENDED)
    elements.tie(query[-1], key[-1], "it multiplies queries and keys along this axis")
    mended = "mended" in operation.settings
    if mended:
        elements.tie(query[-1], value[-1], "its queries, keys and values have as many features")
    scaled = operation.settings.get("scaled", True) and not mended
    is_zero = any(elements.is_zero(tensor, -1) for tensor in operation.inputs[:2])
    sum_over(elements, query[-1], is_zero and not scaled, SCALED if scaled else ADDED)
    heads = query[-3] if len(query) > 2 else None
    if heads is not None:
        for side in (key[-3], value[-3]):
            _serve(elements, heads, side)
        elements.heads.append(heads)
    for mask in masks:
        _masked(elements, (*query[:-1], key[-2]), mask)
    same = [axis for axis in range(-len(value), 0) if axis != -2 and (axis != -3 or value[-3].size > 1)]
    values = operation.inputs[2]
    elements.mark_zero(operation.outputs[0], *(axis for axis in same if elements.is_zero(values, axis)))
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
    pass_on(elements, operation, {0: (0,), axis: (axis,)})
    return [tuple(result)]


def reduce(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes the axes that it averages: a removed index would change the result. Zeros may be left out of a sum."""
    (layout,) = inputs
    reduced = {axis % len(layout) for axis in cast(Sequence[int], operation.settings["axes"])}
    adds = operation.settings.get("sum") is True
    for axis in sorted(reduced):
        adds_zero = adds and elements.is_zero(operation.inputs[0], axis)
        sum_over(elements, layout[axis], adds_zero, "it reduces over this axis")
    kept = [axis for axis in range(len(layout)) if operation.settings.get("keepdims", False) or axis not in reduced]
    pass_on(elements, operation, {new: (old,) for new, old in enumerate(kept) if old not in reduced})
    if operation.settings.get("keepdims", False):
        return [tuple(frozen(1) if axis in reduced else nodes for axis, nodes in enumerate(layout))]
    return [tuple(nodes for axis, nodes in enumerate(layout) if axis not in reduced)]


def softmax(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes the axis all of whose indices depend on one another."""
    (layout,) = inputs
    reason = str(operation.settings.get("reason", "it normalises over this axis"))
    elements.freeze(layout[axis_setting(elements, operation, "axis", len(layout))], reason)
    return [layout]
