"""The number formats in which kernels of every device hand over what they counted, so that results merge.

**Keys.** An unsigned integer that sorts as the float does: the sign bit flipped for positive numbers, all bits for
negative ones, and -0.0 mapped to 0.0. A digit is 16 bits of a key, counted from the top.

**Exact sums.** A sum is an integer in units of 2**-1074 (or 2**-2148 for squares), cut into 32-bit limbs that are held
in int64, lowest first, so that additions need no carry for a long time and two sums add elementwise (Neal 2015, "Fast
exact summation using small and large superaccumulators"). Three counters follow the limbs: of +inf, -inf and NaN.

**Histogram.** Bins of a fixed logarithmic grid: 32 to an octave, magnitudes from 2**-96 to 2**32, both signs, one bin
in the middle for smaller magnitudes and zero; the outermost bins also take everything beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["value", "absolute", "square"]
Term = Literal["value", "absolute", "square", "product"]
"""What is added of each element: itself, its magnitude, its square, its product with a weight."""

DIGIT_BITS = 16
DIGITS = 1 << DIGIT_BITS

LIMB_BITS = 32
COUNTERS = 3
UNIT = {"value": -1074, "absolute": -1074, "square": -2148}
"""The exponent of two of an exact sum's unit."""
WIDTH = {"value": 68 + COUNTERS, "absolute": 68 + COUNTERS, "square": 134 + COUNTERS}
"""Length of an exact sum: 2,098 (4,196 for squares) bits of range, at least 64 more for carries, then the counters."""

BINS_PER_OCTAVE = 32
SMALLEST_OCTAVE = -96
OCTAVES = 128
MAGNITUDES = OCTAVES * BINS_PER_OCTAVE
HISTOGRAM_BINS = 2 * MAGNITUDES + 1
"""Bin MAGNITUDES is the middle one; MAGNITUDES + 1 + i holds positive and MAGNITUDES - 1 - i negative magnitudes."""


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
