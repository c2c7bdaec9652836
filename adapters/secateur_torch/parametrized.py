"""Weights that a layer computes anew in each forward pass, by a parametrization or by a hook: never to be masked.

A mask on the tensors behind such a weight would be another thing than one on the weight: of a normed one, zeros change
the norm and with it all the others. So these weights are shown, and a recipe that chooses one is refused with what to
do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from secateur.adapter import PRUNABLE_ROLES
from secateur.layout import Layout
from secateur_torch.inference import inference_mode
from secateur_torch.layouts import layout
from secateur_torch.walking import named_modules

_REMEDIES: dict[type, str] = {
    parametrize.ParametrizationList: "torch.nn.utils.parametrize.remove_parametrizations",
    WeightNorm: "torch.nn.utils.remove_weight_norm",
    SpectralNorm: "torch.nn.utils.remove_spectral_norm",
    BasePruningMethod: "torch.nn.utils.prune.remove",
}


@dataclass(frozen=True, eq=False)
class Computed:
    """A weight that is no parameter: its numbers as they are now, and why it is not pruned."""

    name: str
    layer: str
    tensor: torch.Tensor
    layout: Layout
    refusal: str


def computed(model: nn.Module) -> Iterator[Computed]:
    """The kernels and embeddings of the model that are computed, in order of definition."""
    for path, module in named_modules(model):
        for local, tensor in _tensors(module):
            form = layout(module, local, tuple(tensor.shape))
            if form.role in PRUNABLE_ROLES:
                name = f"{path}.{local}" if path else local
                yield Computed(name, path, tensor, form, _refusal(path, module, local))


def makers(model: nn.Module) -> set[int]:
    """The ids of the modules whose buffers such weights are computed from: what is normed there is not to be cut."""
    hooks = tuple(kind for kind in _REMEDIES if kind is not parametrize.ParametrizationList)
    found: set[int] = set()
    for _, module in named_modules(model):
        if "parametrizations" in module._modules:
            found.update(id(step) for _, step in named_modules(cast(nn.Module, module.parametrizations)))
        if any(isinstance(hook, hooks) for hook in module._forward_pre_hooks.values()):
            found.add(id(module))
    return found


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Tensors among the module's attributes that are neither parameters nor buffers."""
    found = [(local, value) for local, value in vars(module).items() if isinstance(value, torch.Tensor)]
    for local, chain in _chains(module).items():
        with inference_mode(chain), torch.no_grad():
            found.append((local, getattr(module, local)))
    return found


def _chains(module: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    """Attribute -> what it is computed by, of PyTorch's newer kind."""
    return dict(cast(Any, module.parametrizations)) if "parametrizations" in module._modules else {}


def _refusal(path: str, module: nn.Module, local: str) -> str:
    name, layer = (f"{path}.{local}", f"model.get_submodule({path!r})") if path else (local, "model")
    origin = _origin(module, local)
    remedy = next((remedy for kind, remedy in _REMEDIES.items() if isinstance(origin, kind)), None)
    chain = origin if isinstance(origin, parametrize.ParametrizationList) else [origin]
    kinds = ", ".join(type(step).__name__.strip("_") for step in chain if step is not None)
    return (
        f"{name} is no parameter but computed in each forward pass{f' by {kinds}' if kinds else ''}, so it cannot be "
        f"masked: make it one by {f'{remedy}({layer}, {local!r})' if remedy else 'nn.Parameter'} before pruning, or "
        f"exclude it: exclude=[{path or local!r}]"
    )


def _origin(module: nn.Module, local: str) -> object | None:
    """What computes the weight, where PyTorch tells."""
    if local in _chains(module):
        return _chains(module)[local]
    for hook in module._forward_pre_hooks.values():
        if local in (getattr(hook, "name", None), getattr(hook, "_tensor_name", None)):
            return hook
    return None
