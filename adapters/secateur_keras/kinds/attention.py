"""Attention: with heads, with heads that share keys and values, and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from secateur_keras.kinds.contractions import product
from secateur_keras.kinds.rules import Rule, frozen, of_layers
from secateur_keras.recording import Number, Outputs, Step


def multi_head_attention(step: Step) -> Outputs | None:
    """Queries, keys and values by head; all features of queries and keys stay, for their number sets the scale.

    Those of values stay where flash attention is asked for, which takes no other number than the keys'.
    """
    layer = step.operation
    projected, mask = _projections(step), _mask(step)
    if projected is None or mask is None:
        return None
    query, key, value = (_heads_first(step, tensor, layer._attention_axes) for tensor in projected)
    if layer._flash_attention:
        value = frozen(step, value, [-1], "value_dim", "flash attention wants as many features of values as of keys")
    combined, scores = _attend(step, query, key, value, mask)
    if any(step.shape(tensor) != shape for tensor, shape in zip(scores, step.shapes[1:], strict=True)):
        return None  # over several axes Keras itself gives the weights another shape than it says
    merged = _heads_last(step, combined, projected, layer._attention_axes)
    output = _output(step, merged)
    if output is None:
        return None
    step.sizes(num_heads=(query, -3), key_dim=(query, -1), value_dim=(value, -1))
    count, given = len(layer._output_shape or [0]), layer._output_shape
    source = step.argument("query").value
    step.edit(
        lambda plan: {
            "output_shape": given
            if given is None and plan.shapes[output][-1] == plan.shapes[source][-1]
            else tuple(plan.shapes[output][-count:])
        }
    )
    return (output, *scores)


def weighs_by_itself(node: Any, clone: Any) -> bool:
    """Whether a smaller layer must be asked for its weights: what it calls otherwise wants as many values as keys.

    On JAX that is an error, on the others it is not; but a model is to run on all of them.
    """
    layer = node.operation
    if not isinstance(layer, layers.MultiHeadAttention) or layer.value_dim == clone.value_dim:
        return False
    is_fused = not layer.dropout and len(node.outputs) == 1 and len(node.input_tensors[0].shape) == 3
    return is_fused and clone.value_dim != clone.key_dim


def grouped_query_attention(step: Step) -> Outputs | None:
    """As many queries' heads share each head of keys and values; all have the same number of features.

    These go together, and what the layer reads as queries becomes smaller, as its scale becomes larger. They stay where
    it gives its weights, which are read off step by step, and where products of 64 bits are made in 32, and rounded.
    """
    before, projected, mask = step.last, _projections(step), _mask(step)
    if projected is None or mask is None:
        return None
    query, key, value = (_heads_first(step, tensor, (1,)) for tensor in projected)
    dtype = step.operation.compute_dtype
    if step.argument("return_attention_scores") or keras.backend.result_type(dtype, dtype) != dtype:
        value = frozen(step, value, [-1], "head_dim", "queries, keys and values have as many features")
    own = step.recorder.operations[before + 1].parameters  # of the queries' projection, which comes first
    is_rounded = bool(step.operation.dropout) or keras.backend.backend() == "tensorflow"
    mended = {"mended": tuple(own.values()), "rounded": is_rounded}
    combined, scores = _attend(step, query, key, value, mask, mended)
    output = _output(step, _heads_last(step, combined, projected, (1,)))
    if output is None:
        return None
    step.sizes(num_query_heads=(query, -3), num_key_value_heads=(key, -3), head_dim=(query, -1))
    source = step.argument("query").value  # Keras makes as many outputs as the query has features
    return (step.emit("elementwise", [output, source], step.shape(output), label="feature_dim"), *scores)


def _projections(step: Step) -> list[int] | None:
    """Queries, keys and values, divided into heads; None for a layer that computes them in its own way."""
    layer = step.operation
    original: Any = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("keras."))
    if type(layer)._compute_attention is not original._compute_attention:
        return None
    query, value, key = (step.argument(name) for name in ("query", "value", "key"))
    if not isinstance(query, Number) or not isinstance(value, Number):
        return None
    pairs = zip(_inner(layer, "query", "key", "value"), (query, key or value, value), strict=True)
    tensors = [_projected(step, inner, tensor.value) for inner, tensor in pairs]
    found = [tensor for tensor in tensors if tensor is not None]
    return found if len(found) == len(tensors) else None


def _inner(layer: Any, *names: str) -> list[Any]:
    return [getattr(layer, f"_{name}_dense") for name in names]


def _projected(step: Step, inner: Any, tensor: int) -> int | None:
    """What one of the layer's projections makes of a tensor; None if it is quantized or the like."""
    shape = tuple(inner.compute_output_shape(step.shape(tensor)))
    (result,) = step.describe(step.within(inner, [Number(tensor)], [shape]))
    return None if step.recorder.operations[-1].kind == "unknown" else result


