"""How inner loops are compiled: without Python's lock, and kept on disk where there is a place to keep them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., object])


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk; files that cannot be read, as a full disk leaves them, are as good as none."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # damaged bytes are unpickled into anything
            self._forget()
            return None

    def _forget(self) -> None:
        """Begin the cache anew, or go without where its folder cannot be written."""
        try:
            self.flush()
        except OSError:
            self.disable()


def compiled(function: Function) -> Function:
    """``function`` compiled by Numba at its first call for each combination of types; no fast-math, no threads."""
    return _compiled(function, set())


def reordered(function: Function) -> Function:
    """As :func:`compiled`, but sums may be taken in any order: for those that are exact, so that order is no matter."""
    return _compiled(function, {"reassoc", "nsz"})


def _compiled(function: Function, fastmath: set[str]) -> Function:
    result = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    with suppress(RuntimeError):  # neither the package's folder nor the user's cache can be written
        result._cache = _Cache(function)
    kept: Function = result
    return kept


def generated(function: Callable[..., Any]) -> Any:
    """A function for compiled code, of which ``function`` gives the signature and LLVM's code for its types."""
    return intrinsic(function)
