"""Exact sums in 32-bit limbs: adding numbers to them, carrying, rounding. The format is told in ``formats``.

Limbs here are a window of a sum's range: ``base`` is the exponent of two of the window's lowest bit. Integers are kept
unsigned with care: where Numba meets a signed and an unsigned operand it computes in float64. The functions of one
number are also called by the CUDA kernels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled

Array = npt.NDArray[Any]
Limbs = npt.NDArray[np.int64]

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_ONE = np.uint64(1)
_EXACT_BITS = 53
# Bits of float32 and float64: width of the fraction, and the exponent field's bias down to the last bit.
_SINGLE = (23, -150)
_DOUBLE = (52, -1075)


@compiled
def unpacked(pattern: np.uint64, double: bool) -> tuple[Any, Any, Any, Any]:
    """(m, e, negative, finite): the magnitude of the float64 (or float32) of that bit pattern is m * 2**e.

    Where it is not finite, m is 0 for infinity, and not 0 for NaN.
    """
    fraction_bits = np.uint64(_DOUBLE[0] if double else _SINGLE[0])
    bias = _DOUBLE[1] if double else _SINGLE[1]
    largest = np.uint64(2047 if double else 255)
    exponent = (pattern >> fraction_bits) & largest
    mantissa = pattern & ((_ONE << fraction_bits) - _ONE)
    negative = (pattern >> fraction_bits) > largest
    if exponent == largest:
        return mantissa, np.int64(0), negative, False
    if exponent != 0:
        mantissa |= _ONE << fraction_bits
    else:
        exponent = _ONE
    return mantissa, np.int64(exponent) + bias, negative, True


@compiled
def pieces(value: np.uint64, position: np.int64) -> tuple[Any, Any, Any, Any]:
    """value * 2**position, value any 64-bit number, as the index of its lowest limb and what three limbs get."""
    shift = np.uint64(position & 31)
    low = (value & _LOW) << shift
    high = (value >> _32) << shift
    return position >> 5, np.int64(low & _LOW), np.int64((low >> _32) + (high & _LOW)), np.int64(high >> _32)


@compiled
def add_numbers(bits: Array, square: bool, absolute: bool, base: int, limbs: Limbs, counters: Limbs) -> None:
    """Add floats of any exponents, given by their bits, one after the other; count those that are not finite."""
    double = bits.itemsize == 8
    for i in range(bits.size):
        mantissa, exponent, negative, finite = unpacked(np.uint64(bits[i]), double)
        negative = negative and not (absolute or square)
        if not finite:
            counters[2 if mantissa != 0 else 1 if negative else 0] += 1
        elif square:
            _add_square(mantissa, 2 * exponent - base, limbs)
        else:
            _add_shifted(mantissa, exponent - base, negative, limbs)


@compiled
def add_integer(value: np.int64, position: np.int64, limbs: Limbs) -> None:
    """Add value * 2**position, value any signed 64-bit integer, to three limbs."""
    index, shift = position >> 5, position & 31
    low, high = (value & 0xFFFFFFFF) << shift, (value >> 32) << shift
    limbs[index] += low & 0xFFFFFFFF
    limbs[index + 1] += (low >> 32) + (high & 0xFFFFFFFF)
    limbs[index + 2] += high >> 32


@compiled
def add_double(value: float, base: int, limbs: Limbs) -> None:
    """Add a finite float64 that is a multiple of 2**base."""
    mantissa, exponent, negative, _ = unpacked(np.uint64(np.float64(value).view(np.int64)), True)
    if mantissa == 0:
        return
    position = exponent - base
    if position < 0:  # what is cut off is zero
        mantissa >>= np.uint64(-position)
        position = np.int64(0)
    _add_shifted(mantissa, position, negative, limbs)


@compiled
def _add_square(mantissa: np.uint64, position: np.int64, limbs: Limbs) -> None:
    """Add mantissa**2 * 2**position, mantissa below 2**53, by the three products of its halves."""
    low, high = mantissa & _LOW, mantissa >> _32
    _add_shifted(low * low, position, False, limbs)
    if high != 0:
        _add_shifted((low * high) << _ONE, position + 32, False, limbs)
        _add_shifted(high * high, position + 64, False, limbs)


@compiled
def _add_shifted(value: np.uint64, position: np.int64, negative: bool, limbs: Limbs) -> None:
    """Add value * 2**position, value any 64-bit number, to three limbs."""
    index, first, second, third = pieces(value, position)
    if negative:
        first, second, third = -first, -second, -third
    limbs[index] += first
    limbs[index + 1] += second
    limbs[index + 2] += third


@compiled
def carry(limbs: Limbs) -> None:
    """Bring all limbs but the last, of each column, into 32 bits: the only way to write a sum."""
    for i in range(limbs.shape[0] - 1):
        lower, upper = limbs[i], limbs[i + 1]
        for column in range(lower.size):
            upper[column] += lower[column] >> 32
            lower[column] &= 0xFFFFFFFF


@compiled
def round_columns(limbs: Limbs, counters: Limbs, base: int, root: bool, result: npt.NDArray[np.float64]) -> None:
    """Round the sum in each column of carried limbs to float64, half to even; then take the square root if ``root``."""
    limb = np.empty(limbs.shape[0], np.int64)
    for column in range(limbs.shape[1]):
        plus, minus, nan = counters[0, column], counters[1, column], counters[2, column]
        if nan > 0 or (plus > 0 and minus > 0):
            result[column] = np.nan
        elif plus > 0 or minus > 0:
            result[column] = np.inf if plus > 0 else -np.inf
        else:
            for i in range(limb.size):
                limb[i] = limbs[i, column]
            result[column] = _rounded(limb, base, root)


@compiled
def _rounded(limbs: Limbs, base: int, root: bool) -> float:
    """The sum, rounded to 53 bits, or the square root of that. Writes over ``limbs``."""
    last = limbs.size - 1
    negative = limbs[last] < 0
    if negative:
        _negate(limbs)
    top = last
    while top > 0 and limbs[top] == 0:
        top -= 1
    mantissa, exponent = _leading_bits(limbs, top)
    exponent += base
    if root:
        if exponent % 2 != 0:  # a Python remainder: odd is odd for negative exponents too
            mantissa, exponent = 2.0 * mantissa, exponent - 1
        return math.ldexp(math.sqrt(mantissa), exponent // 2)
    value = math.ldexp(mantissa, exponent)
    return -value if negative else value


@compiled
def _negate(limbs: Limbs) -> None:
    """The limbs, carried again, of the number with the other sign."""
    carried = np.int64(0)
    for i in range(limbs.size - 1):
        carried -= limbs[i]
        limbs[i] = carried & 0xFFFFFFFF
        carried >>= 32
    limbs[limbs.size - 1] = carried - limbs[limbs.size - 1]


@compiled
def _leading_bits(limbs: Limbs, top: int) -> tuple[float, int]:
    """(m, e): the non-negative sum is m * 2**e after rounding to 53 bits; ``top`` is its highest limb that is not 0."""
    head = np.uint64(limbs[top])
    length = math.frexp(np.float64(limbs[top]))[1]  # the last limb is below 2**53: it only holds carries
    window, bits, index = head, length, top - 1
    while index >= 0 and bits + 32 <= 64:
        window = (window << _32) | np.uint64(limbs[index])
        bits += 32
        index -= 1
    taken = 0
    if index >= 0 and bits < 64:
        taken = 64 - bits
        window = (window << np.uint64(taken)) | (np.uint64(limbs[index]) >> np.uint64(32 - taken))
    sticky = False
    if index >= 0:
        sticky = (np.uint64(limbs[index]) & ((_ONE << np.uint64(32 - taken)) - _ONE)) != 0
        for i in range(index):
            sticky = sticky or limbs[i] != 0
    exponent = 32 * (index + 1) - taken
    excess = bits + taken - _EXACT_BITS
    if excess <= 0:
        return np.float64(window), exponent
    return _half_even(window, np.uint64(excess), sticky), exponent + excess


@compiled
def _half_even(window: np.uint64, excess: np.uint64, sticky: bool) -> float:
    """``window`` without its last ``excess`` bits, rounded half to even; ``sticky``: something non-zero follows it."""
    kept = window >> excess
    rest = window & ((_ONE << excess) - _ONE)
    half = _ONE << (excess - _ONE)
    if rest > half or (rest == half and (sticky or (kept & _ONE) != 0)):
        kept += _ONE
    return np.float64(kept)
