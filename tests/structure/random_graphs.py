"""Hypothesis strategies: small random models, described as graphs, and what to remove from them.

The model grows one block at a time. A block is applied to a random tensor so far, mostly the newest one, along a random
axis that is not the batch; so axes change their part freely, channels become space, space becomes channels, and
anything may be flattened, split, mixed or gated by anything that fits. The last tensors are read by linear heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import strategies as st

from secateur.structure.graph import Graph
from structure.building import GraphBuilder

Block = Callable[[st.DrawFn, GraphBuilder, int], int | None]

BATCH = 2
LARGEST = 600
WIDTHS = st.sampled_from([4, 6, 2, 8, 3, 5, 1])


@st.composite
def graphs(draw: st.DrawFn, blocks: int = 9) -> Graph:
    builder = GraphBuilder()
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    tensors = [builder.input(BATCH, *shape)]
    tensors.append(_first(draw, builder, tensors[0]))
    for _ in range(draw(st.integers(1, blocks))):
        x = tensors[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(tensors))
        y = BLOCKS[draw(st.sampled_from(WEIGHTED))](draw, builder, x)
        if y is not None and math.prod(builder.shape(y)) <= LARGEST:
            tensors.append(y)
    ends = {tensors[-1], *draw(st.lists(st.sampled_from(tensors), max_size=1))}
    return builder.build(*(_head(draw, builder, x) for x in sorted(ends)))


def _first(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """A layer that makes units out of the input."""
    rank = len(builder.shape(x))
    if rank > 2 and draw(st.booleans()):
        return _convolution(draw, builder, x)
    return builder.linear(x, draw(WIDTHS), _axis(draw, builder, x))


def _head(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """A layer that reads one axis, or all of them flattened."""
    if draw(st.booleans()):
        x = builder.reshape(x, BATCH, math.prod(builder.shape(x)[1:]))
    return builder.linear(x, 3, _axis(draw, builder, x))


def _axis(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Mostly the first after the batch, so that units survive a few blocks."""
    return draw(st.one_of(st.just(1), st.integers(1, len(builder.shape(x)) - 1)))


def _in_use(builder: GraphBuilder, shape: tuple[int | None, ...]) -> list[str | None]:
    """Kernels of this shape (None: any size) that are used already, so that parameters get shared; or none."""
    fits = [
        name
        for name, own in builder.parameters.items()
        if own.role == "kernel"
        and len(own.shape) == len(shape)
        and all(wanted in (None, size) for wanted, size in zip(shape, own.shape, strict=True))
    ]
    return [None, *fits]


