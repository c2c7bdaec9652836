"""Exact sums in 32-bit limbs: adding floats to them, carrying, rounding. The format is told in ``formats``.

Integers are kept unsigned with care: where Numba meets a signed and an unsigned operand it computes in float64.
The functions of one number are also called by the CUDA kernels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled
from secateur.kernels.formats import COUNTERS, UNIT

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_ONE = np.uint64(1)
_EXACT_BITS = 53
_VALUE_UNIT = UNIT["value"]
_SQUARE_UNIT = UNIT["square"]
_CARRY_EVERY = 1 << 20
# Bits of float32 and float64: width of the fraction, and the exponent field's bias counted from the unit of a sum.
_SINGLE = (23, -150)
_DOUBLE = (52, -1075)


@compiled
def add_rows(bits: npt.NDArray[Any], square: bool, absolute: bool, sums: npt.NDArray[np.int64]) -> None:
    """Add row i of ``bits`` (uint32 or uint64 patterns of floats, 2-D contiguous) to row i of ``sums``, and carry."""
    for row in range(bits.shape[0]):
        for start in range(0, bits.shape[1], _CARRY_EVERY):
            part = bits[row, start : start + _CARRY_EVERY]
            _add(part, square, absolute, sums[row])
            carry(sums[row])


@compiled
def carry(limbs: npt.NDArray[np.int64]) -> None:
    """Bring all limbs but the last into 32 bits: the one way to write a sum, so equal sums have equal limbs."""
    for i in range(limbs.size - COUNTERS - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= 0xFFFFFFFF


@compiled
def carry_rows(sums: npt.NDArray[np.int64]) -> None:
    """:func:`carry` for every row."""
    for row in range(sums.shape[0]):
        carry(sums[row])


@compiled
def round_rows(sums: npt.NDArray[np.int64], result: npt.NDArray[np.float64], square: bool, root: bool) -> None:
    """Round each row of ``sums`` to float64, half to even; then take the square root if ``root``."""
    unit = _SQUARE_UNIT if square else _VALUE_UNIT
    for row in range(sums.shape[0]):
        limbs = sums[row].copy()
        plus, minus, nan = limbs[limbs.size - 3], limbs[limbs.size - 2], limbs[limbs.size - 1]
        if nan > 0 or (plus > 0 and minus > 0):
            result[row] = np.nan
        elif plus > 0 or minus > 0:
            result[row] = np.inf if plus > 0 else -np.inf
        else:
            result[row] = _rounded(limbs, unit, root)


@compiled
def unpacked(pattern: np.uint64, double: bool) -> tuple[Any, Any, Any]:
    """(m, p, negative): the magnitude of the float64 (or float32) of that bit pattern is m * 2**p times a sum's unit.

    p is -1 where it is not finite: then m is 0 for infinity, and not 0 for NaN.
    """
    fraction_bits = np.uint64(_DOUBLE[0] if double else _SINGLE[0])
    bias = (_DOUBLE[1] if double else _SINGLE[1]) - _VALUE_UNIT
    largest = np.uint64(2047 if double else 255)
    exponent = (pattern >> fraction_bits) & largest
    mantissa = pattern & ((_ONE << fraction_bits) - _ONE)
    negative = (pattern >> fraction_bits) > largest
    if exponent == largest:
        return mantissa, np.int64(-1), negative
    if exponent != 0:
        mantissa |= _ONE << fraction_bits
    else:
        exponent = _ONE
    return mantissa, np.int64(exponent) + bias, negative


@compiled
def pieces(value: np.uint64, position: np.int64) -> tuple[Any, Any, Any, Any]:
    """value * 2**position, value any 64-bit number, as the index of its lowest limb and what three limbs get."""
    shift = np.uint64(position & 31)
    low = (value & _LOW) << shift
    high = (value >> _32) << shift
    return position >> 5, np.int64(low & _LOW), np.int64((low >> _32) + (high & _LOW)), np.int64(high >> _32)


@compiled
def _add(bits: npt.NDArray[Any], square: bool, absolute: bool, limbs: npt.NDArray[np.int64]) -> None:
    """Add floats given by their bits; at most _CARRY_EVERY between two carries."""
    double = bits.itemsize == 8
    counters = limbs.size - COUNTERS
    for i in range(bits.size):
        mantissa, position, negative = unpacked(np.uint64(bits[i]), double)
        negative = negative and not (absolute or square)
        if position < 0:
            limbs[counters + (2 if mantissa != 0 else 1 if negative else 0)] += 1
        elif square:
            _add_square(limbs, mantissa, 2 * position)
        else:
            _add_shifted(limbs, mantissa, position, negative)


@compiled
def _add_square(limbs: npt.NDArray[np.int64], mantissa: np.uint64, position: np.int64) -> None:
    """Add mantissa**2 * 2**position, mantissa below 2**53, by the three products of its halves."""
    low, high = mantissa & _LOW, mantissa >> _32
    _add_shifted(limbs, low * low, position, False)
    if high != 0:
        _add_shifted(limbs, (low * high) << _ONE, position + 32, False)
        _add_shifted(limbs, high * high, position + 64, False)


@compiled
def _add_shifted(limbs: npt.NDArray[np.int64], value: np.uint64, position: np.int64, negative: bool) -> None:
    """Add value * 2**position, value any 64-bit number, to three limbs."""
    index, first, second, third = pieces(value, position)
    if negative:
        first, second, third = -first, -second, -third
    limbs[index] += first
    limbs[index + 1] += second
    limbs[index + 2] += third


@compiled
def _rounded(limbs: npt.NDArray[np.int64], unit: int, root: bool) -> float:
    """The sum, rounded to 53 bits, times 2**unit, or the square root of that. Writes over ``limbs``."""
    carry(limbs)
    last = limbs.size - COUNTERS - 1
    negative = limbs[last] < 0
    if negative:
        for i in range(last + 1):
            limbs[i] = -limbs[i]
        carry(limbs)
    top = last
    while top > 0 and limbs[top] == 0:
        top -= 1
    mantissa, exponent = _leading_bits(limbs, top)
    exponent += unit
    if root:
        if exponent % 2 != 0:  # a Python remainder: odd is odd for negative exponents too
            mantissa, exponent = 2.0 * mantissa, exponent - 1
        return math.ldexp(math.sqrt(mantissa), exponent // 2)
    value = math.ldexp(mantissa, exponent)
    return -value if negative else value


@compiled
def _leading_bits(limbs: npt.NDArray[np.int64], top: int) -> tuple[float, int]:
    """(m, e): the non-negative sum is m * 2**e after rounding to 53 bits; ``top`` is its highest limb that is not 0."""
    head = np.uint64(limbs[top])
    length = 0
    while length < 64 and (head >> np.uint64(length)) != 0:
        length += 1
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
