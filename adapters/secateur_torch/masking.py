"""Exact zeros where masks are False, now and after every optimizer step.

A step post-hook bit-ands the stored weights with 0 or -1, so that whatever the optimizer wrote (momentum, weight decay,
inf) becomes +0.0. Modules, state-dict keys and optimizers stay as PyTorch made them. A hold lives as long as the
modules whose weights it holds, whether or not anybody keeps it, and follows into their deep copies.
"""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.optim.optimizer import register_optimizer_step_post_hook

from secateur.adapter import Masks
from secateur.errors import HoldError
from secateur.layout import masks_to_native
from secateur.masks import apply as write_zeros
from secateur_torch.arrays import array
from secateur_torch.copies import mark, unmark
from secateur_torch.parameters import weights

BoolArray = npt.NDArray[np.bool_]

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_MANY = 1 << 14
"""From so many numbers on, the core's own loop is faster, which takes longer to call."""

_ATOMS = frozenset((bool, int, float, str, type(None)))
_HOLDERS = frozenset((dict, OrderedDict, set, list))

_holds: dict[int, Hold] = {}
"""All holds that are in force, by id. One hook on all optimizers serves them."""


def apply(model: nn.Module, masks: Masks) -> None:
    """Write exact zeros where a mask (canonical layout) is False. Other weights keep their bits.

    Raises:
        NoMatchError: a name that the model does not have.
        ShapeMismatchError: a mask of another shape than the weight.
    """
    for weight in _masked(model, masks):
        weight.begin()


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
    _copy_plain_modules(model, memo)
    twin = copy.deepcopy(model, memo)
    for item in list(memo.values()):
        if isinstance(item, Hold):
            item.release()
    return twin


def _copy_plain_modules(model: nn.Module, memo: dict[int, Any]) -> None:
    """Do for modules that are copied as PyTorch copies any what ``copy.deepcopy`` does, without its many small calls.

    A module holds a dozen empty dictionaries of hooks, and its settings are numbers and words.
    """
    plain = [module for module in model.modules() if _is_copied_plainly(type(module)) and id(module) not in memo]
    memo.update((id(module), type(module).__new__(type(module))) for module in plain)
    for module in plain:
        own = vars(memo[id(module)])
        for name, item in vars(module).items():
            kind = type(item)
            if kind in _ATOMS:
                own[name] = item
            elif kind in _HOLDERS and not item:
                own[name] = memo.setdefault(id(item), kind())
            else:
                own[name] = copy.deepcopy(item, memo)


def _is_copied_plainly(kind: type[nn.Module]) -> bool:
    """Whether a class says nothing about copies of its own; convolutions only mend what older versions have saved."""
    told = ("__reduce_ex__", "__reduce__", "__getstate__", "__new__")
    return (
        all(getattr(kind, name, None) == getattr(nn.Module, name, None) for name in told)
        and kind.__setstate__ in (nn.Module.__setstate__, _ConvNd.__setstate__)
        and not (hasattr(kind, "__deepcopy__") or hasattr(kind, "__slots__"))
    )


class _MaskedWeight:
    """A weight, found through its module at each use: loading and sharding may put another tensor in its place.

    Args:
        module: where it lives.
        name: what it is called there.
        mask: in PyTorch's layout; True = kept.
    """

    def __init__(self, module: weakref.ReferenceType[nn.Module], name: str, mask: BoolArray) -> None:
        self.module, self.name, self.mask = module, name, mask
        self._bits: torch.Tensor | None = None

    @property
    def tensor(self) -> torch.Tensor | None:
        """The weight as it is now; None if it is gone."""
        return getattr(self.module(), self.name, None)

    def begin(self) -> None:
        """As :meth:`zero`, once, without integers as large as the weight, which only training needs."""
        tensor = self.tensor
        if tensor is None:
            return
        is_plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.is_cpu and not tensor.is_inference()
        if is_plain and tensor.numel() >= _MANY:
            torch.autograd.graph.increment_version(tensor.detach())
            write_zeros(array(tensor), self.mask)
        else:
            tensor.detach().masked_fill_(torch.from_numpy(~self.mask).to(tensor.device), 0.0)

    def zero(self) -> None:
        """Keep every bit where the mask is True, write +0.0 where it is False."""
        tensor = self.tensor
        if tensor is not None:
            self._bits = _bits(self.mask, tensor) if self._bits is None else self._bits
            self._bits = self._bits.to(tensor.device, _BITS[tensor.element_size()])
            _and(tensor, self._bits)


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
            self._add(_MaskedWeight(weakref.ref(twin), weight.name, weight.mask))

    def update(self, masks: Masks) -> None:
        """Replace the masks and apply the new ones at once; momentum of dead and regrown weights starts from zero."""
        model = None if self._model is None else self._model()
        if model is None:
            raise HoldError("the model that these masks belong to no longer exists")
        before = {id(weight.tensor): weight.mask for weight in self._weights()}
        masked = _masked(model, masks)
        for weight in masked:
            steady = weight.mask & before.get(id(weight.tensor), weight.mask)
            for optimizer in self._optimizers:
                _clear_state(optimizer, weight.tensor, steady)
        self._set(masked)

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
            weight.begin()

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
    """Every masked weight, once for each module that owns it."""
    known = weights(model)
    native = masks_to_native({weight.name: weight.layout for weight in known}, masks)
    by_id = {id(weight.tensor): native[weight.name] for weight in known if weight.name in native}
    return [
        _MaskedWeight(weakref.ref(module), name, by_id[id(tensor)])
        for module in model.modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in by_id
    ]


def _bits(mask: BoolArray, like: torch.Tensor) -> torch.Tensor:
    """Integers of the size of the tensor's numbers: -1 = kept, 0 = pruned."""
    return torch.from_numpy(mask).to(like.device, _BITS[like.element_size()]).neg_()


def _and(tensor: torch.Tensor, bits: torch.Tensor) -> None:
    tensor.detach().view(bits.dtype).bitwise_and_(bits)


def _clear_state(optimizer: torch.optim.Optimizer, tensor: torch.Tensor | None, mask: BoolArray) -> None:
    state: Mapping[str, Any] = {} if tensor is None else optimizer.state.get(tensor, {})
    for slot in state.values():
        if isinstance(slot, torch.Tensor) and tensor is not None and slot.shape == tensor.shape:
            _and(slot, _bits(mask, slot))


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
