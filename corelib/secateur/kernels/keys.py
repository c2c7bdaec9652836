"""Thresholds as keys: the signed integers that sort as the floats of a dtype do (``bitwise``), both zeros being 0."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np


class Limits(NamedTuple):
    """The largest key of a value at or below a threshold, and of one below it; they are equal if no value equals it."""

    at_most: Any
    below: Any


@functools.lru_cache(maxsize=256)
def limits(dtype: np.dtype[Any], threshold: float) -> Limits:
    """Where a threshold, which is not rounded, lies among the keys of a dtype. It is no NaN."""
    signed = np.dtype(f"int{8 * dtype.itemsize}")
    largest = int(np.iinfo(signed).max)
    with np.errstate(over="ignore"):
        nearest = np.array(threshold, np.float64).astype(dtype)
    pattern = int(nearest.view(signed))
    key = pattern if pattern >= 0 else -(pattern & largest)
    value = float(nearest.astype(np.float64))
    at_most = key - (value > threshold)
    return Limits(signed.type(at_most), signed.type(at_most - (value == threshold)))
