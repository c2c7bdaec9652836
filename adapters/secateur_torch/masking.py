"""Exact zeros where masks are False, now and after every optimizer step.

A step post-hook bit-ands the stored weights with 0 or -1, so that whatever the optimizer wrote (momentum, weight decay,
inf) becomes +0.0. Modules, state-dict keys and optimizers stay as PyTorch made them. A hold lives as long as the
modules whose weights it holds, whether or not anybody keeps it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from secateur.adapter import Masks
from secateur.errors import HoldError
from secateur_torch.parameters import to_native, weights

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_holds: dict[int, Hold] = {}
"""All holds that are in force, by id. One hook on all optimizers serves them."""


def apply(model: nn.Module, masks: Masks) -> None:
    """Write exact zeros where a mask (canonical layout) is False. Other weights keep their bits.

    Raises:
        NoMatchError: a name that the model does not have.
        ShapeMismatchError: a mask of another shape than the weight.
    """
    for weight in _masked(model, masks):
        weight.zero()


def hold(model: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer | None = None) -> Hold:
    """Apply the masks and keep them through training, by whichever optimizer steps any of the weights.

    Args:
        model: any module.
        masks: parameter name -> mask in canonical layout; True = kept.
        optimizer: one that must own some of the weights. Hooks that are added to it later see exact zeros.

    Raises:
        HoldError: the optimizer owns none of the masked weights. Nothing was changed.
    """
    return Hold(model, masks, optimizer)


@dataclass(eq=False)
class _MaskedWeight:
    """A weight, found through its module at each use: loading and sharding may put another tensor in its place."""

    module: weakref.ReferenceType[nn.Module]
    name: str
    bits: torch.Tensor

    @property
    def tensor(self) -> torch.Tensor | None:
        """The weight as it is now; None if it is gone."""
        return getattr(self.module(), self.name, None)

    def zero(self) -> None:
        """Keep every bit where ``bits`` is -1, write +0.0 where it is 0."""
        tensor = self.tensor
        if tensor is not None:
            self.bits = self.bits.to(tensor.device, _BITS[tensor.element_size()])
            _and(tensor, self.bits)


class Hold:
    """Masks that stay: see :class:`secateur.adapter.Hold`."""

    def __init__(self, model: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer | None) -> None:
        masked = _masked(model, masks)
        if optimizer is not None:
            _require_owner(optimizer, masked)
        self._model = weakref.ref(model)
        self._optimizers = weakref.WeakSet([] if optimizer is None else [optimizer])
        self._handle = None if optimizer is None else optimizer.register_step_post_hook(self._after_own_step)
        self._own = None if optimizer is None else weakref.ref(optimizer)
        self._set(masked)
        _holds[id(self)] = self

    def update(self, masks: Masks) -> None:
        """Replace the masks and apply the new ones at once; momentum of dead and regrown weights starts from zero."""
        model = self._model()
        if model is None:
            raise HoldError("the model that these masks belong to no longer exists")
        before = {id(weight.tensor): weight.bits for weight in self._masked}
        masked = _masked(model, masks)
        for weight in masked:
            steady = weight.bits & before.get(id(weight.tensor), weight.bits).to(weight.bits)
            for optimizer in self._optimizers:
                _clear_state(optimizer, weight.tensor, steady)
        self._set(masked)

    def release(self) -> None:
        """Stop holding. Weights keep their values."""
        _holds.pop(id(self), None)
        if self._handle is not None:
            self._handle.remove()

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what an optimizer has just written to masked weights that it owns."""
        if self._own is None or optimizer is not self._own():
            self._zero_owned(optimizer)

    def _after_own_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._zero_owned(optimizer)

    def _zero_owned(self, optimizer: torch.optim.Optimizer) -> None:
        owned = _owned(optimizer)
        mine = [weight for weight in self._masked if id(weight.tensor) in owned]
        if mine:
            self._optimizers.add(optimizer)
        for weight in mine:
            weight.zero()

    def _set(self, masked: list[_MaskedWeight]) -> None:
        self._masked = masked
        modules = {module for weight in masked if (module := weight.module()) is not None}
        self._modules = [weakref.ref(module, self._forget) for module in modules]
        for weight in masked:
            weight.zero()

    def _forget(self, _: weakref.ReferenceType[nn.Module]) -> None:
        """A module is gone; with the last one goes the hold."""
        if all(reference() is None for reference in self._modules):
            _holds.pop(id(self), None)


def _after_any_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for hold in tuple(_holds.values()):
        hold.after_step(optimizer)


register_optimizer_step_post_hook(_after_any_step)  # for good: one that came and went could change a running loop


def _masked(model: nn.Module, masks: Masks) -> list[_MaskedWeight]:
    """Every masked weight with integers of its size: -1 = kept, 0 = pruned."""
    native = to_native(model, masks)
    found = []
    for weight in weights(model):
        if weight.name in native:
            module = model.get_submodule(weight.layer)
            bits = _bits(weight.tensor, native[weight.name])
            found.append(_MaskedWeight(weakref.ref(module), weight.name.rpartition(".")[2], bits))
    return found


def _bits(tensor: torch.Tensor, mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    return torch.tensor(mask, dtype=_BITS[tensor.element_size()], device=tensor.device).neg_()


def _and(tensor: torch.Tensor, bits: torch.Tensor) -> None:
    tensor.detach().view(bits.dtype).bitwise_and_(bits)


def _clear_state(optimizer: torch.optim.Optimizer, tensor: torch.Tensor | None, bits: torch.Tensor) -> None:
    state: Mapping[str, Any] = {} if tensor is None else optimizer.state.get(tensor, {})
    for slot in state.values():
        if isinstance(slot, torch.Tensor) and tensor is not None and slot.shape == tensor.shape:
            _and(slot, bits.to(slot.device, _BITS[slot.element_size()]))


def _owned(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}


def _require_owner(optimizer: torch.optim.Optimizer, masked: Iterable[_MaskedWeight]) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise HoldError(f"optimizer is a {type(optimizer).__name__}; give the torch.optim.Optimizer that trains it")
    owned = _owned(optimizer)
    if not any(id(weight.tensor) in owned for weight in masked):
        raise HoldError(
            "the optimizer owns none of the weights that are to be held; give the one that trains this model "
            "(made from model.parameters())"
        )