def _mask(step: Step) -> list[int] | None:
    """A mask (batch, queries, keys), with an axis for the heads; None if its axes cannot be told."""
    mask = step.argument("attention_mask")
    if not isinstance(mask, Number):
        return []
    shape = step.shape(mask.value)
    if len(step.shape(step.argument("query").value)) != 3 or len(shape) not in (3, 4):
        return None
    return [step.reshaped(mask.value, (*shape[:-2], 1, *shape[-2:])[-4:]) if len(shape) == 3 else mask.value]


def _heads_first(step: Step, tensor: int, axes: Sequence[int]) -> int:
    """``(batch, ..., heads, features)`` as ``(batch, ..., heads, time, features)``; ``axes`` make up the time."""
    shape = step.shape(tensor)
    rank = len(shape)
    outer = [axis for axis in range(rank - 2) if axis not in axes]
    moved = step.permuted(tensor, (*outer, rank - 2, *axes, rank - 1))
    time = 1
    for axis in axes:
        time *= shape[axis]
    return step.reshaped(moved, (*(shape[axis] for axis in outer), shape[-2], time, shape[-1]))


def _heads_last(step: Step, tensor: int, projected: Sequence[int], axes: Sequence[int]) -> int:
    """The inverse, for the queries' time and the values' features."""
    query = step.shape(projected[0])
    features = step.shape(projected[2])[-1]
    rank = len(query)
    outer = [axis for axis in range(rank - 2) if axis not in axes]
    order = [*outer, rank - 2, *axes, rank - 1]
    split = step.reshaped(tensor, (*(query[axis] for axis in order[:-1]), features))
    return step.permuted(split, [order.index(axis) for axis in range(rank)])


def _attend(
    step: Step, query: int, key: int, value: int, mask: Sequence[int], settings: Mapping[str, Any] | None = None
) -> tuple[int, Outputs]:
    """What is attended to, and the weights if they are asked for; ``settings`` only matter if they are not."""
    if not step.argument("return_attention_scores"):
        shape = (*step.shape(query)[:-1], step.shape(value)[-1])
        return step.emit("attention", [query, key, value, *mask], shape, scaled=True, **(settings or {})), ()
    query = frozen(step, query, [-1], "scale", "its scale depends on the number of features")
    key, value = (_served(step, each, step.shape(query)[-3]) for each in (key, value))
    outer = [f"outer{axis}" for axis in range(len(step.shape(query)) - 2)]
    weights = product(step, [query, key], [[*outer, "t", "f"], [*outer, "s", "f"]], [*outer, "t", "s"])
    weights = frozen(step, weights, [-1])
    combined = product(step, [weights, value], [[*outer, "t", "s"], [*outer, "s", "f"]], [*outer, "t", "f"])
    return combined, (weights,)


