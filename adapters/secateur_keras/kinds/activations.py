"""Functions of each element by itself, and the activations that layers apply to their results."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from secateur_keras.kinds.rules import (
    Rule,
    dimensions,
    frozen,
    of_layers,
    of_operations,
    settings_for,
    several,
    zeros,
)
from secateur_keras.recording import Number, Outputs, Step

NORMALIZING = ("softmax", "log_softmax", "sparsemax")
MIXING = ("glu",)
"""Activations that combine different elements; Keras's layers do not know that this one halves the features."""


def activated(step: Step, tensor: int) -> Outputs:
    """The activation that a layer applies to its result, as an operation of its own."""
    function, shape = step.operation.activation, step.shape(tensor)
    if function is None or function is keras.activations.linear:
        return (tensor,)
    if isinstance(function, keras.Layer):
        return step.describe(step.within(function, [Number(tensor)], [shape]))
    name = getattr(function, "__name__", type(function).__name__)
    if getattr(keras.activations, name, None) is not function:
        return (step.emit("unknown", [tensor], shape, label=name),)
    if name in NORMALIZING:
        return (step.emit("softmax", [tensor], shape, label=name, axis=-1),)
    if name in MIXING:
        return (step.emit("unknown", [tensor], shape, label=name),)
    return (step.emit("elementwise", [tensor], shape, label=name, **zero_of(function)),)


def zero_of(function: Any) -> dict[str, Any]:
    """The setting ``zero`` of one of Keras's activations."""
    name = function.__name__
    if name not in _zeros:
        _zeros[name] = settings_for(lambda values: function(*values), [1])
    return _zeros[name]


_zeros: dict[str, dict[str, Any]] = {}


def glu(step: Step) -> Outputs:
    """One half times the sigmoid of the other."""
    (tensor,), shape = step.inputs, step.shapes[0]
    axis = step.operation.axis % len(shape)
    linear, gate = step.emit_all("split", [tensor], [shape] * 2, axis=axis, sizes=(shape[axis],) * 2, equal=True)
    gate = step.emit("elementwise", [gate], shape, label="sigmoid")
    return (step.emit("elementwise", [linear, gate], shape, zero="any"),)


def elementwise(step: Step) -> Outputs | None:
    """A layer that maps each element by itself; masks change nothing."""
    if step.operation.weights:
        return None
    tensor = step.inputs[0]
    alone = step.within(step.operation, [Number(tensor)], step.shapes)
    _resize_noise(step, tensor)
    return (step.emit("elementwise", [tensor], step.shapes[0], **zeros(alone)),)


def _resize_noise(step: Step, tensor: int) -> None:
    """The shape of a dropout's noise follows the tensor, where it is as long."""
    noise, old = getattr(step.operation, "noise_shape", None), step.shape(tensor)
    if noise is not None:
        step.edit(
            lambda plan: {
                "noise_shape": tuple(
                    after if entry == before else entry
                    for entry, before, after in zip(noise, old, plan.shapes[tensor], strict=True)
                )
            }
        )


def activation_layer(step: Step) -> Outputs:
    """``Activation`` with any function."""
    return activated(step, step.inputs[0])


def softmax(step: Step) -> Outputs | None:
    """Over one axis or several, as a layer or an operation; sorting and cumulative sums too."""
    axis, tensor = step.operation.axis, step.inputs[0]
    rank = len(step.shape(tensor))
    if axis is None or step.shape(tensor) != step.shapes[0]:
        return None
    return (frozen(step, tensor, several(axis, rank)),)


def parametric_relu(step: Step) -> Outputs | None:
    """A learned slope, broadcast over the batch."""
    parts = step.parts(slope="alpha")
    if parts is None:
        return None
    return (step.emit("elementwise", step.inputs[:1], step.shapes[0], parts, zero="all"),)


LAYERS: dict[Any, Rule] = {
    layers.Activation: activation_layer,
    layers.Softmax: softmax,
    layers.PReLU: parametric_relu,
    **of_layers(elementwise, "ReLU", "LeakyReLU", "ELU", "Identity", "ActivityRegularization"),
    **of_layers(elementwise, "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    **of_layers(elementwise, *dimensions("SpatialDropout")),
}

OPERATIONS: dict[str, Rule] = {
    **of_operations(softmax, "Softmax", "LogSoftmax", "Sparsemax", "Sort", "Argsort"),
    **of_operations(softmax, "Cumsum", "Cumprod", "Nancumsum", "Nancumprod"),
    "Glu": glu,
}
