"""Removing units and branches from the graph that :func:`torch.export.export` writes, where the code cannot shrink.

A ``forward`` that spells sizes out (``x.view(-1, 400)``, ``split(64)``, the heads of ``nn.MultiheadAttention``) runs at
one width alone. The exported graph is the same computation with every size in plain sight: it is run once on the
example, operation by operation, and each size that does not fit what is left is written anew. An addition that only
the user's own code could leave out is left out. The result is a module with the parameter names of the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from secateur.errors import TraceError
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_torch import modes, shortcuts
from secateur_torch.correspondence import trusting, within
from secateur_torch.exporting import finished, owned, widened, write
from secateur_torch.inference import arguments, inference_mode, results, tensors
from secateur_torch.masking import free_copy
from secateur_torch.normalisation import write_plainly
from secateur_torch.parameters import Weight, with_constants
from secateur_torch.recording import Recorder
from secateur_torch.sizes import Site, rewrite
from secateur_torch.surgery import rescale_weights, sliced_weights


def compact(model: nn.Module, graph: Graph, removal: Plan, example: Any) -> nn.Module:
    """A smaller module that computes what ``model`` does, from its exported graph; ``model`` itself is not touched.

    What it keeps of ``model``, and what it loses, is told in :mod:`secateur_torch.exporting`.

    Args:
        model: the model that was traced.
        graph: its structure.
        removal: which indices of which weights stay.
        example: an input, as for :func:`secateur_torch.tracing.graph`.

    Raises:
        TraceError: the model cannot be exported, or its graph does not allow this removal.
    """
    copied = free_copy(model)
    write_plainly(copied, graph)
    with inference_mode(copied), torch.no_grad():
        positional, named = widened(copied, arguments(copied, example))
        rates = modes.attention_dropout(copied, positional, named)
        written = _written(copied, graph, positional, named)
        known = _weights(copied, written)
        tracer = _Tracer(written, Recorder(known, lambda: "the exported graph"))
        whole = trusting(tracer.trace(positional, named))
        here = within(whole, removal)
        _replace(written, sliced_weights(known, here))
        rescale_weights(whole, here, owned(written))
        _Rewriter(written, tracer, whole, here).rewrite(_flat(positional, named))
        shortcuts.remove(written, whole, here.branches, tracer.made)
        modes.follow(written, copied, rates)
    return finished(written, model)


def _written(model: nn.Module, graph: Graph, positional: tuple[Any, ...], named: Mapping[str, Any]) -> fx.GraphModule:
    """The exported graph; where it cannot be had of a model with packed sequences, these are told to be why."""
    try:
        return write(model, positional, named)
    except TraceError as error:
        packed = [operation for operation in graph.operations if operation.label == "pack_padded_sequence"]
        if not packed:
            raise
        raise TraceError(
            f"it packs sequences ({packed[0].source} pack_padded_sequence), which torch.export cannot write down; read "
            f"sizes off tensors beside it, or exclude the layers whose sizes are spelled out ({error})"
        ) from error


def _weights(model: nn.Module, written: fx.GraphModule) -> list[Weight]:
    """The model's weights and constants, as the exported graph holds them."""
    held, known = owned(written), with_constants(model)
    return [replace(weight, tensor=held[weight.name]) for weight in known if weight.name in held]


def _replace(written: fx.GraphModule, replaced: Mapping[int, torch.Tensor]) -> None:
    """Put new tensors in the place of the old."""
    for module in written.modules():
        owners: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for held in owners:
            held.update({name: replaced[id(old)] for name, old in held.items() if id(old) in replaced})


def _flat(positional: tuple[Any, ...], named: Mapping[str, Any]) -> list[Any]:
    """The arguments as the graph's placeholders take them."""
    return list(torch.utils._pytree.arg_tree_leaves(*positional, **named))


class _Tracer(fx.Interpreter):
    """Runs the exported graph under a recorder, and notes which tensors each of its nodes gives."""

    def __init__(self, written: fx.GraphModule, recorder: Recorder) -> None:
        super().__init__(written)
        self.made: dict[fx.Node, range] = {}
        self.given: dict[fx.Node, list[int | None]] = {}
        self._recorder = recorder

    def trace(self, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Graph:
        """The structure."""
        self._recorder.begin([positional, named])
        with self._recorder:
            flat = self.run(*_flat(positional, named), enable_io_processing=False)
        return self._recorder.graph(results(flat))

    def run_node(self, n: fx.Node) -> Any:
        """As usual; what it makes is noted."""
        before = self._recorder.mark().tensors
        result = super().run_node(n)
        self.made[n] = range(before, self._recorder.mark().tensors)
        self.given[n] = [self._recorder.number(tensor) for tensor in tensors(result)]
        return result


class _Rewriter(fx.Interpreter):
    """Runs the graph with its smaller weights, and mends the sizes of each node before it runs."""

    def __init__(self, written: fx.GraphModule, tracer: _Tracer, graph: Graph, removal: Plan) -> None:
        super().__init__(written, garbage_collect_values=False)
        self._written, self._given, self._removal = written, tracer.given, removal
        self._changes: dict[fx.Node, dict[str, Any]] = {}
        makers = {number: node for node, made in tracer.made.items() for number in made}
        for index, changed in removal.settings.items():
            node = makers.get(graph.operations[index].outputs[0])
            if node is not None:
                self._changes.setdefault(node, {}).update(changed)

    def rewrite(self, flat: Sequence[Any]) -> None:
        """All nodes, in order; then the new code is compiled."""
        self.run(*flat, enable_io_processing=False)
        self._written.graph.lint()
        self._written.recompile()

    def run_node(self, n: fx.Node) -> Any:
        """Mended first."""
        if n.op == "call_function":
            shapes = [self._removal.shapes[number] for number in self._given[n] if number is not None]
            rewrite(Site(self._written, n, shapes, self._changes.get(n, {}), self._value))
            self._value(n.all_input_nodes)
        result = super().run_node(n)
        self._check(n, result)
        return result

    def _value(self, argument: Any) -> Any:
        """What an argument of a node is, in this run."""
        return fx.map_arg(argument, lambda node: self._computed(node))

    def _computed(self, node: fx.Node) -> Any:
        """The value of a node, which may be new."""
        if node not in self.env:
            self._value(node.all_input_nodes)
            self.env[node] = super().run_node(node)
        return self.env[node]

    def _check(self, node: fx.Node, result: Any) -> None:
        for tensor, number in zip(tensors(result), self._given.get(node, []), strict=False):
            if number is not None and tuple(tensor.shape) != self._removal.shapes[number]:
                raise TraceError(
                    f"{node.format_node()} gives shape {tuple(tensor.shape)} instead of {self._removal.shapes[number]} "
                    "in the smaller graph: Secateur does not know which of its arguments is a size"
                )
