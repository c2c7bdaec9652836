"""A forward pass without arithmetic, for a trace: calls give tensors of the right shape, whose numbers nobody reads.

Which units a model has depends on what is done, and not on numbers. So the calls that take most of the time
(convolutions, dense layers, normalisations, activations, pooling) only make memory for their result. That lasts as long
as the model does what gives the same shapes for any numbers. Whatever else it does (a branch on a number, an index that
was computed, a function that is not known here, code that PyTorch's function modes do not see, writing into memory that
was there before) needs real numbers, and the pass begins anew with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks

from secateur_torch.inference import tensors
from secateur_torch.operations import METADATA, attention, elementwise, layers, products, reductions, views
from secateur_torch.operations.calls import function_name

_EXCEPT = frozenset(("embedding_bag", "where", "repeat_interleave", "data", "cuda", "cpu", "rrelu"))
_SAFE = {
    *(layers.READERS | products.READERS | attention.READERS | reductions.READERS | elementwise.READERS),
    *(views.READERS),
    *(METADATA - {"format", "repr", "hash", "data_ptr", "register_hook"}),
    *("shape", "ndim", "dtype", "device", "layout", "is_cuda", "is_meta", "is_sparse", "is_nested", "requires_grad"),
    *("__getitem__", "embedding"),
} - _EXCEPT
"""Functions whose result has a shape that no number decides on, and that no number makes fail."""

_ACTIVATIONS = frozenset(
    ("relu", "relu6", "hardtanh", "sigmoid", "tanh", "silu", "gelu", "hardswish", "hardsigmoid", "elu", "leaky_relu")
)
_SUMS = frozenset(("add", "radd", "iadd", "mul", "rmul", "imul", "sub", "isub"))
_PLAIN = (torch.Tensor, nn.Parameter)
_KEPT = (list, dict, set)

_READS = frozenset(f"__{kind}__" for kind in ("bool", "int", "float", "long", "index", "complex", "contains"))
"""Methods whose names without underscores are those of harmless casts."""

Arguments = tuple[Any, ...]


class NeedsNumbers(BaseException):
    """The pass depends on numbers. No error: no code of the user's should handle it."""


class Skipping:
    """Makes the results of calls, as long as no number matters; NeedsNumbers is raised before anything is done wrong.

    Attributes:
        is_over: whether a call has needed numbers, which the model may have caught.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._made: set[int] = set()  # storages

    def result(
        self,
        function: Callable[..., Any],
        args: Arguments,
        kwargs: Mapping[str, Any],
        given: Sequence[torch.Tensor],
        compute: Callable[..., Any],
    ) -> Any:
        """What a call gives that reads tensors of the model; computed where that is quick or unusual."""
        name = function_name(function)
        before = {_storage(tensor) for tensor in given}
        reads = getattr(function, "__name__", "") in _READS
        if reads or not self._is_safe(name, args, given) or not self._may_write(function, args, kwargs):
            self.refuse(name)
        result = _made(name, args, kwargs, _writes(function, args, kwargs))
        if result is None:
            result = compute(function, args, kwargs, given)
        self._made.update({_storage(tensor) for tensor in tensors(result)} - before)
        return result

    def refuse(self, reason: str) -> None:
        """Raises NeedsNumbers."""
        self.is_over = True
        raise NeedsNumbers(reason)

    def holds(self, items: Iterable[Any]) -> bool:
        """Whether one of them is, or contains, a tensor that was made."""
        found = tensors([item for item in items if isinstance(item, (torch.Tensor, tuple, *_KEPT))])
        return any(_storage(tensor) in self._made for tensor in found)

    def _is_safe(self, name: str, args: Arguments, given: Sequence[torch.Tensor]) -> bool:
        plain = all(type(tensor) in _PLAIN and tensor.layout is torch.strided for tensor in given)
        if not plain or name not in _SAFE:
            return False
        places = args[1] if name == "__getitem__" else args[0] if name == "embedding" and args else None
        return all(map(self._is_certain, places if isinstance(places, tuple) else (places,)))

    def _is_certain(self, index: Any) -> bool:
        """Whether an index is what it would be if all were computed."""
        if isinstance(index, torch.Tensor):
            return _storage(index) not in self._made
        return index is None or index is ... or isinstance(index, int | slice)

    def _may_write(self, function: Callable[..., Any], args: Arguments, kwargs: Mapping[str, Any]) -> bool:
        """Whether what it writes to, if anything, was made in this pass."""
        if not _writes(function, args, kwargs) and not any(item is True for item in args):
            return True
        return bool(args) and isinstance(args[0], torch.Tensor) and _storage(args[0]) in self._made


class Unchanged:
    """What the user's own modules hold as attributes, to see whether a pass leaves something in them, and undo it."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._own = [
            (module, dict(vars(module)), [(item, item.copy()) for item in _containers(module)])
            for module in modules
            if not type(module).__module__.startswith("torch.")
        ]

    def kept(self, skipping: Skipping) -> bool:
        """Whether the pass left something that it made."""
        return any(
            skipping.holds(item for name, item in vars(module).items() if item is not before.get(name))
            or skipping.holds(item for item, copied in containers if not _are_same(item, copied))
            for module, before, containers in self._own
        )

    def restore(self) -> None:
        """As it was before."""
        for module, attributes, containers in self._own:
            vars(module).clear()
            vars(module).update(attributes)
            for item, before in containers:
                item.clear()
                item.extend(before) if isinstance(item, list) else item.update(before)


