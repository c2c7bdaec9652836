"""The numbers that kernels are timed on: one line of memory, seen as fifty arrays of uneven sizes or as one matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np

from secateur import masks, scores, thresholds

ARRAYS = 50
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def host_case(case: str, size: int) -> Any:
    """``size`` float32 numbers of a kind, the same ones in every run."""
    draw = np.random.default_rng(1)
    if case == "constant":
        return np.full(size, 0.25, np.float32)
    if case == "few values":
        return draw.integers(-8, 9, size, np.int8).astype(np.float32) / np.float32(8)
    numbers = draw.standard_normal(size, np.float32)
    if case == "80 % zeros":
        numbers[draw.random(size, np.float32) < 0.8] = 0
    return np.sort(numbers) if case == "sorted" else numbers


class Load:
    """About ``size`` numbers of a dtype, and what operations need beside them, all made when first asked for.

    Args:
        size: how many; a little fewer, so that they fill a matrix whose rows are a multiple of 4 long.
        dtype: a key of DTYPES.
        place: brings a host array to where operations work.
        copy: ``copy(target, source)`` of placed arrays.
    """

    def __init__(
        self,
        size: int,
        dtype: str = "float32",
        place: Callable[[Any], Any] = lambda array: array,
        copy: Callable[[Any, Any], Any] = np.copyto,
    ) -> None:
        columns = max(4, math.isqrt(size) // 4 * 4)
        self.shape = (size // columns, columns)
        self.size, self.dtype, self.place, self._copy = math.prod(self.shape), dtype, place, copy
        self._cases: dict[str, Any] = {}
        self._fresh: dict[str, Any] = {}

    @cached_property
    def cuts(self) -> list[slice]:
        """Where the arrays lie in the line; some are a hundred times as large as others."""
        sizes = np.random.default_rng(2).lognormal(sigma=1.2, size=ARRAYS)
        ends = np.unique(np.rint(np.cumsum(sizes) / sizes.sum() * self.size / 64).astype(int) * 64)
        bounds = [0, *(int(end) for end in ends if 0 < end < self.size), self.size]
        return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]

    def case(self, case: str = "normal") -> Any:
        """The line of numbers of a kind. Not to be changed."""
        if case not in self._cases:
            self._cases[case] = self.place(host_case(case, self.size).astype(DTYPES[self.dtype], copy=False))
        return self._cases[case]

    def fresh(self, case: str = "normal") -> Any:
        """The same line in memory that may be changed, written anew by each call."""
        if "line" not in self._fresh:
            self._fresh["line"] = self.place(np.zeros(self.size, DTYPES[self.dtype]))
        self._copy(self._fresh["line"], self.case(case))
        return self._fresh["line"]

    def arrays(self, line: Any) -> list[Any]:
        """The fifty arrays of a line."""
        return [line[cut] for cut in self.cuts]

    def matrix(self, line: Any, transposed: bool = False) -> Any:
        """The matrix of a line, its rows lying together, or its columns."""
        return line.reshape(*self.shape[::-1]).T if transposed else line.reshape(*self.shape)

    @cached_property
    def threshold(self) -> float:
        """The median magnitude."""
        return float(thresholds.percentile(self.case(), 50, absolute=True))

    @cached_property
    def mask(self) -> Any:
        """A line of bool: True for the larger half of the magnitudes."""
        return masks.keep_above(scores.magnitude(self.case()), self.threshold)

    @cached_property
    def packed(self) -> list[Any]:
        """The mask of each array, packed."""
        return [masks.pack(mask) for mask in self.arrays(self.mask)]

    @cached_property
    def total(self) -> Any:
        """A running total of float32, changed by each use."""
        return self.place(np.zeros(self.size, np.float32))

    @cached_property
    def input_norms(self) -> Any:
        """One positive factor for each column of the matrix."""
        return self.place(np.random.default_rng(3).random(self.shape[1], np.float32) + np.float32(0.5))
