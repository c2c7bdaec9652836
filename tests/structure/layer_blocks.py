"""Blocks of random models: layers, what joins their outputs, and what mixes axes."""

from __future__ import annotations

from hypothesis import strategies as st

from structure.building import GraphBuilder
from structure.drawing import BATCH, WIDTHS, Block, any_axis, broadcasts, divisors, in_use

FUNCTIONS = ["relu", "tanh", "silu", "square", "sigmoid", "cosine"]


def linear(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """With a kernel of its own, in either order, or one that another layer has."""
    axis = any_axis(draw, builder, x)
    name = draw(st.sampled_from(in_use(builder, (None, builder.shape(x)[axis]))))
    out = draw(WIDTHS) if name is None else builder.parameters[name].shape[0]
    axes = ("in", "out") if name is None and draw(st.booleans()) else ("out", "in")
    return builder.linear(x, out, axis, name, bias=draw(st.booleans()), axes=axes)


def _rows(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Two parts of one kernel, which may overlap or leave rows out, then added or side by side."""
    axis, out = any_axis(draw, builder, x), draw(st.integers(2, 8))
    size = draw(st.integers(1, out - 1))
    name = f"rows{len(builder.parameters)}"
    starts = [draw(st.integers(0, out - size)) for _ in range(2)]
    parts = [builder.linear(x, out, axis, name, rows=(start, start + size)) for start in starts]
    return builder.combine(*parts) if draw(st.booleans()) else builder.concat(*parts, axis=axis)


def convolution(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Dense, grouped or depthwise, transposed or not, along any axis but the batch."""
    if len(builder.shape(x)) < 3:
        return None
    axis = any_axis(draw, builder, x)
    channels = builder.shape(x)[axis]
    groups = draw(st.sampled_from(divisors(channels)))
    out = groups * draw(WIDTHS if groups == 1 else st.integers(1, 3))
    size = draw(st.sampled_from([1, 3]))
    if draw(st.booleans()):
        return builder.transposed_convolution(x, out, size, groups, axis)
    window = (size,) * (len(builder.shape(x)) - 2)
    name = draw(st.sampled_from(in_use(builder, (out, channels // groups, *window))))
    return builder.convolution(x, out, size, groups, axis, name)


def _bottleneck(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Widen, convolve in groups (often depthwise), narrow: what grouped convolutions are used for."""
    if len(builder.shape(x)) < 3:
        return None
    axis = any_axis(draw, builder, x)
    groups, taken, made = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    wide = builder.activation(builder.convolution(x, groups * taken, 1, axis=axis), "sigmoid")
    grouped = draw(st.sampled_from([builder.convolution, builder.transposed_convolution]))
    mixed = grouped(wide, groups * made, 3, groups, axis)
    return builder.convolution(builder.activation(mixed, "cosine"), draw(WIDTHS), 1, axis=axis)


def _bilinear(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    right = builder.activation(builder.linear(x, draw(WIDTHS)), draw(st.sampled_from(FUNCTIONS)))
    left = x if draw(st.booleans()) else builder.linear(x, draw(WIDTHS))
    return builder.bilinear(left, right, draw(WIDTHS))


def _normalize(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Without scale and shift what is removed is not zero any more."""
    parts = draw(st.sampled_from([("scale", "shift", "mean", "variance"), ("mean", "variance"), ("scale", "variance")]))
    return builder.normalize(x, any_axis(draw, builder, x), parts)


def _standardize(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Layer, group, instance or RMS normalisation, with and without learned parts."""
    parts = draw(st.sampled_from([("scale", "shift"), ("scale",), ()]))
    axis, kind = any_axis(draw, builder, x), draw(st.sampled_from(["layer", "group", "rms", "rms"]))
    if kind == "group":
        groups = draw(st.sampled_from(divisors(builder.shape(x)[axis])))
        return builder.standardize(x, [axis], parts, groups=groups)
    axes = [axis, *draw(st.lists(st.integers(1, len(builder.shape(x)) - 1), max_size=1))]
    return builder.standardize(x, sorted(set(axes)), parts, **({"rms": True} if kind == "rms" else {}))


def _activation(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Cosine and sigmoid turn a removed unit's zero into something else, which must not leak."""
    return builder.activation(x, draw(st.sampled_from(FUNCTIONS)))


def _residual(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    axis = any_axis(draw, builder, x)
    inner = builder.activation(builder.linear(x, draw(st.integers(2, 6)), axis))
    y = builder.linear(inner, builder.shape(x)[axis], axis)
    return builder.combine(y, x, function=draw(st.sampled_from(["add", "multiply", "maximum", "subtract"])))


def _normalized_residual(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """As in a Transformer: normalise, widen, narrow, add."""
    axis = any_axis(draw, builder, x)
    settings = draw(st.sampled_from([{}, {"rms": True}, {"rms": True}]))
    y = builder.standardize(x, [axis], ("scale", "shift") if not settings else ("scale",), **settings)
    y = builder.activation(builder.linear(y, draw(st.integers(2, 6)), axis), draw(st.sampled_from(FUNCTIONS)))
    return builder.combine(builder.linear(y, builder.shape(x)[axis], axis), x)


def _combine(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """With any earlier tensor that broadcasts."""
    others = [other for other in range(len(builder.tensors)) if broadcasts(builder.shape(x), builder.shape(other))]
    function = draw(st.sampled_from(["add", "multiply", "subtract"]))
    return builder.combine(x, draw(st.sampled_from(others)), function=function)


def _concat(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """With a constant, or with earlier tensors of the same shape but for one axis."""
    axis, shape = any_axis(draw, builder, x), builder.shape(x)
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


def _gate(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Squeeze and excite where there is space, else two branches multiplied."""
    if len(builder.shape(x)) > 2 and draw(st.booleans()):
        return builder.squeeze_and_excite(x, draw(st.integers(1, 4)))
    width, axis = draw(st.integers(2, 6)), any_axis(draw, builder, x)
    gate = builder.activation(builder.linear(x, width, axis), draw(st.sampled_from(["sigmoid", "silu"])))
    return builder.combine(builder.linear(x, width, axis), gate, function="multiply")


def _halved_gate(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """A gated linear unit: one layer, of which one half gates the other."""
    width, axis = draw(st.integers(2, 4)), any_axis(draw, builder, x)
    both = builder.linear(x, 2 * width, axis)
    if draw(st.booleans()):
        left, right = builder.chunk(both, 2, axis)
    elif draw(st.booleans()):
        left, right = builder.split(both, width, width, axis=axis)
    else:
        left, right = (builder.slice(both, start, start + width, axis=axis) for start in (0, width))
    return builder.combine(left, builder.activation(right, "sigmoid"), function="multiply")


def _outer(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Two live axes side by side, which a later reshape may merge."""
    if len(builder.shape(x)) != 2:
        return None
    left, right = (builder.linear(x, draw(st.integers(2, 5))) for _ in range(2))
    column = builder.reshape(left, *builder.shape(left), 1)
    row = builder.reshape(right, BATCH, 1, builder.shape(right)[1])
    return builder.combine(column, row, function="multiply")


def _pool(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.pool(x, draw(st.sampled_from(["all", "double", "pad"])), any_axis(draw, builder, x))


def _scale(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """By a parameter or a constant that has some of the axes; or shifted by it."""
    shape = [size if draw(st.booleans()) else 1 for size in builder.shape(x)[1:]]
    function = draw(st.sampled_from(["multiply", "add"]))
    if draw(st.booleans()):
        return builder.scale(x, shape, function)
    return builder.combine(x, builder.constant(*shape), function=function)


def _reduce(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int | None:
    """Keeping the axis, so that the result can gate the tensor, or dropping it."""
    axis, keepdims = any_axis(draw, builder, x), draw(st.booleans())
    if len(builder.shape(x)) < 3 and not keepdims:
        return None
    return builder.reduce(x, [axis], keepdims, draw(st.sampled_from(["mean", "max"])))


def _sum(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """Over a live axis too, of which what is zero may go."""
    axis = any_axis(draw, builder, x)
    return builder.reduce(x, [axis], len(builder.shape(x)) < 3 or draw(st.booleans()), "sum")


def _softmax(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.softmax(x, any_axis(draw, builder, x), draw(st.sampled_from(["softmax", "cumsum"])))


def _unknown(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    return builder.unknown(x, draw(st.lists(st.sampled_from(list(builder.parameters)), max_size=1)))


LAYER_BLOCKS: dict[str, Block] = {
    "linear": linear,
    "rows": _rows,
    "convolution": convolution,
    "bottleneck": _bottleneck,
    "bilinear": _bilinear,
    "normalize": _normalize,
    "standardize": _standardize,
    "activation": _activation,
    "residual": _residual,
    "normalized residual": _normalized_residual,
    "combine": _combine,
    "concat": _concat,
    "gate": _gate,
    "halved gate": _halved_gate,
    "outer": _outer,
    "pool": _pool,
    "scale": _scale,
    "reduce": _reduce,
    "sum": _sum,
    "softmax": _softmax,
    "unknown": _unknown,
}
