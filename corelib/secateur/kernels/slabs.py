"""Sums over blocks, rounded, so many at once as memory allows: a sum in limbs takes as much as dozens of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import Index, dtype_of, is_cuda, partition
from secateur.kernels import of, round_sums
from secateur.kernels.formats import COUNTERS, ExactSums, Kind, grid, window

Floats = npt.NDArray[np.float64]

SLAB_BYTES = 1 << 26
"""Exact sums under way at once take no more memory than this."""


def rounded_sums(x: Any, kind: Kind, block: Sequence[int]) -> Floats:
    """As :func:`secateur.kernels.rounded_sums`."""
    if not is_cuda(x):
        from secateur.kernels import few, sums

        if math.prod(block) <= few.MOST:
            return sums.rounded_few(x, kind, block)
    result = np.empty(grid(x.shape, block))
    at_once = max(1, SLAB_BYTES // (8 * (window(kind, dtype_of(x))[1] + COUNTERS)))
    if result.size <= at_once:
        return round_sums(of(x).exact_sums(x, kind, block), root=kind == "square")
    for index in partition(result.shape, at_once):
        slab = x[_covered(index, block)]
        rounded = round_sums(of(slab).exact_sums(slab, kind, block), root=kind == "square")
        result[index] = rounded.reshape(result[index].shape)
    return result


def rounded_row_sums(parts: Sequence[Any], kind: Kind) -> Floats:
    """As :func:`secateur.kernels.rounded_row_sums`."""
    from secateur.kernels.limbs import carry

    rows, dtype = parts[0].shape[0], dtype_of(parts[0])
    base, width = window(kind, dtype)
    at_once = max(1, SLAB_BYTES // (8 * (width + COUNTERS)))
    result = np.empty(rows)
    for start in range(0, rows, at_once):
        slabs = [part[start : start + at_once] for part in parts]
        sums = [of(slab).exact_sums(slab, kind, (1, *slab.shape[1:])) for slab in slabs]
        shape = (sums[0].limbs.shape[1],)
        total = np.ascontiguousarray(sum(each.limbs.reshape(width, *shape) for each in sums))
        counters = np.ascontiguousarray(sum(each.counters.reshape(COUNTERS, *shape) for each in sums))
        carry(total)
        result[start : start + at_once] = round_sums(ExactSums(base, total, counters), root=kind == "square")
    return result


def _covered(index: Index, block: Sequence[int]) -> Index:
    """Where the blocks of an index lie."""
    ends = [(at.start, at.stop) if isinstance(at, slice) else (at, at + 1) for at in index]
    return tuple(slice(first * side, last * side) for (first, last), side in zip(ends, block, strict=False))
