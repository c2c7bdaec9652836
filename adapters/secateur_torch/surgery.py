"""Removing units from a copy of the user's own module: tensors are sliced, attributes that tell sizes mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from secateur.errors import TraceError
from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import Plan
from secateur_torch.masking import free_copy
from secateur_torch.parameters import Weight, weights

Kept = dict[int, torch.Tensor]


def compact(model: nn.Module, graph: Graph, plan: Plan) -> nn.Module:
    """A smaller copy of the model; ``model`` itself is not touched.

    Sizes that the user's own ``forward`` spells out in numbers are not changed: run the result before you trust it.

    Args:
        model: the model that was traced.
        graph: its structure.
        plan: which indices of which weights stay.

    Raises:
        TraceError: PyTorch cannot copy the model.
    """
    small = _copy(model)
    kept = _kept(plan)
    replaced = {
        id(weight.tensor): _sliced(weight, kept[weight.name]) for weight in weights(small) if weight.name in kept
    }
    changed = [module for module in small.modules() if _replace(module, replaced)]
    modules = dict(small.named_modules())
    for index, operation in enumerate(graph.operations):
        for path in {_running(operation), _layer(operation.parameters.get("kernel", ""))}:
            if path in modules:
                _change(modules[path], operation, plan.shapes, plan.settings.get(index, {}))
    for module in changed:
        _mend(module)
    return small


def _copy(model: nn.Module) -> nn.Module:
    try:
        return free_copy(model)
    except (RuntimeError, TypeError) as error:
        raise TraceError(
            f"the model cannot be copied, so nothing is removed from it: {error}; let it keep no computed tensors or "
            "open files as attributes"
        ) from error


def _kept(plan: Plan) -> dict[str, Kept]:
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
    """The tensor (PyTorch's layout) with only these indices of its canonical axes; a parameter stays one."""
    tensor, layout = weight.tensor, weight.layout
    canonical = tensor.detach().reshape(layout.split).permute(layout.order)
    for axis, kept in indices.items():
        canonical = canonical.index_select(axis, kept.to(tensor.device))
    merged = len(layout.split) - len(layout.native)
    native = canonical.permute(layout.inverse)
    native = (native.flatten(0, merged) if merged else native).contiguous()
    return nn.Parameter(native, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else native


def _replace(module: nn.Module, replaced: Mapping[int, torch.Tensor]) -> bool:
    """Put the new tensors in the place of the old; whether there were any."""
    changed = False
    owners: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
    for owned in owners:
        for name, tensor in owned.items():
            if tensor is not None and id(tensor) in replaced:
                owned[name] = replaced[id(tensor)]
                changed = True
    return changed


def _change(
    module: nn.Module, operation: Operation, shapes: Sequence[tuple[int, ...]], settings: Mapping[str, Any]
) -> None:
    """What a module that runs the operation holds as attributes, and no tensor of it tells."""
    if "groups" in settings and getattr(module, "groups", None) == operation.settings["groups"]:
        module.groups = settings["groups"]
    if isinstance(module, nn.Unflatten) and "shape" in settings:
        axis, rank = int(module.dim), len(module.unflattened_size)
        start = axis if axis >= 0 else len(settings["shape"]) - rank + 1 + axis
        module.unflattened_size = tuple(settings["shape"][start : start + rank])
    if isinstance(module, _NormBase) and operation.label in ("batch_norm", "instance_norm"):
        module.num_features = shapes[operation.inputs[0]][1]


def _mend(module: nn.Module) -> None:
    """Bring a module's size attributes into line with its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _ConvNd):
        first, second = module.weight.shape[:2]
        sizes = (second * module.groups, first) if module.transposed else (first, second * module.groups)
        module.out_channels, module.in_channels = sizes
    elif isinstance(module, _NormBase):
        known = [tensor for tensor in (module.weight, module.running_mean) if tensor is not None]
        module.num_features = known[0].numel() if known else module.num_features
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()
