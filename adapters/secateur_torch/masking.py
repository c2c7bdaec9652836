"""Exact zeros where masks are False, now and after every optimizer step.

A step post-hook masks what the optimizer wrote (momentum, weight decay, inf), so that it becomes +0.0. Modules,
state-dict keys and optimizers stay as PyTorch made them. A hold lives as long as the modules whose weights it holds,
whether or not anybody keeps it, and follows into their copies and into averages of their weights.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from secateur.adapter import Masks
from secateur.errors import HoldError
from secateur_torch import watching
from secateur_torch.copies import KEY, holds_on, mark, unmark, watch_loading
from secateur_torch.masked import BoolArray, MaskedWeight, keep_only, local
from secateur_torch.parameters import to_native, weights
from secateur_torch.plain_copies import copy_plain_modules
from secateur_torch.walking import modules

_holds: dict[int, Hold] = {}
"""All holds that are in force, by id. One hook on all optimizers serves them."""


_BEGIN = {"sum": "initial_accumulator_value", "step_size": "lr"}
"""What an optimizer remembers of each element, and does not begin with 0: the setting that it begins with."""


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
    watching.watch_unseen(_after_step)
    return Hold(model, masked, optimizer)


def require_optimizer(optimizer: object) -> None:
    """Raises HoldError if it is something else, such as None, or has no step hooks, as some that wrap others."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise HoldError(f"optimizer is a {name}: give the torch.optim.Optimizer that trains the model")
    if not hasattr(optimizer, "_optimizer_step_post_hooks"):
        raise HoldError(
            f"{name} has no step hooks, since its constructor does not call that of torch.optim.Optimizer: give the "
            "optimizer that it wraps (masks hold through both), or let it call super().__init__(params, defaults)"
        )


def release(model: nn.Module) -> None:
    """Release every hold on any weight of the model: of a copy, of a model that was pickled, or when nobody has kept
    what ``prune`` returned; that is released by its own ``release()``, so that it knows.
    """
    for hold in holds_on(model):
        hold.release()


def free_copy(model: nn.Module, replaced: Mapping[int, torch.Tensor] | None = None) -> nn.Module:
    """A deep copy of the model on which nothing is held; by id, tensors that take the place of the model's own."""
    memo: dict[int, Any] = dict(replaced or {})
    copy_plain_modules(model, memo, without=KEY)
    twin = copy.deepcopy(model, memo)
    for item in list(memo.values()):
        if isinstance(item, Hold):
            item.release()
    return twin


