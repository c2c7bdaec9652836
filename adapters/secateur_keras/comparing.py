"""Whether a model does the same in training as in inference, and with inputs of other sizes: its graphs compared."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from secateur.errors import TraceError
from secateur_keras import backends
from secateur_keras.calling import record
from secateur_keras.functional import Symbolic, arguments_of, own_graph


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
        training = record(inputs, structure, lambda: model.call(structure, training=True))
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__}.call(training=True) does not run on symbolic inputs: {error}"
        ) from error
    if calls(graph) != calls(training):
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


def calls(graph: Symbolic) -> tuple[list[Any], list[int]]:
    """What a graph computes, the mode aside: equal for graphs of the same calls in the same order."""
    numbers = {id(tensor): number for number, tensor in enumerate(graph.inputs)}
    calls = []
    for node in graph.nodes:
        calls.append((_identity(node.operation), [_plain(value, numbers) for value in arguments_of(node)]))
        numbers.update({id(tensor): len(numbers) + index for index, tensor in enumerate(node.outputs)})
    return calls, [numbers[id(tensor)] for tensor in graph.outputs]


def _identity(operation: Any) -> Any:
    """A layer is itself; an operation, made anew for each call, its class and settings."""
    if isinstance(operation, keras.Layer):
        return id(operation)
    settings = {key: value for key, value in vars(operation).items() if key != "name" and not key.startswith("_")}
    flat = [(key, each) for key, value in sorted(settings.items()) for each in keras.tree.flatten(value)]
    return type(operation), [(key, _plain(each, {})) for key, each in flat]


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
