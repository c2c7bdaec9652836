"""Exact sums of contiguous lines of float32 or float64, as fast as the range of the numbers allows.

A block of numbers that lie within some 19 octaves is added as float64 without any rounding, in any order. Of wider
blocks the upper 50 bits are split off by adding and subtracting a large number, whose last bit they then cannot pass
(pre-rounding: Demmel and Nguyen 2013), and added as integers; then the next 50 bits, until nothing is left. What is not
finite, or too near the ends of float64's exponents, goes to the limbs one by one. All ways give the same limbs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled, reordered
from secateur.kernels.lanes import multiply_add
from secateur.kernels.limbs import add_double, add_integer, add_numbers

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Limbs = npt.NDArray[np.int64]

BLOCK = 1024
"""Numbers that are looked at together."""
BLOCK_BITS = 10
_FLOAT_BITS = 53
# Bits that one level of pre-rounding takes: what is added to a magic number stays within one octave of it.
_LEVEL_BITS = 51
# Exponents within which magic numbers, and squares of float64 and their errors, neither overflow nor vanish.
_TOP = 1020
_SQUARES_TOP = 500
_SQUARES_BOTTOM = -530
_SMALLEST = -1074
_FAR = 1 << 20
# Exponents above float32, and such that no grid lies below the window of a sum of squares of float32.
_SINGLE_TOP = 128
_LEAST_CAP = -130

_ONE = np.uint64(1)


@compiled
def add_rows(x: Array, bits: Array, square: bool, absolute: bool, base: int, limbs: Limbs, counters: Limbs) -> None:
    """Add row i of x[rows, size] to column i % columns of limbs[width, columns] and counters[3, columns]."""
    room = np.empty((2, BLOCK))
    cap = np.int64(0)
    for row in range(x.shape[0]):
        column = row % limbs.shape[1]
        where, counts = limbs[:, column], counters[:, column]
        if square:
            cap = add_squares(x[row], bits[row], base, where, counts, room, cap)
        else:
            add_values(x[row], bits[row], absolute, base, where, counts, room)


@compiled
def add_values(x: Array, bits: Array, absolute: bool, base: int, limbs: Limbs, counters: Limbs, room: Floats) -> None:
    """Add all of x, or all magnitudes. ``room``: float64[2, BLOCK], written over."""
    for start in range(0, x.size, BLOCK):
        part, patterns = x[start : start + BLOCK], bits[start : start + BLOCK]
        high, low, total = _look_absolute(part, patterns) if absolute else look(part, patterns)
        above, lowest = span(high, low, bits.itemsize == 8)
        if fits(above, lowest, BLOCK_BITS):
            add_double(total, base, limbs)
        else:
            add_wide_values(part, patterns, absolute, above, base, limbs, counters, room)


@compiled
def add_squares(x: Array, bits: Array, base: int, limbs: Limbs, counters: Limbs, room: Floats, cap: Any) -> Any:
    """Add all squares; the result is the ``cap`` for the next call, at first anything: what x is expected below."""
    double = bits.itemsize == 8
    for start in range(0, x.size, BLOCK):
        part, patterns = x[start : start + BLOCK], bits[start : start + BLOCK]
        high, low, heads, tails = _look_square(part, patterns, magic(square_grid(cap, BLOCK_BITS)))
        above, lowest = span(high, low, double)
        if not double and above <= cap and fits(cap, lowest, BLOCK_BITS):
            add_double(heads, base, limbs)
            add_double(tails, base, limbs)
        else:
            add_wide_squares(part, patterns, above, lowest, base, limbs, counters, room)
            cap = next_cap(above, cap)
    return cap


@compiled
def span(high: Any, low: Any, double: bool) -> tuple[Any, Any]:
    """(a, l): all numbers lie below 2**a and are multiples of 2**l.

    ``high``: the largest pattern of a magnitude; ``low``: the smallest but that of 0, less 1, or all ones. Without any
    number but zeros every ``a`` and ``l`` would do; not finite is an ``a`` above 1024.
    """
    if high == 0:
        return np.int64(-_FAR), np.int64(_FAR)
    fraction_bits, bias = (np.uint64(52), -1075) if double else (np.uint64(23), -150)
    largest = np.int64(np.uint64(high) >> fraction_bits)
    if largest == (2047 if double else 255):
        return np.int64(_FAR), np.int64(0)
    least = np.int64((np.uint64(low) + _ONE) >> fraction_bits)
    largest, least = max(largest, np.int64(1)), max(least, np.int64(1))
    return largest + bias + np.int64(fraction_bits) + 1, least + bias


@compiled
def magic(grid: Any) -> float:
    """The float64 whose sum with any number below 2**(grid + 51) is rounded to a multiple of 2**grid."""
    return np.int64(((grid + 52 + 1023) << 52) | (1 << 51)).view(np.float64)


@compiled
def power(exponent: int) -> float:
    """2**exponent, from -1022 to 1023."""
    return np.int64((exponent + 1023) << 52).view(np.float64)


@compiled
def level_grid(above: Any, base: int) -> Any:
    """The grid for a level of numbers below 2**above that are multiples of 2**base: never below what float64 has."""
    return np.int64(max(above - _LEVEL_BITS, base, _SMALLEST))


@compiled
def fits(above: Any, lowest: Any, size_bits: int) -> Any:
    """Whether 2**size_bits numbers below 2**above, multiples of 2**lowest, are added as float64 without rounding.

    So are then their squares, split where ``magic(square_grid(above, size_bits))`` rounds them, as two sums.
    """
    return above - lowest + size_bits <= _FLOAT_BITS


@compiled
def grid(cap: Any, size_bits: int) -> Any:
    """What numbers that :func:`fits` lets pass, with ``cap`` in place of ``above``, are multiples of, as exponent."""
    return np.int64(cap + size_bits - _FLOAT_BITS)


@compiled
def square_grid(cap: Any, size_bits: int) -> Any:
    """The grid at which the squares of 2**size_bits numbers below 2**cap are split in two."""
    return np.int64(2 * cap + size_bits - _FLOAT_BITS)


@compiled
def fits_levels(above: Any, lowest: Any, square: bool) -> Any:
    """Whether magic numbers, and the errors of squares, stay within float64's exponents."""
    if not square:
        return above <= _TOP
    return lowest >= _SQUARES_BOTTOM and above <= _SQUARES_TOP


