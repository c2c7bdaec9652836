"""Hypothesis strategies: small random models, described as graphs, and what to remove from them.

The model grows one block at a time. A block is applied to a random tensor so far, mostly the newest one, along a random
axis that is not the batch; so axes change their part freely, channels become space, space becomes channels, and
anything may be flattened, split, mixed or gated by anything that fits. The last tensors are read by linear heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hypothesis import strategies as st

from secateur.structure.graph import Graph
from structure.building import GraphBuilder
from structure.drawing import BATCH, LARGEST, WIDTHS, Block, any_axis
from structure.layer_blocks import LAYER_BLOCKS, convolution
from structure.sequence_blocks import SEQUENCE_BLOCKS
from structure.view_blocks import VIEW_BLOCKS

BLOCKS: Mapping[str, Block] = {**LAYER_BLOCKS, **VIEW_BLOCKS, **SEQUENCE_BLOCKS}
RARE = ("reduce", "softmax", "unknown", "scale", "fill")
WEIGHTED = [name for name in BLOCKS for _ in range(1 if name in RARE else 4)]


@st.composite
def graphs(draw: st.DrawFn, blocks: int = 9) -> Graph:
    """Models of up to so many blocks."""
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
    kind = draw(st.sampled_from(["linear", "convolution", "embedding"]))
    if kind == "convolution" and rank > 2:
        y = convolution(draw, builder, x)
        assert y is not None
        return y
    if kind == "embedding" and rank < 4:
        return builder.embedding(x, draw(st.integers(2, 5)), draw(WIDTHS))
    return builder.linear(x, draw(WIDTHS), any_axis(draw, builder, x))


def _head(draw: st.DrawFn, builder: GraphBuilder, x: int) -> int:
    """A layer that reads one axis, or all of them flattened."""
    if draw(st.booleans()):
        x = builder.reshape(x, BATCH, math.prod(builder.shape(x)[1:]))
    return builder.linear(x, 3, any_axis(draw, builder, x))
