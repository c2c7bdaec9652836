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
    return Layout(role, ("out",), shape, shape, (0,)) if role else _as_it_is("other", shape)


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


def _recurrent_bias(layer: keras.Layer, shape: Shape) -> Layout:
    """``(gates * units,)``, or where a GRU has two of them ``(2, gates * units)``."""
    gates = next(count for kind, count in GATES.items() if isinstance(layer, kind))
    split = (*shape[:-1], gates, shape[-1] // gates)
    return Layout("bias", ("part", "gate", "out")[-len(split) :], shape, split, tuple(range(len(split))))


def _embedding(layer: keras.Layer, shape: Shape) -> Layout:
    return Layout("embedding", ("entries", "features"), shape, shape, (0, 1))


def _reverse_embedding(layer: keras.Layer, shape: Shape) -> Layout:
    """``(features, entries)``: scores of the entries are made of features."""
    return Layout("kernel", ("out", "in"), shape, shape, (1, 0))


def _einsum(layer: keras.Layer, shape: Shape) -> Layout:
    """A kernel whose contracted letters stand together at one end is a matrix; any other keeps its shape."""
    data, kernel, result = _letters(layer)
    contracted = [letter in data and letter not in result for letter in kernel]
    free = [letter in result and letter not in data for letter in kernel]
    count = sum(contracted)
    if not 0 < count < len(kernel) or [not each for each in contracted] != free:
        return _as_it_is("other", shape)
    if all(contracted[:count]):
        return Layout("kernel", ("out", "in"), shape, (math.prod(shape[:count]), math.prod(shape[count:])), (1, 0))
    if all(contracted[-count:]):
        return Layout("kernel", ("out", "in"), shape, (math.prod(shape[:-count]), math.prod(shape[-count:])), (0, 1))
    return _as_it_is("other", shape)


def _einsum_bias(layer: keras.Layer, shape: Shape) -> Layout:
    """A vector, if it has a number for each output of a kernel that is a matrix, in the kernel's order."""
    data, kernel, result = _letters(layer)
    free = [letter for letter in kernel if letter not in data]
    is_matrix = _einsum(layer, tuple(layer.kernel.shape)).role == "kernel"
    if is_matrix and sorted(layer.bias_axes) == sorted(free) and free == [each for each in result if each in free]:
        return Layout("bias", ("out",), shape, (math.prod(shape),), (0,))
    return _as_it_is("other", shape)


def _letters(layer: keras.Layer) -> tuple[str, str, str]:
    """The labels of the data, the kernel and the result, without an ellipsis."""
    operands, _, result = layer.equation.replace(" ", "").replace("...", "").partition("->")
    data, _, kernel = operands.partition(",")
    return data, kernel, result


def _as_it_is(role: str, shape: Shape) -> Layout:
    return Layout(role, tuple(f"axis{axis}" for axis in range(len(shape))), shape, shape, tuple(range(len(shape))))


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
    (tuple(GATES), "bias", _recurrent_bias),
    (layers.Embedding, "embeddings", _embedding),
    (layers.Embedding, "reverse_embeddings", _reverse_embedding),
    (layers.EinsumDense, "kernel", _einsum),
    (layers.EinsumDense, "bias", _einsum_bias),
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
