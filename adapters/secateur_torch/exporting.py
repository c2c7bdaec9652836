"""A module as the graph that :func:`torch.export.export` writes of it, and that graph as an ordinary module.

It has the names of the original's parameters and buffers, and follows ``train()`` and ``eval()`` in dropout, attention
and normalisation. Branches and loops of the user's own code are those that the example took in evaluation mode. Sizes
of the example's axes that the code does not fix stay open; any other is refused in words.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim

from secateur.errors import TraceError
from secateur_torch.admission import check_sizes
from secateur_torch.inference import tensors


def widened(model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
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


def write(model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> fx.GraphModule:
    """The graph, without what nobody reads in it, and with a check of its inputs. Raises TraceError."""
    try:
        try:
            program = _exported(model, positional, named, images=True)
        except Exception:
            program = _exported(model, positional, named, images=False)
        written = program.module(check_guards=False)
    except Exception as error:  # torch.export raises errors of many kinds
        problem = str(error).partition("\n")[0]
        raise TraceError(f"torch.export cannot write the model down ({type(error).__name__}: {problem})") from error
    for node in reversed(written.graph.nodes):
        if node.op == "call_function" and not node.users and not node.is_impure():
            written.graph.erase_node(node)  # as the mean weights of an attention, which nobody reads
    check_sizes(written, program, model, positional, named)
    return written


def _exported(
    model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any], images: bool
) -> torch.export.ExportedProgram:
    """As torch.export writes it; whether the sizes of images, or of whatever has four axes, stay open too."""
    opened = torch.utils._pytree.tree_map(lambda item: _open(item, images), (positional, dict(named)))
    bound = inspect.signature(model.forward).bind(*opened[0], **opened[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(model, positional, dict(named), dynamic_shapes=dict(bound.arguments), strict=False)


def _open(argument: Any, images: bool) -> dict[int, Any] | None:
    """Axes whose size stays open, as far as the code lets it; a size of 1 counts as fixed."""
    if not isinstance(argument, torch.Tensor):
        return None
    axes = range(argument.ndim if argument.ndim < 4 or images else 1)
    return {axis: Dim.AUTO for axis in axes if argument.shape[axis] != 1}


def finished(written: fx.GraphModule, model: nn.Module) -> nn.Module:
    """An ordinary module: what torch.export adds to its own is left behind."""
    name = type(model).__name__
    written.graph._tracer_cls = None  # that of torch.export cannot trace a module that was pickled
    _anchor(written.graph)
    small = fx.GraphModule(written, written.graph, name if name.isidentifier() else "Exported")
    for parameter, original in _pairs(small, model):
        parameter.requires_grad_(original.requires_grad)
    left = dict(small.named_modules())
    for path, module in (*written.named_modules(), *model.named_modules()):
        if path in left:  # what the graph does not use is gone
            left[path]._non_persistent_buffers_set |= module._non_persistent_buffers_set
    return small.train(model.training)


def _anchor(graph: fx.Graph) -> None:
    """New tensors are made "like" an input: without a tensor, a list of sizes is no call to who unpickles the graph."""
    placeholders = (node for node in graph.nodes if node.op == "placeholder")
    inputs = [node for node in placeholders if isinstance(node.meta.get("val"), torch.Tensor)]
    for node in list(graph.nodes):
        if inputs and node.op == "call_function" and node.target in _ANCHORED and node.all_input_nodes:
            made = {"dtype": node.meta["val"].dtype, "device": node.meta["val"].device}
            with graph.inserting_before(node):
                like = graph.call_function(_ANCHORED[node.target], (inputs[0], *node.args), {**node.kwargs, **made})
            like.meta = dict(node.meta)
            node.replace_all_uses_with(like)
            graph.erase_node(node)


_ATEN = torch.ops.aten
_ANCHORED = {
    _ATEN.zeros.default: _ATEN.new_zeros.default,
    _ATEN.ones.default: _ATEN.new_ones.default,
    _ATEN.full.default: _ATEN.new_full.default,
    _ATEN.empty.memory_format: _ATEN.new_empty.default,
}


def _pairs(small: nn.Module, model: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    originals = dict(model.named_parameters(remove_duplicate=False))
    return ((item, originals[name]) for name, item in small.named_parameters() if name in originals)


def owned(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by all of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
