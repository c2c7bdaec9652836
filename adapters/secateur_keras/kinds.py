"""What each Keras layer and operation does, in the vocabulary of :mod:`secateur.structure.graph`.

A rule takes a :class:`Step` and returns its output tensors, or None if it finds that it does not know this case. What
no rule knows is written down as ``unknown``. A subclass with its own ``call`` is not the layer that it derives from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from secateur_keras.recording import Number, Step

Outputs = tuple[int, ...]
Rule = Callable[[Step], "Outputs | None"]


def describe(step: Step) -> Outputs:
    """Write the step down by the rule for its operation, else as unknown."""
    rule = None if step.variables else _rule(step.operation)
    outputs = None if rule is None else rule(step)
    return unknown(step) if outputs is None else outputs


def unknown(step: Step) -> Outputs:
    """Freezes all that it touches, its own weights included."""
    own = getattr(step.operation, "weights", [])
    names = [name for variable in [*own, *step.variables] if (name := step.recorder.use(variable))]
    return step.emit_all(
        "unknown", step.inputs, step.shapes, {f"part{index}": name for index, name in enumerate(names)}
    )


def _rule(operation: Any) -> Rule | None:
    if not isinstance(operation, keras.Layer):
        known = type(operation).__module__.startswith(("keras.src.ops.", "keras.src.activations."))
        return OPERATIONS.get(type(operation).__name__) if known else None
    kind: Any = next((kind for kind in type(operation).__mro__ if kind in LAYERS), None)
    return LAYERS[kind] if kind is not None and type(operation).call is kind.call else None


def dense(step: Step) -> Outputs | None:
    """A contraction of the last axis."""
    parts = step.parts(kernel="kernel", bias="bias")
    if parts is None:
        return None
    return _activated(step, step.emit("linear", step.inputs, step.shapes[0], parts, axis=-1))


def convolution(step: Step) -> Outputs | None:
    """Grouped or not, in one to three dimensions."""
    parts = step.parts(kernel="kernel", bias="bias")
    if parts is None:
        return None
    axis = _channels(step)
    result = step.emit(
        "convolution", step.inputs, step.shapes[0], parts, channel_axis=axis, groups=step.operation.groups
    )
    return _activated(step, result)


def depthwise(step: Step) -> Outputs | None:
    """One group a channel."""
    parts = step.parts(kernel="kernel", bias="bias")
    if parts is None:
        return None
    axis = _channels(step)
    groups = step.shape(step.inputs[0])[axis]
    return _activated(
        step, step.emit("convolution", step.inputs, step.shapes[0], parts, channel_axis=axis, groups=groups)
    )


def separable(step: Step) -> Outputs | None:
    """A depthwise convolution, then a pointwise one."""
    parts = step.parts(depthwise="depthwise_kernel", kernel="pointwise_kernel", bias="bias")
    if parts is None:
        return None
    axis = _channels(step)
    groups = step.shape(step.inputs[0])[axis]
    between = list(step.shapes[0])
    between[axis] = groups * step.operation.depth_multiplier
    first = {"kernel": parts.pop("depthwise")}
    middle = step.emit("convolution", step.inputs, between, first, channel_axis=axis, groups=groups)
    return _activated(step, step.emit("convolution", [middle], step.shapes[0], parts, channel_axis=axis, groups=1))


def batch_normalization(step: Step) -> Outputs | None:
    """In inference: an affine map of each channel."""
    parts = step.parts(scale="gamma", shift="beta", mean="moving_mean", variance="moving_variance")
    if parts is None or not isinstance(step.operation.axis, int):
        return None
    return (step.emit("normalize", step.inputs[:1], step.shapes[0], parts, axis=step.operation.axis),)


def elementwise(step: Step) -> Outputs | None:
    """A layer that maps each element by itself."""
    if step.operation.weights:
        return None
    return (step.emit("elementwise", step.inputs[:1], step.shapes[0]),)


def activation_layer(step: Step) -> Outputs:
    """``Activation`` with any function."""
    return _activated(step, step.inputs[0])


def softmax(step: Step) -> Outputs | None:
    """Over one axis, as a layer or an operation."""
    axis = step.operation.axis
    return (step.emit("softmax", step.inputs[:1], step.shapes[0], axis=axis),) if isinstance(axis, int) else None


def parametric_relu(step: Step) -> Outputs | None:
    """A learned slope, broadcast over the batch."""
    parts = step.parts(slope="alpha")
    return None if parts is None else (step.emit("elementwise", step.inputs, step.shapes[0], parts),)


def scaling_layer(step: Step) -> Outputs | None:
    """``Rescaling`` and ``Normalization``: fixed numbers, which may differ from channel to channel."""
    own = [getattr(step.operation, name, 0.0) for name in ("scale", "offset", "mean", "variance")]
    if any(each is None for each in own):
        return None
    constants = [step.recorder.tensor(np.shape(each)) for each in own if len(np.shape(each))]
    return (step.emit("elementwise", [*step.inputs, *constants], step.shapes[0]),)


def merge(step: Step) -> Outputs | None:
    """Adds, multiplies, ... tensors of one rank; Keras broadcasts others in its own way."""
    if len({len(step.shape(tensor)) for tensor in step.inputs}) != 1:
        return None
    return (step.emit("elementwise", step.inputs, step.shapes[0]),)


def concatenate(step: Step) -> Outputs:
    """Along ``axis``, as a layer or an operation."""
    return (step.emit("concat", step.inputs, step.shapes[0], axis=step.operation.axis),)


def pool(step: Step) -> Outputs:
    """Pooling, padding, cropping, upsampling."""
    return (step.emit("pool", step.inputs[:1], step.shapes[0], channel_axis=_channels(step)),)


def global_pool(step: Step) -> Outputs:
    """One number a channel."""
    rank = len(step.shape(step.inputs[0]))
    axes = tuple(axis for axis in range(1, rank) if axis != _channels(step))
    return (step.emit("reduce", step.inputs[:1], step.shapes[0], axes=axes, keepdims=step.operation.keepdims),)


def flatten(step: Step) -> Outputs:
    """Channels last in memory, whatever the data format."""
    (tensor,) = step.inputs
    shape = step.shape(tensor)
    if step.operation.data_format == "channels_first" and len(shape) > 2:
        order = (0, *range(2, len(shape)), 1)
        tensor = step.emit("permute", [tensor], [shape[axis] for axis in order], order=order)
    return (step.emit("reshape", [tensor], step.shapes[0]),)


def reshape(step: Step) -> Outputs:
    """To the output's shape."""
    return (step.emit("reshape", step.inputs[:1], step.shapes[0]),)


