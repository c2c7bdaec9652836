"""Arrays as what compiled loops take: contiguous lines of numbers, and their bit patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels import loops

Array = npt.NDArray[Any]


def bits(x: Array) -> Array:
    """The bit patterns, without a copy."""
    return x.view(f"uint{8 * x.itemsize}")


def line(x: Array) -> Array:
    """The elements as a contiguous line; a copy only if they do not lie so."""
    return np.ascontiguousarray(x).reshape(-1)


def values(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """The elements as a contiguous line of float32 or float64: of ``dtype``, or as narrow as holds them exactly."""
    if x.itemsize == 2:
        patterns, is_half = bits(line(x)), x.dtype == np.float16
        x = np.empty(patterns.size, np.float32)
        loops.widen(patterns, is_half, bits(x))
    return line(x).astype(dtype or x.dtype, copy=False)
