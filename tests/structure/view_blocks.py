"""Blocks of random models that move, cut out, repeat and fill in indices."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from structure.building import GraphBuilder
from structure.drawing import BATCH, Block, any_axis, divisors


def _split_axis(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    shape, axis = builder.shape(x), any_axis(draw, builder, x)
    inner = divisors(shape[axis])[1:-1]
    if not inner or len(shape) > 4:
        return None
    rows = draw(st.sampled_from(inner))
    return builder.reshape(x, *shape[:axis], rows, shape[axis] // rows, *shape[axis + 1 :])


def _merge_axes(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    shape = builder.shape(x)
    if len(shape) < 3:
        return None
    start = draw(st.integers(1, len(shape) - 2))
    end = draw(st.integers(start + 2, len(shape)))
    return builder.reshape(x, *shape[:start], math.prod(shape[start:end]), *shape[end:])


def _permute(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.permute(x, 0, *draw(st.permutations(range(1, len(builder.shape(x))))))


def _shuffle(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    axis = any_axis(draw, builder, x)
    return builder.shuffle(x, draw(st.sampled_from(divisors(builder.shape(x)[axis]))), axis)


def _pixel_shuffle(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """(channels * r * r, height, width) -> (channels, height * r, width * r), from a convolution that makes them."""
    shape = builder.shape(x)
    if len(shape) != 4 or shape[2] * shape[3] > 16:
        return None
    r, channels = 2, draw(st.integers(1, 3))
    y = builder.convolution(x, channels * r * r, draw(st.sampled_from([1, 3])))
    parted = builder.reshape(y, BATCH, channels, r, r, *shape[2:])
    return builder.reshape(builder.permute(parted, 0, 1, 4, 2, 5, 3), BATCH, channels, shape[2] * r, shape[3] * r)


def _slice(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """From front to back in any step, or backwards but for the first index."""
    axis = any_axis(draw, builder, x)
    size = builder.shape(x)[axis]
    start = draw(st.integers(0, size - 1))
    if start and not draw(st.integers(0, 3)):
        return builder.slice(x, start, draw(st.integers(0, start - 1)), -draw(st.integers(1, 2)), axis)
    return builder.slice(x, start, draw(st.integers(start + 1, size)), draw(st.integers(1, 3)), axis)


def _cut_and_joined(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Two slices of one step, side by side, as where neighbours become two halves."""
    axis = any_axis(draw, builder, x)
    size, step = builder.shape(x)[axis], draw(st.integers(1, 2))
    if size < 2:
        return None
    stop = size if step == 2 else draw(st.integers(1, size - 1))
    parts = [builder.slice(x, 0, stop, step, axis), builder.slice(x, 1 if step == 2 else stop, size, step, axis)]
    return builder.concat(*draw(st.permutations(parts)), axis=axis)


def _take(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Rolled, flipped, or any indices, some of them twice."""
    axis = any_axis(draw, builder, x)
    size = builder.shape(x)[axis]
    kind = draw(st.sampled_from(["roll", "flip", "any", "permutation"]))
    shift = draw(st.integers(0, size - 1))
    indices = {
        "roll": lambda: [*range(shift, size), *range(shift)],
        "flip": lambda: [*range(size)][::-1],
        "any": lambda: draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=6)),
        "permutation": lambda: draw(st.permutations(range(size))),
    }
    return builder.take(x, indices[kind](), axis)


def _split(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Into unlike parts, of which some are used or all change places; or equal ones, added or multiplied."""
    axis = any_axis(draw, builder, x)
    size = builder.shape(x)[axis]
    if size < 2:
        return None
    if draw(st.booleans()):
        parts = builder.chunk(x, draw(st.sampled_from(divisors(size)[1:])), axis)
        return builder.combine(*parts, function=draw(st.sampled_from(["add", "multiply", "maximum"])))
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), min_size=1, max_size=2)))
    sizes = [stop - start for start, stop in zip([0, *cuts], [*cuts, size], strict=True)]
    parts = draw(st.permutations(builder.split(x, *sizes, axis=axis)))
    return builder.concat(*parts[: draw(st.integers(1, len(parts)))], axis=axis)


