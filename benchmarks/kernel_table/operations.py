"""Secateur's operations as the table times them: each prepares, untimed, and gives the call that is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.kernel_table.loads import Load
from secateur import distributions, masks, scores, thresholds

Prepare = Callable[[Load], Callable[[], Any]]


def percentile(q: float, case: str = "normal") -> Prepare:
    def prepare(load: Load) -> Callable[[], Any]:
        arrays = load.arrays(load.case(case))
        return lambda: thresholds.percentile(arrays, q, absolute=True)

    return prepare


def zero_smallest(share: float) -> Prepare:
    def prepare(load: Load) -> Callable[[], Any]:
        arrays, keep = load.arrays(load.fresh()), round(load.size * (1 - share))
        return lambda: masks.zero_smallest(arrays, keep)

    return prepare


def summary(load: Load) -> Callable[[], Any]:
    arrays = load.arrays(load.case())
    return lambda: distributions.summarize(arrays)


def zero_below(load: Load) -> Callable[[], Any]:
    arrays, threshold = load.arrays(load.fresh()), load.threshold
    return lambda: [masks.zero_below(array, threshold) for array in arrays]


def apply_bool(load: Load) -> Callable[[], Any]:
    pairs = list(zip(load.arrays(load.fresh()), load.arrays(load.mask), strict=True))
    return lambda: [masks.apply(array, mask) for array, mask in pairs]


def apply_packed(load: Load) -> Callable[[], Any]:
    pairs = list(zip(load.arrays(load.fresh()), load.packed, strict=True))
    return lambda: [masks.apply(array, bits) for array, bits in pairs]


def keep_above(packed: bool) -> Prepare:
    def prepare(load: Load) -> Callable[[], Any]:
        arrays, threshold = load.arrays(load.case()), load.threshold
        return lambda: [masks.keep_above(array, threshold, packed=packed) for array in arrays]

    return prepare


def neuron_sums(axis: int, transposed: bool) -> Prepare:
    def prepare(load: Load) -> Callable[[], Any]:
        matrix = load.matrix(load.case(), transposed)
        return lambda: scores.reduce(matrix, axis)

    return prepare


def accumulate(load: Load) -> Callable[[], Any]:
    pairs = list(zip(load.arrays(load.total), load.arrays(load.case()), strict=True))
    return lambda: [scores.accumulate(total, gradient) for total, gradient in pairs]


def two_of_four(load: Load) -> Callable[[], Any]:
    matrix = load.matrix(load.fresh())
    return lambda: masks.zero_n_of_m(matrix, 2, 4, axis=1)


def wanda(load: Load) -> Callable[[], Any]:
    matrix, norms = load.matrix(load.fresh()), load.input_norms
    return lambda: masks.zero_per_row(matrix, load.shape[1] // 2, norms)
