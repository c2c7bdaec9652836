"""Running a model without touching it, as a rule in inference mode: dropout off, batch normalisation on its statistics.

Everything goes through Keras's stateless calls, so whatever a forward pass would change (seeds, running statistics,
losses, metrics) is thrown away, on every backend.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras

from secateur_keras import backends


def values(variables: Sequence[keras.Variable]) -> list[Any]:
    """The variables' numbers as tensors of the backend."""
    return [keras.ops.convert_to_tensor(variable.value) for variable in variables]


def forward(
    model: keras.Model, trainable: Sequence[Any], non_trainable: Sequence[Any], inputs: Any, training: bool = False
) -> Any:
    """The model's outputs for ``inputs`` with the given values of its variables, in their usual order."""
    mode = {"training": training} if "training" in inspect.signature(model.call).parameters else {}
    outputs, _ = model.stateless_call(trainable, non_trainable, _as_called(model, inputs), **mode)
    return outputs


def outputs_of(model: keras.Model, inputs: Any, training: bool = False) -> list[backends.Array]:
    """The model's outputs as NumPy arrays, one a tensor."""
    run, arguments = _prepared(model, inputs, training)
    return [backends.array(output) for output in keras.tree.flatten(backends.compiled(run)(*arguments))]


def shapes_of(model: keras.Model, inputs: Any, training: bool = False) -> list[tuple[int, ...]]:
    """The shapes of the model's outputs; raises what running it on inputs of these shapes would."""
    run, arguments = _prepared(model, inputs, training)
    return backends.shapes(run, *arguments)


def _prepared(model: keras.Model, inputs: Any, training: bool) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A function that runs the model, and its arguments: the numbers of the model's variables, and inputs."""
    backends.synchronise(model)

    def run(trainable: Any, non_trainable: Any, given: Any) -> Any:
        return forward(model, trainable, non_trainable, given, training)

    return run, (values(model.trainable_variables), values(model.non_trainable_variables), backends.tensors(inputs))


def _as_called(model: keras.Model, inputs: Any) -> Any:
    """What ``model(inputs)`` would hand to ``call``: a graph of layers converts inputs itself, other models do not."""
    if hasattr(model, "inputs"):
        return inputs
    return keras.tree.map_structure(
        lambda x: keras.ops.cast(x, model.input_dtype) if keras.backend.is_float_dtype(x.dtype) else x, inputs
    )
