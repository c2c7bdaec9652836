"""The CUDA kernels that make, pack, compare, apply masks; ``cuda`` shows them. What each does: ``kernels.Kernels``."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateur.arrays import dtype_of
from secateur.kernels import cuda_compiled
from secateur.kernels import cuda_mask_loops as loops
from secateur.kernels.cuda_compiled import cuda, launch
from secateur.kernels.cuda_memory import (
    View,
    fetched,
    launch_on,
    launch_over,
    opened,
    to_device,
    view,
    walk,
)
from secateur.kernels.formats import Term

_TERMS = {
    "value": loops.VALUE,
    "absolute": loops.ABSOLUTE,
    "square": loops.SQUARE,
    "product": loops.PRODUCT,
}


def accumulate(total: Any, x: Any, kind: Term, weight: Any = None) -> None:
    """total += the term that ``kind`` names."""
    with opened(total, x, x if weight is None else weight) as (target, source, factors):
        positions = walk(target, source, factors)
        at_total, at_x, at_weight = positions.steps
        sums = (target.numbers, at_total, target.dtype == np.float64)
        terms = (source.numbers, at_x, source.is_bfloat, factors.numbers, at_weight, factors.is_bfloat)
        launch_over(positions, loops.accumulate, target.stream, *sums, *terms, _TERMS[kind], 0)


def first_kept(x: Any, threshold: float, last_equal: int, absolute: bool = False) -> tuple[int, int]:
    """Where the last ``last_equal`` elements equal to the threshold begin, and how many they are.

    Equal elements are counted in as many segments as a launch has blocks, then in the segment where the position lies,
    and so on: after the first look at all elements the segments are small.
    """
    with opened(x) as (source,):
        positions = walk(source, as_stored=False)
        start, stop, kept = 0, positions.size, int(last_equal)
        how = (positions.shape, source.numbers, positions.steps[0], source.is_bfloat, float(threshold), absolute)
        wanted = kept
        while stop > start and wanted > 0:
            length = -(-(stop - start) // cuda_compiled.BLOCKS)
            counts = to_device(np.zeros(cuda_compiled.BLOCKS, np.int64), source.stream)
            launch(loops.count_equal, source.stream, start, stop, length, *how, counts)
            from_end = np.cumsum(fetched(counts, source.stream)[::-1])
            if stop - start == source.size and from_end[-1] <= wanted:
                return (0, int(from_end[-1])) if from_end[-1] else (source.size, 0)
            at = int(np.searchsorted(from_end, wanted))
            wanted -= int(from_end[at - 1]) if at else 0
            start += (cuda_compiled.BLOCKS - 1 - at) * length
            if length == 1:
                return start, kept
            stop = min(start + length, stop)
        return source.size, 0


def mask_above(x: Any, threshold: float, first_kept: int | None = None, packed: bool = False) -> Any:
    """True above the threshold, and where elements equal it from position ``first_kept`` on; None if one is NaN."""
    with opened(x) as (source,):
        found = to_device(np.zeros(1, np.int64), source.stream)
        how = (float(threshold), source.size if first_kept is None else int(first_kept), found)
        mask = empty_bits(source) if packed else empty_mask(source)
        target = view(mask)
        if packed:
            launch_on(source, walk(source, as_stored=False), loops.packed_above, *how, target.bits)
        else:
            positions = walk(source, target, as_stored=False)
            launch_on(source, positions, loops.mask_above, *how, target.bits, positions.steps[1])
        return None if fetched(found, source.stream)[0] else mask


def zero_at_most(x: Any, threshold: float, first_kept: int | None = None) -> None:
    """+0.0 where |x| is at most the threshold, but not where it equals it from position ``first_kept`` on."""
    with opened(x) as (source,):
        split = source.size if first_kept is None else int(first_kept)
        positions = walk(source, as_stored=not 0 < split < source.size)
        launch_on(source, positions, loops.zero_at_most, float(threshold), split, source.bits)


def zero_where_false(x: Any, mask: Any) -> None:
    """+0.0 where the mask is False."""
    with opened(x, mask) as (target, kept):
        if dtype_of(mask) == np.uint8:
            positions = walk(target, as_stored=False)
            where = (target.bits, positions.steps[0], kept.bits, kept.start, *kept.strides)
            launch_over(positions, loops.zero_where_clear, target.stream, *where)
            return
        positions = walk(target, kept)
        at, at_mask = positions.steps
        launch_over(positions, loops.zero_where_false, target.stream, target.bits, at, kept.bits, at_mask)


def pack(mask: Any) -> Any:
    """Eight elements a byte, in C order."""
    with opened(mask) as (source,):
        bits = empty_bits(source)
        positions = walk(source, as_stored=False)
        launch_over(positions, loops.pack, source.stream, source.bits, positions.steps[0], view(bits).bits)
    return bits


def unpack(bits: Any, shape: tuple[int, ...]) -> Any:
    """One element a byte."""
    with opened(bits) as (source,):
        mask = cuda.device_array(shape, dtype=np.bool_, stream=source.stream)
        target = view(mask)
        positions = walk(target)
        where = (target.bits, positions.steps[0], source.bits, source.start, *source.strides)
        launch_over(positions, loops.unpack, source.stream, *where)
    return mask


def combine(a: Any, b: Any, union: bool) -> Any:
    """a | b, or a & b."""
    with opened(a, b) as (first, second):
        mask = cuda.device_array(first.shape, dtype=first.dtype, stream=first.stream)
        target = view(mask)
        positions = walk(first, second, target)
        at_first, at_second, at_mask = positions.steps
        sources = (first.bits, at_first, second.bits, at_second)
        bools = first.dtype == np.bool_
        launch_over(positions, loops.combine, first.stream, *sources, target.bits, at_mask, union, bools)
    return mask


def count_kept(a: Any, b: Any) -> tuple[int, int, int]:
    """How many elements are kept by a, by b, and by both."""
    with opened(a, b) as (first, second):
        counts = to_device(np.zeros(3, np.int64), first.stream)
        positions = walk(first, second)
        at_first, at_second = positions.steps
        sources = (first.bits, at_first, second.bits, at_second)
        launch_over(positions, loops.count_kept, first.stream, *sources, counts, first.dtype == np.bool_)
        in_a, in_b, in_both = (int(count) for count in fetched(counts, first.stream))
    return in_a, in_b, in_both


def empty_mask(source: View) -> Any:
    """A C-contiguous mask of the shape of a view."""
    return cuda.device_array(source.shape, dtype=np.bool_, stream=source.stream)


def empty_bits(source: View) -> Any:
    """A packed mask of the shape of a view."""
    return cuda.device_array((-(-source.size // 8),), dtype=np.uint8, stream=source.stream)
