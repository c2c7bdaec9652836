"""Exactly so many of the largest, over many arrays: the threshold, and which of those equal to it stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from secateur import kernels
from secateur.arrays import Named
from secateur.errors import OutOfRangeError
from secateur.ranks import order_statistics
from secateur.scalars import whole


class Cut(NamedTuple):
    """What stays: all above the threshold, and those equal to it from a position in all arrays end to end on."""

    threshold: float
    first_kept: int


def largest(items: Sequence[Named], keep: int, absolute: bool = False) -> Cut:
    """The cut that keeps exactly ``keep`` elements, or magnitudes, of all arrays; of equal ones the last.

    Raises:
        InvalidTensorError: an element is NaN.
    """
    size = sum(math.prod(item.array.shape) for item in items)
    if not keep:
        kernels.refuse_nan(items)
        return Cut(math.inf, size)
    (found,) = order_statistics(items, [size - keep], absolute)
    to_keep = keep - (size - found.below - found.equal)
    if to_keep == found.equal:
        return Cut(found.value, 0)
    return Cut(found.value, kernels.first_kept(items, found.value, to_keep, absolute))


def count(what: str, value: int, size: int) -> int:
    """``value`` as an integer from 0 to ``size``.

    Raises:
        RecipeError: it is no integer.
        OutOfRangeError: it is below or above.
    """
    value = whole(what, value)
    if not 0 <= value <= size:
        raise OutOfRangeError(f"{what} is {value}, but there are {size}: give 0 to {size}")
    return value