@compiled
def next_cap(above: Any, cap: Any) -> Any:
    """What the next numbers are expected below, after some that lie below 2**above: an octave of room."""
    return np.int64(max(above + 1, _LEAST_CAP) if above <= _SINGLE_TOP else cap)


@compiled
def add_wide_values(
    x: Array, bits: Array, absolute: bool, above: Any, base: int, limbs: Limbs, counters: Limbs, room: Floats
) -> None:
    """Add a block of any numbers."""
    if not fits_levels(above, 0, False):
        add_numbers(bits, False, absolute, base, limbs, counters)
        return
    rest = room[0, : x.size]
    widen(x, absolute, rest)
    _add_levels(rest, above, base, limbs)


@compiled
def add_wide_squares(
    x: Array, bits: Array, above: Any, lowest: Any, base: int, limbs: Limbs, counters: Limbs, room: Floats
) -> None:
    """Add the squares of a block of any numbers."""
    if not fits_levels(above, lowest, True):
        add_numbers(bits, True, True, base, limbs, counters)
        return
    squares, errors = room[0, : x.size], room[1, : x.size]
    square(x, squares, errors)
    _add_levels(squares, 2 * above, base, limbs)
    if bits.itemsize == 8:
        _add_levels(errors, 2 * above - _FLOAT_BITS, base, limbs)


@compiled
def widen(x: Array, absolute: bool, out: Floats) -> None:
    """out = x or |x|, as float64."""
    for i in range(x.size):
        out[i] = abs(x[i]) if absolute else x[i]