def _shuffle_unit(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """ShuffleNet's: half of the channels pass through, half are convolved, then both are shuffled."""
    shape = builder.shape(x)
    if len(shape) < 3 or shape[1] % 2:
        return None
    left, right = builder.chunk(x, 2, axis=1)
    half = shape[1] // 2
    right = builder.convolution(builder.convolution(right, half, 1), half, 3, groups=half)
    return builder.shuffle(builder.concat(left, right), 2)


def _pad(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return builder.pad(x, before, after, any_axis(draw, builder, x), draw(st.sampled_from([0.0, 0.0, 1.0])))


def _shortcut(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """ResNet's without weights: new channels of zeros, added to a layer that makes all channels."""
    axis = any_axis(draw, builder, x)
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 3))
    wide = builder.linear(builder.activation(x), before + builder.shape(x)[axis] + after, axis)
    return builder.combine(wide, builder.pad(x, before, after, axis))


def _expand(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """A new axis of several copies, which then gates a layer that makes this axis, or is merged with a neighbour."""
    shape, axis = builder.shape(x), any_axis(draw, builder, x)
    if len(shape) > 4:
        return None
    copies = draw(st.integers(1, 3))
    thin = builder.reshape(x, *shape[:axis], 1, *shape[axis:])
    y = builder.expand(thin, *shape[:axis], copies, *shape[axis:])
    if draw(st.booleans()):
        return builder.combine(
            builder.linear(thin, copies, axis), y, function=draw(st.sampled_from(["add", "multiply"]))
        )
    return _merge_axes(draw, builder, y) if draw(st.booleans()) else y


def _token(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """A learned vector, repeated for each example, in front of what it meets, as a class token."""
    shape, axis = builder.shape(x), any_axis(draw, builder, x)
    token = builder.weight(*shape[1:axis], 1, *shape[axis + 1 :])
    repeated = builder.expand(token, BATCH, *shape[1:axis], 1, *shape[axis + 1 :])
    return builder.concat(repeated, x, axis=axis)


def _fill(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Zeros or ones that are added, multiplied, or joined."""
    shape, axis, value = builder.shape(x), any_axis(draw, builder, x), draw(st.sampled_from([0.0, 1.0]))
    if draw(st.booleans()):
        filled = builder.fill(*(size if draw(st.integers(0, 3)) else 1 for size in shape), value=value)
        return builder.combine(x, filled, function=draw(st.sampled_from(["add", "multiply"] if value else ["add"])))
    wide = builder.fill(*shape[:axis], draw(st.integers(1, 2)), *shape[axis + 1 :], value=value)
    return builder.concat(*draw(st.permutations([x, wide])), axis=axis)


def _stack(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """With a layer's output of the same shape, along a new axis."""
    shape, axis = builder.shape(x), any_axis(draw, builder, x)
    if len(shape) > 4:
        return None
    parts = [x, builder.activation(builder.linear(x, shape[axis], axis))]
    return builder.concat(*(builder.reshape(part, *shape[:axis], 1, *shape[axis:]) for part in parts), axis=axis)


def _gather(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Places that depend on data, read or written: lookups, routing, sums over neighbours."""
    shape, axis = builder.shape(x), any_axis(draw, builder, x)
    places = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    kind = draw(st.sampled_from(["take", "along", "sum", "add"]))
    if kind == "take":
        return builder.looked_up(x, places, axis)
    other = builder.activation(builder.linear(x, shape[axis], axis), draw(st.sampled_from(["relu", "sigmoid"])))
    if kind == "along":
        return builder.along(*draw(st.permutations([x, other])), axis)
    places = draw(st.lists(st.integers(0, 9), min_size=shape[axis], max_size=shape[axis]))
    if kind == "add":
        return builder.added_at(x, other, places, axis)
    sums = builder.fill(*shape[:axis], draw(st.integers(1, 3)), *shape[axis + 1 :])
    return builder.added_at(sums, x, places, axis)


VIEW_BLOCKS: dict[str, Block] = {
    "split axis": _split_axis,
    "merge axes": _merge_axes,
    "permute": _permute,
    "shuffle": _shuffle,
    "pixel shuffle": _pixel_shuffle,
    "slice": _slice,
    "cut and joined": _cut_and_joined,
    "take": _take,
    "split": _split,
    "shuffle unit": _shuffle_unit,
    "pad": _pad,
    "shortcut": _shortcut,
    "expand": _expand,
    "token": _token,
    "fill": _fill,
    "stack": _stack,
    "gather": _gather,
}
