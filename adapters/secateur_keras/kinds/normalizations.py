"""Normalisations: by running statistics, by the input's own mean and variance, to length one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from secateur_keras.kinds.rules import Rule, frozen, of_layers, several
from secateur_keras.recording import Outputs, Step


def batch_normalization(step: Step) -> Outputs | None:
    """In inference: an affine map of each channel."""
    parts = step.parts(scale="gamma", shift="beta", mean="moving_mean", variance="moving_variance")
    if parts is None or not isinstance(step.operation.axis, int):
        return None
    return (step.emit("normalize", step.inputs[:1], step.shapes[0], parts, axis=step.operation.axis),)


def layer_normalization(step: Step) -> Outputs | None:
    """By mean and variance over ``axis``."""
    parts = step.parts(scale="gamma", shift="beta")
    if parts is None or getattr(step.operation, "rms_scaling", False):
        return None
    axes = several(step.operation.axis, len(step.shape(step.inputs[0])))
    return (step.emit("standardize", step.inputs[:1], step.shapes[0], parts, axes=axes),)


def rms_normalization(step: Step) -> Outputs | None:
    """By the mean square; a smaller mean is made up for by ``scale`` and ``epsilon``."""
    parts = step.parts(scale="scale")
    if parts is None:
        return None
    axes = several(step.operation.axis, len(step.shape(step.inputs[0])))
    result = step.emit("standardize", step.inputs[:1], step.shapes[0], parts, axes=axes, rms=True)
    index, epsilon = step.last, step.operation.epsilon
    step.edit(lambda plan: {"epsilon": _corrected(epsilon, plan.settings.get(index, {}).get("rescale", 1.0))})
    return (result,)


def _corrected(epsilon: float | None, ratio: float) -> float | None:
    return None if epsilon is None else epsilon * ratio


def group_normalization(step: Step) -> Outputs | None:
    """By mean and variance of groups of channels and all of space."""
    parts = step.parts(scale="gamma", shift="beta")
    if parts is None:
        return None
    groups, rank = step.operation.groups, len(step.shape(step.inputs[0]))
    axes = several(step.operation.axis, rank)
    result = step.emit("standardize", step.inputs[:1], step.shapes[0], parts, axes=axes, groups=groups)
    index = step.last
    step.edit(lambda plan: {"groups": plan.settings.get(index, {}).get("groups", groups)})
    return (result,)


def unit_normalization(step: Step) -> Outputs:
    """To length one: what is zero adds nothing to the sum of squares."""
    tensor = step.inputs[0]
    return (normalized(step, tensor, several(step.operation.axis, len(step.shape(tensor)))),)


def normalized(step: Step, tensor: int, axes: Sequence[int]) -> int:
    """A tensor divided by its Euclidean length along ``axes``; what a vector of zeros would be all of stays."""
    shape = step.shape(tensor)
    others = [axis for axis in range(1, len(shape)) if axis not in axes]
    tensor = frozen(step, tensor, others, "length", "it divides by a length that would be zero without a unit")
    lengths = [1 if axis in axes else size for axis, size in enumerate(shape)]
    squares = step.emit("elementwise", [tensor], shape, label="square", zero="all")
    length = step.emit("reduce", [squares], lengths, axes=tuple(axes), keepdims=True, sum=True)
    return step.emit("elementwise", [tensor, length], shape, zero="any")  # lengths are only 0 where all is


def normalize_operation(step: Step) -> Outputs:
    """As the layer for order 2; by another norm nothing is known of zeros."""
    tensor = step.inputs[0]
    axes = several(step.operation.axis, len(step.shape(tensor)))
    if step.operation.order != 2:
        return (frozen(step, tensor, axes),)
    return (normalized(step, tensor, axes),)


def standardize_operation(step: Step) -> Outputs | None:
    """``layer_normalization`` and ``rms_normalization`` without learned parameters."""
    if len(step.operands()) != 1:
        return None
    axes = several(step.operation.axis, len(step.shapes[0]))
    return (step.emit("standardize", step.inputs[:1], step.shapes[0], axes=axes),)


def masking(step: Step) -> Outputs:
    """``Masking`` looks at all features of a step in time, so none of them can go."""
    return (frozen(step, step.inputs[0], [-1], reason="it looks at all features of a step in time"),)


LAYERS: dict[Any, Rule] = {
    layers.BatchNormalization: batch_normalization,
    layers.LayerNormalization: layer_normalization,
    layers.GroupNormalization: group_normalization,
    layers.UnitNormalization: unit_normalization,
    layers.Masking: masking,
    **of_layers(rms_normalization, "RMSNormalization"),
}

OPERATIONS: dict[str, Rule] = {
    "Normalize": normalize_operation,
    "LayerNorm": standardize_operation,
    "RMSNorm": standardize_operation,
}
