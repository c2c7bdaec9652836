"""Random residual networks, and the parts of which their branches are made."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from secateur.structure.graph import Graph
from structure.building import GraphBuilder
from structure.drawing import any_axis
from structure.random_graphs import BLOCKS

INNER = ("linear", "activation", "normalize", "standardize", "gate", "convolution", "scale", "attention")
ENDS = ("linear", "linear", "norm", "gain", "sum", "product", "nothing", "sigmoid")


@st.composite
def residual_graphs(draw: st.DrawFn, largest: int = 5) -> Graph:
    """Branches in series, side by side and inside of one another; some of them no branches, for many reasons."""
    builder = GraphBuilder()
    x = builder.input(2, *draw(st.lists(st.integers(2, 4), min_size=1, max_size=3)))
    x = builder.linear(x, draw(st.integers(2, 5)), any_axis(draw, builder, x))
    for _ in range(draw(st.integers(1, largest))):
        x = _step(draw, builder, x, depth=2)
    x = builder.reshape(x, 2, math.prod(builder.shape(x)[1:]))
    return builder.build(builder.linear(x, 3))


def _step(draw: st.DrawFn, builder: GraphBuilder, x: int, depth: int) -> int:
    """Mostly a residual block; else anything, or two blocks of one input."""
    kind = draw(st.sampled_from(["residual", "residual", "residual", "parallel", "block"]))
    if kind == "block":
        y = BLOCKS[draw(st.sampled_from(["linear", "activation", "standardize"]))](draw, builder, x)
        return x if y is None else y
    inner = x
    if draw(st.booleans()):
        inner = builder.standardize(x, [any_axis(draw, builder, x)])
    y = builder.combine(*draw(st.permutations([x, _branch(draw, builder, inner, builder.shape(x), depth)])))
    if kind == "parallel":
        y = builder.combine(*draw(st.permutations([y, _branch(draw, builder, inner, builder.shape(x), depth)])))
    return builder.activation(y) if draw(st.integers(0, 3)) == 0 else y


def _branch(draw: st.DrawFn, builder: GraphBuilder, x: int, shape: tuple[int, ...], depth: int) -> int:
    """Whatever comes back to the shape of what it is added to."""
    for _ in range(draw(st.integers(0, 2))):
        if depth and draw(st.integers(0, 3)) == 0:
            x = _step(draw, builder, x, depth - 1)
            continue
        name = draw(st.sampled_from([name for name in INNER if name in BLOCKS]))
        y = BLOCKS[name](draw, builder, x)
        x = x if y is None or len(builder.shape(y)) != len(shape) else y
    for axis in range(1, len(shape)):
        if builder.shape(x)[axis] != shape[axis] or axis == 1:
            x = builder.linear(x, shape[axis], axis, bias=draw(st.booleans()))
    return _end(draw, builder, x)


def _end(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """What a branch ends with: mostly what keeps zeros, or makes them."""
    kind = draw(st.sampled_from(ENDS))
    if kind == "linear":
        return builder.linear(x, builder.shape(x)[-1], bias=draw(st.booleans()))
    if kind == "norm":
        return builder.normalize(x, any_axis(draw, builder, x))
    if kind == "gain":
        return builder.scale(x, builder.shape(x)[-1:])
    if kind == "sum":
        return builder.combine(x, builder.linear(x, builder.shape(x)[-1]))
    if kind == "product":
        return builder.combine(x, builder.activation(x, "sigmoid"), function="multiply")
    return builder.activation(x, "sigmoid" if kind == "sigmoid" else "relu")
