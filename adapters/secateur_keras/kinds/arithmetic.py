"""Operations on broadcast operands: sums, products, comparisons, and functions of one element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras.src.applications.convnext import LayerScale
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from secateur_keras.kinds.rules import Rule, of_layers, of_operations, zeros
from secateur_keras.recording import Number, Outputs, Step


def scaling_layer(step: Step) -> Outputs | None:
    """``Rescaling`` and ``Normalization``: fixed numbers, which may differ from channel to channel."""
    own = [getattr(step.operation, name, 0.0) for name in ("scale", "offset", "mean", "variance")]
    if any(each is None for each in own):
        return None
    constants = [step.recorder.tensor(np.shape(each)) for each in own if len(np.shape(each))]
    return (step.emit("elementwise", [step.inputs[0], *constants], step.shapes[0]),)


def merge(step: Step) -> Outputs:
    """Adds, multiplies, ... tensors; to those of lower rank Keras adds axes behind the batch."""
    tensors = [number.value for number in step.arguments[0]]
    rank = max(len(step.shape(tensor)) for tensor in tensors)
    aligned = [_aligned(step, tensor, rank) for tensor in tensors]
    alone = step.within(step.operation, [[Number(tensor) for tensor in aligned]], step.shapes)
    return (step.emit("elementwise", aligned, step.shapes[0], **adding(step, aligned, zeros(alone))),)


def learned_scale(step: Step) -> Outputs | None:
    """ConvNeXt's factor for each channel."""
    name = step.recorder.use(step.operation.gamma)
    if name is None:
        return None
    result = step.emit("elementwise", step.inputs[:1], step.shapes[0], {"scale": name}, zero="any")
    step.sizes(projection_dim=(result, -1))
    return (result,)


def scaled_residual(step: Step) -> Outputs:
    """Inception-ResNet's sum of a tensor and a fixed multiple of another."""
    return (step.emit("elementwise", step.inputs[:2], step.shapes[0], zero="all"),)


def _aligned(step: Step, tensor: int, rank: int) -> int:
    shape = step.shape(tensor)
    return step.reshaped(tensor, (*shape[:1], *(1,) * (rank - len(shape)), *shape[1:]))


def elementwise(step: Step) -> Outputs | None:
    """An operation on broadcast operands, constants among them; not with arrays as bounds."""
    if any(np.shape(getattr(step.operation, bound, 0.0)) for bound in ("x_min", "x_max")):
        return None
    operands = step.operands()
    return (step.emit("elementwise", operands, step.shapes[0], **adding(step, operands, zeros(step))),)


def adding(step: Step, operands: Sequence[int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """These settings, and ``adds`` where it is the sum of two tensors."""
    adds = type(step.operation).__name__ == "Add" and len(operands) == 2
    return {**settings, "adds": True} if adds else dict(settings)


def division(step: Step) -> Outputs | None:
    """A removed unit is zero, and nothing may be divided by it: what divides stays, whatever it meets may go."""
    numerator, divisor = step.arguments[:2]
    if not isinstance(divisor, Number):
        return elementwise(step)
    reason = "it divides by what would be zero without a unit"
    kept = Number(step.emit("unknown", [divisor.value], step.shape(divisor.value), reason=reason))
    again = step.within(step.operation, [numerator, kept], step.shapes)
    return (step.emit("elementwise", again.operands(), step.shapes[0]),)


def power(step: Step) -> Outputs | None:
    """With exponents from 1 on: smaller ones have no value or no slope at zero, which is what a removed unit is."""
    exponent = step.arguments[1]
    return elementwise(step) if isinstance(exponent, int | float) and exponent >= 1 else None


def like(step: Step) -> Outputs:
    """A tensor of the size of another with the same number everywhere; Keras makes masks so, which mean no features."""
    if str(step.operation.dtype) == "bool":
        return (step.emit("fill", [], step.shapes[0], zero=type(step.operation).__name__ == "ZerosLike"),)
    return (step.emit("elementwise", step.inputs[:1], step.shapes[0], **zeros(step)),)


LAYERS: dict[Any, Rule] = {
    **of_layers(scaling_layer, "Rescaling", "Normalization"),
    LayerScale: learned_scale,
    CustomScaleLayer: scaled_residual,
    **of_layers(merge, "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"),
}

# No logarithms and roots, nor sinc: at zero, which is what a removed unit is, they have no value or no slope.
OPERATIONS: dict[str, Rule] = {
    **of_operations(elementwise, "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Fmax", "Fmin", "Negative"),
    **of_operations(elementwise, "Absolute", "Abs", "Fabs", "Square", "Exp", "Exp2", "Expm1", "Log1p"),
    **of_operations(elementwise, "Sin", "Cos", "Tan", "Sinh", "Cosh", "Tanh", "Arcsin", "Arcsinh", "Arctan", "Arctanh"),
    **of_operations(elementwise, "Erf", "Erfc", "Sign", "Round", "Floor", "Ceil", "Trunc", "Clip", "Heaviside"),
    **of_operations(elementwise, "Cast", "SaturateCast", "ConvertToTensor", "Copy", "StopGradient", "NanToNum"),
    **of_operations(elementwise, "Relu", "ReLU", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu"),
    **of_operations(elementwise, "Sigmoid", "LogSigmoid", "SparseSigmoid", "HardSigmoid", "HardSilu", "HardTanh"),
    **of_operations(elementwise, "Softplus", "SparsePlus", "Softsign", "SoftShrink", "HardShrink", "TanhShrink"),
    **of_operations(elementwise, "Threshold", "Squareplus", "Isfinite", "Isinf", "Isnan", "Logaddexp"),
    **of_operations(elementwise, "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Where"),
    **of_operations(elementwise, "LogicalAnd", "LogicalOr", "LogicalXor", "LogicalNot"),
    **of_operations(division, "Divide", "TrueDivide", "DivideNoNan", "FloorDivide", "Mod"),
    "Power": power,
    **of_operations(like, "ZerosLike", "OnesLike"),
}