def _served(step: Step, tensor: int, heads: int) -> int:
    """Each head as often as there are queries' heads that it serves."""
    shape = step.shape(tensor)
    count = heads // shape[-3]
    one, many = ((*shape[:-2], size, *shape[-2:]) for size in (1, count))
    spread = step.emit("expand", [step.reshaped(tensor, one)], many) if count > 1 else tensor
    return step.reshaped(spread, (*shape[:-3], heads, *shape[-2:]))


def _output(step: Step, tensor: int) -> int | None:
    """Gated, if the layer does so, and projected."""
    layer = step.operation
    if getattr(layer, "use_gate", getattr(layer, "_use_gate", False)):
        (inner,) = _inner(layer, "gate")
        gate = _projected(step, inner, step.argument("query").value)
        if gate is None:
            return None
        tensor = step.emit("elementwise", [tensor, gate], step.shape(tensor), label="gate", zero="any")
    (inner,) = _inner(layer, "output")
    return _projected(step, inner, tensor)


def attention(step: Step) -> Outputs | None:
    """``Attention``: without heads and weights of its own, but for a number that scales."""
    layer = step.operation
    parts = step.parts(scale="scale")
    if parts is None or layer.score_mode != "dot":
        return None
    query, value, key = _given(step)
    scores = product(step, [query, key], [["b", "t", "f"], ["b", "s", "f"]], ["b", "t", "s"])
    if parts:
        scores = step.emit("elementwise", [scores], step.shape(scores), parts, label="scale", zero="any")
    return _weighted(step, scores, value)


def additive_attention(step: Step) -> Outputs | None:
    """``AdditiveAttention``: the scores are sums over features of ``scale * tanh(query + key)``."""
    parts = step.parts(scale="scale")
    if parts is None:
        return None
    query, value, key = _given(step)
    (batch, times, features), sources = step.shape(query), step.shape(key)[1]
    grid = (batch, times, sources, features)
    rows, columns = step.reshaped(query, (batch, times, 1, features)), step.reshaped(key, (batch, 1, sources, features))
    sums = step.emit("elementwise", [rows, columns], grid, label="tanh", zero="all")
    if parts:
        sums = step.emit("elementwise", [sums], grid, parts, label="scale", zero="any")
    scores = step.emit("reduce", [sums], grid[:3], axes=(3,), keepdims=False, sum=True)
    return _weighted(step, scores, value)


def _given(step: Step) -> tuple[int, int, int]:
    """Queries, values and keys."""
    query, value, *key = (number.value for number in step.argument("inputs"))
    return query, value, key[0] if key else value


def _weighted(step: Step, scores: int, value: int) -> Outputs:
    weights = frozen(step, scores, [-1])
    result = product(step, [weights, value], [["b", "t", "s"], ["b", "s", "f"]], ["b", "t", "f"])
    return (result, weights) if step.argument("return_attention_scores") else (result,)


def dot_product_attention(step: Step) -> Outputs | None:
    """``keras.ops.dot_product_attention`` on ``(batch, time, heads, features)``."""
    given = [step.argument(name) for name in ("query", "key", "value")]
    if not all(isinstance(each, Number) for each in given):
        return None
    query, key, value = (step.permuted(each.value, (0, 2, 1, 3)) for each in given)
    masks = [each.value for name in ("bias", "mask") if isinstance(each := step.argument(name), Number)]
    shape = (*step.shape(query)[:-1], step.shape(value)[-1])
    scaled = step.argument("scale") is None
    result = step.emit("attention", [query, key, value, *masks], shape, scaled=scaled)
    return (step.permuted(result, (0, 2, 1, 3)),)


LAYERS: dict[Any, Rule] = {
    layers.MultiHeadAttention: multi_head_attention,
    layers.Attention: attention,
    layers.AdditiveAttention: additive_attention,
    **of_layers(grouped_query_attention, "GroupQueryAttention", "GroupedQueryAttention"),
}

OPERATIONS: dict[str, Rule] = {"DotProductAttention": dot_product_attention}
