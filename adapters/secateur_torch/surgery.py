"""Removing units from a copy of the user's own module: tensors are sliced, attributes that tell sizes mended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from secateur.errors import ShapeMismatchError, TraceError
from secateur.layout import Layout
from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import Plan
from secateur_torch import multihead
from secateur_torch.layouts import GATES
from secateur_torch.masking import free_copy
from secateur_torch.normalisation import epsilon_name
from secateur_torch.parameters import Weight, weights, with_constants
from secateur_torch.walking import named_modules

Kept = dict[int, torch.Tensor]


def compact(model: nn.Module, graph: Graph, plan: Plan) -> nn.Module:
    """A smaller copy of the model; ``model`` itself is not touched.

    Sizes that the user's own ``forward`` spells out in numbers are not changed: run the result before you trust it.

    Args:
        model: the model that was traced.
        graph: its structure.
        plan: which indices of which weights stay.

    Raises:
        ShapeMismatchError: the plan is for another model.
        TraceError: PyTorch cannot copy the model.
    """
    replaced = sliced_weights(with_constants(model), plan)
    small = _copy(model, replaced)
    new = {id(tensor) for tensor in replaced.values()}
    modules = dict(named_modules(small))
    changed = [module for module in modules.values() if any(id(tensor) in new for tensor in _owned(module))]
    for index, operation in enumerate(graph.operations):
        for path in {_running(operation), _layer(operation.parameters.get("kernel", ""))}:
            if path in modules:
                _change(modules[path], operation, plan.shapes, plan.settings.get(index, {}))
    for module in changed:
        _mend(module)
    if any("rescale" in settings for settings in plan.settings.values()):
        _rescale(modules, graph, plan, {weight.name: weight.tensor for weight in weights(small)})
    return small


def sliced_weights(known: Iterable[Weight], plan: Plan) -> dict[int, torch.Tensor]:
    """The id of every weight that loses something -> what is left of it."""
    known = list(known)
    _check_fit(known, plan)
    kept = kept_indices(plan)
    return {id(weight.tensor): _sliced(weight, kept[weight.name]) for weight in known if weight.name in kept}


def _check_fit(known: Iterable[Weight], plan: Plan) -> None:
    """Raises ShapeMismatchError if a plan is that of another model, or of this one before it was made smaller."""
    shapes = {weight.name: weight.layout.shape for weight in known}
    for (name, axis), keep in plan.keep.items():
        shape = shapes.get(name, ())
        if axis >= len(shape) or shape[axis] != keep.size:
            raise ShapeMismatchError(
                f"the plan is for {keep.size} indices on axis {axis} of {name!r}, whose canonical shape in this model "
                f"is {shape or 'not known'}: it was made for another model, or this one was made smaller since"
            )


def _copy(model: nn.Module, replaced: Mapping[int, torch.Tensor]) -> nn.Module:
    """A copy that holds the new tensors in place of the old, wherever they are; the old ones are not copied."""
    try:
        return free_copy(model, replaced)
    except (RuntimeError, TypeError) as error:
        raise TraceError(
            f"the model cannot be copied, so nothing is removed from it: {error}; let it keep no computed tensors or "
            "open files as attributes"
        ) from error


def _owned(module: nn.Module) -> list[torch.Tensor]:
    return [tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None]


def kept_indices(plan: Plan) -> dict[str, Kept]:
    """Weight -> canonical axis -> the indices that stay."""
    kept: dict[str, Kept] = {}
    for (name, axis), flags in plan.keep.items():
        kept.setdefault(name, {})[axis] = torch.from_numpy(flags).nonzero().flatten()
    return kept


def _running(operation: Operation) -> str:
    """The path of the module that ran the operation."""
    return operation.source.partition(" (")[0]


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _sliced(weight: Weight, indices: Kept) -> torch.Tensor:
    """The weight with only these indices of its canonical axes; a parameter stays one."""
    native = cut(weight.tensor, weight.layout, indices)
    is_parameter = isinstance(weight.tensor, nn.Parameter)
    return nn.Parameter(native, weight.tensor.requires_grad) if is_parameter else native


def cut(tensor: torch.Tensor, layout: Layout, indices: Kept) -> torch.Tensor:
    """A new tensor of PyTorch's layout, with only these indices of its canonical axes."""
    canonical = tensor.detach().reshape(layout.split).permute(layout.order)
    for axis, kept in indices.items():
        canonical = canonical.index_select(axis, kept.to(tensor.device))
    merged = len(layout.split) - len(layout.native)
    native = canonical.permute(layout.inverse)
    return (native.flatten(0, merged) if merged else native).contiguous()


