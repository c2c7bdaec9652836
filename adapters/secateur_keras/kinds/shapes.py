"""Views that keep every number: reshapes, permutations, new axes, repetition."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from secateur_keras.kinds.rules import Rule, of_operations
from secateur_keras.recording import Outputs, Step


def flatten(step: Step) -> Outputs:
    """Channels last in memory, whatever the data format."""
    tensor = step.inputs[0]
    rank = len(step.shape(tensor))
    if step.operation.data_format == "channels_first" and rank > 2:
        tensor = step.permuted(tensor, (0, *range(2, rank), 1))
    return (step.emit("reshape", [tensor], step.shapes[0]),)


def reshape(step: Step) -> Outputs:
    """To the output's shape."""
    result = step.emit("reshape", step.inputs[:1], step.shapes[0])
    for key, first in (("target_shape", 1), ("newshape", 0)):
        if hasattr(step.operation, key):
            _resize(step, key, getattr(step.operation, key), result, first)
    return (result,)


def _resize(step: Step, key: str, target: Any, tensor: int, first: int = 0) -> None:
    """Note that an entry is the shape of a tensor from axis ``first`` on; sizes left open stay open."""
    entries = tuple(np.atleast_1d(np.asarray(target, dtype=object)).tolist())
    step.edit(
        lambda plan: {
            key: tuple(
                old if old in (-1, None) else new for old, new in zip(entries, plan.shapes[tensor][first:], strict=True)
            )
        }
    )


def permute_layer(step: Step) -> Outputs:
    """``Permute``, whose axes count from 1 and leave the batch out."""
    return (step.emit("permute", step.inputs[:1], step.shapes[0], order=(0, *step.operation.dims)),)


def transposition(step: Step) -> Outputs:
    """``transpose``, ``swapaxes``, ``moveaxis``; the order is read off a transposed array of sizes 0, 1, 2, ..."""
    operation, numbered = step.operation, np.empty(tuple(range(len(step.shape(step.inputs[0])))))
    if hasattr(operation, "axis1"):
        numbered = np.swapaxes(numbered, operation.axis1, operation.axis2)
    elif hasattr(operation, "source"):
        numbered = np.moveaxis(numbered, operation.source, operation.destination)
    else:
        numbered = np.transpose(numbered, operation.axes)
    return (step.emit("permute", step.inputs, step.shapes[0], order=numbered.shape),)


def stack(step: Step) -> Outputs:
    """Each tensor gets the new axis, along which they are strung together."""
    axis, shape = step.operation.axis % len(step.shapes[0]), list(step.shapes[0])
    shape[axis] = 1
    slices = [step.emit("reshape", [tensor], shape) for tensor in step.inputs]
    return (step.emit("concat", slices, step.shapes[0], axis=axis),)


def unstack(step: Step) -> Outputs:
    """One part for each index of the axis, which then goes; the operation finds their number in the tensor."""
    (tensor,) = step.inputs
    shape = list(step.shape(tensor))
    axis = step.operation.axis % len(shape)
    sizes = (1,) * shape[axis]
    kept = step.emit("softmax", [tensor], shape, axis=axis)  # one output each: none of them can go
    shape[axis] = 1
    parts = step.emit_all("split", [kept], [tuple(shape)] * len(sizes), axis=axis, sizes=sizes)
    return tuple(step.emit("reshape", [part], step.shapes[0]) for part in parts)


def broadcast_to(step: Step) -> Outputs:
    """Axes of size 1 grow, others are added in front."""
    result = step.emit("expand", step.inputs[:1], step.shapes[0])
    _resize(step, "shape", step.operation.shape, result)
    return (result,)


def repeat_vector(step: Step) -> Outputs:
    """A new axis behind the batch, along which all is equal."""
    (tensor,) = step.inputs
    batch, *rest = step.shape(tensor)
    return (step.emit("expand", [step.reshaped(tensor, (batch, 1, *rest))], step.shapes[0]),)


def repeat(step: Step) -> Outputs | None:
    """Each index as often, one after the other."""
    axis, counts = step.operation.axis, np.atleast_1d(step.operation.repeats)
    if axis is None or counts.size != 1:
        return None
    return (_repeated(step, step.inputs[0], axis % len(step.shapes[0]), int(counts[0]), inner=True),)


def tile(step: Step) -> Outputs | None:
    """The whole axis as often."""
    (tensor,) = step.inputs
    rank, counts = len(step.shape(tensor)), np.atleast_1d(step.operation.repeats).tolist()
    if len(counts) > rank:
        return None
    for axis, count in zip(range(rank - len(counts), rank), counts, strict=True):
        tensor = tensor if count == 1 else _repeated(step, tensor, axis, count, inner=False)
    return (tensor,)


def _repeated(step: Step, tensor: int, axis: int, count: int, inner: bool) -> int:
    """An axis ``count`` times as long: by a new axis behind it (``inner``) or before it, and merging the two."""
    shape = step.shape(tensor)
    place = axis + 1 if inner else axis
    one, many = ((*shape[:place], size, *shape[place:]) for size in (1, count))
    spread = step.emit("expand", [step.reshaped(tensor, one)], many)
    return step.reshaped(spread, (*shape[:axis], shape[axis] * count, *shape[axis + 1 :]))


def depth_to_space(step: Step) -> Outputs:
    """Channels become blocks of pixels: ``(block row, block column, channel)`` in memory."""
    block, tensor = step.operation.block_size, _channels_last(step, step.inputs[0])
    batch, height, width, count = step.shape(tensor)
    split = step.reshaped(tensor, (batch, height, width, block, block, count // block**2))
    moved = step.permuted(split, (0, 1, 3, 2, 4, 5))
    return (_native(step, step.reshaped(moved, (batch, height * block, width * block, count // block**2))),)


def space_to_depth(step: Step) -> Outputs:
    """The inverse of :func:`depth_to_space`."""
    block, tensor = step.operation.block_size, _channels_last(step, step.inputs[0])
    batch, height, width, count = step.shape(tensor)
    split = step.reshaped(tensor, (batch, height // block, block, width // block, block, count))
    moved = step.permuted(split, (0, 1, 3, 2, 4, 5))
    return (_native(step, step.reshaped(moved, (batch, height // block, width // block, count * block**2))),)


def _channels_last(step: Step, tensor: int) -> int:
    return step.permuted(tensor, (0, 2, 3, 1)) if step.operation.data_format == "channels_first" else tensor


def _native(step: Step, tensor: int) -> int:
    return step.permuted(tensor, (0, 3, 1, 2)) if step.operation.data_format == "channels_first" else tensor


LAYERS: dict[Any, Rule] = {
    layers.Flatten: flatten,
    layers.Reshape: reshape,
    layers.Permute: permute_layer,
    layers.RepeatVector: repeat_vector,
}

OPERATIONS: dict[str, Rule] = {
    **of_operations(reshape, "Reshape", "Squeeze", "ExpandDims", "Ravel"),
    **of_operations(transposition, "Transpose", "Swapaxes", "Moveaxis"),
    "Stack": stack,
    "Unstack": unstack,
    "BroadcastTo": broadcast_to,
    "Repeat": repeat,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
