"""Weighted means of arrays, element by element, correctly rounded: as if computed with real numbers and rounded once.

So the order of the arrays, the framework that they come from, and threads cannot change a bit. Products and sums are
kept as two floats each with what even these lose (Dekker 1971, Knuth); where that loss could decide the rounding, which
is rare, the element is computed in fractions (after Ziv 1991).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.arrays import partition

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

PIECE = 1 << 14
"""Elements that are averaged at a time, so that intermediate results stay in the cache."""
HALVES = 134217729.0
"""2**27 + 1, which splits a float64 into two halves whose products are exact."""
SAFE = (2.0**-900, 2.0**900)
"""Magnitudes of products within which nothing overflows, and no error of rounding is lost below the smallest float."""


class Shares(NamedTuple):
    """Weights as floats with the same ratios, and their sum.

    Args:
        each: the weights, exact.
        high: their sum, rounded; ``low``: the rest of it, rounded; ``lost``: at least the magnitude of what is then
            still missing.
        exact: the weights themselves.
    """

    each: tuple[float, ...]
    high: float
    low: float
    lost: float
    exact: tuple[Fraction, ...]


def weighted_mean(arrays: Sequence[Array], weights: Sequence[float | Fraction], dtype: Any) -> Array:
    """``sum(weight * array) / sum(weights)``, rounded once, half to even; a mean that is zero is +0.0.

    Args:
        arrays: at least one, of floats, finite, all of one shape; each may have its own dtype and memory layout.
        weights: one for each, positive and finite. Equal arrays give that array, whatever the weights.
        dtype: of the result: float16, bfloat16, float32 or float64.

    Returns:
        A new array, C-contiguous.
    """
    known, shape = shares(weights), arrays[0].shape
    result = np.empty(shape or (1,), dtype)
    items = [array.reshape(result.shape) for array in arrays]
    with np.errstate(all="ignore"):
        for index in partition(result.shape, PIECE):
            pieces = [np.asarray(item[index], np.float64) for item in items]
            result[index] = _mean(pieces, known, result.dtype)
    return result.reshape(shape)


def shares(weights: Sequence[float | Fraction]) -> Shares:
    """The weights without common factors, so that equal ones become 1, whose products and sums seldom round."""
    exact = [Fraction(weight) for weight in weights]
    common = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * common) for weight in exact]
    factor = math.gcd(*whole)
    scale = 1 << (sum(whole) // factor).bit_length()
    reduced = [Fraction(number // factor, scale) for number in whole]
    total = sum(reduced, Fraction(0))
    high = float(total)
    low = float(total - Fraction(high))
    missing = float(abs(total - Fraction(high) - Fraction(low)))
    lost = math.nextafter(missing, math.inf) if missing else 0.0
    return Shares(tuple(map(float, reduced)), high, low, lost, tuple(exact))


def _mean(pieces: Sequence[Floats], known: Shares, dtype: np.dtype[Any]) -> Array:
    high, low, lost, unsafe = _sum(pieces, known)
    high, low, lost = _quotient(high, low, lost, known)
    margin = np.where(lost > 0.0, np.nextafter(4.0 * lost / known.high, np.inf), 0.0)
    below, above = (np.where(lost > 0.0, np.nextafter(low + way * margin, way * np.inf), low) for way in (-1.0, 1.0))
    result = _rounded(high, below, dtype)
    unsafe |= ~(result == _rounded(high, above, dtype))
    for index in zip(*np.nonzero(unsafe), strict=True):
        result[index] = _in_fractions([piece[index] for piece in pieces], known.exact, dtype)
    return result


def _sum(pieces: Sequence[Floats], known: Shares) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """Of the products: two floats, at least what these lack, and where that is not sure."""
    high, low, lost = (np.zeros(pieces[0].shape) for _ in range(3))
    unsafe = np.zeros(high.shape, np.bool_)
    for piece, weight in zip(pieces, known.each, strict=True):
        product, error = _product(piece, weight)
        high, carried = _two_sum(high, product)
        low, first = _two_sum(low, error)
        low, second = _two_sum(low, carried)
        lost += np.abs(first) + np.abs(second)
        size = np.abs(product)
        unsafe |= ~((size >= SAFE[0]) & (np.abs(piece) <= SAFE[1])) & (piece != 0.0)
    return *_two_sum(high, low), lost, unsafe


def _quotient(high: Floats, low: Floats, lost: Floats, known: Shares) -> tuple[Floats, Floats, Floats]:
    """What is left is divided again: by the rounded sum of the weights, whose own rest then counts as lost."""
    first = high / known.high
    product, error = _product(first, known.high)
    rest, missed = _two_sum((high - product) - error, low)
    taken, unseen = _product(first, known.low)
    rest, again = _two_sum(rest, -taken)
    second = rest / known.high
    product, error = _product(second, known.high)
    apart = np.abs(missed) + np.abs(again) + np.abs(unseen) + np.abs((rest - product) - error)
    lost = lost + apart + np.abs(second) * abs(known.low) + np.abs(first) * known.lost
    return *_two_sum(first, second), lost


def _rounded(high: Floats, low: Floats, dtype: np.dtype[Any]) -> Array:
    """``high + low`` rounded once. Rounded to odd on the way, a number keeps on which side of a middle it lies."""
    near, rest = _two_sum(high, low)
    if dtype != np.float64:
        wide = _to_odd(near, rest)
        near = wide.astype(np.float32)
        if dtype != np.float32:
            near = _to_odd(near, wide - near).astype(dtype)
    return np.asarray(near + dtype.type(0.0))


def _to_odd(near: Array, rest: Array) -> Array:
    """Of the two neighbours of ``near + rest`` the one with an odd last bit; ``near`` if nothing rests."""
    bits = near.view(np.uint64 if near.dtype == np.float64 else np.uint32)
    away = np.nextafter(near, np.copysign(np.inf, rest).astype(near.dtype))
    return np.where((rest != 0.0) & (bits % 2 == 0), away, near)


def _in_fractions(numbers: Sequence[float], weights: Sequence[Fraction], dtype: np.dtype[Any]) -> Any:
    total = sum((Fraction(float(x)) * weight for x, weight in zip(numbers, weights, strict=True)), Fraction(0))
    mean = total / sum(weights, Fraction(0))
    near = float(mean)
    side = (mean > Fraction(near)) - (mean < Fraction(near))
    if dtype == np.float64:
        return near + 0.0
    return _rounded(np.array([near]), np.array([side * math.ulp(near) / 8]), dtype)[0]


def _product(a: Floats, b: float) -> tuple[Floats, Floats]:
    """The rounded product, and what rounding took from it."""
    product = a * b
    (high, low), (upper, lower) = _halves(a), _halves(b)
    return product, ((high * upper - product) + high * lower + low * upper) + low * lower


def _halves(a: Any) -> tuple[Any, Any]:
    scaled = HALVES * a
    high = scaled - (scaled - a)
    return high, a - high


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The rounded sum, and what rounding took from it."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
