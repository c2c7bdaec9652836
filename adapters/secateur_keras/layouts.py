"""How each kind of Keras weight is turned into the canonical view, and back.

Keras stores ``(in, out)``, ``(height, width, in, out)``, ``(in, gates * units)``. Every rule here is one reshape that
splits or merges neighbouring axes and one transpose, so a view never copies and the inverse is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from secateur.layout import SPACE, Layout, Shape
from secateur_keras.naming import Weight

GATES = {layers.LSTMCell: 4, layers.GRUCell: 3, layers.SimpleRNNCell: 1}


def layout(weight: Weight) -> Layout:
    """The layout of a weight; what no rule knows keeps Keras's shape, with role ``other``."""
    shape = tuple(int(size) for size in weight.variable.shape)
    for kinds, name, rule in RULES:
        if isinstance(weight.owner, kinds) and weight.variable.name == name:
            return rule(weight.owner, shape)
    role = VECTORS.get(weight.variable.name) if len(shape) == 1 else None
    axes = ("out",) if role else tuple(f"axis{axis}" for axis in range(len(shape)))
    return Layout(role or "other", axes, shape, shape, tuple(range(len(shape))))


def _dense(layer: keras.Layer, shape: Shape) -> Layout:
    return Layout("kernel", ("out", "in"), shape, shape, (1, 0))


def _convolution(layer: keras.Layer, shape: Shape) -> Layout:
    """``(*space, in, out)``; ``in`` counts the channels of one group."""
    space = len(shape) - 2
    return Layout("kernel", ("out", "in", *SPACE[space]), shape, shape, (space + 1, space, *range(space)))


def _transposed(layer: keras.Layer, shape: Shape) -> Layout:
    """``(*space, out, in)``."""
    space = len(shape) - 2
    return Layout("kernel", ("out", "in", *SPACE[space]), shape, shape, (space, space + 1, *range(space)))


def _depthwise(layer: keras.Layer, shape: Shape) -> Layout:
    """``(*space, in, multiplier)``: output channel ``i * multiplier + m`` reads input channel ``i`` alone."""
    space = len(shape) - 2
    split = (*shape[:-2], shape[-2] * shape[-1], 1)
    return Layout("kernel", ("out", "in", *SPACE[space]), shape, split, (space, space + 1, *range(space)))


def _recurrent(layer: keras.Layer, shape: Shape) -> Layout:
    """``(in, gates * units)``."""
    gates = next(count for kind, count in GATES.items() if isinstance(layer, kind))
    return Layout("recurrent", ("gate", "out", "in"), shape, (shape[0], gates, shape[1] // gates), (1, 2, 0))


def _embedding(layer: keras.Layer, shape: Shape) -> Layout:
    return Layout("embedding", ("entries", "features"), shape, shape, (0, 1))


def _einsum(layer: keras.Layer, shape: Shape) -> Layout:
    """A kernel whose contracted letters stand together at one end is a matrix; any other keeps its shape."""
    other = Layout("other", tuple(f"axis{axis}" for axis in range(len(shape))), shape, shape, tuple(range(len(shape))))
    operands, _, result = layer.equation.replace(" ", "").replace("...", "").partition("->")
    data, _, kernel = operands.partition(",")
    contracted = [letter in data and letter not in result for letter in kernel]
    free = [letter in result and letter not in data for letter in kernel]
    count = sum(contracted)
    if not 0 < count < len(kernel) or [not each for each in contracted] != free:
        return other
    if all(contracted[:count]):
        return Layout("kernel", ("out", "in"), shape, (math.prod(shape[:count]), math.prod(shape[count:])), (1, 0))
    if all(contracted[-count:]):
        return Layout("kernel", ("out", "in"), shape, (math.prod(shape[:-count]), math.prod(shape[-count:])), (0, 1))
    return other


Rule = Callable[[keras.Layer, Shape], Layout]

RULES: tuple[tuple[Any, str, Rule], ...] = (
    (layers.Dense, "kernel", _dense),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), "kernel", _depthwise),
    ((layers.SeparableConv1D, layers.SeparableConv2D), "depthwise_kernel", _depthwise),
    ((layers.SeparableConv1D, layers.SeparableConv2D), "pointwise_kernel", _convolution),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), "kernel", _transposed),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), "kernel", _convolution),
    (tuple(GATES), "kernel", _recurrent),
    (tuple(GATES), "recurrent_kernel", _recurrent),
    (layers.Embedding, "embeddings", _embedding),
    (layers.EinsumDense, "kernel", _einsum),
)

VECTORS = {
    "bias": "bias",
    "gamma": "scale",
    "scale": "scale",
    "beta": "shift",
    "moving_mean": "mean",
    "moving_variance": "variance",
}
"""Roles of one-dimensional weights by Keras's own names."""
