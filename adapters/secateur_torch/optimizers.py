"""An optimizer for the smaller model, which goes on where the large model's stopped."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from secateur.errors import HoldError, ModelTypeError
from secateur.layout import Layout
from secateur.structure.removal import Plan
from secateur_torch.parameters import Weight, weights
from secateur_torch.surgery import Kept, cut, kept_indices

Pair = tuple[nn.Parameter, nn.Parameter]


def carried(optimizer: torch.optim.Optimizer, model: nn.Module, small: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """An optimizer of the same class, groups and settings for ``small``, with the state of what stays.

    State that has the shape of its parameter (momentum, averages of squares) is cut as the parameter was; numbers are
    copied. The state of a parameter that was cut starts afresh where it has any other shape (factored averages). Hooks
    that were registered on the optimizer stay with it.

    Args:
        optimizer: the one that trained ``model``; it is not changed.
        model: the large model.
        small: what became of it.
        plan: what was removed.

    Raises:
        ModelTypeError: ``small`` is no module.
        HoldError: ``optimizer`` is none, trains parameters that are none of the model's, or its state is about all
            parameters at once (L-BFGS); or ``small`` was made by another plan.
    """
    if not isinstance(small, nn.Module):
        raise ModelTypeError(f"the smaller model is a {type(small).__name__}: give what compact() returned")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise HoldError(f"the optimizer is a {type(optimizer).__name__}: give the torch.optim.Optimizer itself")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise HoldError(
            "L-BFGS keeps steps of all weights in one vector, which cannot be cut: make a new optimizer for the model"
        )
    known = {id(weight.tensor): weight for weight in weights(model)}
    targets, kept = dict(small.named_parameters(remove_duplicate=False)), kept_indices(plan)
    twin = copy.copy(optimizer)  # of its settings and state alone: hooks are made anew
    twin.state, twin.param_groups = defaultdict(dict), []
    for group in optimizer.param_groups:
        pairs = _pairs(group, known, targets, kept)
        twin.param_groups.append(_group(group, pairs))
        for old, new in pairs:
            if old in optimizer.state:
                twin.state[new] = _state(optimizer.state[old], known[id(old)], kept)
    return twin


def _pairs(
    group: Mapping[str, Any],
    known: Mapping[int, Weight],
    targets: Mapping[str, nn.Parameter],
    kept: Mapping[str, Kept],
) -> list[Pair]:
    """The parameters of a group, and what became of each; without those that nothing uses any more."""
    pairs = []
    for old in group["params"]:
        if id(old) not in known:
            raise HoldError(
                f"the optimizer trains a parameter of shape {tuple(old.shape)} that is none of the model's; give the "
                "optimizer that trained the model that was pruned"
            )
        weight = known[id(old)]
        if weight.name in targets:
            pairs.append((old, _fitting(weight, targets[weight.name], kept)))
    return pairs


def _fitting(weight: Weight, new: nn.Parameter, kept: Mapping[str, Kept]) -> nn.Parameter:
    expected = tuple(cut(weight.tensor, weight.layout, kept.get(weight.name, {})).shape)
    if tuple(new.shape) != expected:
        raise HoldError(
            f"{weight.name} has the shape {tuple(new.shape)} in the smaller model, but by the masks of now "
            f"{expected}: give what compact() returned, before anything more was pruned"
        )
    return new


def _group(group: Mapping[str, Any], pairs: list[Pair]) -> dict[str, Any]:
    """The same settings for other parameters."""
    settings = {key: copy.deepcopy(value) for key, value in group.items() if key not in ("params", "param_names")}
    listed: dict[str, Any] = {"params": [new for _, new in pairs]}
    if "param_names" in group:
        names = dict(zip(map(id, group["params"]), group["param_names"], strict=True))
        listed["param_names"] = [names[id(old)] for old, _ in pairs]
    return {**settings, **listed}


def _state(state: Mapping[str, Any], weight: Weight, kept: Mapping[str, Kept]) -> dict[str, Any]:
    """The state of one parameter, cut as it was; nothing if it was cut and some of its state has another shape."""
    indices = kept.get(weight.name, {})
    tensors = [entry for entry in state.values() if isinstance(entry, torch.Tensor) and entry.numel() > 1]
    if indices and any(tuple(entry.shape) != tuple(weight.layout.native) for entry in tensors):
        return {}
    return {key: _entry(entry, weight.layout, indices) for key, entry in state.items()}


def _entry(entry: Any, layout: Layout, indices: Kept) -> Any:
    if isinstance(entry, torch.Tensor) and tuple(entry.shape) == tuple(layout.native):
        return cut(entry, layout, indices).clone(memory_format=torch.preserve_format)
    return copy.deepcopy(entry)
