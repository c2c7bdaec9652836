"""One small rule for each kind of operation: which indices of its tensors and parameters go together.

A rule gets the layouts of its inputs and returns those of its outputs; on the way it ties and freezes nodes. To teach
the solver a new kind, add a rule to :data:`RULES`; nothing else knows the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from secateur.structure import views
from secateur.structure.elements import FROZEN, Elements, Layout, Nodes, Option, plain
from secateur.structure.graph import Operation

Rule = Callable[[Elements, Operation, Sequence[Layout]], Sequence[Layout]]

CONTRACTED = "it reads an input that cannot shrink"
SPATIAL = "its window slides along this axis"


def linear(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties the contracted axis to the kernel's ``in``; the kernel's ``out`` takes its place."""
    (layout,) = inputs
    axis = _axis(elements, operation, "axis", len(layout))
    kernel = operation.parameters["kernel"]
    elements.tie(layout[axis], elements.parameter(kernel, 1), CONTRACTED)
    return [_replace(layout, axis, _outgoing(elements, operation))]


def convolution(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties the channels to the kernel; with groups, whole groups or the same channels of each group go."""
    (layout,) = inputs
    axis = _axis(elements, operation, "channel_axis", len(layout))
    kernel = operation.parameters["kernel"]
    groups = cast(int, operation.settings.get("groups", 1))
    incoming, outgoing = layout[axis], _outgoing(elements, operation)
    if incoming.size != groups * elements.graph.parameters[kernel].shape[1] or outgoing.size % groups:
        elements.refuse(
            f"has {incoming.size} input channels and {groups} groups, but its kernel's shape is "
            f"{elements.graph.parameters[kernel].shape}"
        )
    if groups == 1:
        elements.tie(incoming, elements.parameter(kernel, 1), CONTRACTED)
    else:
        _grouped(elements, incoming.reshape(groups, -1), outgoing.reshape(groups, -1), kernel)
    return [_local(elements, operation, layout, axis, outgoing)]


def _grouped(elements: Elements, incoming: Nodes, outgoing: Nodes, kernel: str) -> None:
    """Groups of channels, one a row: either whole groups go, or the same columns of every group."""
    groups = elements.groups[elements.operation] = elements.new(len(incoming))
    channels = np.concatenate([incoming.ravel(), outgoing.ravel()])
    rows = _paired(groups[:, None], groups[:, None], incoming, outgoing)
    if incoming.shape[1] == 1:
        elements.tie(channels, rows, "each of its groups reads a channel that cannot go")
        return
    taken, made = elements.parameter(kernel, 1), elements.new(outgoing.shape[1])
    columns = _paired(taken, made, incoming, outgoing)
    options = (Option(channels, columns, groups), Option(channels, rows, np.concatenate([taken, made])))
    elements.choose(options, "its groups must stay equally wide")


def _paired(taken: Nodes, made: Nodes, incoming: Nodes, outgoing: Nodes) -> Nodes:
    sides = ((taken, incoming), (made, outgoing))
    return np.concatenate([np.broadcast_to(nodes, side.shape).ravel() for nodes, side in sides])


def normalize(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties the channels to every affine parameter and running statistic."""
    (layout,) = inputs
    axis = _axis(elements, operation, "axis", len(layout))
    for name in operation.parameters.values():
        elements.tie(layout[axis], elements.parameter(name, 0), "its channels cannot go")
    return [layout]


def elementwise(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties all operands, parameters among them, index by index; an axis of size 1 follows the others."""
    operands = [*inputs, *(_parameter_layout(elements, name) for name in operation.parameters.values())]
    rank = max(len(layout) for layout in operands)
    result = []
    for axis in range(-rank, 0):
        sides = [layout[axis] for layout in operands if len(layout) >= -axis]
        size = max(nodes.size for nodes in sides)
        full = [nodes for nodes in sides if nodes.size == size]
        if any(nodes.size not in (1, size) for nodes in sides):
            elements.refuse(f"combines axes of sizes {sorted({nodes.size for nodes in sides})}")
        result.append(_tie_all(elements, full, "it combines this tensor with one that cannot shrink"))
    return [tuple(result)] * len(operation.outputs)


def concat(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Strings the indices of one axis together and ties the others."""
    axis = _axis(elements, operation, "axis", len(inputs[0]))
    result = [
        np.concatenate(sides)
        if position == axis
        else _tie_all(elements, sides, "it joins this tensor to one that cannot shrink")
        for position, sides in enumerate(zip(*inputs, strict=True))
    ]
    return [tuple(result)]


def reshape(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Moves indices in row-major order."""
    return [views.reshape(elements, inputs[0], elements.graph.tensors[operation.outputs[0]])]


def permute(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Reorders the axes."""
    (layout,) = inputs
    order = cast(Sequence[int], operation.settings["order"])
    return [tuple(layout[axis] for axis in order)]


def pool(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Keeps batch and channels; whatever it slides along stays."""
    (layout,) = inputs
    axis = _axis(elements, operation, "channel_axis", len(layout))
    return [_local(elements, operation, layout, axis, layout[axis])]


def reduce(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes the axes that it sums or averages: a removed index would change the result."""
    (layout,) = inputs
    reduced = {axis % len(layout) for axis in cast(Sequence[int], operation.settings["axes"])}
    for axis in reduced:
        elements.freeze(layout[axis], "it reduces over this axis")
    if operation.settings.get("keepdims", False):
        return [tuple(np.full(1, FROZEN) if axis in reduced else nodes for axis, nodes in enumerate(layout))]
    return [tuple(nodes for axis, nodes in enumerate(layout) if axis not in reduced)]


def softmax(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes the axis that it normalises over."""
    (layout,) = inputs
    elements.freeze(layout[_axis(elements, operation, "axis", len(layout))], "it normalises over this axis")
    return [layout]


def unknown(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes all that it touches: unknown is never wrong, only unpruned."""
    layouts = [*inputs, *(_parameter_layout(elements, name) for name in operation.parameters.values())]
    for nodes in (nodes for layout in layouts for nodes in layout):
        elements.freeze(nodes, "Secateur does not know what it does")
    return [plain(elements.graph.tensors[output]) for output in operation.outputs]


RULES: Mapping[str, Rule] = {
    "linear": linear,
    "convolution": convolution,
    "normalize": normalize,
    "elementwise": elementwise,
    "concat": concat,
    "reshape": reshape,
    "permute": permute,
    "pool": pool,
    "reduce": reduce,
    "softmax": softmax,
    "unknown": unknown,
}


def read(elements: Elements) -> list[Layout]:
    """Apply the rules in execution order; returns the layout of every tensor. Inputs and constants are plain.

    Raises TraceError if the layouts do not fit the shapes that were traced.
    """
    graph = elements.graph
    layouts = [plain(shape) for shape in graph.tensors]
    for elements.operation, operation in enumerate(graph.operations):
        rule = RULES.get(operation.kind, unknown)
        results = rule(elements, operation, [layouts[tensor] for tensor in operation.inputs])
        for tensor, layout in zip(operation.outputs, results, strict=True):
            shape = tuple(nodes.size for nodes in layout)
            if shape != graph.tensors[tensor]:
                elements.refuse(f"should give shape {shape}, traced was {graph.tensors[tensor]}")
            layouts[tensor] = layout
    return layouts


def _outgoing(elements: Elements, operation: Operation) -> Nodes:
    """The kernel's ``out`` nodes, with the bias tied to them."""
    outgoing = elements.parameter(operation.parameters["kernel"], 0)
    if "bias" in operation.parameters:
        elements.tie(outgoing, elements.parameter(operation.parameters["bias"], 0), "its bias cannot shrink")
    return outgoing


def _local(elements: Elements, operation: Operation, layout: Layout, axis: int, channels: Nodes) -> Layout:
    """The output of a sliding window: the batch, new channels, and otherwise axes that stay."""
    for position, nodes in enumerate(layout):
        if position not in (0, axis):
            elements.freeze(nodes, SPATIAL)
    result = list(plain(elements.graph.tensors[operation.outputs[0]]))
    result[0], result[axis] = layout[0], channels
    return tuple(result)


def _parameter_layout(elements: Elements, name: str) -> Layout:
    return tuple(elements.parameter(name, axis) for axis in range(len(elements.graph.parameters[name].shape)))


def _tie_all(elements: Elements, sides: Sequence[Nodes], reason: str) -> Nodes:
    for other in sides[1:]:
        elements.tie(sides[0], other, reason)
    return sides[0]


def _replace(layout: Layout, axis: int, nodes: Nodes) -> Layout:
    return (*layout[:axis], nodes, *layout[axis + 1 :])


def _axis(elements: Elements, operation: Operation, key: str, rank: int) -> int:
    """A setting that names an axis, counted from the front."""
    axis = operation.settings.get(key)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        elements.refuse(f"has {key}={axis!r}, which is no axis of a tensor with {rank} axes")
    return axis % rank
