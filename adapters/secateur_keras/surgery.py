"""Takes removed units and branches out of a Keras model: a new model of the same layers with fewer of everything.

Every layer is rebuilt from its config, with new sizes, on new symbolic inputs, and receives the slices of the weights
that stay. Where a branch goes, the call that would add it gives way to its other operand, and what only the branch
needs is not called. The given model is only read.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from secateur.errors import ExampleError, HoldError, TraceError
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_keras import backends
from secateur_keras.cutting import cut
from secateur_keras.functional import Symbolic, own_graph, require_one_graph, symbolic
from secateur_keras.inference import outputs_of
from secateur_keras.layouts import layout
from secateur_keras.naming import Weight, below, layer_paths, unique, weights
from secateur_keras.parameters import layouts
from secateur_keras.randomness import untouched_randomness
from secateur_keras.rebuilding import (
    carry_compilation,
    carry_trainable,
    inner_layers,
    model_class,
    settle,
    with_config,
)
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
    surgeon = _Surgeon(model, traced, plan)
    small = surgeon.rebuild(model, traced.symbolic, traced.symbolic.inputs)
    surgeon.fill()
    settle(small)
    carry_trainable(model, surgeon.clones)
    carry_compilation(model, small)
    _counterparts[small] = surgeon.counterparts
    _require_training(model, small, [graph.tensors[tensor] for tensor in graph.inputs])
    return small


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
    return (
        f"a functional model of the same layers, made smaller; it takes inputs of the example's shape alone, {shapes}, "
        "with any batch"
    )


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
    return [output.shape for output in outputs_of(model, packed, training=True)]


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


class _Surgeon:
    """Rebuilds layer after layer; each only once, however often it is called."""

    def __init__(self, model: keras.Model, traced: Trace, plan: Plan) -> None:
        self.clones: dict[int, Any] = {}
        self.counterparts: dict[str, Weight] = {}
        self._copies: list[tuple[keras.Layer, keras.Layer]] = []
        self._parameters = {id(weight.variable): weight.name for weight, _ in layouts(model)}
        self._plan = plan
        gone = (name for branch in plan.branches for name in branch.parameters)
        self._cut = {*(name for name, _ in plan.keep), *gone}
        self._instead = _instead(traced, plan)
        self._inner = traced.inner
        self._changes = _changes(traced, plan)
        self._calls = {id(edit.origin): edit.call for edit in traced.edits if edit.call is not None}
        self._factors = _factors(traced.graph, plan)
        self._paths = layer_paths(model)
        self._taken: set[str] = set()

    def rebuild(self, model: keras.Model, graph: Symbolic, tensors: Sequence[Any]) -> keras.Model:
        """A new model for inputs shaped like ``tensors``."""
        around, self._taken = self._taken, set()
        inputs = [_input(symbolic, tensor) for symbolic, tensor in zip(graph.inputs, tensors, strict=True)]
        chained = isinstance(model, keras.Sequential) and own_graph(model) is not None
        if chained and not any(self._is_taken_apart(node) for node in graph.nodes):
            chain = self._chain(model, graph, inputs)
            small = model_class(model, keras.Sequential)([inputs[0], *chain], name=model.name)
        else:
            outputs = self._run(graph, inputs, loose=own_graph(model) is None)
            structured = keras.tree.pack_sequence_as(graph.input_structure, inputs)
            results = keras.tree.pack_sequence_as(graph.output_structure, outputs)
            small = model_class(model, keras.Model)(structured, results, name=model.name)
        self.clones[id(model)], self._taken = small, around
        return small

    def fill(self) -> None:
        """Give every new layer the slices of its weights that stay."""
        for old, new in self._copies:
            self.clones.update(
                zip((id(layer) for layer, _ in below(old)), (layer for layer, _ in below(new)), strict=True)
            )
            for before, after in zip(weights(old), weights(new), strict=True):
                after.variable.assign(self._slice(before, after))
                if id(before.variable) in self._parameters:
                    self.counterparts[self._parameters[id(before.variable)]] = after

    def _chain(self, model: keras.Sequential, graph: Symbolic, inputs: Sequence[Any]) -> list[keras.Layer]:
        """The clones of a Sequential's layers.

        They are called once, so that models among them get inputs of the right shape; the record of these calls is
        taken away again, since the new Sequential makes its own, which ``layer.output`` is to refer to.
        """
        calls = {key: (len(clone._inbound_nodes), len(clone._outbound_nodes)) for key, clone in self.clones.items()}
        self._run(graph, inputs, loose=False)
        for layer in model.layers:
            clone = self.clones[id(layer)]
            inbound, outbound = calls.get(id(layer), (0, 0))
            del clone._inbound_nodes[inbound:], clone._outbound_nodes[outbound:]
        return [self.clones[id(layer)] for layer in model.layers]

    def _run(self, graph: Symbolic, inputs: Sequence[Any], loose: bool) -> list[Any]:
        """Call the clones as the graph says; ``loose``: its calls come from a ``call``, where names need not differ."""
        tensors = {id(old): new for old, new in zip(graph.inputs, inputs, strict=True)}
        for node in self._needed(graph):
            if id(node) in self._instead:
                tensors[id(node.outputs[0])] = tensors[id(self._instead[id(node)])]
                continue
            given = [tensors[id(tensor)] for tensor in node.input_tensors]
            if self._is_taken_apart(node):
                results = self._run(self._inner[id(node)], given, loose=True)
            else:
                results = self._call(node, tensors, given, loose)
            tensors.update(zip(map(id, node.outputs), keras.tree.flatten(results), strict=True))
        return [tensors[id(tensor)] for tensor in graph.outputs]

    def _needed(self, graph: Symbolic) -> list[Any]:
        """The calls of a graph that its outputs depend on when branches are gone."""
        makers = {id(tensor): node for node in graph.nodes for tensor in node.outputs}
        needed: set[int] = set()
        pending = list(graph.outputs)
        while pending:
            node = makers.get(id(pending.pop()))
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                pending += [self._instead[id(node)]] if id(node) in self._instead else node.input_tensors
        return [node for node in graph.nodes if id(node) in needed]

    def _call(self, node: Any, tensors: dict[int, Any], given: Sequence[Any], loose: bool) -> Any:
        """What a node does, on new tensors: by a clone of its operation, or where that cannot say it by other means."""
        arguments, keywords = node.arguments.fill_in(tensors)
        self._require_no_weight(node)
        call, changes = self._calls.get(id(node.operation)), self._changes.get(id(node.operation), {})
        if call is not None and changes:
            return call(*arguments, **keywords, **changes)
        return self._clone(node.operation, given, loose)(*arguments, **keywords)

    def _require_no_weight(self, node: Any) -> None:
        """Refuse an operation on a weight: only layers bring their weights into a functional model."""
        if isinstance(node.operation, keras.Layer):
            return
        given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        named = [self._parameters[id(each)] for each in given if id(each) in self._parameters]
        if named:
            raise TraceError(
                f"{type(node.operation).__name__} computes with {', '.join(named)} outside of a layer, so that the "
                "smaller model would not have this weight: move that part of the call into a layer of your own with a "
                "get_config"
            )

    def _is_taken_apart(self, node: Any) -> bool:
        """Whether a layer of the user's own gives way to the layers that it is made of: some of them shrink."""
        if id(node) not in self._inner or own_graph(node.operation) is not None:
            return False
        return any(self._parameters.get(id(variable)) in self._cut for variable in node.operation.weights)

    def _clone(self, operation: Any, given: Sequence[Any], loose: bool) -> Any:
        if id(operation) not in self.clones:
            nested = own_graph(operation)
            name = (
                unique(self._paths.get(id(operation), operation.name).replace("/", "_"), self._taken) if loose else None
            )
            if nested is not None:
                return self.rebuild(operation, nested, given)
            changes = self._changes_of(operation, given)
            clone = with_config(operation, changes if name in (None, operation.name) else {**changes, "name": name})
            if isinstance(operation, keras.Layer):
                self._copies.append((operation, clone))
            self.clones[id(operation)] = clone
        return self.clones[id(operation)]

    def _changes_of(self, operation: Any, given: Sequence[Any]) -> dict[str, Any]:
        """What changes in the config of a layer or operation; layers in it, whose config has shapes, are made anew."""
        changes = {} if id(operation) in self._calls else dict(self._changes.get(id(operation), {}))
        inner = inner_layers(operation)
        return {**changes, **keras.tree.map_structure(lambda each: self._inner_clone(each, given), inner)}

    def _inner_clone(self, layer: keras.Layer, given: Sequence[Any]) -> keras.Layer:
        """A new layer for another one, which calls it once for each step in time."""
        nested = own_graph(layer)
        if nested is None:
            return with_config(layer, self._changes_of(layer, given))
        steps = [keras.KerasTensor((tensor.shape[0], *tensor.shape[2:])) for tensor in given[: len(nested.inputs)]]
        return self.rebuild(layer, nested, steps)

    def _slice(self, before: Any, after: Any) -> backends.Array:
        """The part of a weight that stays, as an array that nothing else uses."""
        array = backends.array(before.variable)
        name = self._parameters.get(id(before.variable))
        if name is None:
            return array.copy()
        sliced = cut(array, name, layout(before), layout(after), self._plan)
        return sliced if name not in self._factors else (sliced * self._factors[name]).astype(sliced.dtype)


