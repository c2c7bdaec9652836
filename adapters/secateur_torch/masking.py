"""Exact zeros where masks are False, now and after every optimizer step.

A step post-hook bit-ands the stored weights with 0 or -1, so that whatever the optimizer wrote (momentum, weight decay,
inf) becomes +0.0. Modules, state-dict keys and optimizers stay as PyTorch made them. A hold lives as long as the
modules whose weights it holds, whether or not anybody keeps it, and follows into their deep copies.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from secateur.adapter import Masks
from secateur.errors import HoldError
from secateur_torch.copies import mark, unmark
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
    masked = _masked(model, masks)
    if optimizer is not None:
        _require_owner(optimizer, masked)
    return Hold(model, masked, optimizer)


def require_optimizer(optimizer: object) -> None:
    """Raises HoldError if it is something else, such as None."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise HoldError(
            f"optimizer is a {type(optimizer).__name__}: give the torch.optim.Optimizer that trains the model"
        )


def free_copy(model: nn.Module, replaced: Mapping[int, torch.Tensor] | None = None) -> nn.Module:
    """A deep copy of the model on which nothing is held; by id, tensors that take the place of the model's own."""
    memo: dict[int, Any] = dict(replaced or {})
    twin = copy.deepcopy(model, memo)
    for item in list(memo.values()):
        if isinstance(item, Hold):
            item.release()
    return twin


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
    """Masks that stay: see :class:`secateur.adapter.Hold`.

    Attributes:
        other_stepped: told of each optimizer, except the given one, that has stepped held weights. It must not keep
            the model.
    """

    def __init__(
        self,
        model: nn.Module | None,
        masked: Iterable[_MaskedWeight] = (),
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self._model = None if model is None else weakref.ref(model)
        self._optimizers = weakref.WeakSet([] if optimizer is None else [optimizer])
        self._handle = None if optimizer is None else optimizer.register_step_post_hook(self._after_own_step)
        self._own = None if optimizer is None else weakref.ref(optimizer)
        self.other_stepped: Callable[[torch.optim.Optimizer], None] | None = None
        self._masked: dict[int, list[_MaskedWeight]] = {}  # by the id of the module
        self._modules: list[weakref.ReferenceType[nn.Module]] = []
        self._set(masked)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hold:
        """A hold for copies of the modules, which bring their masks along: see :mod:`secateur_torch.copies`."""
        return Hold(None if self._model is None else memo.get(id(self._model())))

    def follow(self, hold: Hold, original: nn.Module, twin: nn.Module) -> None:
        """Hold in ``twin``, which is being made, what ``hold`` holds in ``original``."""
        for weight in hold._masked[id(original)]:
            self._add(_MaskedWeight(weakref.ref(twin), weight.name, weight.bits))

    def update(self, masks: Masks) -> None:
        """Replace the masks and apply the new ones at once; momentum of dead and regrown weights starts from zero."""
        model = None if self._model is None else self._model()
        if model is None:
            raise HoldError("the model that these masks belong to no longer exists")
        before = {id(weight.tensor): weight.bits for weight in self._weights()}
        masked = _masked(model, masks)
        for weight in masked:
            steady = weight.bits & before.get(id(weight.tensor), weight.bits).to(weight.bits)
            for optimizer in self._optimizers:
                _clear_state(optimizer, weight.tensor, steady)
        self._set(masked)

    def forget(self, step: int) -> None:
        """Drop what optimizers remember of the model's weights; a learning rate is its scheduler's affair."""
        model = None if self._model is None else self._model()
        own = {id(tensor) for tensor in model.parameters()} if model is not None else set()
        for optimizer in self._optimizers:
            gone = [tensor for tensor in optimizer.state if id(tensor) in own]
            for tensor in gone:
                del optimizer.state[tensor]
            if isinstance(optimizer, torch.optim.Adagrad):  # the only one that does not begin anew by itself
                start = optimizer.defaults["initial_accumulator_value"]
                groups = [dict(group) for group in optimizer.param_groups]
                fresh = torch.optim.Adagrad(groups, initial_accumulator_value=start).state
                optimizer.state.update({tensor: fresh[tensor] for tensor in gone})

    def release(self) -> None:
        """Stop holding. Weights keep their values."""
        self._set(())
        if self._handle is not None:
            self._handle.remove()

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what an optimizer has just written to masked weights that it owns."""
        is_other = self._own is None or optimizer is not self._own()
        if is_other and self._zero_owned(optimizer) and self.other_stepped is not None:
            self.other_stepped(optimizer)

    def _after_own_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._zero_owned(optimizer)

    def _zero_owned(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether there were any."""
        owned = owned_by(optimizer)
        mine = {key: weight for weight in self._weights() if (key := id(weight.tensor)) in owned}
        if mine:
            self._optimizers.add(optimizer)
        for weight in mine.values():
            weight.zero()
        return bool(mine)

    def _set(self, masked: Iterable[_MaskedWeight]) -> None:
        """Hold these weights, and no others."""
        for reference in self._modules:
            unmark(reference(), self)
        _holds.pop(id(self), None)
        self._masked, self._modules = {}, []
        for weight in masked:
            self._add(weight)
            weight.zero()

    def _add(self, weight: _MaskedWeight) -> None:
        module = weight.module()
        if module is None:
            return
        own = self._masked.get(id(module), [])
        if not own or own[0].module() is not module:  # new here, or with the id of one that is gone
            own = self._masked[id(module)] = []
            self._modules.append(weakref.ref(module, self._forget))
            mark(module, self)
        own.append(weight)
        _holds[id(self)] = self

    def _weights(self) -> Iterator[_MaskedWeight]:
        return (weight for own in self._masked.values() for weight in own)

    def _forget(self, _: weakref.ReferenceType[nn.Module]) -> None:
        """A module is gone; with the last one goes the hold."""
        if all(reference() is None for reference in self._modules):
            _holds.pop(id(self), None)


def _after_any_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for hold in tuple(_holds.values()):
        hold.after_step(optimizer)


register_optimizer_step_post_hook(_after_any_step)  # for good: one that came and went could change a running loop


def _masked(model: nn.Module, masks: Masks) -> list[_MaskedWeight]:
    """Every masked weight, once for each module that owns it, with integers of its size: -1 = kept, 0 = pruned."""
    native = to_native(model, masks)
    bits = {
        id(weight.tensor): _bits(weight.tensor, native[weight.name])
        for weight in weights(model)
        if weight.name in native
    }
    return [
        _MaskedWeight(weakref.ref(module), name, bits[id(tensor)])
        for module in model.modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in bits
    ]


def _bits(tensor: torch.Tensor, mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    return torch.tensor(mask, dtype=_BITS[tensor.element_size()], device=tensor.device).neg_()


def _and(tensor: torch.Tensor, bits: torch.Tensor) -> None:
    tensor.detach().view(bits.dtype).bitwise_and_(bits)


def _clear_state(optimizer: torch.optim.Optimizer, tensor: torch.Tensor | None, bits: torch.Tensor) -> None:
    state: Mapping[str, Any] = {} if tensor is None else optimizer.state.get(tensor, {})
    for slot in state.values():
        if isinstance(slot, torch.Tensor) and tensor is not None and slot.shape == tensor.shape:
            _and(slot, bits.to(slot.device, _BITS[slot.element_size()]))


def owned_by(optimizer: torch.optim.Optimizer) -> set[int]:
    """The ids of the tensors that the optimizer writes."""
    return {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}


def _require_owner(optimizer: torch.optim.Optimizer, masked: Iterable[_MaskedWeight]) -> None:
    require_optimizer(optimizer)
    owned = owned_by(optimizer)
    if not any(id(weight.tensor) in owned for weight in masked):
        raise HoldError(
            "the optimizer owns none of the weights that are to be held; give the one that trains this model "
            "(made from model.parameters())"
        )