def can_skip(modules: Iterable[nn.Module]) -> bool:
    """Whether nothing but the modules themselves sees what they compute: no hooks."""
    if hooks._global_forward_hooks or hooks._global_forward_pre_hooks or torch.is_autocast_enabled("cpu"):
        return False
    return not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _are_same(now: Any, before: Any) -> bool:
    """Whether two containers hold the same objects."""
    pairs = zip(*(item.values() if isinstance(item, dict) else item for item in (now, before)), strict=False)
    return len(now) == len(before) and all(one is other for one, other in pairs)


def _containers(module: nn.Module) -> list[Any]:
    return [item for item in vars(module).values() if type(item) in _KEPT]


def _storage(tensor: torch.Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return int(tensor.untyped_storage()._cdata)


@lru_cache(maxsize=1 << 10)
def _writes_by_name(function: Callable[..., Any]) -> bool:
    name = getattr(function, "__name__", "")
    is_special = name.startswith("__") and name.endswith("__")
    return name.startswith("__i") and name != "__invert__" if is_special else name.endswith("_")


def _writes(function: Callable[..., Any], args: Arguments, kwargs: Mapping[str, Any]) -> bool:
    return bool(_writes_by_name(function) or kwargs.get("inplace") or kwargs.get("out") is not None)


def _made(name: str, args: Arguments, kwargs: Mapping[str, Any], in_place: bool) -> torch.Tensor | None:
    """A result without numbers, of a call as they mostly are; None for any other, which PyTorch itself judges."""
    if not args or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
        return None
    guard = torch._C._DisableTorchDispatch()
    try:
        return _made_unseen(args[0], name, args, kwargs, in_place)
    finally:
        del guard


def _made_unseen(
    x: torch.Tensor, name: str, args: Arguments, kwargs: Mapping[str, Any], in_place: bool
) -> torch.Tensor | None:
    with torch._C.DisableTorchFunction():
        if not x.is_contiguous():
            return None
        if name in _ACTIVATIONS:
            return _alike(x, in_place)
        if name in _SUMS and len(args) == 2 and not kwargs:
            return _alike(x, in_place) if _is_alike(x, args[1]) else None
        if name == "batch_norm" and not in_place:
            return _alike(x, False) if _is_affine(x, args, kwargs) else None
        shape = _SHAPES[name](x, *args[1:], **kwargs) if name in _SHAPES and not in_place else None
        return None if shape is None else x.new_empty(shape)


def _alike(x: torch.Tensor, in_place: bool) -> torch.Tensor:
    if not in_place:
        return torch.empty_like(x)
    torch.autograd.graph.increment_version(x)
    return x


def _is_alike(x: torch.Tensor, other: Any) -> bool:
    return isinstance(other, torch.Tensor) and (x.shape, x.dtype, x.device) == (other.shape, other.dtype, other.device)


def _is_affine(x: torch.Tensor, args: Arguments, kwargs: Mapping[str, Any]) -> bool:
    """Whether these are the arguments of a batch normalisation in inference, one number a channel."""
    vectors = [item for item in (*args[1:], *kwargs.values()) if isinstance(item, torch.Tensor)]
    training = kwargs.get("training", args[5] if len(args) > 5 else False)
    same = all(each.shape == x.shape[1:2] and (each.dtype, each.device) == (x.dtype, x.device) for each in vectors)
    return x.ndim > 1 and len(vectors) > 1 and same and not training


def _fits(x: torch.Tensor, weight: Any, bias: Any, outputs: int) -> bool:
    """Whether a layer of this many outputs has weights of the input's type."""
    known = [weight] if bias is None else [weight, bias]
    if not all(isinstance(each, torch.Tensor) and (each.dtype, each.device) == (x.dtype, x.device) for each in known):
        return False
    return bias is None or bias.shape == (outputs,)


def _dense(x: torch.Tensor, weight: Any, bias: Any = None) -> list[int] | None:
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2 or not _fits(x, weight, bias, weight.shape[0]):
        return None
    return [*x.shape[:-1], weight.shape[0]] if x.shape[-1:] == weight.shape[1:] else None


def _convolved(
    x: torch.Tensor,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[int] | None:
    if not isinstance(weight, torch.Tensor) or not _fits(x, weight, bias, weight.shape[0]):
        return None
    window = _windows(x, weight.shape[2:], stride, padding, dilation)
    is_usual = x.ndim == weight.ndim and x.shape[1] == weight.shape[1] * groups and weight.shape[0] % groups == 0
    return [x.shape[0], weight.shape[0], *window] if is_usual and window else None


def _pooled(
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> list[int] | None:
    size = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
    if x.ndim != 4 or ceil_mode or return_indices or len(size) != 2 or isinstance(padding, str):
        return None
    if any(2 * before > length for before, length in zip(_each(padding, 2), size, strict=True)):
        return None
    window = _windows(x, size, stride or size, padding, dilation)
    return [*x.shape[:2], *window] if window else None


def _windows(x: torch.Tensor, size: Sequence[int], stride: Any, padding: Any, dilation: Any) -> list[int]:
    """How often a window fits along each axis of space; empty if it does not, or is told in words."""
    space = len(size)
    if isinstance(padding, str) or x.ndim != space + 2:
        return []
    settings = zip(x.shape[2:], size, *(_each(item, space) for item in (stride, padding, dilation)), strict=True)
    found = [(length + 2 * pad - apart * (of - 1) - 1) // step + 1 for length, of, step, pad, apart in settings]
    return found if min(found, default=0) > 0 else []


def _each(setting: Any, count: int) -> tuple[int, ...]:
    listed = (setting,) if isinstance(setting, int) else tuple(setting)
    return listed * count if len(listed) == 1 else listed


_SHAPES: Mapping[str, Callable[..., list[int] | None]] = {
    "linear": _dense,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolved),
    "max_pool2d": _pooled,
}
