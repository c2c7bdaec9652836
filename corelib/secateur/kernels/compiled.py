"""How inner loops are compiled: without Python's lock, and kept on disk where there is a place to keep them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """``function`` compiled by Numba at its first call for each combination of types; no fast-math, no threads."""
    return _compiled(function, set())


def reordered(function: Function) -> Function:
    """As :func:`compiled`, but sums may be taken in any order: for those that are exact, so that order is no matter."""
    return _compiled(function, {"reassoc", "nsz"})


def _compiled(function: Function, fastmath: set[str]) -> Function:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        result: Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        result = numba.njit(**options)(function)
    return result


def generated(function: Callable[..., Any]) -> Any:
    """A function for compiled code, of which ``function`` gives the signature and LLVM's code for its types."""
    return intrinsic(function)
