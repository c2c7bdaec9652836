"""Any Keras model as a graph of symbolic calls.

A functional model and a ``Sequential`` carry their graph. Any other model, and a layer of the user's own that is made
of layers, is called once on symbolic inputs, which gives a graph of the same layers.
"""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import keras

from secateur.errors import ExampleError, TraceError
from secateur_keras.calling import record
from secateur_keras.comparing import calls
from secateur_keras.functional import Symbolic, own_graph
from secateur_keras.naming import Weight, below, own_weights, sublayers, weights
from secateur_keras.outside import is_table, used_outside

OPEN_SIZES = (
    "Sizes that are open, as the batch's, are None there: write -1 for one in keras.ops.reshape, and read the others "
    "as x.shape[1:]"
)


_called: weakref.WeakKeyDictionary[keras.Model, Symbolic] = weakref.WeakKeyDictionary()
"""Graphs of models that carry none, so that surgery reads the very graph that was traced."""


def symbolic(model: keras.Model, example: Any | None) -> Symbolic:
    """The model's graph; without an example, the one that was read last.

    Raises:
        ExampleError: a model that carries no graph needs an example, or does not accept this one.
        TraceError: its ``call`` does not work on symbolic inputs, or computes with weights apart from them.
    """
    graph = own_graph(model)
    if graph is not None:
        return graph
    if example is None and model in _called:
        return _called[model]
    inputs = _symbolic_inputs(model, example)
    try:
        graph = record(keras.tree.flatten(inputs), inputs, lambda: model.call(inputs))
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__}.call does not run on symbolic inputs of this example's shape ({error}); use "
            f"layers and keras.ops in it, or check the example. {OPEN_SIZES}"
        ) from error
    _require_nothing_baked(model, graph)
    _called[model] = graph
    return graph


def _require_nothing_baked(model: keras.Model, graph: Symbolic) -> None:
    """Refuse a graph with constants made of weights: a smaller model would have the constants, but not the weights."""
    if graph.baked:
        names = {id(weight.variable): weight.name for weight in weights(model)}
        told = ", ".join(names.get(id(variable), variable.path) for variable in graph.baked)
        raise TraceError(
            f"{type(model).__name__}.call computes with {told} apart from its inputs, so that a smaller model would "
            "have a constant in place of these weights: call their layer on something that depends on an input "
            "(for positions: keras.ops.cumsum(keras.ops.ones_like(tokens), axis=1) - 1), or move that part of the call "
            "into a layer of your own with a get_config, which then stays as it is"
        )


def expanded(node: Any) -> Symbolic | None:
    """What a layer of the user's own does in one call, if it is made of layers; None where that cannot be told.

    A layer with weights beside those of its layers, that runs other calls in training than in inference, or that
    computes with weights apart from its inputs or layers, is not expanded: taken apart it would be another layer.
    """
    layer = node.operation
    if not isinstance(layer, keras.Layer) or type(layer).__module__.startswith("keras."):
        return None
    graph = _one_graph(node) if sublayers(layer) and not own_weights(layer) else None
    return None if graph is None or graph.baked or not _only_tables(layer, graph) else graph


def _only_tables(layer: keras.Layer, graph: Symbolic) -> bool:
    """Whether of the weights of its layers it computes with tables of embeddings alone."""
    owners = {id(variable): each for each, _ in below(layer) for variable in own_weights(each)}
    used = [variable for _, variable in used_outside(graph)]
    return all(
        id(variable) in owners and is_table(Weight(variable.name, variable, owners[id(variable)], ""))
        for variable in used
    )


def written(node: Any) -> Symbolic | None:
    """What a layer of the user's own with weights, but without layers, does in one call; None where that is unknown.

    The weights stand among the arguments of the calls; a tensor made of weights alone is a constant there.
    """
    layer = node.operation
    if not isinstance(layer, keras.Layer) or type(layer).__module__.startswith("keras."):
        return None
    base = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("keras."))
    return _one_graph(node) if base is keras.Layer and own_weights(layer) and not sublayers(layer) else None


def _one_graph(node: Any) -> Symbolic | None:
    """The graph of one call of a layer; None if it cannot be read, or is another in training mode."""
    layer = node.operation
    knows_mode = "training" in inspect.signature(layer.call).parameters
    try:
        graphs = [_call(node, mode) for mode in ([{"training": False}, {"training": True}] if knows_mode else [{}])]
    except Exception:  # whatever the user's code raises, it cannot be read
        return None
    return graphs[0] if calls(graphs[0]) == calls(graphs[-1]) else None


def _call(node: Any, mode: dict[str, bool]) -> Symbolic:
    """Run ``call`` of a node's layer on symbolic tensors like those that the node recorded."""
    inputs = [keras.KerasTensor(tensor.shape, dtype=tensor.dtype) for tensor in node.input_tensors]
    stand_ins = {id(tensor): new for tensor, new in zip(node.input_tensors, inputs, strict=True)}
    arguments, keywords = node.arguments.fill_in(stand_ins)
    return record(inputs, inputs, lambda: node.operation.call(*arguments, **{**keywords, **mode}))


def _symbolic_inputs(model: keras.Model, example: Any | None) -> Any:
    if example is None:
        shape = (model.get_build_config() or {}).get("input_shape")
        if not isinstance(shape, (tuple, list)) or not all(isinstance(size, int) for size in shape[1:]):
            raise ExampleError(
                f"model {model.name!r} does not know the shape of its inputs: pass example=, a typical input"
            )
        return keras.Input(tuple(shape[1:]))
    if not all(hasattr(part, "shape") and len(part.shape) for part in keras.tree.flatten(example)):
        raise ExampleError("the example must be an array, or a structure of arrays, whose first axis is the batch")
    return keras.tree.map_structure(
        lambda part: keras.Input(tuple(part.shape[1:]), dtype=keras.backend.standardize_dtype(part.dtype)), example
    )
