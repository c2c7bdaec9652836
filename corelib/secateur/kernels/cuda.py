"""CUDA kernels on arrays of any library and layout; the twin of ``cpu``. What each function does: ``kernels.Kernels``.

Arrays are taken where they lie, through ``__cuda_array_interface__``; only counts and sums travel to the host. Work is
queued on the stream that the first array's interface names. One that names none, as PyTorch's does not, is taken to be
complete in the order of the default stream: wait for work that was queued on a side stream before calling. NaN that
arithmetic makes or passes on has the device's one bit pattern; all other results equal the CPU's bit for bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.arrays import dtype_of, single_dtype
from secateur.kernels import cuda_compiled, cuda_loops, cuda_sums, formats, limbs, loops
from secateur.kernels.cuda_compiled import launch
from secateur.kernels.cuda_groups import first_nan_product, mask_n_of_m, mask_per_row, zero_n_of_m, zero_per_row
from secateur.kernels.cuda_masks import (
    accumulate,
    combine,
    count_kept,
    first_kept,
    mask_above,
    pack,
    unpack,
    zero_at_most,
    zero_where_false,
)
from secateur.kernels.cuda_memory import (
    View,
    Walk,
    dense_strides,
    empty_like,
    fetched,
    launch_on,
    launch_over,
    merged,
    opened,
    to_device,
    view,
    walk,
)
from secateur.kernels.formats import Digest, ExactSums, Kind

__all__ = [
    "absolute",
    "accumulate",
    "combine",
    "count_kept",
    "digest",
    "digit_counts",
    "exact_sums",
    "first_kept",
    "first_nan",
    "first_nan_product",
    "from_host",
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

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_FLOAT64 = np.dtype(np.float64)


def absolute(x: Any) -> Any:
    """|x| by clearing the sign bit."""
    return _copied(x, (1 << (8 * dtype_of(x).itemsize - 1)) - 1)


def product_absolute(a: Any, b: Any) -> Any:
    """|a * b| in float32, or float64 if either factor is."""
    dtype = np.result_type(np.float32, single_dtype(dtype_of(a)), single_dtype(dtype_of(b)))
    with opened(a, b) as (first, second):
        result = empty_like(first, dtype, first.stream)
        target = view(result)
        positions = walk(first, second, target)
        at_a, at_b, at_result = positions.steps
        factors = (first.numbers, at_a, first.is_bfloat, second.numbers, at_b, second.is_bfloat)
        launch_over(positions, cuda_loops.product_absolute, first.stream, *factors, target.numbers, at_result)
    return result


def first_nan(x: Any) -> int:
    """Position of the first NaN in C order, or -1."""
    with opened(x) as (source,):
        for as_stored in (True, False):  # as it lies is faster, and mostly there is none
            found = to_device(np.array([source.size]), source.stream)
            launch_on(source, walk(source, as_stored=as_stored), cuda_loops.first_nan, found)
            position = int(fetched(found, source.stream)[0])
            if position == source.size:
                return -1
    return position


def digest(x: Any) -> Digest:
    """All that a summary needs, in a pass for each figure."""
    with opened(x) as (source,):
        extremes = _extremes(source)
        bins = to_device(np.zeros(formats.HISTOGRAM_BINS, np.int64), source.stream)
        launch_on(source, walk(source), cuda_loops.histogram, source.dtype == _FLOAT64, bins)
        totals = {kind: exact_sums(x, kind, source.shape) for kind in formats.KINDS}
        sums = {
            kind: ExactSums(total.base, total.limbs.reshape(-1), total.counters.reshape(-1))
            for kind, total in totals.items()
        }
        return Digest(*extremes, sums, fetched(bins, source.stream))


def digit_counts(x: Any, dtype: np.dtype[Any], prefixes: Sequence[int], level: int, absolute: bool = False) -> Counts:
    """Counts of one digit of the keys that begin with each prefix."""
    shift = formats.DIGIT_BITS * (formats.levels(dtype) - 1 - level)
    with opened(x) as (source,):
        counts = to_device(np.zeros(len(prefixes) * formats.DIGITS, np.int64), source.stream)
        wanted = to_device(np.array(prefixes, np.uint64), source.stream)
        how = (dtype == _FLOAT64, absolute, wanted, shift, counts)
        launch_on(source, walk(source), cuda_loops.digit_counts, *how)
        return fetched(counts, source.stream).reshape(len(prefixes), formats.DIGITS)


def exact_sums(x: Any, kind: Kind, block: Sequence[int]) -> ExactSums:
    """Exact sums over blocks, in limbs."""
    with opened(x) as (source,):
        grid = formats.grid(source.shape, block)
        base, width = formats.window(kind, source.dtype)
        height = width + formats.COUNTERS
        sums = to_device(np.zeros(math.prod(grid) * height, np.int64), source.stream)
        how = (source.dtype == _FLOAT64, kind == "square", kind == "absolute", base, height, sums)
        for region in _regions(source, block):
            _reduce(cuda_sums.add_sums, source, region, *how, shared_bytes=8 * height * cuda_compiled.LANES)
        cells = np.ascontiguousarray(fetched(sums, source.stream).reshape(-1, height).T)
    limbs.carry(cells[:width])
    return ExactSums(base, cells[:width].reshape(width, *grid), cells[width:].reshape(formats.COUNTERS, *grid))


def largest_magnitudes(x: Any, block: Sequence[int]) -> Floats:
    """The largest magnitude of each block."""
    with opened(x) as (source,):
        grid = formats.grid(source.shape, block)
        patterns = to_device(np.zeros(math.prod(grid), np.int64), source.stream)
        for region in _regions(source, block):
            _reduce(cuda_sums.largest_magnitudes, source, region, patterns)
        return fetched(patterns, source.stream).view(np.float64).reshape(grid)


def to_host(x: Any) -> npt.NDArray[Any]:
    """A copy in the host's memory."""
    with opened(x) as (source,):
        if source.span != source.size:  # gaps, or elements that lie on one another: bring no more than there are
            (source,) = (view(_copied(x, (1 << 8 * source.dtype.itemsize) - 1)),)
        line = fetched(source.bits, source.stream)
    strides = [stride * line.itemsize for stride in source.strides]
    return np.ndarray(source.shape, source.dtype, line, source.start * line.itemsize, strides)