def permute_layer(step: Step) -> Outputs:
    """``Permute``, whose axes count from 1 and leave the batch out."""
    return (step.emit("permute", step.inputs, step.shapes[0], order=(0, *step.operation.dims)),)


def elementwise_operation(step: Step) -> Outputs | None:
    """An operation on broadcast operands, constants among them; not with arrays as bounds."""
    if any(np.shape(getattr(step.operation, bound, 0.0)) for bound in ("x_min", "x_max")):
        return None
    return (step.emit("elementwise", step.operands(), step.shapes[0]),)


def division(step: Step) -> Outputs | None:
    """By constants alone: a removed unit is zero, and nothing may be divided by it."""
    return None if isinstance(step.arguments[1], Number) else elementwise_operation(step)


def power(step: Step) -> Outputs | None:
    """With exponents from 1 on: smaller ones have no value or no slope at zero, which is what a removed unit is."""
    exponent = step.arguments[1]
    return elementwise_operation(step) if isinstance(exponent, int | float) and exponent >= 1 else None


def reduction(step: Step) -> Outputs:
    """Over ``axis``: one, several, or None for all."""
    axis, rank = step.operation.axis, len(step.shape(step.inputs[0]))
    axes = tuple(range(rank)) if axis is None else tuple(np.atleast_1d(axis).tolist())
    return (step.emit("reduce", step.inputs[:1], step.shapes[0], axes=axes, keepdims=bool(step.operation.keepdims)),)


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


