"""Exact zeros where masks are False, now and after every optimizer step.

A step post-hook bit-ands the stored weights with 0 or -1, so that whatever the optimizer wrote (momentum, weight decay,
inf) becomes +0.0. Modules, state-dict keys and optimizers stay as PyTorch made them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from secateur.adapter import Masks
from secateur.errors import HoldError
from secateur_torch.parameters import to_native, weights

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def apply(model: nn.Module, masks: Masks) -> None:
    """Write exact zeros where a mask (canonical layout) is False. Other weights keep their bits.

    Raises:
        NoMatchError: a name that the model does not have.
        ShapeMismatchError: a mask of another shape than the weight.
    """
    for tensor, bits in _bit_masks(model, masks):
        _zero(tensor, bits)


def hold(model: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer | None = None) -> Hold:
    """Apply the masks and keep them through training.

    Args:
        model: any module.
        masks: parameter name -> mask in canonical layout; True = kept.
        optimizer: the optimizer that trains it; None for whichever optimizer steps any of its weights.

    Raises:
        HoldError: the optimizer owns none of the masked weights. Nothing was changed.
    """
    return Hold(model, masks, optimizer)


class Hold:
    """Masks that stay: see :class:`secateur.adapter.Hold`."""

    def __init__(self, model: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer | None) -> None:
        self._model = weakref.ref(model)
        masked = _bit_masks(model, masks)
        self._optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        if optimizer is not None:
            _require_owner(optimizer, (tensor for tensor, _ in masked))
            self._optimizers.add(optimizer)
        self._masked = _by_reference(masked)
        self._release = _register(self, optimizer)
        self._apply()

    def update(self, masks: Masks) -> None:
        """Replace the masks and apply the new ones at once; momentum of dead and regrown weights starts from zero."""
        model = self._model()
        if model is None:
            raise HoldError("the model that these masks belong to no longer exists")
        before = {id(reference()): bits for reference, bits in self._masked}
        masked = _bit_masks(model, masks)
        for optimizer in self._optimizers:
            for tensor, bits in masked:
                _clear_state(optimizer, tensor, bits & before.get(id(tensor), bits))
        self._masked = _by_reference(masked)
        self._apply()

    def release(self) -> None:
        """Stop holding. Weights keep their values."""
        self._release()

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what the optimizer has just written to masked weights that it owns."""
        owned = {id(tensor) for tensor in _owned(optimizer)}
        mine = [(tensor, bits) for tensor, bits in self._alive() if id(tensor) in owned]
        if mine:
            self._optimizers.add(optimizer)
        for tensor, bits in mine:
            _zero(tensor, bits)

    def _alive(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(tensor, bits) for reference, bits in self._masked if (tensor := reference()) is not None]

    def _apply(self) -> None:
        for tensor, bits in self._alive():
            _zero(tensor, bits)


def _register(hold: Hold, optimizer: torch.optim.Optimizer | None) -> Any:
    """Call ``hold.after_step`` after each step, without keeping the hold alive; returns what undoes it."""
    reference = weakref.ref(hold)

    def hook(stepped: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        alive = reference()
        if alive is not None:
            alive.after_step(stepped)

    handle = register_optimizer_step_post_hook(hook) if optimizer is None else optimizer.register_step_post_hook(hook)
    weakref.finalize(hold, handle.remove)
    return handle.remove


def _by_reference(
    masked: Iterable[tuple[torch.Tensor, torch.Tensor]],
) -> list[tuple[weakref.ReferenceType[torch.Tensor], torch.Tensor]]:
    return [(weakref.ref(tensor), bits) for tensor, bits in masked]


def _bit_masks(model: nn.Module, masks: Masks) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, integers of its size: -1 = kept, 0 = pruned) for every mask."""
    native = to_native(model, masks)
    tensors = {weight.name: weight.tensor for weight in weights(model)}
    return [(tensors[name], _bits(tensors[name], mask)) for name, mask in native.items()]


def _bits(tensor: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
    dtype = _BITS[tensor.element_size()]
    return torch.from_numpy(mask).to(tensor.device).to(dtype).neg_()


@torch.no_grad()
def _zero(tensor: torch.Tensor, bits: torch.Tensor) -> None:
    """Keep every bit where ``bits`` is -1, write +0.0 where it is 0."""
    tensor.detach().view(bits.dtype).bitwise_and_(bits.to(tensor.device))


@torch.no_grad()
def _clear_state(optimizer: torch.optim.Optimizer, tensor: torch.Tensor, bits: torch.Tensor) -> None:
    state: Mapping[str, Any] = optimizer.state.get(tensor, {})
    for slot in state.values():
        if isinstance(slot, torch.Tensor) and slot.shape == tensor.shape and slot.is_floating_point():
            slot.view(_BITS[slot.element_size()]).bitwise_and_(bits.to(slot.device, _BITS[slot.element_size()]))


def _owned(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def _require_owner(optimizer: torch.optim.Optimizer, tensors: Iterable[torch.Tensor]) -> None:
    owned = {id(tensor) for tensor in _owned(optimizer)}
    if not any(id(tensor) in owned for tensor in tensors):
        raise HoldError(
            "the optimizer owns none of the weights that are to be held; give the one that trains this model "
            "(made from model.parameters())"
        )
