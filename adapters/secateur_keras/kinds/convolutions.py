"""Layers with one kernel of their own and what pools over space: dense, convolutions, embeddings, pooling."""

from __future__ import annotations

from typing import Any

from keras import layers

from secateur_keras.kinds.activations import activated
from secateur_keras.kinds.rules import Rule, channels, dimensions, of_layers, of_operations
from secateur_keras.recording import Outputs, Step


def dense(step: Step) -> Outputs | None:
    """A contraction of the last axis."""
    parts = step.parts(kernel="kernel", bias="bias")
    if parts is None:
        return None
    result = step.emit("linear", step.inputs[:1], step.shapes[0], parts, axis=-1)
    step.sizes(units=(result, -1))
    return activated(step, result)


def convolution(step: Step) -> Outputs | None:
    """Grouped or not, in one to three dimensions."""
    parts = step.parts(kernel="kernel", bias="bias")
    if parts is None:
        return None
    axis, groups = channels(step), step.operation.groups
    result = step.emit("convolution", step.inputs[:1], step.shapes[0], parts, channel_axis=axis, groups=groups)
    index = step.last
    step.sizes(filters=(result, axis))
    step.edit(lambda plan: {"groups": plan.settings.get(index, {}).get("groups", groups)})
    return activated(step, result)


def transposed(step: Step) -> Outputs | None:
    """A convolution that makes images larger; Keras has none with groups."""
    parts = step.parts(kernel="kernel", bias="bias")
    if parts is None or getattr(step.operation, "groups", 1) != 1:
        return None
    axis = channels(step)
    result = step.emit(
        "convolution", step.inputs[:1], step.shapes[0], parts, channel_axis=axis, groups=1, transposed=True
    )
    step.sizes(filters=(result, axis))
    return activated(step, result)


def depthwise(step: Step) -> Outputs | None:
    """One group a channel."""
    parts = step.parts(kernel="kernel", bias="bias")
    if parts is None:
        return None
    axis = channels(step)
    groups = step.shape(step.inputs[0])[axis]
    result = step.emit("convolution", step.inputs[:1], step.shapes[0], parts, channel_axis=axis, groups=groups)
    return activated(step, result)


def separable(step: Step) -> Outputs | None:
    """A depthwise convolution, then a pointwise one."""
    parts = step.parts(depthwise="depthwise_kernel", kernel="pointwise_kernel", bias="bias")
    if parts is None:
        return None
    axis = channels(step)
    groups = step.shape(step.inputs[0])[axis]
    between = list(step.shapes[0])
    between[axis] = groups * step.operation.depth_multiplier
    first = {"kernel": parts.pop("depthwise")}
    middle = step.emit("convolution", step.inputs[:1], between, first, channel_axis=axis, groups=groups)
    result = step.emit("convolution", [middle], step.shapes[0], parts, channel_axis=axis, groups=1)
    step.sizes(filters=(result, axis))
    return activated(step, result)


def embedding(step: Step) -> Outputs | None:
    """A table that is looked up."""
    parts = step.parts(table="embeddings")
    if parts is None:
        return None
    result = step.emit("embedding", step.inputs[:1], step.shapes[0], parts)
    step.sizes(output_dim=(result, -1))
    return (result,)


def reversible_embedding(step: Step) -> Outputs | None:
    """A table that is looked up, or by which, or by another, features become scores of its entries."""
    parts = step.parts(table="embeddings", kernel="reverse_embeddings")
    if parts is None:
        return None
    tensor = step.inputs[0]
    if not step.argument("reverse"):
        result = step.emit("embedding", [tensor], step.shapes[0], {"table": parts["table"]})
        step.sizes(output_dim=(result, -1))
        return (result,)
    kernel = {"kernel": parts.get("kernel", parts["table"])}
    result = step.emit("linear", [tensor], step.shapes[0], kernel, axis=-1)
    step.sizes(output_dim=(tensor, -1))
    if step.operation.logit_soft_cap is None:
        return (result,)
    return (step.emit("elementwise", [result], step.shapes[0], label="soft cap", zero="all"),)


def pool(step: Step) -> Outputs:
    """Pooling, padding, cropping, upsampling."""
    settings: dict[str, Any] = {} if _keeps_zeros(step) else {"zero": False}
    return (step.emit("pool", step.inputs[:1], step.shapes[0], channel_axis=channels(step), **settings),)


def _keeps_zeros(step: Step) -> bool:
    """Padding may add another number; the maximum of zeros is zero, since Keras never pads with what wins."""
    return not getattr(step.operation, "constant_values", 0)


LAYERS: dict[Any, Rule] = {
    layers.Dense: dense,
    **of_layers(convolution, *dimensions("Conv")),
    **of_layers(transposed, *(f"{name}Transpose" for name in dimensions("Conv"))),
    **of_layers(depthwise, *dimensions("DepthwiseConv", (1, 2))),
    **of_layers(separable, *dimensions("SeparableConv", (1, 2))),
    layers.Embedding: embedding,
    **of_layers(reversible_embedding, "ReversibleEmbedding"),
    **of_layers(pool, *dimensions("MaxPooling"), *dimensions("AveragePooling")),
    **of_layers(pool, *dimensions("AdaptiveMaxPooling"), *dimensions("AdaptiveAveragePooling")),
    **of_layers(pool, *dimensions("ZeroPadding"), *dimensions("Cropping"), *dimensions("UpSampling")),
}

OPERATIONS: dict[str, Rule] = of_operations(
    pool, "MaxPool", "AveragePool", "AdaptiveMaxPool", "AdaptiveAveragePool", "Resize"
)