def from_host(x: npt.NDArray[Any], like: Any) -> Any:
    """A copy on the device of ``like``."""
    with opened(like) as (neighbour,):
        return to_device(x, neighbour.stream)


class _Region(NamedTuple):
    """Equal blocks: the walk over their first elements, and over their results, and the walk over one's elements."""

    outer: Walk
    inner: Walk


def _copied(x: Any, kept: int) -> Any:
    """A new dense array of those bits of x that are set in ``kept``."""
    with opened(x) as (source,):
        result = empty_like(source, source.dtype, source.stream)
        target = view(result)
        positions = walk(source, target)
        at, at_target = positions.steps
        launch_over(positions, cuda_loops.copy_bits, source.stream, source.bits, at, kept, target.bits, at_target)
    return result


def _extremes(source: View) -> tuple[float, float, int]:
    """Smallest, largest, number of zeros."""
    worst = [loops.sort_key(np.float64(value).view(np.uint64), True) for value in (math.inf, -math.inf)]
    keys = to_device(np.array(worst, np.uint64), source.stream)
    zeros = to_device(np.zeros(1, np.int64), source.stream)
    launch_on(source, walk(source), cuda_loops.extremes, keys, zeros)
    lowest, highest = (formats.key_to_float(int(key), _FLOAT64) for key in fetched(keys, source.stream))
    return lowest, highest, int(fetched(zeros, source.stream)[0])


def _regions(source: View, block: Sequence[int]) -> Iterator[_Region]:
    """The array cut where the last whole block of each axis ends, so that the blocks of a part are all of one shape."""
    grid = formats.grid(source.shape, block)
    grid_strides = dense_strides(grid, range(len(grid)), 1)
    axes = []
    for extent, size in zip(source.shape, block, strict=True):
        count, rest = divmod(extent, size)
        axes.append([part for part in ((0, count, size), (count, 1, rest)) if part[1] * part[2]])
    for parts in itertools.product(*axes):
        firsts, counts, sizes = zip(*parts, strict=True) if parts else ((), (), ())
        steps = [stride * size for stride, size in zip(source.strides, block, strict=True)]
        start = source.start + sum(first * step for first, step in zip(firsts, steps, strict=True))
        result_start = sum(first * step for first, step in zip(firsts, grid_strides, strict=True))
        outer = merged(counts, [(start, *steps), (result_start, *grid_strides)], as_stored=False)
        yield _Region(outer, merged(sizes, [(0, *source.strides)], as_stored=True))


def _reduce(kernel: Any, source: View, region: _Region, *arguments: Any, shared_bytes: int = 0) -> None:
    """Launch a reduction of equal blocks."""
    outer, inner = region
    parts = max(-(-cuda_compiled.BLOCKS // outer.size), -(-inner.size // cuda_sums.LARGEST_PART))
    numbers = (inner.size, inner.shape, inner.steps[0], source.numbers, source.is_bfloat)
    where = (parts, outer.shape, *outer.steps)
    launch(kernel, source.stream, *where, *numbers, *arguments, blocks=parts * outer.size, shared_bytes=shared_bytes)
