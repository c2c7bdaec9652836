"""Weights that code uses by itself, outside of the layers: ``x * self.gain``, ``matmul(x, self.words.embeddings)``.

A functional model has its weights in layers alone. There a weight of a model's own becomes an ``Embedding`` of one row,
which is looked up at a zero made of an input, and an embedding's table is looked up at all of its entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from secateur.errors import TraceError
from secateur_keras.calling import zero_of
from secateur_keras.functional import Symbolic, arguments_of
from secateur_keras.naming import Weight


def is_loose(weight: Weight) -> bool:
    """Whether it belongs to a model itself: in the smaller one it lies in one row."""
    return isinstance(weight.owner, keras.Model)


def is_table(weight: Weight) -> bool:
    """Whether it is what an ``Embedding`` looks up."""
    layer = weight.owner
    plain = isinstance(layer, keras.layers.Embedding) and type(layer).call is keras.layers.Embedding.call
    return plain and weight.variable is layer._embeddings and not getattr(layer, "lora_enabled", False)


def require_holdable(weight: Weight, operation: Any) -> None:
    """Raise TraceError unless a functional model can have the weight, of which ``operation`` makes use."""
    constraint = getattr(weight.variable, "constraint", None)
    if is_table(weight) or (is_loose(weight) and isinstance(constraint, keras.constraints.NonNeg | None)):
        return
    raise TraceError(
        f"{type(operation).__name__} computes with {weight.name} outside of a layer, which a smaller model of layers "
        "could not have: move that part of the call into a layer of your own with a get_config, which then stays as it "
        "is (a weight that the model itself adds without a constraint, and the table of an Embedding, may be used so)"
    )


def used_outside(graph: Symbolic) -> list[tuple[Any, keras.Variable]]:
    """The operations that are given variables, each with one of these."""
    operations = [node for node in graph.nodes if not isinstance(node.operation, keras.Layer)]
    return [(node.operation, each) for node in operations for each in arguments_of(node) if _is_variable(each)]


def _is_variable(value: Any) -> bool:
    return isinstance(value, keras.Variable)


def holder(weight: Weight, shape: Sequence[int], name: str) -> keras.layers.Embedding:
    """The layer that has a model's own weight, of the new shape, as its only row."""
    variable, policy = weight.variable, weight.owner.dtype_policy
    return keras.layers.Embedding(
        1,
        math.prod(shape),
        embeddings_regularizer=variable.regularizer,
        embeddings_constraint=getattr(variable, "constraint", None),
        dtype=policy if policy.variable_dtype == variable.dtype else variable.dtype,
        trainable=variable.trainable,
        name=name,
    )


def held(layer: keras.layers.Embedding, shape: Sequence[int], tensor: Any) -> Any:
    """A holder's weight as a symbol of the graph that ``tensor`` is of."""
    return keras.ops.reshape(layer(zero_of(tensor, "int32")), tuple(shape))


def table(layer: keras.layers.Embedding, tensor: Any) -> Any:
    """An embedding's whole table as a symbol of the graph that ``tensor`` is of."""
    entries = keras.ops.arange(layer.input_dim, dtype="int32")
    return layer(keras.ops.add(entries, zero_of(tensor, "int32")))