class Hold:
    """Masks that stay: see :class:`secateur.adapter.Hold`.

    Attributes:
        other_stepped: told of each optimizer, except the given one, that has stepped held weights. It must not keep
            the model.
        is_copy: whether it came with a copy of modules.
    """

    def __init__(
        self,
        model: nn.Module | None,
        masked: Iterable[MaskedWeight] = (),
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self._model = None if model is None else weakref.ref(model)
        self._optimizers = weakref.WeakSet([] if optimizer is None else [optimizer])
        self._handle = None if optimizer is None else optimizer.register_step_post_hook(self._after_own_step)
        self._own = None if optimizer is None else weakref.ref(optimizer)
        self.other_stepped: Callable[[torch.optim.Optimizer], None] | None = None
        self.is_copy = False
        self._masked: dict[int, list[MaskedWeight]] = {}  # by the id of the module
        self._modules: list[weakref.ReferenceType[nn.Module]] = []
        self._set(masked)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hold:
        """A hold for copies of the modules, which bring their masks along: see :mod:`secateur_torch.copies`."""
        return Hold(None if self._model is None else memo.get(id(self._model())))

    def follow(self, hold: Hold, original: nn.Module, twin: nn.Module) -> None:
        """Hold in ``twin``, which is being made, what ``hold`` holds in ``original``."""
        self.is_copy = True
        for weight in hold._masked[id(original)]:
            self._add(weight.twin(twin))

    def masks_of(self, module: nn.Module) -> dict[str, BoolArray]:
        """Name in the module -> mask, in PyTorch's layout."""
        return {weight.name: weight.mask for weight in self._masked[id(module)] if weight.is_whole}

    def update(self, masks: Masks) -> None:
        """Replace the masks and apply the new ones at once; momentum of dead and regrown weights starts anew."""
        model = None if self._model is None else self._model()
        if model is None:
            raise HoldError("the model that these masks belong to no longer exists")
        watching.watch_unseen(_after_step)
        masked = _masked(model, masks)
        if self._optimizers:
            before = {id(weight.tensor): weight.bits for weight in self.weights()}
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

    def after_step(self, optimizer: torch.optim.Optimizer, owned: set[int]) -> None:
        """Zero what an optimizer has just written to masked weights that it owns."""
        is_other = self._own is None or optimizer is not self._own()
        if is_other and self._zero_owned(optimizer, owned) and self.other_stepped is not None:
            self.other_stepped(optimizer)

    def weights(self) -> Iterator[MaskedWeight]:
        """All that it holds."""
        return (weight for own in self._masked.values() for weight in own)

    def _after_own_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._zero_owned(optimizer, owned_by(optimizer))

    def _zero_owned(self, optimizer: torch.optim.Optimizer, owned: set[int]) -> bool:
        """Whether there were any."""
        mine = [weight for weight in self.weights() if id(weight.tensor) in owned]
        if mine:
            self._optimizers.add(optimizer)
        for weight in {(id(weight.tensor), weight.origin): weight for weight in mine}.values():  # shared ones once
            weight.zero()
        return bool(mine)

    def _set(self, masked: Iterable[MaskedWeight]) -> None:
        """Hold these weights, and no others."""
        before = {(id(weight.module()), weight.name): weight for weight in self.weights()}
        for reference in self._modules:
            unmark(reference(), self)
        _holds.pop(id(self), None)
        self._masked, self._modules = {}, []
        for weight in masked:
            known = before.pop((id(weight.module()), weight.name), weight)
            if known.is_made and known is not weight:
                known.replace(weight.bits)
                weight = known
            self._add(weight)
            weight.begin()
        for known in before.values():
            known.free()

    def _add(self, weight: MaskedWeight) -> None:
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

    def _forget(self, _: weakref.ReferenceType[nn.Module]) -> None:
        """A module is gone; with the last one goes the hold."""
        if all(reference() is None for reference in self._modules):
            _holds.pop(id(self), None)


def _after_step(optimizer: torch.optim.Optimizer) -> None:
    if _holds:
        owned = owned_by(optimizer)
        for hold in tuple(_holds.values()):
            hold.after_step(optimizer, owned)


def _after_average(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Mask averages as what they are averages of is masked now; the holds that came with their modules follow."""
    held: dict[int, list[tuple[Hold, MaskedWeight]]] = defaultdict(list)
    for hold in tuple(_holds.values()):
        for masked in hold.weights():
            held[id(masked.tensor)].append((hold, masked))
    for average, weight in pairs:
        for _, masked in held.get(id(weight), ()):
            keep_only(average, masked.bits)
        kept = [masked.bits for _, masked in held.get(id(weight), ())]
        for hold, masked in held.get(id(average), ()):
            if kept and hold.is_copy:
                masked.replace(functools.reduce(torch.bitwise_and, kept))


def _hold_loaded(module: nn.Module, masks: Mapping[str, BoolArray]) -> None:
    """Hold what a module had held when it was pickled."""
    reference = weakref.ref(module)
    Hold(None, [MaskedWeight(reference, name, mask) for name, mask in masks.items()])


watching.watch(_after_step, _after_average)
watch_loading(_hold_loaded)


def _masked(model: nn.Module, masks: Masks) -> list[MaskedWeight]:
    """Every masked weight, once for each module that owns it."""
    known = weights(model)
    native = to_native(model, masks, known)
    by_id = {id(weight.tensor): native[weight.name] for weight in known if weight.name in native}
    return [
        MaskedWeight(weakref.ref(module), name, by_id[id(tensor)])
        for module in modules(model)
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in by_id
    ]


def _clear_state(optimizer: torch.optim.Optimizer, tensor: torch.Tensor | None, steady: torch.Tensor) -> None:
    """Begin anew with what the optimizer remembers of each element, but for the steady ones."""
    state: Mapping[str, Any] = {} if tensor is None else optimizer.state.get(tensor, {})
    for name, slot in state.items():
        if isinstance(slot, torch.Tensor) and tensor is not None and slot.shape == tensor.shape:
            suited = keep_only(slot, steady)
            if name in _BEGIN and (initial := _setting(optimizer, tensor, _BEGIN[name])):
                local(slot).masked_fill_(suited == 0, initial)


def _setting(optimizer: torch.optim.Optimizer, tensor: torch.Tensor, name: str) -> float:
    groups = (group for group in optimizer.param_groups if any(each is tensor for each in group["params"]))
    return float(next(groups, {}).get(name, 0.0))


def owned_by(optimizer: torch.optim.Optimizer) -> set[int]:
    """The ids of the tensors that the optimizer writes."""
    return {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}


def _require_owner(optimizer: torch.optim.Optimizer, masked: Iterable[MaskedWeight]) -> None:
    require_optimizer(optimizer)
    owned = owned_by(optimizer)
    if not any(id(weight.tensor) in owned for weight in masked):
        raise HoldError(
            "the optimizer owns none of the weights that are to be held; give the one that trains this model "
            "(made from model.parameters())"
        )
