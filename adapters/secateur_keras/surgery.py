"""Takes removed units and branches out of a Keras model: a new model of the same layers with fewer of everything.

Every layer is rebuilt from its config, with new sizes, on new symbolic inputs, and receives the slices of the weights
that stay. Where a branch goes, the call that would add it gives way to its other operand, and what only the branch
needs is not called. The given model is only read.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import keras
import numpy as np

from secateur.errors import ExampleError, HoldError, SecateurError, TraceError
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_keras import backends
from secateur_keras.comparing import require_one_graph
from secateur_keras.functional import own_graph
from secateur_keras.inference import shapes_of
from secateur_keras.naming import Weight
from secateur_keras.opening import opened
from secateur_keras.randomness import untouched_randomness
from secateur_keras.rebuilding import carry_compilation, carry_trainable, settle
from secateur_keras.surgeon import Surgeon
from secateur_keras.symbols import symbolic
from secateur_keras.tracing import Trace, trace


@untouched_randomness()
def compact(model: keras.Model, graph: Graph, plan: Plan) -> keras.Model:
    """The model without the units and branches that the plan removes; no random state changes.

    Functional models and ``Sequential``, nested ones included, keep their form; a model with a ``call`` of its own
    becomes a functional model of its layers. Names, frozen layers and how the model was compiled are carried over.

    Args:
        model: a built model, which is not touched.
        graph: its structure, as :func:`secateur_keras.tracing.graph` gives it.
        plan: what stays.

    Raises:
        TraceError: the model is not the one that was traced, does something else in training than in inference, or a
            layer cannot be rebuilt.
    """
    backends.synchronise(model)
    traced = _traced_again(model, graph)
    require_one_graph(model, traced.symbolic)
    surgeon, small = _rebuilt(model, traced, plan)
    surgeon.fill()
    settle(small)
    carry_trainable(model, surgeon.clones)
    carry_compilation(model, small)
    _counterparts[small] = surgeon.counterparts
    _require_training(model, small, [graph.tensors[tensor] for tensor in graph.inputs])
    return small


def _rebuilt(model: keras.Model, traced: Trace, plan: Plan) -> tuple[Surgeon, keras.Model]:
    """The smaller model without its numbers, for inputs of as many sizes as the model takes, and who made it."""
    given, tensors = traced.symbolic.inputs, opened(model, traced.symbolic)
    if tensors is not given:
        with suppress(Exception):  # what is open in the model may not be in its layers one by one
            surgeon = Surgeon(model, traced, plan)
            return surgeon, surgeon.rebuild(model, traced.symbolic, tensors)
    surgeon = Surgeon(model, traced, plan)
    try:
        return surgeon, surgeon.rebuild(model, traced.symbolic, given)
    except SecateurError:
        raise
    except Exception as error:  # of a layer of the user's own, which may raise anything
        raise TraceError(
            f"the smaller model of {model.name!r} cannot be put together: a layer that is made anew does not take what "
            f"it is called on ({type(error).__name__}: {error}); leave sizes open in its code or settings, or exclude "
            "what feeds it"
        ) from error


def counterparts(small: keras.Model) -> dict[str, Weight]:
    """Name of a weight of the large model -> what became of it in the model that :func:`compact` made.

    Raises:
        HoldError: it is another model.
    """
    if small not in _counterparts:
        raise HoldError(
            f"{type(small).__name__} is not a model that compact() made in this process: give what it returned, no copy"
        )
    return _counterparts[small]


_counterparts: weakref.WeakKeyDictionary[keras.Model, dict[str, Weight]] = weakref.WeakKeyDictionary()


def form(model: keras.Model, small: keras.Model) -> str:
    """In words, what the smaller model is, and which inputs it takes if that is less than the model takes."""
    if own_graph(model) is not None:
        return "a model of the same layers, made smaller"
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in small.inputs)
    is_open = any(None in tensor.shape[1:] for tensor in small.inputs)
    told = (
        f"inputs of the shape {shapes}, None being any size"
        if is_open
        else (f"inputs of the example's shape alone, {shapes}, with any batch")
    )
    return f"a functional model of the same layers, made smaller; it takes {told}"


def _require_training(model: keras.Model, small: keras.Model, shapes: Sequence[Sequence[int]]) -> None:
    """Run both models in training mode, which may use sizes that inference does not: what ran must go on running."""
    try:
        expected = _trained_shapes(model, shapes)
    except Exception:  # it does not train today, so there is nothing to keep
        return
    try:
        actual = _trained_shapes(small, shapes)
    except Exception as error:
        raise TraceError(
            f"the smaller model of {model.name!r} does not run in training mode, for its layers have sizes in their "
            f"code or settings that were not made smaller: leave them open, or exclude what feeds them ({error})"
        ) from error
    if actual != expected:
        raise TraceError(
            f"in training mode the smaller model of {model.name!r} gives outputs of the shapes {actual}, not "
            f"{expected}: sizes in the code or settings of its layers were not made smaller; leave them open, or "
            "exclude what feeds them"
        )


def _trained_shapes(model: keras.Model, shapes: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The shapes of the outputs for zeros in training mode; nothing of the model changes."""
    inputs = symbolic(model, None)
    zeros = [
        np.zeros(tuple(shape), keras.backend.standardize_dtype(tensor.dtype))
        for tensor, shape in zip(inputs.inputs, shapes, strict=True)
    ]
    packed = keras.tree.pack_sequence_as(inputs.input_structure, zeros)
    return shapes_of(model, packed, training=True)


def _traced_again(model: keras.Model, graph: Graph) -> Trace:
    """The trace behind a graph; Keras's objects are no part of the graph, but found in the same order."""
    shapes = [keras.KerasTensor(graph.tensors[tensor]) for tensor in graph.inputs]
    try:
        traced = trace(model, None if own_graph(model) is None else shapes)
    except ExampleError:
        traced = None
    if traced is None or _structure(traced.graph) != _structure(graph):
        raise TraceError(f"model {model.name!r} is not the one that was traced; trace it again")
    return traced


def _structure(graph: Graph) -> tuple[Any, ...]:
    """A graph without the names of operations, which Keras makes up anew for each trace."""
    operations = [
        (each.kind, each.inputs, each.outputs, dict(each.parameters), dict(each.settings)) for each in graph.operations
    ]
    return graph.tensors, operations, graph.inputs, graph.outputs, dict(graph.parameters)
