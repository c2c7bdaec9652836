"""Arrays as what compiled loops take: contiguous lines of numbers, and their bit patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def bits(x: Array) -> Array:
    """The bit patterns, without a copy."""
    return x.view(f"uint{8 * x.itemsize}")


def line(x: Array) -> Array:
    """The elements as a contiguous line; a copy only if they do not lie so."""
    return np.ascontiguousarray(x).reshape(-1)


def values(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """The elements as a contiguous line of float32 or float64: of ``dtype``, or as narrow as holds them exactly."""
    if x.dtype.name == "bfloat16":
        patterns = bits(line(x)).astype(np.uint32)
        x = (patterns << np.uint32(16)).view(np.float32)
    return line(x).astype(dtype or np.result_type(x.dtype, np.float32), copy=False)
