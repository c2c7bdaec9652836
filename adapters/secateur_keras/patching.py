"""Methods replaced on one object, and put back: the object's class, its config and its saved file stay plain."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Patch:
    """``owner.name`` becomes ``replacement(original, *args, **kwargs)`` until :meth:`undo`.

    Patches of one method may be undone in any order: one that lies under another steps aside, and is taken away
    together with the one above it.
    """

    def __init__(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        original = getattr(owner, name)
        self._owner, self._name = owner, name
        self._previous = vars(owner).get(name)
        self._active = True

        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            return replacement(original, *args, **kwargs) if self._active else original(*args, **kwargs)

        patched.patch = self  # type: ignore[attr-defined]
        setattr(owner, name, patched)

    def undo(self) -> None:
        """Put the original back."""
        self._active = False
        current = vars(self._owner).get(self._name)
        below = current
        while (patch := getattr(below, "patch", None)) is not None and not patch._active:
            below = patch._previous
        if below is None:
            delattr(self._owner, self._name)
        elif below is not current:
            setattr(self._owner, self._name, below)
