"""Whether a smaller PyTorch model is the larger one with zeros, whichever tool made it.

A tool that only removes leaves all remaining numbers as they are. All weights are made different from each other first,
so each number of the smaller model tells where it was in the larger one; all others are set to zero there. The outputs
of the two must then be the same: that is what masked equals removed means.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree


def prepare(model: nn.Module) -> nn.Module:
    """The model in float64 and evaluation, with weights of which no two are the same, biases and norms included."""
    model = model.double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            spread = 0.1 if weight.ndim < 2 or weight.numel() < 2 or float(weight.std()) == 0 else 1e-9
            weight.add_(spread * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        for module in model.modules():
            if getattr(module, "running_var", None) is not None:
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


def widened(example: Any) -> Any:
    """Floating-point numbers of an example in float64."""
    return _pytree.tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, example)


def another(example: Any) -> Any:
    """An example of the same shapes with other numbers."""
    generator = torch.Generator().manual_seed(2)

    def fresh(x: Tensor) -> Tensor:
        if x.is_floating_point():
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x.flatten()[torch.randperm(x.numel(), generator=generator)].view_as(x)

    return _pytree.tree_map_only(Tensor, fresh, example)


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    """All tensors of the model's answer."""
    with torch.no_grad():
        answer = model(*example) if isinstance(example, tuple) else model(example)
    return [leaf for leaf in _pytree.tree_leaves(answer) if isinstance(leaf, Tensor)]


def masked_twin(model: nn.Module, small: nn.Module) -> nn.Module:
    """A copy of ``model`` with zeros wherever ``small`` has nothing.

    Raises:
        ValueError: ``small`` holds numbers that ``model`` does not.
    """
    twin = copy.deepcopy(model)
    remaining = dict(small.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            if name not in remaining:
                raise ValueError(f"the smaller model has no parameter {name!r}")
            weight.mul_(_kept(weight, remaining[name], name))
    return twin


def _kept(weight: Tensor, smaller: Tensor, name: str) -> Tensor:
    values, order = weight.detach().flatten().sort()
    wanted = smaller.detach().flatten()
    places = torch.searchsorted(values, wanted).clamp_(max=values.numel() - 1)
    if not torch.equal(values[places], wanted):
        raise ValueError(f"the smaller model has other numbers in {name!r}")
    kept = torch.zeros_like(values, dtype=torch.bool)
    kept[order[places]] = True
    return kept.view_as(weight)


def difference(masked: nn.Module, small: nn.Module, example: Any) -> float:
    """The largest difference of any output, relative to the largest number of that output."""
    worst = 0.0
    for expected, actual in zip(outputs(masked, example), outputs(small, example), strict=True):
        if expected.shape != actual.shape:
            raise ValueError(f"an output has shape {tuple(actual.shape)} instead of {tuple(expected.shape)}")
        largest = float(expected.abs().max())
        worst = max(worst, float((expected - actual).abs().max()) / (largest or 1.0))
    return worst


def ends(model: nn.Module, example: Any) -> list[nn.Module]:
    """The layers with weights that write the model's outputs; if none does directly, the one that ran last."""
    ran: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _: Any, result: Any) -> None:
        if isinstance(result, Tensor):
            ran.append((module, result.untyped_storage().data_ptr()))

    leaves = [m for m in model.modules() if not list(m.children()) and list(m.parameters())]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    given = outputs(model, example)
    for handle in handles:
        handle.remove()
    places = {tensor.untyped_storage().data_ptr() for tensor in given}
    return [module for module, place in ran if place in places] or [module for module, _ in ran[-1:]]
