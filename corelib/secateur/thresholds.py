"""Exact thresholds over all elements of many arrays, without joining them.

All functions take an array, a list of arrays, or, for what should never lie in memory together, a callable that gives
an iterable of arrays anew for each pass. Arrays of different dtypes are compared as real numbers. ``names`` are for
error messages; ``absolute`` looks at magnitudes, without a copy; ``per_array`` gives a list, one threshold for each
array, instead of one for all. All raise EmptyInputError if there is no element, InvalidTensorError for NaN, and
UnsupportedDtypeError for integers and others, ShapeMismatchError if a callable gives other arrays for another pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import Source, Stream, as_source, common_dtype, total_size
from secateur.distributions import fit
from secateur.errors import EmptyInputError, InvalidTensorError, OutOfRangeError, RecipeError
from secateur.ranks import OrderStatistic, order_statistics
from secateur.scalars import is_real, real, whole
from secateur.summary import summarize_source

__all__ = ["OrderStatistic", "fitted_percentile", "k_sigma", "order_statistics", "percentile", "smallest"]


def percentile(
    arrays: Any,
    q: npt.ArrayLike,
    names: Sequence[str] | None = None,
    *,
    absolute: bool = False,
    per_array: bool = False,
) -> Any:
    """The q-th percentile of all elements: value and dtype of ``numpy.percentile`` of the arrays joined end to end.

    Where infinite neighbours make NumPy answer NaN, the neighbour nearer in rank is given. bfloat16 counts as float32.

    Args:
        arrays: an array, a list of arrays, or a callable that gives one for each pass.
        q: 0 to 100, a number or an array of numbers.
        names: what error messages call the arrays.
        absolute: whether magnitudes are ranked.
        per_array: whether each array has a percentile of its own.

    Returns:
        A NumPy scalar of the arrays' common dtype, or an array of the shape of ``q``; a list of them for ``per_array``.

    Raises:
        RecipeError: q is no number.
        OutOfRangeError: q is outside 0 to 100.
    """
    if is_real(q) and np.asarray(q).dtype == object:  # a fraction, or a large integer
        q = real("the percentile", q)
    if not _are_real(q):
        raise RecipeError(f"the percentile is {q!r}, a {type(q).__name__}: give a number, or an array of numbers")
    shares = np.asarray(np.true_divide(q, 100))
    if not np.all((shares >= 0) & (shares <= 1)):
        raise OutOfRangeError(f"percentile {q!r} is outside 0 to 100; for the 90th percentile give 90")

    def of(items: Source) -> Any:
        last = total_size(items) - 1
        places = np.asarray(last * shares)
        lower = np.where(places >= last, last, np.floor(places)).astype(np.int64)
        upper = np.minimum(lower + 1, last)
        found = order_statistics(items, np.concatenate((lower, upper), axis=None).tolist(), absolute)
        values = np.array([statistic.value for statistic in found]).astype(common_dtype(items))
        values = values.reshape(2, *places.shape)
        gamma = places - lower
        return _between(values[0], values[1], float(gamma) if type(q) in (int, float) else gamma)[()]

    return _each(of, as_source(arrays, names), per_array)


def smallest(
    arrays: Any,
    count: int,
    names: Sequence[str] | None = None,
    *,
    absolute: bool = False,
    per_array: bool = False,
) -> Any:
    """The ``count``-th smallest of all elements, exactly: 1 gives the minimum; -0.0 is given as 0.0.

    Returns:
        A NumPy scalar of the arrays' common dtype (float32 for bfloat16); a list of them for ``per_array``.

    Raises:
        RecipeError: count is no whole number.
        OutOfRangeError: count is below 1 or above the number of elements.
    """
    rank = whole("count", count)

    def of(items: Source) -> Any:
        size = total_size(items)
        if not 1 <= rank <= size:
            raise OutOfRangeError(f"count is {count}, but there are {size} elements: give 1 to {size}")
        (found,) = order_statistics(items, [rank - 1], absolute)
        return common_dtype(items).type(found.value)

    return _each(of, as_source(arrays, names), per_array)


def k_sigma(
    arrays: Any,
    k: float,
    names: Sequence[str] | None = None,
    *,
    absolute: bool = False,
    per_array: bool = False,
) -> Any:
    """mean + k * sigma of all elements (population sigma), from exact sums.

    Returns:
        float64; a list of them for ``per_array``.

    Raises:
        RecipeError: k is no number.
        OutOfRangeError: k is not finite.
        InvalidTensorError: an element is infinite, so that there is no sigma.
    """
    k = real("k", k)
    if not math.isfinite(k):
        raise OutOfRangeError(f"k is {k!r}: it must be a finite number, such as 0.5 or -1")

    def of(items: Source) -> Any:
        summary = summarize_source(items)
        if not summary.is_finite:
            raise InvalidTensorError(f"{sum(summary.infinities)} of the values are infinite, so they have no sigma")
        mean, std = (summary.mean_absolute, summary.std_absolute) if absolute else (summary.mean, summary.std)
        return np.float64(mean + k * std)

    return _each(of, as_source(arrays, names), per_array)


def fitted_percentile(
    arrays: Any,
    q: float,
    family: str = "normal",
    names: Sequence[str] | None = None,
    *,
    absolute: bool = False,
    per_array: bool = False,
) -> Any:
    """The q-th percentile of the distribution that is fitted to all elements, from exact sums.

    Args:
        arrays: an array, a list of arrays, or a callable that gives one for each pass.
        q: 0 to 100.
        family: ``"normal"``, ``"uniform"``, ``"exponential"`` or ``"laplace"``: see :mod:`secateur.distributions`.
        names: what error messages call the arrays.
        absolute: whether the percentile is that of the magnitudes of numbers so distributed.
        per_array: whether each array has a distribution of its own.

    Returns:
        float64; a list of them for ``per_array``.

    Raises:
        OutOfRangeError: q is outside 0 to 100, or the family cannot be fitted.
        RecipeError: unknown family, or q is no number.
        InvalidTensorError: an element is infinite.
    """
    q = real("the percentile", q)
    if not 0 <= q <= 100:
        raise OutOfRangeError(f"percentile {q!r} is outside 0 to 100; for the 90th percentile give 90")

    def of(items: Source) -> Any:
        fitted = fit(summarize_source(items), family)
        return np.float64(fitted.magnitude_quantile(q / 100) if absolute else fitted.quantile(q / 100))

    return _each(of, as_source(arrays, names), per_array)


def _are_real(q: npt.ArrayLike) -> bool:
    """Whether it is a number or an array of numbers."""
    try:
        return np.asarray(q).dtype.kind in "iuf"
    except ValueError:  # lists of different lengths
        return False


def _each(threshold: Callable[[Source], Any], items: Source, per_array: bool) -> Any:
    if not per_array:
        return threshold(items)
    if isinstance(items, Stream):
        raise RecipeError("per_array needs a list of arrays: a callable gives chunks, whose borders mean nothing")
    for name, array in items:
        if not math.prod(array.shape):
            raise EmptyInputError(f"{name} has no element, so it has no threshold of its own: leave it out")
    return [threshold([item]) for item in items]


def _between(lower: Any, upper: Any, share: Any) -> Any:
    """NumPy's linear interpolation from the nearer end; equal ends, or a NaN from infinite ones, give that end."""
    with np.errstate(invalid="ignore", over="ignore"):
        step = upper - lower
        value = np.where(np.asarray(share) >= 0.5, upper - step * (1 - share), lower + step * share)
    value = np.where(lower == upper, lower.astype(value.dtype), value)
    nearer = np.where(np.asarray(share) >= 0.5, upper, lower).astype(value.dtype)
    return np.where(np.isnan(value), nearer, value)
