"""Numbers that a user gives as options: any real or whole number, kept as Python's own, so that they compare and save.

NumPy's scalars are as good as Python's. A bool is no number here: ``Sparsity(True)`` is a slip, not a hundred per cent.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

from secateur.errors import OutOfRangeError, RecipeError


def is_real(value: object) -> bool:
    """Whether ``value`` is a real number and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def real(what: str, value: Any) -> float:
    """``value`` as a float; NaN and infinities pass.

    Raises:
        RecipeError: it is no real number; the message calls it ``what``.
        OutOfRangeError: it is finite, but too large for a float.
    """
    if not is_real(value):
        raise RecipeError(f"{what} is {value!r}, a {type(value).__name__}: give a number")
    return within_floats(what, value)


def reals(what: str, values: Any) -> tuple[float, ...]:
    """``values`` as a tuple of floats.

    Raises:
        RecipeError: it is no sequence of real numbers.
        OutOfRangeError: as :func:`real`.
    """
    if not isinstance(values, Iterable):
        raise RecipeError(f"{what} are {values!r}, a {type(values).__name__}: give several, such as (0.5, 0.9)")
    return tuple(real(f"one of {what}", value) for value in values)


def within_floats(what: str, value: Any) -> float:
    """``float(value)``, of a number of any type.

    Raises:
        OutOfRangeError: it is finite, but too large for a float.
    """
    try:
        return float(value)
    except OverflowError as failure:
        raise OutOfRangeError(f"{what} is beyond the largest float64, 1.8e308: give a smaller number") from failure


def whole(what: str, value: Any) -> int:
    """``value`` as an int.

    Raises:
        RecipeError: it is no whole number; the message calls it ``what``.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise RecipeError(f"{what} is {value!r}, a {type(value).__name__}: give a whole number")
    return int(value)


def sides(what: str, shape: Any, least: int = 0) -> tuple[int, ...]:
    """``shape`` as a tuple of ints.

    Raises:
        RecipeError: it is no sequence of whole numbers.
        OutOfRangeError: a side is below ``least``.
    """
    if not isinstance(shape, Iterable):
        raise RecipeError(f"{what} is {shape!r}, a {type(shape).__name__}: give its sides, such as (3, 4)")
    found = tuple(whole(f"a side of {what}", side) for side in shape)
    if min(found, default=least) < least:
        raise OutOfRangeError(f"{what} {found} has the side {min(found)}: give sides from {least}")
    return found
