"""The compiled inner loops of the CPU kernels: one pass each over contiguous one-dimensional pieces.

Bit patterns are uint16, uint32 or uint64; values are float32 or float64 (pieces of 16-bit floats are widened before).
The functions of one number are also called by the CUDA kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled
from secateur.kernels.formats import BINS_PER_OCTAVE, DIGIT_BITS, DIGITS, MAGNITUDES, SMALLEST_OCTAVE

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

_DIGIT_BITS = np.uint64(DIGIT_BITS)
_DIGIT_MASK = np.uint64(DIGITS - 1)
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@compiled
def clear_bits(bits: Array, kept: Any, out: Array) -> None:
    """out = bits & kept."""
    for i in range(bits.size):
        out[i] = bits[i] & kept


@compiled
def widen(patterns: Array, is_half: bool, out: Array) -> None:
    """out = the patterns of the float32 of the same values as those of float16, or of bfloat16."""
    if is_half:
        for i in range(patterns.size):
            out[i] = _widen_half(np.uint32(patterns[i]))
    else:
        for i in range(patterns.size):
            out[i] = np.uint32(patterns[i]) << np.uint32(16)


@compiled
def _widen_half(pattern: np.uint32) -> Any:
    """The exponent's bias is mended by a product, which also makes subnormals normal; infinities and NaN stay so."""
    magnitude = np.uint32((pattern & np.uint32(0x7FFF)) << np.uint32(13))
    widened = np.uint32(np.float32(magnitude.view(np.float32) * np.float32(2.0**112)).view(np.uint32))
    special = np.uint32(0x7F800000) if magnitude >= np.uint32(0x0F800000) else np.uint32(0)
    return np.uint32(widened | special | ((pattern & np.uint32(0x8000)) << np.uint32(16)))


@compiled
def product_absolute(a: Array, b: Array, out: Array) -> None:
    """out = |a * b|."""
    for i in range(a.size):
        out[i] = abs(a[i] * b[i])


@compiled
def add(total: Array, x: Array) -> None:
    """total += x, first converted to the dtype of the total, as in those that follow."""
    number = total.dtype.type
    for i in range(total.size):
        total[i] += number(x[i])


@compiled
def add_absolute(total: Array, x: Array) -> None:
    """total += |x|."""
    number = total.dtype.type
    for i in range(total.size):
        total[i] += abs(number(x[i]))


@compiled
def add_square(total: Array, x: Array) -> None:
    """total += x * x, rounded before it is added."""
    number = total.dtype.type
    for i in range(total.size):
        value = number(x[i])
        total[i] += value * value


@compiled
def add_product(total: Array, x: Array, weight: Array) -> None:
    """total += x * weight, rounded before it is added."""
    number = total.dtype.type
    for i in range(total.size):
        total[i] += number(x[i]) * number(weight[i])


@compiled
def first_nan(x: Array) -> int:
    """Position of the first NaN, or -1."""
    for i in range(x.size):
        if x[i] != x[i]:
            return i
    return -1


@compiled
def largest_magnitudes(bits: Array, kept: Any, out: Array) -> None:
    """out[i] = the largest of row i of ``bits & kept``: with the sign cleared they sort as magnitudes, NaN last."""
    unsigned = bits.dtype.type
    for row in range(bits.shape[0]):
        line, largest = bits[row], unsigned(0)
        for column in range(line.size):
            largest = max(largest, unsigned(line[column] & kept))
        out[row] = largest


@compiled
def histogram_bin(pattern: np.uint64, double: bool) -> Any:
    """The bin of the fixed logarithmic grid for the float64 (or float32) of that bit pattern."""
    shift = np.uint64(52 - 5 if double else 23 - 5)
    lowest = ((1023 if double else 127) + SMALLEST_OCTAVE) * BINS_PER_OCTAVE
    sign_bit = np.uint64(63 if double else 31)
    step = np.int64((pattern & ((_ONE << sign_bit) - _ONE)) >> shift) - lowest
    step = min(max(step + 1, np.int64(0)), np.int64(MAGNITUDES))
    return MAGNITUDES - step if (pattern >> sign_bit) != 0 else MAGNITUDES + step


@compiled
def sort_key(pattern: np.uint64, double: bool) -> Any:
    """The key (``formats``) of the float64 (or float32) of that bit pattern, as uint64."""
    sign = _ONE << np.uint64(63 if double else 31)
    if pattern == sign:
        pattern = np.uint64(0)
    return (~pattern & (sign - _ONE)) if (pattern & sign) != 0 else (pattern | sign)


@compiled
def magnitude_bits(double: bool) -> Any:
    """All bits of a float64 (or float32) but the sign, as uint64."""
    return (_ONE << np.uint64(63 if double else 31)) - _ONE


@compiled
def digit_counts(bits: Array, absolute: bool, prefixes: Array, shift: Any, counts: Counts) -> None:
    """Add to counts[row] the digits from bit ``shift`` up of keys whose higher bits equal prefixes[row] (uint64)."""
    double = bits.itemsize == 8
    kept = magnitude_bits(double) if absolute else _ALL
    for i in range(bits.size):
        digits = sort_key(np.uint64(bits[i]) & kept, double) >> shift
        prefix = digits >> _DIGIT_BITS
        for row in range(prefixes.size):
            if prefixes[row] == prefix:
                counts[row, np.int64(digits & _DIGIT_MASK)] += 1
                break
