"""Removing units from a copy of the user's own module: tensors are sliced, attributes that tell sizes mended."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_torch.layouts import Layout
from secateur_torch.parameters import weights

Kept = dict[int, torch.Tensor]


def compact(model: nn.Module, graph: Graph, plan: Plan) -> nn.Module:
    """A smaller copy of the model; ``model`` itself is not touched.

    Sizes that the user's own ``forward`` spells out in numbers are not changed: run the result before you trust it.

    Args:
        model: the model that was traced.
        graph: its structure.
        plan: which indices of which weights stay.
    """
    small = copy.deepcopy(model)
    replaced: dict[int, torch.Tensor] = {}
    for weight in weights(small):
        kept = {axis: flags for (name, axis), flags in plan.keep.items() if name == weight.name}
        if kept:
            indices = {axis: torch.from_numpy(flags).nonzero().flatten() for axis, flags in kept.items()}
            replaced[id(weight.tensor)] = _sliced(weight.tensor, weight.layout, indices)
    for module in small.modules():
        _replace(module, replaced)
    modules = dict(small.named_modules())
    for index, changed in plan.settings.items():
        operation = graph.operations[index]
        owner = modules.get(_layer(operation.parameters.get("kernel", "")) or operation.source.split(" ")[0])
        _change(owner, changed)
    for module in small.modules():
        _mend(module)
    return small


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _sliced(tensor: torch.Tensor, layout: Layout, indices: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """The tensor (PyTorch's layout) with only these indices of its canonical axes; a parameter stays one."""
    canonical = tensor.detach().reshape(layout.split).permute(layout.order)
    for axis, kept in indices.items():
        canonical = canonical.index_select(axis, kept.to(tensor.device))
    inverse = sorted(range(len(layout.order)), key=layout.order.__getitem__)
    merged = len(layout.split) - len(layout.native)
    native = canonical.permute(inverse)
    native = (native.flatten(0, merged) if merged else native).contiguous()
    return nn.Parameter(native, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else native


def _replace(module: nn.Module, replaced: Mapping[int, torch.Tensor]) -> None:
    owners: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
    for owned in owners:
        for name, tensor in owned.items():
            if tensor is not None and id(tensor) in replaced:
                owned[name] = replaced[id(tensor)]


def _change(module: nn.Module | None, settings: Mapping[str, Any]) -> None:
    """Settings of the traced operation that a module holds as attributes."""
    if isinstance(module, _ConvNd) and "groups" in settings:
        module.groups = int(settings["groups"])
    if isinstance(module, nn.Unflatten) and "shape" in settings:
        axis, rank = int(module.dim), len(module.unflattened_size)
        start = axis if axis >= 0 else len(settings["shape"]) - rank + 1 + axis
        module.unflattened_size = tuple(settings["shape"][start : start + rank])


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
