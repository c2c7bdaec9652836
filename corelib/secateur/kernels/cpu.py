"""CPU kernels on NumPy arrays of any layout; the twin of ``cuda``. What each function does: see ``kernels.Kernels``.

Each function cuts its arrays into pieces, brings a piece into a contiguous line (no copy where it lies so already)
and gives it to a compiled loop on the shared threads. Where the order of elements does not matter, arrays are walked as
they lie in memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import Index, as_stored, partition, single_dtype
from secateur.kernels import formats, limbs, loops
from secateur.kernels.cpu_groups import first_nan_product, mask_n_of_m, mask_per_row, zero_n_of_m, zero_per_row
from secateur.kernels.cpu_masks import (
    combine,
    count_kept,
    first_kept,
    has_nan,
    mask_above,
    pack,
    unpack,
    zero_at_most,
    zero_where_false,
)
from secateur.kernels.formats import Kind, Term
from secateur.kernels.lines import cuts
from secateur.kernels.lines import line as _line
from secateur.kernels.lines import update as _update
from secateur.kernels.threads import mapped, thread_count

__all__ = [
    "absolute",
    "accumulate",
    "combine",
    "count_kept",
    "digit_counts",
    "exact_sums",
    "extremes",
    "first_kept",
    "first_nan",
    "first_nan_product",
    "from_host",
    "histogram",
    "largest_magnitudes",
    "mask_above",
    "mask_n_of_m",
    "mask_per_row",
    "pack",
    "product_absolute",
    "to_host",
    "unpack",
    "zero_at_most",
    "zero_n_of_m",
    "zero_per_row",
    "zero_where_false",
]

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_TERMS: dict[Term, Callable[..., None]] = {
    "value": loops.add,
    "absolute": loops.add_absolute,
    "square": loops.add_square,
    "product": loops.add_product,
}


def absolute(x: Array) -> Array:
    """|x| by clearing the sign bit."""
    result = np.empty_like(x)
    source, target = as_stored(_bits(x), _bits(result))
    magnitude_bits = source.dtype.type(np.iinfo(source.dtype).max >> 1)

    def work(index: Index) -> None:
        _update(target[index], lambda out: loops.clear_bits(_line(source[index]), magnitude_bits, out))

    mapped(work, list(partition(source.shape)))
    return result


def product_absolute(a: Array, b: Array) -> Array:
    """|a * b| in float32, or float64 if either factor is."""
    dtype = np.result_type(np.float32, single_dtype(a.dtype), single_dtype(b.dtype))
    result = np.empty_like(a, dtype=dtype)
    first, second, target = as_stored(a, b, result)

    def work(index: Index) -> None:
        x, y = _values(first[index], dtype), _values(second[index], dtype)
        _update(target[index], lambda out: loops.product_absolute(x, y, out))

    mapped(work, list(partition(first.shape)))
    return result


def accumulate(total: Array, x: Array, kind: Term, weight: Array | None = None) -> None:
    """total += the term that ``kind`` names."""
    sources = [x] if weight is None else [x, weight]
    target, *stored = as_stored(total, *sources)
    loop = _TERMS[kind]
    widened = any(source.dtype.itemsize == 2 for source in sources)

    def work(index: Index) -> None:
        values = [_values(source[index]) for source in stored]
        _update(target[index], lambda out: loop(out, *values))

    mapped(work, list(partition(target.shape)) if widened else cuts(target))


def first_nan(x: Array) -> int:
    """Position of the first NaN in C order, or -1."""
    if not has_nan(x):
        return -1
    start = 0
    for index in partition(x.shape):
        values = _values(x[index])
        found = loops.first_nan(values)
        if found >= 0:
            return start + found
        start += values.size
    return -1


def extremes(x: Array) -> tuple[float, float, int]:
    """Smallest, largest, number of zeros."""
    (stored,) = as_stored(x)
    parts = mapped(lambda index: loops.extremes(_values(stored[index])), list(partition(stored.shape)))
    lowest = min((part[0] for part in parts), default=math.inf)
    highest = max((part[1] for part in parts), default=-math.inf)
    return float(lowest + 0.0), float(highest + 0.0), int(sum(part[2] for part in parts))


def histogram(x: Array) -> Counts:
    """Counts by the fixed logarithmic grid."""
    (stored,) = as_stored(x)

    def work(indices: Sequence[Index]) -> Counts:
        counts = np.zeros(formats.HISTOGRAM_BINS, np.int64)
        for index in indices:
            loops.histogram(_bits(_values(stored[index])), counts)
        return counts

    return _added(mapped(work, _stripes(stored.shape)), (formats.HISTOGRAM_BINS,))


def digit_counts(x: Array, dtype: np.dtype[Any], prefixes: Sequence[int], level: int, absolute: bool = False) -> Counts:
    """Counts of one digit of the keys that begin with each prefix."""
    (stored,) = as_stored(x)
    wanted = np.array(prefixes, np.uint64)
    shift = np.uint64(formats.DIGIT_BITS * (formats.levels(dtype) - 1 - level))

    def work(indices: Sequence[Index]) -> Counts:
        counts = np.zeros((len(prefixes), formats.DIGITS), np.int64)
        for index in indices:
            loops.digit_counts(_bits(_values(stored[index], dtype)), absolute, wanted, shift, counts)
        return counts

    return _added(mapped(work, _stripes(stored.shape)), (len(prefixes), formats.DIGITS))


def exact_sums(x: Array, kind: Kind, block: Sequence[int]) -> Counts:
    """Exact sums over blocks, in limbs."""
    width = formats.WIDTH[kind]

    def reduce(rows: Array) -> Counts:
        sums = np.zeros((len(rows), width), np.int64)
        limbs.add_rows(_bits(rows), kind == "square", kind == "absolute", sums)
        return sums

    sums = _by_block(x, block, reduce, np.add, np.zeros((*formats.grid(x.shape, block), width), np.int64))
    limbs.carry_rows(sums.reshape(-1, width))
    return sums


def largest_magnitudes(x: Array, block: Sequence[int]) -> Floats:
    """The largest magnitude of each block."""

    def reduce(rows: Array) -> Floats:
        largest = np.empty(len(rows))
        loops.largest_magnitudes(rows, largest)
        return largest

    return _by_block(x, block, reduce, np.maximum, np.zeros(formats.grid(x.shape, block)))


def to_host(x: Array) -> Array:
    """The array itself."""
    return x


def from_host(x: Array, like: Array) -> Array:
    """The array itself."""
    return x


def _bits(x: Array) -> Array:
    """The bit patterns, without a copy."""
    return x.view(f"uint{8 * x.itemsize}")


def _values(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """The elements as a contiguous line of float32 or float64: of ``dtype``, or as narrow as holds them exactly."""
    if x.dtype.name == "bfloat16":
        patterns = _bits(_line(x)).astype(np.uint32)
        x = (patterns << np.uint32(16)).view(np.float32)
    return _line(x).astype(dtype or np.result_type(x.dtype, np.float32), copy=False)


def _stripes(shape: Sequence[int]) -> list[list[Index]]:
    """The pieces of an array dealt to the threads, so that each needs its large buffer of counts once."""
    indices = list(partition(shape))
    hands = min(thread_count(), len(indices))
    return [indices[i::hands] for i in range(hands)]


def _added(parts: Sequence[Counts], shape: tuple[int, ...]) -> Counts:
    total = np.zeros(shape, np.int64)
    for part in parts:
        total += part
    return total


def _by_block(
    x: Array, block: Sequence[int], reduce: Callable[[Array], Array], merge: np.ufunc, result: Array
) -> Array:
    """Merge into ``result[*grid]`` what ``reduce`` makes of each block, given as rows of a 2-D contiguous array."""
    if math.prod(formats.grid(x.shape, block)) == 1:
        (stored,) = as_stored(x)
        for _, part in _reduce_rows(stored, x.size, 0, reduce):
            merge(result, part.reshape(result.shape), out=result)
        return result
    for region in _regions(x.shape, block):
        source = x[tuple(slice(start, stop) for start, stop, _ in region)]
        sizes = [size for _, _, size in region]
        counts = [extent // size for extent, size in zip(source.shape, sizes, strict=True)]
        grid = tuple(
            slice(lo // b, lo // b + count) for (lo, _, _), b, count in zip(region, block, counts, strict=True)
        )
        blocks = source.reshape([n for pair in zip(counts, sizes, strict=True) for n in pair])
        blocks = blocks.transpose(*range(0, blocks.ndim, 2), *range(1, blocks.ndim, 2))
        region_result = np.zeros((math.prod(counts), *result.shape[x.ndim :]), result.dtype)
        for row, part in _reduce_rows(blocks, math.prod(sizes), x.ndim, reduce):
            merge(region_result[row : row + len(part)], part, out=region_result[row : row + len(part)])
        result[grid] = region_result.reshape(*counts, *result.shape[x.ndim :])
    return result


def _regions(shape: Sequence[int], block: Sequence[int]) -> list[tuple[tuple[int, int, int], ...]]:
    """Regions of equal blocks, cut where the last whole block of an axis ends: (start, stop, block size) by axis."""
    axes = []
    for extent, size in zip(shape, block, strict=True):
        whole = extent // size * size
        axes.append([part for part in ((0, whole, size), (whole, extent, extent - whole)) if part[0] < part[1]])
    return list(itertools.product(*axes))


def _reduce_rows(
    blocks: Array, row_size: int, grid_axes: int, reduce: Callable[[Array], Array]
) -> list[tuple[int, Array]]:
    """(first row, reduced rows) of every piece of ``blocks``, whose first ``grid_axes`` axes number the rows."""

    def work(index: Index) -> tuple[int, Array]:
        starts = [at.start if isinstance(at, slice) else at for at in index if at is not ...][:grid_axes]
        row = 0
        for axis in range(grid_axes):
            row = row * blocks.shape[axis] + (starts[axis] if axis < len(starts) else 0)
        values = _values(blocks[index])
        whole_rows = len(index) <= grid_axes
        return row, reduce(values.reshape(-1, row_size) if whole_rows else values.reshape(1, -1))

    return mapped(work, list(partition(blocks.shape)))
