"""Any Keras model as a graph of symbolic calls, and the order in which to read it.

A functional model and a ``Sequential`` carry their graph. Any other model, and a layer of the user's own that is made
of layers, is called once on symbolic inputs, which gives a graph of the same layers; their records of that call are
taken away again, so that the model stays as it was found.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras.src.ops.node import Node

from secateur.errors import ExampleError, TraceError
from secateur_keras import backends
from secateur_keras.naming import own_weights, sublayers, weights
from secateur_keras.patching import wrap

OPEN_SIZES = (
    "Sizes that are open, as the batch's, are None there: write -1 for one in keras.ops.reshape, and read the others "
    "as x.shape[1:]"
)


@dataclass(frozen=True)
class Symbolic:
    """Symbolic inputs and outputs, flat and in the structure in which the model takes and gives them.

    ``made`` holds the nodes in the order in which they were made, if that is known, others perhaps among them;
    ``baked`` the variables whose numbers a ``call`` computed with at once, for which the graph has constants.
    """

    inputs: list[Any]
    outputs: list[Any]
    input_structure: Any
    output_structure: Any
    made: Sequence[Any] = ()
    baked: Sequence[keras.Variable] = ()

    @cached_property
    def nodes(self) -> list[Any]:
        """The calls between inputs and outputs, as they were made if that is known, else in :func:`operand_order`."""
        nodes = operand_order(self.inputs, self.outputs)
        needed = set(map(id, nodes))
        return [node for node in self.made if id(node) in needed] or nodes


def own_graph(layer: Any) -> Symbolic | None:
    """The graph that a model carries; None if it has none, or runs a ``call`` of its own instead."""
    if isinstance(layer, keras.Sequential):
        model = layer._functional if type(layer).call is keras.Sequential.call else None
    else:
        carried = hasattr(layer, "_nodes_by_depth") and type(layer).call.__module__.startswith("keras.")
        model = layer if carried else None
    return None if model is None else Symbolic(model.inputs, model.outputs, model.input, model.output)


_called: weakref.WeakKeyDictionary[keras.Model, Symbolic] = weakref.WeakKeyDictionary()
"""Graphs of models that carry none, so that surgery reads the very graph that was traced."""


def symbolic(model: keras.Model, example: Any | None) -> Symbolic:
    """The model's graph.

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
        graph = _record(keras.tree.flatten(inputs), inputs, lambda: model.call(inputs))
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
    computes with weights apart from its inputs, is not expanded: taken apart it would be another layer.
    """
    layer = node.operation
    if not isinstance(layer, keras.Layer) or type(layer).__module__.startswith("keras."):
        return None
    graph = _one_graph(node) if sublayers(layer) and not own_weights(layer) else None
    return None if graph is None or graph.baked else graph


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
    return graphs[0] if _calls(graphs[0]) == _calls(graphs[-1]) else None


def require_one_graph(model: keras.Model, graph: Symbolic) -> None:
    """Refuse a model with a ``call`` of its own that does something else in training than what ``graph`` says.

    Raises:
        TraceError: it does, or does not run on symbolic inputs in training mode; names the layers.
    """
    if own_graph(model) is not None or "training" not in inspect.signature(model.call).parameters:
        return
    inputs = [keras.KerasTensor(tensor.shape, dtype=tensor.dtype) for tensor in graph.inputs]
    structure = keras.tree.pack_sequence_as(graph.input_structure, inputs)
    try:
        training = _record(inputs, structure, lambda: model.call(structure, training=True))
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__}.call(training=True) does not run on symbolic inputs: {error}"
        ) from error
    if _calls(graph) != _calls(training):
        raise TraceError(
            f"{type(model).__name__}.call does something else in training than in inference "
            f"({_told(graph, training)}), and no smaller model made of its layers could do both: call the same layers "
            "in both modes (Dropout, GaussianNoise and their like know the mode themselves), with the same arguments "
            "and outputs"
        )


def _told(inference: Symbolic, training: Symbolic) -> str:
    """In which layers two graphs of a model differ."""
    runs = [
        {id(node.operation): node.operation.name for node in graph.nodes if isinstance(node.operation, keras.Layer)}
        for graph in (inference, training)
    ]
    only = [[name for key, name in run.items() if key not in other] for run, other in (runs, runs[::-1])]
    told = [
        f"{', '.join(names)} only in {mode}"
        for names, mode in zip(only, ("inference", "training"), strict=True)
        if names
    ]
    return "; ".join(told) or f"in the calls of {', '.join(runs[0].values())}, or between them"


def _calls(graph: Symbolic) -> tuple[list[Any], list[int]]:
    """What a graph computes, the mode aside: equal for graphs of the same calls in the same order."""
    numbers = {id(tensor): number for number, tensor in enumerate(graph.inputs)}
    calls = []
    for node in graph.nodes:
        calls.append((_identity(node.operation), [_plain(value, numbers) for value in _arguments(node)]))
        numbers.update({id(tensor): len(numbers) + index for index, tensor in enumerate(node.outputs)})
    return calls, [numbers[id(tensor)] for tensor in graph.outputs]


def _identity(operation: Any) -> Any:
    """A layer is itself; an operation, made anew for each call, its class and settings."""
    if isinstance(operation, keras.Layer):
        return id(operation)
    settings = {key: value for key, value in vars(operation).items() if key != "name" and not key.startswith("_")}
    flat = [(key, each) for key, value in sorted(settings.items()) for each in keras.tree.flatten(value)]
    return type(operation), [(key, _plain(each, {})) for key, each in flat]


def _arguments(node: Any) -> list[Any]:
    """What a node's operation was called with, flat, without the mode."""
    named = sorted(node.arguments.kwargs.items())
    return keras.tree.flatten((node.arguments.args, [value for key, value in named if key != "training"]))


