"""Removing units and branches from the graph that :func:`torch.export.export` writes, where the code cannot shrink.

A ``forward`` that spells sizes out (``x.view(-1, 400)``, ``split(64)``, the heads of ``nn.MultiheadAttention``) runs at
one width alone. The exported graph is the same computation with every size in plain sight: it is run once on the
example, operation by operation, and each size that does not fit what is left is written anew. An addition that only
the user's own code could leave out is left out. The result is a module with the parameter names of the original.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim

from secateur.errors import TraceError
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_torch import shortcuts
from secateur_torch.correspondence import trusting, within
from secateur_torch.inference import arguments, inference_mode, results, tensors
from secateur_torch.masking import free_copy
from secateur_torch.normalisation import write_plainly
from secateur_torch.parameters import Weight, weights
from secateur_torch.recording import Recorder
from secateur_torch.sizes import Site, rewrite
from secateur_torch.surgery import rescale_weights, sliced_weights


class Training(nn.Module):
    """Tells the operations of an exported graph whether the model that holds them trains."""

    def forward(self) -> bool:
        """Whether it does."""
        return self.training


class Sizes(nn.Module):
    """Refuses inputs of sizes for which the graph was not written; None stands for any."""

    def __init__(self, shapes: Sequence[Sequence[int | None]]) -> None:
        super().__init__()
        self.shapes = [tuple(shape) for shape in shapes]

    def forward(self, *inputs: torch.Tensor) -> None:
        """Raises ValueError."""
        for number, (given, shape) in enumerate(zip(inputs, self.shapes, strict=True)):
            pairs = zip(shape, given.shape, strict=False)
            if given.ndim != len(shape) or any(fixed not in (None, size) for fixed, size in pairs):
                wanted = ", ".join("any" if fixed is None else str(fixed) for fixed in shape)
                raise ValueError(
                    f"input {number} of this smaller model has shape {tuple(given.shape)}: its graph was written for "
                    f"({wanted}), since the original's code depends on these sizes; prune it again on an example of "
                    "the size that you need"
                )


def compact(model: nn.Module, graph: Graph, removal: Plan, example: Any) -> nn.Module:
    """A smaller module that computes what ``model`` does, from its exported graph; ``model`` itself is not touched.

    Parameters and buffers have the names that they have in ``model``. Sizes of the example's axes that the code does
    not fix stay open, of images the batch alone; any other size is refused by :class:`Sizes`. Dropout and
    normalisation follow ``train()`` and ``eval()``; branches and loops of the user's own code are those that the
    example took in evaluation mode.

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
        positional, named = _widened(copied, arguments(copied, example))
        written = _exported(copied, positional, named)
        known = _weights(copied, written)
        tracer = _Tracer(written, Recorder(known, lambda: "the exported graph"))
        whole = trusting(tracer.trace(positional, named))
        here = within(whole, removal)
        _replace(written, sliced_weights(known, here))
        rescale_weights(whole, here, _owned(written))
        _Rewriter(written, tracer, whole, here).rewrite(_flat(positional, named))
        shortcuts.remove(written, whole, here.branches, tracer.made)
        _follow_mode(written, copied)
    return _finished(written, model)


