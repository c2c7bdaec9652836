"""Builds a smaller model: every layer anew from its config, with new sizes, on new symbolic inputs.

Where a branch goes, the call that would add it gives way to its other operand, and what only the branch needs is not
called. Weights are filled in at the end, with the slices that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from secateur.structure.removal import Plan
from secateur_keras import backends
from secateur_keras.changes import changed, factors, instead
from secateur_keras.cutting import cut
from secateur_keras.functional import Symbolic, own_graph
from secateur_keras.kinds.attention import weighs_by_itself
from secateur_keras.naming import Weight, below, layer_paths, unique, weights
from secateur_keras.outside import held, holder, is_table, table
from secateur_keras.parameters import layouts
from secateur_keras.rebuilding import inner_layers, model_class, with_config
from secateur_keras.tracing import Trace


class Surgeon:
    """Rebuilds layer after layer; each only once, however often it is called."""

    def __init__(self, model: keras.Model, traced: Trace, plan: Plan) -> None:
        self.clones: dict[int, Any] = {}
        self.counterparts: dict[str, Weight] = {}
        self._loose: dict[int, keras.layers.Embedding] = {}
        self._copies: list[tuple[keras.Layer, keras.Layer]] = []
        self._weights = {id(weight.variable): weight for weight, _ in layouts(model)}
        self._parameters = {key: weight.name for key, weight in self._weights.items()}
        self._plan = plan
        gone = (name for branch in plan.branches for name in branch.parameters)
        self._cut = {*(name for name, _ in plan.keep), *gone}
        self._instead = instead(traced, plan)
        self._inner = traced.inner
        self._outside = {key: plan.shapes[tensor] for key, tensor in traced.outside.items()}
        self._changes = changed(traced, plan)
        self._calls = {id(edit.origin): edit.call for edit in traced.edits if edit.call is not None}
        self._factors = factors(traced.graph, plan)
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
        for key, layer in self._loose.items():
            before, after = self._weights[key], Weight(layer.name, layer.embeddings, layer, layer.name)
            after.variable.assign(self._slice(before, after))
            self.counterparts[before.name] = after

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
        first = next(iter(tensors.values()))
        arguments, keywords = node.arguments.convert(
            lambda each: self._by_itself(each, first) if id(each) in self._outside else tensors.get(id(each), each)
        )
        call, changes = self._calls.get(id(node.operation)), self._changes.get(id(node.operation), {})
        if call is not None and changes:
            return call(*arguments, **keywords, **changes)
        clone = self._clone(node.operation, given, loose)
        if weighs_by_itself(node, clone):
            return clone(*arguments, **{**keywords, "return_attention_scores": True})[0]
        return clone(*arguments, **keywords)

    def _by_itself(self, variable: keras.Variable, tensor: Any) -> Any:
        """What became of a weight that no layer is called for, as a symbol of the graph that ``tensor`` is of."""
        weight, shape = self._weights[id(variable)], self._outside[id(variable)]
        if is_table(weight):
            return table(self._clone(weight.owner, (), loose=True), tensor)
        if id(variable) not in self._loose:
            name = unique(weight.name.replace("/", "_"), self._taken)
            self._loose[id(variable)] = holder(weight, shape, name)
        return held(self._loose[id(variable)], shape, tensor)

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
            if isinstance(operation, keras.Layer) and not _wraps_model(operation):
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

    def _slice(self, before: Weight, after: Weight) -> backends.Array:
        """The part of a weight that stays, as an array that nothing else uses."""
        array = backends.array(before.variable)
        name = self._parameters.get(id(before.variable))
        if name is None:
            return array.copy()
        sliced = cut(array, self._weights[id(before.variable)], after, self._plan)
        return sliced if name not in self._factors else (sliced * self._factors[name]).astype(sliced.dtype)


def _wraps_model(layer: keras.Layer) -> bool:
    """Whether it calls a model, the layers of which are rebuilt one by one."""
    return any(own_graph(each) is not None for each in keras.tree.flatten(inner_layers(layer)))


def _input(symbolic: Any, tensor: Any) -> Any:
    """A new symbolic input like ``symbolic``, of the shape of ``tensor``."""
    layer = symbolic._keras_history.operation
    return keras.layers.InputLayer.from_config({**layer.get_config(), "batch_shape": tuple(tensor.shape)}).output