def _plain(value: Any, numbers: dict[int, int]) -> Any:
    """Something that equals the same of an equal value: tensors by their numbers, arrays by their bytes."""
    if isinstance(value, keras.KerasTensor):
        return "tensor", numbers[id(value)]
    if isinstance(value, keras.Variable):
        return id(value)
    if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        array = value if isinstance(value, np.ndarray) else backends.array(value)
        return array.dtype, array.shape, array.tobytes()
    return value if isinstance(value, bool | int | float | str) else repr(value)


def operand_order(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The nodes between inputs and outputs: first what the first output's first operand needs, as one would write it.

    A functional model does not remember in which order its layers were called. Unlike Keras's order by depth this is
    the order of a program that computes one operand after the other; it does not change when a model is saved and
    loaded.
    """
    known = {id(tensor) for tensor in inputs}
    done: set[int] = set()
    order: list[Any] = []
    pending: list[tuple[Any, bool]] = [
        (_node(tensor), False) for tensor in reversed(outputs) if id(tensor) not in known
    ]
    while pending:
        node, ready = pending.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        if node.is_input:
            raise TraceError(f"the model's outputs depend on {node.operation.name!r}, which is not one of its inputs")
        pending.append((node, True))
        needed = [tensor for tensor in node.input_tensors if id(tensor) not in known]
        pending += [(_node(tensor), False) for tensor in reversed(needed)]
    return order


def _node(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _call(node: Any, mode: dict[str, bool]) -> Symbolic:
    """Run ``call`` of a node's layer on symbolic tensors like those that the node recorded."""
    inputs = [keras.KerasTensor(tensor.shape, dtype=tensor.dtype) for tensor in node.input_tensors]
    stand_ins = {id(tensor): new for tensor, new in zip(node.input_tensors, inputs, strict=True)}
    arguments, keywords = node.arguments.fill_in(stand_ins)
    return _record(inputs, inputs, lambda: node.operation.call(*arguments, **{**keywords, **mode}))


_made: ContextVar[list[Any] | None] = ContextVar("made", default=None)
"""The nodes of the calls that are being recorded, in the order in which they are made."""


def _after_node(original: Callable[..., Any], node: Any, *args: Any, **kwargs: Any) -> None:
    original(node, *args, **kwargs)
    made = _made.get()
    if made is not None:
        made.append(node)


wrap(Node, "__init__", _after_node)


class _Reads(keras.StatelessScope):
    """Notes whose numbers are read in it. Keras opens a scope of its own for each call that becomes part of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: dict[int, keras.Variable] = {}

    def get_current_value(self, variable: keras.Variable) -> Any:
        self.variables[id(variable)] = variable
        return super().get_current_value(variable)


def _record(inputs: list[Any], structure: Any, call: Callable[[], Any]) -> Symbolic:
    """The graph of the calls that ``call`` makes; the layers forget them, and no variable changes."""
    made: list[Any] = []
    token = _made.set(made)
    reads = _Reads()
    try:
        with reads:
            outputs = call()
    finally:
        _made.reset(token)
    flat = keras.tree.flatten(outputs)
    if not all(isinstance(tensor, keras.KerasTensor) for tensor in flat):
        raise TypeError("call returns something else than tensors")
    graph = Symbolic(inputs, flat, structure, outputs, made, tuple(reads.variables.values()))
    for node in graph.nodes:
        node.operation._inbound_nodes.remove(node)
        for parent in {id(tensor): tensor._keras_history.operation for tensor in node.input_tensors}.values():
            if parent is not None and node in parent._outbound_nodes:
                parent._outbound_nodes.remove(node)
    return graph


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
