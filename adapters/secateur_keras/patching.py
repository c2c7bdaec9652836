"""Methods of Keras's classes wrapped, once and for good: Keras itself has no hook at these places."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

_wrappers: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def wrap(kind: type, name: str, replacement: Callable[..., Any]) -> None:
    """``kind.name``, a method or property, becomes ``replacement(original, instance, *args, **kwargs)``.

    What is wrapped already stays as it is.
    """
    original = inspect.getattr_static(kind, name)
    function: Callable[..., Any] = getattr(original, "fget", original)
    if function in _wrappers:
        return

    @functools.wraps(function)
    def wrapped(instance: Any, *args: Any, **kwargs: Any) -> Any:
        return replacement(function, instance, *args, **kwargs)

    _wrappers.add(wrapped)
    setattr(kind, name, property(wrapped) if isinstance(original, property) else wrapped)
