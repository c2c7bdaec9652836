"""Where a tensor meets a weight: linear maps, convolutions, embeddings, recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from secateur.structure.elements import Elements, Layout, Nodes, Option
from secateur.structure.graph import CONSTANT, Operation, in_axis, out_axis
from secateur.structure.rules.common import (
    SPATIAL,
    axis_setting,
    contract_with,
    freeze_others,
    like_output,
    parameter_layout,
    pass_on,
    produced,
    replaced,
    tie_all,
)

RECURRENCE = "its recurrence runs along this axis"


def linear(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties the contracted axis to the kernel's ``in``; the kernel's ``out`` takes its place."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "axis", len(layout))
    contract_with(elements, layout[axis], operation.parameters["kernel"])
    _zero_along(elements, operation, axis, through=range(len(layout)))
    return [replaced(layout, axis, _outgoing(elements, operation))]


def bilinear(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties the last axes of both inputs to the kernel, and their other axes to one another."""
    first, second = inputs
    for axis, layout in enumerate(inputs, 1):
        contract_with(elements, layout[-1], operation.parameters["kernel"], axis)
    for left, right in zip(first[:-1], second[:-1], strict=True):
        elements.tie(left, right, "it combines both inputs along this axis")
    _zero_along(elements, operation, len(first) - 1)
    return [(*first[:-1], _outgoing(elements, operation))]