@compiled
def square(x: Array, squares: Floats, errors: Floats) -> None:
    """x * x as an unevaluated sum of two float64 (Dekker 1971)."""
    for i in range(x.size):
        v = np.float64(x[i])
        stretched = 134217729.0 * v
        upper = stretched - (stretched - v)
        lower = v - upper
        product = v * v
        squares[i] = product
        errors[i] = ((upper * upper - product) + 2.0 * upper * lower) + lower * lower


@compiled
def _add_levels(rest: Floats, above: Any, base: int, limbs: Limbs) -> None:
    """Add float64 below 2**above, which are multiples of 2**base, some 50 bits a level. Writes zeros over them."""
    while True:
        level = level_grid(above, base)
        total, left = _peel(rest, magic(level))
        add_integer(total, np.int64(level - base), limbs)
        if left == 0:
            return
        above = above_pattern(left)


@compiled
def above_pattern(left: np.int64) -> Any:
    """The least exponent of two above the positive float64 of that pattern; also of the smallest, or no level ends."""
    field = left >> 52
    return np.int64(field - 1022 if field > 0 else math.frexp(np.float64(left))[1] + _SMALLEST)


@compiled
def _peel(rest: Floats, magic_number: float) -> tuple[Any, Any]:
    """Take off what is above the grid: its sum in units of the grid, and the largest pattern that is left."""
    zero = np.float64(magic_number).view(np.int64)
    total, left = np.int64(0), np.int64(0)
    for i in range(rest.size):
        shifted = rest[i] + magic_number
        total += np.float64(shifted).view(np.int64) - zero
        remainder = rest[i] - (shifted - magic_number)
        rest[i] = remainder
        left = max(left, np.float64(abs(remainder)).view(np.int64))
    return total, left


@reordered
def look(x: Array, bits: Array) -> tuple[Any, Any, Any]:
    """(high, low, sum): see :func:`span`; the sum is exact if the span allows."""
    unsigned = bits.dtype.type
    kept = unsigned(np.uint64(0x7FFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * bits.itemsize))
    high, low, total = unsigned(0), unsigned(0xFFFFFFFFFFFFFFFF), 0.0
    for i in range(x.size):
        magnitude = unsigned(bits[i] & kept)
        high, low = max(high, magnitude), min(low, unsigned(magnitude - unsigned(1)))
        total += np.float64(x[i])
    return high, low, total


@reordered
def _look_absolute(x: Array, bits: Array) -> tuple[Any, Any, Any]:
    """As :func:`look`, with the sum of magnitudes."""
    unsigned = bits.dtype.type
    kept = unsigned(np.uint64(0x7FFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * bits.itemsize))
    high, low, total = unsigned(0), unsigned(0xFFFFFFFFFFFFFFFF), 0.0
    for i in range(x.size):
        magnitude = unsigned(bits[i] & kept)
        high, low = max(high, magnitude), min(low, unsigned(magnitude - unsigned(1)))
        total += abs(np.float64(x[i]))
    return high, low, total


@reordered
def _look_square(x: Array, bits: Array, magic_number: float) -> tuple[Any, Any, Any, Any]:
    """As :func:`look`, with the sums of both parts of the squares."""
    unsigned = bits.dtype.type
    kept = unsigned(np.uint64(0x7FFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * bits.itemsize))
    high, low, heads, tails = unsigned(0), unsigned(0xFFFFFFFFFFFFFFFF), 0.0, 0.0
    for i in range(x.size):
        magnitude = unsigned(bits[i] & kept)
        high, low = max(high, magnitude), min(low, unsigned(magnitude - unsigned(1)))
        head, tail = split_square(np.float64(x[i]), magic_number)
        heads += head
        tails += tail
    return high, low, heads, tails


@compiled
def split_square(v: float, magic_number: float) -> tuple[Any, Any]:
    """v * v, of no more than 53 bits, in two parts: a multiple of the grid, and what is left. Never reordered."""
    head = multiply_add(v, v, magic_number) - magic_number
    return head, multiply_add(v, v, -head)