def _input(symbolic: Any, tensor: Any) -> Any:
    """A new symbolic input like ``symbolic``, of the shape of ``tensor``."""
    layer = symbolic._keras_history.operation
    return keras.layers.InputLayer.from_config({**layer.get_config(), "batch_shape": tuple(tensor.shape)}).output


def _instead(traced: Trace, plan: Plan) -> dict[int, Any]:
    """id of a call that adds a branch -> the symbolic tensor that takes its place."""
    nodes = [(traced.additions[branch.addition], branch.stays) for branch in plan.branches]
    return {id(node): node.input_tensors[stays] for node, stays in nodes}


def _changes(traced: Trace, plan: Plan) -> dict[int, dict[str, Any]]:
    """id of a layer or operation -> what changes in its config."""
    dense = Plan({}, traced.graph.tensors, {}, 0)
    wanted: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    changes: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for edit in traced.edits:
        old, new, known = edit.config(dense), edit.config(plan), wanted[id(edit.origin)]
        if any(known.get(key, value) != value for key, value in new.items()):
            raise TraceError(
                f"{edit.origin.name} is used twice, and would need two sizes; use two of it, or exclude it"
            )
        known.update(new)
        changes[id(edit.origin)].update({key: value for key, value in new.items() if value != old[key]})
    return changes


def _factors(graph: Graph, plan: Plan) -> dict[str, float]:
    """Parameters that are multiplied, so that a mean square over fewer features has the same effect."""
    return {
        graph.operations[index].parameters["scale"]: math.sqrt(changed["rescale"])
        for index, changed in plan.settings.items()
        if "rescale" in changed
    }