def _linear(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    axis = _axis(draw, builder, x)
    name = draw(st.sampled_from(_in_use(builder, (None, builder.shape(x)[axis]))))
    out = draw(WIDTHS) if name is None else builder.parameters[name].shape[0]
    return builder.linear(x, out, axis, name, bias=draw(st.booleans()))


def _convolution(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Dense, grouped or depthwise, along any axis but the batch."""
    if len(builder.shape(x)) < 3:
        return None
    axis = _axis(draw, builder, x)
    channels = builder.shape(x)[axis]
    groups = draw(st.sampled_from([size for size in range(1, channels + 1) if channels % size == 0]))
    out = groups * draw(WIDTHS if groups == 1 else st.integers(1, 3))
    size = draw(st.sampled_from([1, 3]))
    window = (size,) * (len(builder.shape(x)) - 2)
    name = draw(st.sampled_from(_in_use(builder, (out, channels // groups, *window))))
    return builder.convolution(x, out, size, groups, axis, name)


def _bottleneck(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Widen, convolve in groups (often depthwise), narrow: what grouped convolutions are used for."""
    if len(builder.shape(x)) < 3:
        return None
    axis = _axis(draw, builder, x)
    groups, taken, made = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    wide = builder.activation(builder.convolution(x, groups * taken, 1, axis=axis), "sigmoid")
    mixed = builder.convolution(wide, groups * made, 3, groups, axis)
    return builder.convolution(builder.activation(mixed, "cosine"), draw(WIDTHS), 1, axis=axis)


def _normalize(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.normalize(x, _axis(draw, builder, x))


def _activation(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Cosine and sigmoid turn a removed unit's zero into something else, which must not leak."""
    return builder.activation(x, draw(st.sampled_from(["relu", "tanh", "sigmoid", "cosine"])))


def _residual(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    axis = _axis(draw, builder, x)
    inner = builder.activation(builder.linear(x, draw(st.integers(2, 6)), axis))
    y = builder.linear(inner, builder.shape(x)[axis], axis)
    return builder.combine(y, x, function=draw(st.sampled_from(["add", "multiply", "maximum"])))


def _combine(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """With any earlier tensor that broadcasts."""
    others = [other for other in range(len(builder.tensors)) if _broadcasts(builder.shape(x), builder.shape(other))]
    return builder.combine(x, draw(st.sampled_from(others)), function=draw(st.sampled_from(["add", "multiply"])))


def _broadcasts(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    pairs = zip(first[::-1], second[::-1], strict=False)
    return len(first) >= len(second) and all(b in (1, a) for a, b in pairs)


def _concat(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """With a constant, or with earlier tensors of the same shape but for one axis."""
    axis, shape = _axis(draw, builder, x), builder.shape(x)
    if not draw(st.integers(0, 3)):
        return builder.concat(
            x, builder.constant(*shape[:axis], draw(st.integers(1, 4)), *shape[axis + 1 :]), axis=axis
        )
    others = [
        other
        for other, size in enumerate(builder.tensors)
        if len(size) == len(shape)
        and all(a == b for k, (a, b) in enumerate(zip(size, shape, strict=True)) if k != axis)
    ]
    return builder.concat(x, *draw(st.lists(st.sampled_from(others), min_size=1, max_size=2)), axis=axis)


def _split_axis(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    shape, axis = builder.shape(x), _axis(draw, builder, x)
    divisors = [size for size in range(2, shape[axis]) if shape[axis] % size == 0]
    if not divisors or len(shape) > 4:
        return None
    rows = draw(st.sampled_from(divisors))
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
    axis = _axis(draw, builder, x)
    size = builder.shape(x)[axis]
    return builder.shuffle(x, draw(st.sampled_from([part for part in range(1, size + 1) if size % part == 0])), axis)


def _gate(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Squeeze and excite where there is space, else two branches multiplied."""
    if len(builder.shape(x)) > 2:
        return builder.squeeze_and_excite(x, draw(st.integers(1, 4)))
    width = draw(st.integers(2, 6))
    return builder.combine(
        builder.linear(x, width), builder.activation(builder.linear(x, width), "sigmoid"), function="multiply"
    )


def _outer(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Two live axes side by side, which a later reshape may merge."""
    if len(builder.shape(x)) != 2:
        return None
    left, right = (builder.linear(x, draw(st.integers(2, 5))) for _ in range(2))
    column = builder.reshape(left, *builder.shape(left), 1)
    row = builder.reshape(right, BATCH, 1, builder.shape(right)[1])
    return builder.combine(column, row, function="multiply")


def _pool(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.pool(x, draw(st.sampled_from(["all", "double", "pad"])), _axis(draw, builder, x))


def _scale(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """By a parameter or a constant that has some of the axes."""
    shape = [size if draw(st.booleans()) else 1 for size in builder.shape(x)[1:]]
    if draw(st.booleans()):
        return builder.scale(x, shape)
    return builder.combine(x, builder.constant(*shape), function="multiply")


def _reduce(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Keeping the axis, so that the result can gate the tensor, or dropping it."""
    axis, keepdims = _axis(draw, builder, x), draw(st.booleans())
    if len(builder.shape(x)) < 3 and not keepdims:
        return None
    return builder.reduce(x, [axis], keepdims, draw(st.sampled_from(["mean", "sum", "max"])))


def _softmax(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.softmax(x, _axis(draw, builder, x))


def _unknown(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.unknown(x, draw(st.lists(st.sampled_from(list(builder.parameters)), max_size=1)))


BLOCKS: dict[str, Block] = {
    "linear": _linear,
    "convolution": _convolution,
    "bottleneck": _bottleneck,
    "normalize": _normalize,
    "activation": _activation,
    "residual": _residual,
    "combine": _combine,
    "concat": _concat,
    "split": _split_axis,
    "merge": _merge_axes,
    "permute": _permute,
    "shuffle": _shuffle,
    "gate": _gate,
    "outer": _outer,
    "pool": _pool,
    "scale": _scale,
    "reduce": _reduce,
    "softmax": _softmax,
    "unknown": _unknown,
}
RARE = ("reduce", "softmax", "unknown", "scale")
WEIGHTED = [name for name in BLOCKS for _ in range(1 if name in RARE else 4)]
