"""How a deep copy of a held module comes to be held too.

Python copies a module by copying what lies in its ``__dict__``, and asks each object there how. Every held module has
one object more in it, which on being copied has the module's holds follow to the copy. It is neither parameter, buffer
nor submodule, so state dicts, ``repr`` and traces do not show it; a pickled model has an empty set in its place.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any, Protocol

from torch import nn

_KEY = "_secateur_holds"


class Copied(Protocol):
    """A hold, as far as copies are concerned. Its deep copy holds nothing yet."""

    def follow(self, hold: Any, original: nn.Module, twin: nn.Module) -> None:
        """Hold in ``twin``, which is being made, what ``hold`` holds in ``original``."""


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
        return vars(twin).get(_KEY)

    def __reduce__(self) -> Any:
        """An empty set: what a process without Secateur can read, and PyTorch's loading of weights only."""
        return set, ()


def mark(module: nn.Module, hold: Copied) -> None:
    """Have the hold follow into deep copies of the module."""
    found = vars(module).get(_KEY)
    if not isinstance(found, HoldsOf):  # or what a pickle has left
        found = vars(module)[_KEY] = HoldsOf(module)
    if hold not in found.holds:
        found.holds.append(hold)


def unmark(module: nn.Module | None, hold: Copied) -> None:
    """Undo :func:`mark`; without any hold, the module is as PyTorch made it. None is a module that is gone."""
    found = None if module is None else vars(module).get(_KEY)
    if isinstance(found, HoldsOf) and hold in found.holds:
        found.holds.remove(hold)
        if not found.holds:
            vars(module).pop(_KEY)
