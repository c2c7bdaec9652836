"""Numbers that a user gives as options: any real or whole number, kept as Python's own, so that they compare and save.

NumPy's scalars are as good as Python's. A bool is no number here: ``Sparsity(True)`` is a slip, not a hundred per cent.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

from secateur.errors import MissingDataError, OutOfRangeError, RecipeError


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


def portion(share: float, count: int) -> int:
    """The whole number nearest to a share of a count; of two, the larger."""
    return math.floor(share * count + 0.5)


def answer(name: str, function: Any, model: Any, about: str = "") -> float:
    """What a user's function of a model returns, as a float. Errors of its own pass.

    Args:
        name: what a message calls the function.
        function: called with the model.
        model: its argument.
        about: which model that is, for a message, such as `` for the dense model``.

    Raises:
        MissingDataError: it cannot be called, or returns no number.
    """
    if not callable(function):
        raise MissingDataError(f"{name} is {function!r}: give a function that takes the model and returns a number")
    found = function(model)
    try:
        return float(found)
    except (TypeError, ValueError) as error:
        raise MissingDataError(f"{name} gives no number{about} ({error}): return one") from error


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
