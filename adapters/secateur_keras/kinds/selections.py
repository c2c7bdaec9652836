"""Views that pick, join or reorder indices of axes: slices, splits, concatenations, padding."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from secateur.errors import TraceError
from secateur.structure.removal import Plan
from secateur_keras.kinds.rules import Rule, frozen, of_operations, several
from secateur_keras.recording import Number, Outputs, Step

Pick = tuple[int, int, int] | list[int]
"""What is picked of an axis: ``start, stop, step``, or the indices."""


def concatenate(step: Step) -> Outputs:
    """Along ``axis``, as a layer or an operation."""
    tensors = [number.value for number in step.arguments[0]]
    return (step.emit("concat", tensors, step.shapes[0], axis=step.operation.axis),)


def get_item(step: Step) -> Outputs | None:
    """Whole numbers, slices, new axes and an ellipsis; what is no slice any more becomes ``take``."""
    tensor, key = step.inputs[0], step.argument("key")
    shape = step.shape(tensor)
    entries = _entries(key, len(shape))
    if entries is None:
        return None
    picked: dict[int, tuple[int, Pick]] = {}
    for axis, entry in enumerate(each for each in entries if each is not None):
        pick = _pick(entry, shape[axis])
        if pick != (0, shape[axis], 1):
            tensor = _emit_pick(step, tensor, axis, pick)
            picked[axis] = (step.last, pick)
    _edit(step, entries, picked)
    return (step.reshaped(tensor, step.shapes[0]),)


def _edit(step: Step, entries: Sequence[Any], picked: dict[int, tuple[int, Pick]]) -> None:
    """Note that what is picked depends on the plan: axis -> the operation that says it, and the pick so far."""
    step.edit(
        lambda plan: {"picks": {axis: _new_pick(plan, *known) for axis, known in picked.items()}},
        call=lambda x, _, picks: _get_item(x, entries, picks),
    )


def _entries(key: Any, rank: int) -> list[Any] | None:
    """One entry for each axis, and None for each new one; None if it holds arrays or tensors."""
    entries = list(key) if isinstance(key, (tuple, list)) else [key]
    if not all(each is None or each is Ellipsis or isinstance(each, (slice, int, np.integer)) for each in entries):
        return None
    if any(isinstance(value, Number) for each in entries if isinstance(each, slice) for value in _bounds(each)):
        return None
    missing = rank - sum(each is not None and each is not Ellipsis for each in entries)
    place = next((index for index, each in enumerate(entries) if each is Ellipsis), len(entries))
    return [*entries[:place], *[slice(None)] * missing, *entries[place + 1 :]]


def _bounds(entry: slice) -> tuple[Any, Any, Any]:
    return entry.start, entry.stop, entry.step


def _pick(entry: Any, size: int) -> Pick:
    if not isinstance(entry, slice):
        index = operator.index(entry) % size
        return index, index + 1, 1
    start, stop, step = entry.indices(size)
    return (start, max(stop, start), step) if step > 0 else list(range(start, stop, step))


def _emit_pick(step: Step, tensor: int, axis: int, pick: Pick) -> int:
    shape = list(step.shape(tensor))
    shape[axis] = len(pick if isinstance(pick, list) else range(*pick))
    if isinstance(pick, list):
        return step.emit("take", [tensor], shape, axis=axis, indices=pick)
    return step.emit("slice", [tensor], shape, axis=axis, start=pick[0], stop=pick[1], step=pick[2])


def _new_pick(plan: Plan, index: int, old: Pick) -> Pick:
    changed = plan.settings.get(index)
    if changed is None:
        return old
    if "indices" in changed:
        return [int(each) for each in changed["indices"]]
    return changed["start"], changed["stop"], changed["step"]


def _get_item(x: Any, entries: Sequence[Any], picks: Mapping[int, Pick]) -> Any:
    """``x[entries]`` with these picks of its axes."""
    for axis, pick in picks.items():
        if isinstance(pick, list):
            x = keras.ops.take(x, pick, axis=axis)
    axes = iter(range(len(entries)))
    return x[tuple(None if entry is None else _entry(entry, picks.get(next(axes))) for entry in entries)]


def _entry(old: Any, pick: Pick | None) -> Any:
    """What stands for a pick in a key; indices are taken already."""
    if pick is None:
        return old
    if isinstance(old, slice):
        return slice(None) if isinstance(pick, list) else slice(*pick)
    return 0 if isinstance(pick, list) else pick[0]


def take(step: Step) -> Outputs | None:
    """By constant indices along one axis."""
    tensor, indices, axis = step.inputs[0], step.argument("indices"), step.operation.axis
    if axis is None or isinstance(indices, Number) or len(step.inputs) > 1:
        return None
    shape, places = list(step.shape(tensor)), np.asarray(keras.ops.convert_to_numpy(indices))
    axis %= len(shape)
    chosen = [int(each) for each in places.ravel() % shape[axis]]
    shape[axis] = len(chosen)
    result = step.emit("take", [tensor], shape, axis=axis, indices=chosen)
    index = step.last

    def taken(x: Any, _: Any = None, picks: Any = None) -> Any:
        if len(picks) != len(chosen) and places.ndim != 1:
            raise TraceError(
                f"{step.source} takes indices in {places.ndim} axes, of which some go; exclude what it takes"
            )
        return keras.ops.take(x, np.reshape(picks, places.shape if places.ndim != 1 else (-1,)), axis=axis)

    step.edit(lambda plan: {"picks": _new_pick(plan, index, chosen)}, call=taken)
    return (step.reshaped(result, step.shapes[0]),)


def roll(step: Step) -> Outputs | None:
    """Along one axis; by fewer places if some of the indices go that change ends."""
    axis, shift, shape = step.operation.axis, step.operation.shift, step.shapes[0]
    if not isinstance(axis, int) or not isinstance(shift, int):
        return None
    axis %= len(shape)
    chosen = np.roll(np.arange(shape[axis]), shift).tolist()
    result = step.emit("take", step.inputs[:1], shape, axis=axis, indices=chosen)
    index = step.last
    step.edit(lambda plan: {"shift": _shift(_new_pick(plan, index, chosen), shift)})
    return (result,)


def _shift(indices: Any, old: int) -> int:
    """By how much ``indices`` are rolled; as before if that says it too."""
    size = len(indices)
    return old if size and indices[0] == -old % size else indices.index(0)


def flip(step: Step) -> Outputs:
    """What stays of an axis is turned round as well."""
    (tensor,), shape = step.inputs, step.shapes[0]
    axis = getattr(step.operation, "axis", {"Flipud": 0, "Fliplr": 1}.get(type(step.operation).__name__))
    for each in several(axis, len(shape)):
        tensor = step.emit("take", [tensor], shape, axis=each, indices=list(range(shape[each]))[::-1])
    return (tensor,)


def split(step: Step) -> Outputs:
    """Into parts, of which each may lose other indices."""
    (tensor,), operation = step.inputs, step.operation
    axis = operation.axis % len(step.shape(tensor))
    sizes = tuple(shape[axis] for shape in step.shapes)
    parts = step.emit_all("split", [tensor], step.shapes, axis=axis, sizes=sizes)
    step.edit(lambda plan: {"indices_or_sections": _ends(operation, [plan.shapes[part][axis] for part in parts])})
    return parts


def _ends(operation: Any, sizes: Sequence[int]) -> Any:
    """The number of parts where that says it, else where all but the last end."""
    given = operation.indices_or_sections
    if isinstance(given, int) and len(set(sizes)) == 1:
        return given
    return tuple(np.cumsum(sizes)[:-1].tolist())


def pad(step: Step) -> Outputs | None:
    """Constants; any other mode repeats numbers of the axis, of which none can go then."""
    tensor, rank = step.inputs[0], len(step.shapes[0])
    widths = np.broadcast_to(np.asarray(step.operation.pad_width), (rank, 2))
    for axis, (before, after) in enumerate(widths.tolist()):
        if before or after:
            tensor = _padded(step, tensor, axis, before, after)
    return (tensor,)


def _padded(step: Step, tensor: int, axis: int, before: int, after: int) -> int:
    mode, shape = step.operation.mode, list(step.shape(tensor))
    size = shape[axis]
    shape[axis] = before + size + after
    if mode == "constant":
        settings: dict[str, Any] = {"zero": False} if step.argument("constant_values") else {}
        return step.emit("pad", [tensor], shape, axis=axis, before=before, after=after, **settings)
    indices = np.pad(np.arange(size), (before, after), mode=mode).tolist()
    kept = frozen(step, tensor, [axis], reason="it repeats this axis at its ends")
    return step.emit("take", [kept], shape, axis=axis, indices=indices)


def static_slice(step: Step) -> Outputs | None:
    """``keras.ops.slice`` from constant places."""
    tensor, starts = step.inputs[0], step.argument("start_indices")
    if len(step.inputs) > 1:
        return None
    begins, shape = np.asarray(keras.ops.convert_to_numpy(starts)).tolist(), step.shape(tensor)
    picked: dict[int, tuple[int, Pick]] = {}
    for axis, (start, size) in enumerate(zip(begins, step.shapes[0], strict=True)):
        if size != shape[axis]:
            tensor = _emit_pick(step, tensor, axis, (start, start + size, 1))
            picked[axis] = (step.last, (start, start + size, 1))
    _edit(step, [slice(None)] * len(shape), picked)
    return (tensor,)


LAYERS: dict[Any, Rule] = {layers.Concatenate: concatenate}

OPERATIONS: dict[str, Rule] = {
    "Concatenate": concatenate,
    "GetItem": get_item,
    "Slice": static_slice,
    "Take": take,
    "Roll": roll,
    **of_operations(flip, "Flip", "Fliplr", "Flipud"),
    "Split": split,
    "Pad": pad,
}