def _widened(model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch of one is doubled: what is 1 in the example counts as fixed, what is 2 as any number."""
    listed = tensors(list(given))
    if not listed or any(tensor.ndim == 0 or tensor.shape[0] != 1 for tensor in listed):
        return given
    doubled = _mapped(given, lambda tensor: torch.cat([tensor, tensor]))
    try:
        model(*doubled[0], **doubled[1])
    except Exception:  # whatever it dislikes: the batch stays what it was
        return given
    return doubled


def _mapped(nested: Any, function: Any) -> Any:
    return torch.utils._pytree.tree_map_only(torch.Tensor, function, nested)


def _exported(model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> fx.GraphModule:
    sizes = torch.utils._pytree.tree_map(_open, (positional, dict(named)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dynamic = _by_name(model, *sizes)
            program = torch.export.export(model, positional, dict(named), dynamic_shapes=dynamic, strict=False)
            written = program.module(check_guards=False)
    except Exception as error:  # torch.export raises errors of many kinds
        problem = str(error).partition("\n")[0]
        raise TraceError(f"torch.export cannot write the model down ({type(error).__name__}: {problem})") from error
    for node in reversed(written.graph.nodes):
        if node.op == "call_function" and not node.users and not node.is_impure():
            written.graph.erase_node(node)  # as the mean weights of an attention, which nobody reads
    _check_sizes(written)
    return written


def _check_sizes(written: fx.GraphModule) -> None:
    """Begin with a check of the sizes that are not open."""
    given = [node for node in written.graph.nodes if node.op == "placeholder"]
    given = [node for node in given if isinstance(node.meta.get("val"), torch.Tensor)]
    shapes = [[_fixed(size) for size in node.meta["val"].shape] for node in given]
    if any(size is not None for shape in shapes for size in shape):
        written.add_submodule("_sizes", Sizes(shapes))
        with written.graph.inserting_after([node for node in written.graph.nodes if node.op == "placeholder"][-1]):
            written.graph.call_module("_sizes", tuple(given))


def _fixed(size: int | torch.SymInt) -> int | None:
    """A size that is not open; None for one that is."""
    return size if isinstance(size, int) else size.node.maybe_as_int()


def _open(argument: Any) -> dict[int, Any] | None:
    """Axes whose size stays open: of an image the batch alone, since open heights make export ten times as long."""
    if not isinstance(argument, torch.Tensor):
        return None
    return dict.fromkeys(range(argument.ndim if argument.ndim < 4 else 1), Dim.AUTO)


def _by_name(
    model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any] | tuple[Any, ...]:
    """Open sizes as torch.export wants them: by the names of ``forward``'s arguments."""
    bound = inspect.signature(model.forward).bind(*positional, **named)
    return dict(bound.arguments)


def _weights(model: nn.Module, written: fx.GraphModule) -> list[Weight]:
    """The model's weights, as the exported graph holds them."""
    owned = _owned(written)
    return [replace(weight, tensor=owned[weight.name]) for weight in weights(model) if weight.name in owned]


def _replace(written: fx.GraphModule, replaced: Mapping[int, torch.Tensor]) -> None:
    """Put new tensors in the place of the old."""
    for module in written.modules():
        owners: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for owned in owners:
            owned.update({name: replaced[id(old)] for name, old in owned.items() if id(old) in replaced})


def _owned(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by all of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


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


MODES = {"dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "batch_norm": 5, "lstm": 6, "gru": 6, "rnn_tanh": 6}
"""Operations, and which of their arguments tells whether the model trains."""


def _follow_mode(written: fx.GraphModule, model: nn.Module) -> None:
    """Let operations that differ in training ask the module whether it trains."""
    written.add_submodule("_training", Training())
    with written.graph.inserting_before(next(iter(written.graph.nodes))):
        asked = written.graph.call_module("_training")
    modules = dict(model.named_modules())
    for node in list(written.graph.nodes):
        name = str(getattr(node.target, "__name__", "")).partition(".")[0]
        position = MODES.get(name, len(node.args))
        if position < len(node.args) and isinstance(node.args[position], bool):
            node.update_arg(position, asked)
        elif name == "scaled_dot_product_attention" and (rate := _dropout_of(node, modules)):
            with written.graph.inserting_before(node):
                now = written.graph.call_function(operator.mul, (asked, rate))
            node.args = (*(*node.args, None)[:4], now, *node.args[5:])
    if not asked.users:
        written.graph.erase_node(asked)
    written.recompile()


def _dropout_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> float:
    """The dropout of the ``nn.MultiheadAttention`` that an attention runs in: evaluation leaves no trace of it."""
    paths = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    owner = modules.get(paths[-1]) if paths else None
    return float(owner.dropout) if isinstance(owner, nn.MultiheadAttention) else 0.0


def _finished(written: fx.GraphModule, model: nn.Module) -> nn.Module:
    """An ordinary module: what torch.export adds to its own is left behind."""
    name = type(model).__name__
    written.graph._tracer_cls = None  # that of torch.export cannot trace a module that was pickled
    small = fx.GraphModule(written, written.graph, name if name.isidentifier() else "Exported")
    for parameter, original in _pairs(small, model):
        parameter.requires_grad_(original.requires_grad)
    left = dict(small.named_modules())
    for path, module in (*written.named_modules(), *model.named_modules()):
        if path in left:  # what the graph does not use is gone
            left[path]._non_persistent_buffers_set |= module._non_persistent_buffers_set
    return small.train(model.training)


def _pairs(small: nn.Module, model: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    originals = dict(model.named_parameters(remove_duplicate=False))
    return ((item, originals[name]) for name, item in small.named_parameters() if name in originals)
