"""Exact thresholds over all elements of many arrays, without joining them.

An order statistic is found by a radix histogram of the floats' bit patterns: two passes for 16- and 32-bit floats, four
for float64, none of which moves an element; only few elements are simply sorted. Arrays of different dtypes are
compared as real numbers. All functions take an array or a list of arrays (``names`` are for error messages) and raise
EmptyInputError if there is no element, InvalidTensorError for NaN, and UnsupportedDtypeError for integers and others.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_arrays, common_dtype, total_size
from secateur.distributions import sorted_values, summarize
from secateur.errors import InvalidTensorError, OutOfRangeError
from secateur.kernels import formats

_SORTED = 1 << 14
"""Up to so many elements are joined and sorted, which then takes less time than the tables of counts."""
_PREFIXES_AT_ONCE = 8
"""Each takes a table of 65,536 counts in each thread."""


class OrderStatistic(NamedTuple):
    """The value at a rank of all elements in ascending order, and how many lie below it and equal it."""

    value: float
    below: int
    equal: int


def percentile(arrays: Any, q: npt.ArrayLike, names: Sequence[str] | None = None) -> Any:
    """The q-th percentile of all elements: value and dtype of ``numpy.percentile`` of the arrays joined end to end.

    Where infinite neighbours make NumPy answer NaN, the neighbour nearer in rank is given. bfloat16 counts as float32.

    Args:
        arrays: an array or a list of arrays.
        q: 0 to 100, a number or an array of numbers.
        names: what error messages call the arrays.

    Returns:
        A NumPy scalar of the arrays' common dtype, or an array of the shape of ``q``.

    Raises:
        OutOfRangeError: q is outside 0 to 100.
    """
    shares = np.asarray(np.true_divide(q, 100))
    if not np.all((shares >= 0) & (shares <= 1)):
        raise OutOfRangeError(f"percentile {q!r} is outside 0 to 100; for the 90th percentile give 90")
    items = as_arrays(arrays, names)
    last = total_size(items) - 1
    places = np.asarray(last * shares)
    lower = np.where(places >= last, last, np.floor(places)).astype(np.int64)
    upper = np.minimum(lower + 1, last)
    found = order_statistics(items, np.concatenate((lower, upper), axis=None).tolist())
    values = np.array([statistic.value for statistic in found]).astype(common_dtype(items)).reshape(2, *places.shape)
    gamma = places - lower
    return _between(values[0], values[1], float(gamma) if type(q) in (int, float) else gamma)[()]


def k_sigma(arrays: Any, k: float, names: Sequence[str] | None = None) -> np.float64:
    """mean + k * sigma of all elements (population sigma), from exact sums.

    Raises:
        OutOfRangeError: k is not finite.
        InvalidTensorError: an element is infinite, so that there is no sigma.
    """
    if not math.isfinite(k):
        raise OutOfRangeError(f"k is {k!r}: it must be a finite number, such as 0.5 or -1")
    summary = summarize(arrays, names)
    if not summary.is_finite:
        raise InvalidTensorError(f"{sum(summary.infinities)} of the values are infinite, so they have no sigma")
    return np.float64(summary.mean + k * summary.std)


def smallest(arrays: Any, count: int, names: Sequence[str] | None = None) -> Any:
    """The ``count``-th smallest of all elements, exactly: 1 gives the minimum; -0.0 is given as 0.0.

    Returns:
        A NumPy scalar of the arrays' common dtype (float32 for bfloat16).

    Raises:
        OutOfRangeError: count is below 1 or above the number of elements.
    """
    items = as_arrays(arrays, names)
    size = total_size(items)
    if not 1 <= operator.index(count) <= size:
        raise OutOfRangeError(f"count is {count}, but there are {size} elements: give 1 to {size}")
    (found,) = order_statistics(items, [operator.index(count) - 1])
    return common_dtype(items).type(found.value)


def order_statistics(arrays: Sequence[Named], ranks: Sequence[int]) -> list[OrderStatistic]:
    """The elements at ranks (0 = smallest), in the order asked for. Raises InvalidTensorError for NaN."""
    if total_size(arrays) <= _SORTED:
        return _by_sorting(arrays, ranks)
    kernels.refuse_nan(arrays)
    dtype = np.result_type(common_dtype(arrays), np.float32)
    open_ranks = {0: [(rank, rank) for rank in set(ranks)]}
    found: dict[int, OrderStatistic] = {}
    for level in range(formats.levels(dtype)):
        deeper: dict[int, list[tuple[int, int]]] = {}
        for prefix, counts in _digit_counts(arrays, dtype, sorted(open_ranks), level):
            up_to = np.cumsum(counts)
            for rank, within in open_ranks[prefix]:
                digit = int(np.searchsorted(up_to, within, side="right"))
                rest = within - int(up_to[digit] - counts[digit])
                key = prefix << formats.DIGIT_BITS | digit
                deeper.setdefault(key, []).append((rank, rest))
                found[rank] = OrderStatistic(0.0, rank - rest, int(counts[digit]))
        open_ranks = deeper
    for key, members in open_ranks.items():
        for rank, _ in members:
            found[rank] = found[rank]._replace(value=formats.key_to_float(key, dtype))
    return [found[rank] for rank in ranks]


def _by_sorting(arrays: Sequence[Named], ranks: Sequence[int]) -> list[OrderStatistic]:
    values = sorted_values(arrays) + 0.0
    found = values[list(ranks)]
    below = np.searchsorted(values, found, side="left")
    equal = np.searchsorted(values, found, side="right") - below
    return [
        OrderStatistic(*statistic) for statistic in zip(found.tolist(), below.tolist(), equal.tolist(), strict=True)
    ]


def _digit_counts(
    arrays: Sequence[Named], dtype: np.dtype[Any], prefixes: Sequence[int], level: int
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Counts of the next digit, over all arrays, for each prefix."""
    result: list[tuple[int, npt.NDArray[np.int64]]] = []
    for start in range(0, len(prefixes), _PREFIXES_AT_ONCE):
        group = prefixes[start : start + _PREFIXES_AT_ONCE]
        counts = np.zeros((len(group), formats.DIGITS), np.int64)
        for _, array in arrays:
            counts += kernels.of(array).digit_counts(array, dtype, group, level)
        result.extend(zip(group, counts, strict=True))
    return result


def _between(lower: Any, upper: Any, share: Any) -> Any:
    """NumPy's linear interpolation from the nearer end; equal ends, or a NaN from infinite ones, give that end."""
    with np.errstate(invalid="ignore", over="ignore"):
        step = upper - lower
        value = np.where(np.asarray(share) >= 0.5, upper - step * (1 - share), lower + step * share)
    value = np.where(lower == upper, lower.astype(value.dtype), value)
    nearer = np.where(np.asarray(share) >= 0.5, upper, lower).astype(value.dtype)
    return np.where(np.isnan(value), nearer, value)
