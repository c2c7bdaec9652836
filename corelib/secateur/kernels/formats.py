"""The number formats in which kernels of every device hand over what they counted, so that results merge.

**Keys.** An unsigned integer that sorts as the float does: the sign bit flipped for positive numbers, all bits for
negative ones, and -0.0 mapped to 0.0. A digit is 16 bits of a key, counted from the top.

**Exact sums.** A sum is an integer, cut into 32-bit limbs that are held in int64, lowest first, so that additions need
no carry for a long time and two sums add elementwise (Neal 2015, "Fast exact summation using small and large
superaccumulators"). The limbs cover what sums of the dtype can reach: its *window*, in units of 2**base.

**Histogram.** Bins of a fixed logarithmic grid: 32 to an octave, magnitudes from 2**-96 to 2**32, both signs, one bin
in the middle for smaller magnitudes and zero; the outermost bins also take everything beyond.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["value", "absolute", "square"]
Term = Literal["value", "absolute", "square", "product"]
"""What is added of each element: itself, its magnitude, its square, its product with a weight."""
KINDS: tuple[Kind, Kind, Kind] = ("value", "absolute", "square")

DIGIT_BITS = 16
DIGITS = 1 << DIGIT_BITS

LIMB_BITS = 32
UNIT = {"value": -1074, "absolute": -1074, "square": -2148}
"""The exponent of two in whose units every exact sum is a whole number."""
COUNTERS = 3
_CARRIES = 64
# Exponents of two of the lowest bit, and of what all numbers lie below. The 16-bit types are widened before.
_SINGLE_REACH, _DOUBLE_REACH = (-149, 128), (-1074, 1024)

BINS_PER_OCTAVE = 32
SMALLEST_OCTAVE = -96
OCTAVES = 128
MAGNITUDES = OCTAVES * BINS_PER_OCTAVE
HISTOGRAM_BINS = 2 * MAGNITUDES + 1
"""Bin MAGNITUDES is the middle one; MAGNITUDES + 1 + i holds positive and MAGNITUDES - 1 - i negative magnitudes."""


@dataclass(frozen=True)
class ExactSums:
    """Exact sums of the blocks of an array, not yet rounded.

    Args:
        base: the exponent of two of the sums' unit.
        limbs: int64[width, *grid], lowest limb first; all but the last within 32 bits, so that equal sums of the same
            dtype have equal limbs. Infinities and NaN are left out.
        counters: int64[3, *grid]: how many elements are +inf, -inf and NaN.
    """

    base: int
    limbs: npt.NDArray[np.int64]
    counters: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Digest:
    """What one pass over arrays finds. With NaN among the elements, only the sums' counters can be relied on.

    Args:
        smallest: the smallest element; a zero is +0.0.
        largest: the largest.
        zeros: how many are 0.
        sums: the exact sum of each kind, with no axes of blocks.
        histogram: their counts by the fixed grid, int64[HISTOGRAM_BINS].
    """

    smallest: float
    largest: float
    zeros: int
    sums: Mapping[Kind, ExactSums]
    histogram: npt.NDArray[np.int64]


@functools.cache
def window(kind: Kind, dtype: np.dtype[Any]) -> tuple[int, int]:
    """(base, width): the exponent of two and the number of the limbs that hold sums of numbers of that dtype."""
    reach = _DOUBLE_REACH if dtype.itemsize == 8 else _SINGLE_REACH
    lowest, above = (exponent * (2 if kind == "square" else 1) for exponent in reach)
    first = (lowest - UNIT[kind]) // LIMB_BITS
    return UNIT[kind] + first * LIMB_BITS, (above - UNIT[kind] + _CARRIES) // LIMB_BITS - first + 1


def levels(dtype: np.dtype[Any]) -> int:
    """The number of digits of a key of float32 (2) or float64 (4)."""
    return dtype.itemsize * 8 // DIGIT_BITS


def grid(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """How many blocks of that shape lie along each axis of an array; those at the upper borders may be smaller."""
    return tuple(-(-extent // side) for extent, side in zip(shape, block, strict=True))


def key_to_float(key: int, dtype: np.dtype[Any]) -> float:
    """The float32 or float64 value, exactly as a Python float, whose key is ``key``."""
    bits = dtype.itemsize * 8
    sign = 1 << (bits - 1)
    pattern = key ^ sign if key & sign else ~key & (2 * sign - 1)
    return float(np.array(pattern, dtype=f"uint{bits}").view(dtype))


def magnitude_edges() -> npt.NDArray[np.float64]:
    """The float64 edges of the magnitude bins: bin i is [edges[i], edges[i + 1])."""
    octaves = np.ldexp(1.0, np.arange(SMALLEST_OCTAVE, SMALLEST_OCTAVE + OCTAVES + 1))
    steps = 1.0 + np.arange(BINS_PER_OCTAVE) / BINS_PER_OCTAVE
    return np.append(np.outer(octaves[:-1], steps).ravel(), octaves[-1])