def _change(
    module: nn.Module, operation: Operation, shapes: Sequence[tuple[int, ...]], settings: Mapping[str, Any]
) -> None:
    """What a module that runs the operation holds as attributes, and no tensor of it tells."""
    if "groups" in settings:
        name = "num_groups" if operation.label == "group_norm" else "groups"
        if getattr(module, name, None) == operation.settings["groups"]:
            setattr(module, name, settings["groups"])
    if isinstance(module, nn.Unflatten) and "shape" in settings:
        axis, rank = int(module.dim), len(module.unflattened_size)
        start = axis if axis >= 0 else len(settings["shape"]) - rank + 1 + axis
        module.unflattened_size = tuple(settings["shape"][start : start + rank])
    if isinstance(module, _NormBase) and operation.label in ("batch_norm", "instance_norm"):
        module.num_features = shapes[operation.inputs[0]][1]
    owner: Any = module
    if operation.kind == "standardize" and isinstance(getattr(owner, "normalized_shape", None), tuple):
        owner.normalized_shape = shapes[operation.inputs[0]][-len(owner.normalized_shape) :]
    if isinstance(module, nn.MultiheadAttention) and operation.kind == "attention":
        module.num_heads = shapes[operation.inputs[0]][1]
    if isinstance(module, nn.GroupNorm) and operation.kind == "standardize":
        module.num_channels = shapes[operation.inputs[0]][1]


def _rescale(modules: Mapping[str, nn.Module], graph: Graph, plan: Plan, tensors: Mapping[str, torch.Tensor]) -> None:
    """Mean squares over fewer features, made those over all by a larger scale and epsilon."""
    rescale_weights(graph, plan, tensors)
    raised = {
        _running(graph.operations[index]): settings["rescale"]
        for index, settings in plan.settings.items()
        if "rescale" in settings
    }
    for path, ratio in raised.items():
        if path in modules:
            _raise_epsilon(modules[path], ratio)


def rescale_weights(graph: Graph, plan: Plan, tensors: Mapping[str, torch.Tensor]) -> None:
    """The scales of such normalisations, each once however often it is used."""
    scaled = {
        graph.operations[index].parameters["scale"]: settings["rescale"]
        for index, settings in plan.settings.items()
        if "rescale" in settings
    }
    with torch.no_grad():
        for name, ratio in scaled.items():
            tensors[name].mul_(math.sqrt(ratio))


def _raise_epsilon(module: nn.Module, ratio: float) -> None:
    """One that is not given is PyTorch's own choice."""
    name = epsilon_name(module)
    if name is not None:
        epsilon = getattr(module, name)
        smallest = torch.finfo(next(module.parameters()).dtype).eps
        setattr(module, name, ratio * (smallest if epsilon is None else epsilon))


def _mend(module: nn.Module) -> None:
    """Bring a module's size attributes into line with its tensors."""
    for kinds, mend in _MENDED.items():
        if isinstance(module, kinds):
            mend(module)


def _mend_linear(module: Any) -> None:
    module.out_features, module.in_features = module.weight.shape


def _mend_bilinear(module: Any) -> None:
    module.out_features, module.in1_features, module.in2_features = module.weight.shape


def _mend_convolution(module: Any) -> None:
    first, second = module.weight.shape[:2]
    sizes = (second * module.groups, first) if module.transposed else (first, second * module.groups)
    module.out_channels, module.in_channels = sizes


def _mend_channel_norm(module: Any) -> None:
    known = [tensor for tensor in (module.weight, module.running_mean) if tensor is not None]
    module.num_features = known[0].numel() if known else module.num_features


def _mend_axis_norm(module: Any) -> None:
    if module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)


def _mend_prelu(module: Any) -> None:
    module.num_parameters = module.weight.numel()


def _mend_embedding(module: Any) -> None:
    module.num_embeddings, module.embedding_dim = module.weight.shape


def _mend_recurrent(module: Any) -> None:
    """The list of its weights, too, which PyTorch keeps besides the parameters."""
    gates = next(count for kind, count in GATES.items() if isinstance(module, kind))
    module.hidden_size = module.weight_ih_l0.shape[0] // gates
    module.input_size = module.weight_ih_l0.shape[1]
    module.proj_size = module.weight_hr_l0.shape[0] if module.proj_size else 0
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    module.flatten_parameters()


def _mend_cell(module: Any) -> None:
    module.hidden_size, module.input_size = module.weight_hh.shape[1], module.weight_ih.shape[1]


_MENDED: dict[type | tuple[type, ...], Callable[[Any], None]] = {
    nn.Linear: _mend_linear,
    nn.Bilinear: _mend_bilinear,
    _ConvNd: _mend_convolution,
    _NormBase: _mend_channel_norm,
    (nn.LayerNorm, nn.RMSNorm): _mend_axis_norm,
    nn.PReLU: _mend_prelu,
    (nn.Embedding, nn.EmbeddingBag): _mend_embedding,
    nn.RNNBase: _mend_recurrent,
    nn.RNNCellBase: _mend_cell,
    nn.MultiheadAttention: multihead.shrink,
}