def embedding(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Its entries stay; its features follow the axes of the indices."""
    entries, features = parameter_layout(elements, operation.parameters["table"])
    elements.freeze(entries, "its entries are looked up by number")
    elements.mark_zero(operation.outputs[0], -1)
    return [(*inputs[0], features)]


def weight(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """The parameter itself, which is zero where it is masked; a constant is not masked."""
    name = operation.parameters["weight"]
    layout = parameter_layout(elements, name)
    if elements.described(name).role != CONSTANT:
        elements.mark_zero(operation.outputs[0], *range(len(layout)))
    return [layout]


def convolution(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties the channels to the kernel; with groups, whole groups or the same channels of each group go."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "channel_axis", len(layout))
    kernel = operation.parameters["kernel"]
    described = elements.described(kernel)
    groups = cast(int, operation.settings.get("groups", 1))
    incoming = layout[axis]
    if incoming.size != groups * described.shape[in_axis(described)] or _channels_out(elements, kernel) % groups:
        elements.refuse(
            f"has {incoming.size} input channels and {groups} groups, but its kernel's shape is {described.shape}"
        )
    if groups == 1:
        contract_with(elements, incoming, kernel)
        outgoing = _outgoing(elements, operation)
    elif "group" in described.axes:
        outgoing = _grouped_transposed(elements, operation, incoming.reshape(groups, -1))
    else:
        outgoing = _outgoing(elements, operation)
        _grouped(elements, incoming.reshape(groups, -1), outgoing.reshape(groups, -1), kernel)
    freeze_others(elements, layout, (axis,), SPATIAL)
    result = like_output(elements, operation)
    result[0], result[axis] = layout[0], outgoing
    _zero_along(elements, operation, axis)
    return [tuple(result)]


def _channels_out(elements: Elements, kernel: str) -> int:
    described = elements.described(kernel)
    count = described.shape[out_axis(described)]
    return count * described.shape[described.axes.index("group")] if "group" in described.axes else count


def _grouped(elements: Elements, incoming: Nodes, outgoing: Nodes, kernel: str) -> None:
    """Groups of channels, one a row: either whole groups go, or the same columns of every group."""
    groups = elements.groups[elements.operation] = elements.new(len(incoming))
    taken, made = elements.parameter(kernel, in_axis(elements.described(kernel))), None
    elements.read(taken, (kernel, in_axis(elements.described(kernel))))
    if incoming.shape[1] > 1:
        made = elements.new(outgoing.shape[1])
    _rows_or_columns(elements, (incoming, outgoing), groups, taken, made)


def _grouped_transposed(elements: Elements, operation: Operation, incoming: Nodes) -> Nodes:
    """As :func:`_grouped`, for a kernel (group, out // groups, in // groups, ...); returns the channels that it makes.

    One channel of each group, in or out, has its own place in the kernel, so columns can go although a group reads one.
    """
    kernel = operation.parameters["kernel"]
    described = elements.described(kernel)
    groups = elements.groups[elements.operation] = elements.parameter(kernel, described.axes.index("group"))
    taken, made = (elements.parameter(kernel, described.axes.index(name)) for name in ("in", "out"))
    elements.read(taken, (kernel, described.axes.index("in")))
    outgoing = elements.new(groups.size * made.size)
    _tie_bias(elements, operation, outgoing)
    _rows_or_columns(elements, (incoming, outgoing.reshape(groups.size, -1)), groups, taken, made)
    return outgoing


def _rows_or_columns(
    elements: Elements, sides: tuple[Nodes, Nodes], groups: Nodes, taken: Nodes, made: Nodes | None
) -> None:
    """``made`` None: a group reads one channel, and what it makes of it goes with it."""
    channels = np.concatenate([side.ravel() for side in sides])
    rows = np.concatenate([np.broadcast_to(groups[:, None], side.shape).ravel() for side in sides])
    if made is None:
        elements.tie(channels, rows, "each of its groups reads a channel that cannot go")
        return
    own = zip((taken, made), sides, strict=True)
    columns = np.concatenate([np.broadcast_to(nodes, side.shape).ravel() for nodes, side in own])
    options = (Option(channels, columns, groups), Option(channels, rows, np.concatenate([taken, made])))
    elements.choose(options, "its groups must stay equally wide")


def recurrent(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties a unit's gates, biases and states; it is read by the recurrent kernel or the projection."""
    sequence, *states = inputs
    axis = axis_setting(elements, operation, "axis", len(sequence))
    names = operation.parameters
    contract_with(elements, sequence[axis], names["kernel"])
    for position, nodes in enumerate(sequence):
        if position != axis:
            elements.freeze(nodes, RECURRENCE)
    units = produced(elements, names["kernel"])
    elements.tie(units, produced(elements, names["recurrent"]), "its gates cannot shrink")
    fed_back = units
    if "projection" in names:
        contract_with(elements, units, names["projection"])
        fed_back = produced(elements, names["projection"])
    contract_with(elements, fed_back, names["recurrent"])
    for part in ("bias", "recurrent_bias"):
        if part in names:
            elements.tie(units, parameter_layout(elements, names[part])[-1], "its bias cannot shrink")
    return _states(elements, operation, states, units, fed_back)


def _states(
    elements: Elements, operation: Operation, states: Sequence[Layout], units: Nodes, fed_back: Nodes
) -> Sequence[Layout]:
    """States hold the units; the first one, and outputs that are projected, what is fed back."""
    for number, state in enumerate(states):
        elements.tie(state[-1], fed_back if number == 0 else units, "it starts from a state that cannot shrink")
        for nodes in state[:-1]:
            elements.freeze(nodes, RECURRENCE)
    if all(elements.is_zero(tensor, -1) for tensor in operation.inputs[1:]):
        for tensor in operation.outputs:
            elements.mark_zero(tensor, -1)
    projected = cast(Sequence[int], operation.settings.get("projected", ()))
    return [
        (*like_output(elements, operation, number)[:-1], fed_back if number in projected else units)
        for number in range(len(operation.outputs))
    ]


def _zero_along(elements: Elements, operation: Operation, axis: int, through: Sequence[int] = ()) -> None:
    """Masked rows of kernel and bias make zeros along ``axis``; without a bias, zeros pass along axes ``through``."""
    if "bias" not in operation.parameters:
        pass_on(elements, operation, {other: (other,) for other in through if other != axis})
    elements.mark_zero(operation.outputs[0], axis)


def _outgoing(elements: Elements, operation: Operation) -> Nodes:
    """The kernel's ``out`` nodes, or those ``rows`` of them, with the bias tied to them."""
    outgoing = produced(elements, operation.parameters["kernel"])
    _tie_bias(elements, operation, outgoing)
    if "parts" in operation.settings:
        parts = np.split(outgoing, cast(int, operation.settings["parts"]))
        tie_all(elements, parts, "its parts must stay equally long")
    start, stop = cast(tuple[int, int], operation.settings.get("rows", (0, outgoing.size)))
    return outgoing[start:stop] if (start, stop) != (0, outgoing.size) else outgoing


def _tie_bias(elements: Elements, operation: Operation, outgoing: Nodes) -> None:
    if "bias" in operation.parameters:
        elements.tie(outgoing, elements.parameter(operation.parameters["bias"], 0), "its bias cannot shrink")
