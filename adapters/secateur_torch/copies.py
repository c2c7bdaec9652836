"""How a deep copy of a held module, or one that was pickled, comes to be held too.

Python copies a module by copying what lies in its ``__dict__``, and asks each object there how. Every held module has
one object more in it, which on being copied has the module's holds follow to the copy. It is neither parameter, buffer
nor submodule, so state dicts, ``repr`` and traces do not show it. A pickled model has a plain dictionary in its place,
with a bit for each weight: every process can read it, and one that has imported this package holds the model again.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

KEY = "_secateur_holds"
"""The attribute of a held module that brings its holds along."""

BoolArray = npt.NDArray[np.bool_]


class Copied(Protocol):
    """A hold, as far as copies are concerned. Its deep copy holds nothing yet."""

    def follow(self, hold: Any, original: nn.Module, twin: nn.Module) -> None:
        """Hold in ``twin``, which is being made, what ``hold`` holds in ``original``."""

    def masks_of(self, module: nn.Module) -> Mapping[str, BoolArray]:
        """Name in the module -> mask, in PyTorch's layout."""


class HoldsOf:
    """The holds on one module, in its ``__dict__``."""

    def __init__(self, module: nn.Module) -> None:
        self.holds: list[Copied] = []
        self._module = weakref.ref(module)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        original = self._module()
        twin = memo.get(id(original))
        if original is None or twin is None:  # the dictionary is copied, and not the module
            return None
        for hold in self.holds:
            copy.deepcopy(hold, memo).follow(hold, original, twin)
        return vars(twin).get(KEY)

    def __reduce__(self) -> Any:
        """What a process without Secateur can read, and PyTorch's loading of weights only: name -> packed mask."""
        original, masks = self._module(), dict[str, BoolArray]()
        for hold in self.holds:
            for name, mask in () if original is None else hold.masks_of(original).items():
                masks[name] = mask & masks.get(name, np.True_)
        return OrderedDict, (), None, None, iter([(name, np.packbits(mask).tobytes()) for name, mask in masks.items()])


def mark(module: nn.Module, hold: Copied) -> None:
    """Have the hold follow into copies of the module."""
    found = vars(module).get(KEY)
    if not isinstance(found, HoldsOf):  # or what a pickle has left
        found = vars(module)[KEY] = HoldsOf(module)
    if hold not in found.holds:
        found.holds.append(hold)


def unmark(module: nn.Module | None, hold: Copied) -> None:
    """Undo :func:`mark`; without any hold, the module is as PyTorch made it. None is a module that is gone."""
    found = None if module is None else vars(module).get(KEY)
    if isinstance(found, HoldsOf) and hold in found.holds:
        found.holds.remove(hold)
        if not found.holds:
            vars(module).pop(KEY)


def holds_on(model: nn.Module) -> list[Any]:
    """Every hold on any module of the model, once."""
    marks = [vars(module).get(KEY) for module in model.modules()]
    return list(dict.fromkeys(hold for found in marks if isinstance(found, HoldsOf) for hold in found.holds))


def watch_loading(hold: Callable[[nn.Module, Mapping[str, BoolArray]], object]) -> None:
    """Have ``hold(module, masks)`` called for every module that comes out of a pickle with masks. For good."""
    original = nn.Module.__setstate__

    @functools.wraps(original)
    def loaded(module: nn.Module, state: Any) -> None:
        original(module, state)
        packed = vars(module).get(KEY)
        if isinstance(packed, OrderedDict) and not any(getattr(module, name).is_meta for name in packed):
            del vars(module)[KEY]
            hold(module, _unpacked(module, packed))

    nn.Module.__setstate__ = loaded  # type: ignore[method-assign]


def _unpacked(module: nn.Module, packed: Mapping[str, bytes]) -> dict[str, BoolArray]:
    masks = {}
    for name, data in packed.items():
        tensor = getattr(module, name)
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=tensor.numel())
        masks[name] = bits.astype(np.bool_).reshape(tensor.shape)
    return masks