def _activated(step: Step, tensor: int) -> Outputs:
    """The activation that a layer applies to its result, as an operation of its own."""
    function, shape = step.operation.activation, step.shape(tensor)
    name = getattr(function, "__name__", type(function).__name__)
    if function is None or function is keras.activations.linear:
        return (tensor,)
    if isinstance(function, keras.Layer):
        known = _rule(function) is elementwise and not function.weights
    else:
        known = getattr(keras.activations, name, None) is function
        if known and name in NORMALIZING:
            return (step.emit("softmax", [tensor], shape, label=name, axis=-1),)
    kind = "elementwise" if known and name not in MIXING else "unknown"
    return (step.emit(kind, [tensor], shape, label=name),)


def _channels(step: Step) -> int:
    rank = len(step.shape(step.inputs[0]))
    return 1 if getattr(step.operation, "data_format", "channels_last") == "channels_first" else rank - 1


NORMALIZING = ("softmax", "log_softmax", "sparsemax")
MIXING = ("glu",)
"""Activations that combine different elements."""


def _each(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


def _layers(rule: Rule, *names: str) -> dict[Any, Rule]:
    """The layers of these names that this version of Keras has."""
    return {getattr(layers, name): rule for name in names if hasattr(layers, name)}


def _dimensions(name: str, dimensions: Sequence[int] = (1, 2, 3)) -> list[str]:
    return [f"{name}{dimension}D" for dimension in dimensions]


LAYERS: dict[Any, Rule] = {
    layers.Dense: dense,
    **_layers(convolution, *_dimensions("Conv")),
    **_layers(depthwise, *_dimensions("DepthwiseConv", (1, 2))),
    **_layers(separable, *_dimensions("SeparableConv", (1, 2))),
    layers.BatchNormalization: batch_normalization,
    layers.Activation: activation_layer,
    layers.Softmax: softmax,
    layers.PReLU: parametric_relu,
    **_layers(elementwise, "ReLU", "LeakyReLU", "ELU", "Identity", "ActivityRegularization"),
    **_layers(elementwise, "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    **_layers(elementwise, *_dimensions("SpatialDropout")),
    **_layers(scaling_layer, "Rescaling", "Normalization"),
    **_layers(merge, "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"),
    layers.Concatenate: concatenate,
    **_layers(pool, *_dimensions("MaxPooling"), *_dimensions("AveragePooling")),
    **_layers(pool, *_dimensions("AdaptiveMaxPooling"), *_dimensions("AdaptiveAveragePooling")),
    **_layers(pool, *_dimensions("ZeroPadding"), *_dimensions("Cropping"), *_dimensions("UpSampling")),
    **_layers(global_pool, *_dimensions("GlobalMaxPooling"), *_dimensions("GlobalAveragePooling")),
    layers.Flatten: flatten,
    layers.Reshape: reshape,
    layers.Permute: permute_layer,
}

# No logarithms and roots: at zero, which is what a removed unit is, they have no value or no slope.
OPERATIONS: dict[str, Rule] = {
    **_each(elementwise_operation, "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Negative", "Absolute"),
    **_each(
        elementwise_operation, "Square", "Exp", "Expm1", "Log1p", "Sin", "Cos", "Tanh", "Erf", "Sign", "Clip", "Cast"
    ),
    **_each(division, "Divide", "TrueDivide"),
    "Power": power,
    **_each(elementwise_operation, "Relu", "ReLU", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu"),
    **_each(elementwise_operation, "Sigmoid", "LogSigmoid", "HardSigmoid", "HardSilu", "HardTanh", "Softplus"),
    **_each(elementwise_operation, "Softsign", "SoftShrink", "HardShrink", "TanhShrink", "Threshold", "Squareplus"),
    **_each(elementwise_operation, "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Where"),
    **_each(elementwise_operation, "LogicalAnd", "LogicalOr", "LogicalNot"),
    **_each(softmax, "Softmax", "LogSoftmax"),
    **_each(reduction, "Mean", "Sum", "Max", "Min", "Amax", "Amin", "Prod", "Var", "Std"),
    **_each(reshape, "Reshape", "Squeeze", "ExpandDims"),
    **_each(transposition, "Transpose", "Swapaxes", "Moveaxis"),
    **_each(pool, "MaxPool", "AveragePool"),
    "Concatenate": concatenate,
}
