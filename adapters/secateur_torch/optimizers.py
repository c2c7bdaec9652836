"""An optimizer for the smaller model, which goes on where the large model's stopped."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import nn

from secateur.errors import HoldError
from secateur.layout import Layout
from secateur.structure.removal import Plan
from secateur_torch.parameters import Weight, weights
from secateur_torch.surgery import Kept, cut, kept_indices


def carried(optimizer: torch.optim.Optimizer, model: nn.Module, small: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """An optimizer of the same class, groups and settings for ``small``, with the state of what stays.

    State that has the shape of its parameter (momentum, averages of squares) is cut as the parameter was; numbers are
    copied. A parameter with any other state (factored averages) starts afresh.

    Args:
        optimizer: the one that trained ``model``; it is not changed.
        model: the large model.
        small: what became of it.
        plan: what was removed.

    Raises:
        HoldError: the optimizer trains parameters that are none of the model's.
    """
    known = {id(weight.tensor): weight for weight in weights(model)}
    targets = dict(small.named_parameters(remove_duplicate=False))
    twin = copy.copy(optimizer)
    twin.state, twin.param_groups = defaultdict(dict), []
    for group in optimizer.param_groups:
        pairs = [(parameter, _counterpart(parameter, known, targets)) for parameter in group["params"]]
        twin.param_groups.append({**group, "params": [new for _, new in pairs if new is not None]})
        for old, new in pairs:
            if new is not None and old in optimizer.state:
                twin.state[new] = _state(optimizer.state[old], known[id(old)], new, kept_indices(plan))
    return twin


def _counterpart(
    parameter: torch.Tensor, known: dict[int, Weight], targets: dict[str, nn.Parameter]
) -> nn.Parameter | None:
    """What became of a parameter; None if nothing is left that uses it."""
    if id(parameter) not in known:
        raise HoldError(
            f"the optimizer trains a parameter of shape {tuple(parameter.shape)} that is none of the model's; give the "
            "optimizer that trained the model that was pruned"
        )
    return targets.get(known[id(parameter)].name)


def _state(state: dict[str, Any], weight: Weight, new: nn.Parameter, kept: dict[str, Kept]) -> dict[str, Any]:
    """The state of one parameter, cut as it was; nothing if some of it has another shape."""
    found = {key: _entry(entry, weight.layout, kept.get(weight.name, {})) for key, entry in state.items()}
    shapes = [tuple(entry.shape) for entry in found.values() if isinstance(entry, torch.Tensor) and entry.ndim]
    if any(shape != tuple(new.shape) for shape in shapes):
        return {}
    return found


def _entry(entry: Any, layout: Layout, indices: Kept) -> Any:
    if isinstance(entry, torch.Tensor) and tuple(entry.shape) == tuple(layout.native):
        return cut(entry, layout, indices).clone()
    return copy.deepcopy(entry)
