"""The CUDA kernels that keep so many of each group or row; ``cuda`` shows them. What each does: ``kernels.Kernels``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from secateur.kernels import cuda_group_loops as loops
from secateur.kernels.cuda_compiled import cuda, launch
from secateur.kernels.cuda_masks import empty_bits, empty_mask, mask_above, zero_at_most
from secateur.kernels.cuda_memory import View, fetched, launch_on, merged, opened, to_device, view, walk

_FLOAT64 = np.dtype(np.float64)


class _Rows(NamedTuple):
    """What kernels are given of rows: their length, scale of each column, whether scores are float64, and cuts."""

    columns: int
    scale: Any
    double: bool
    keys: Any
    firsts: Any


def mask_n_of_m(x: Any, n: int, m: int, axis: int, packed: bool = False) -> Any:
    """True at the n largest of each m consecutive along an axis."""
    with opened(x) as (source,):
        if packed:
            bits = empty_bits(source)
            inner = math.prod(source.shape[axis + 1 :])
            how = (int(n), int(m), inner, source.strides[axis], view(bits).bits)
            launch_on(source, walk(source, as_stored=False), loops.packed_n_of_m, *how)
            return bits
        mask = empty_mask(source)
        target = view(mask)
        positions = merged(*_groups(m, axis, source, target), as_stored=True)
        where = (target.bits, positions.steps[1], target.strides[axis])
        launch_on(source, positions, loops.mask_n_of_m, int(n), int(m), source.strides[axis], *where)
    return mask


def mask_per_row(x: Any, keep: int, packed: bool = False) -> Any:
    """True at the ``keep`` largest of each index of axis 0."""
    with opened(x) as (source,):
        columns = math.prod(source.shape[1:])
        if keep in (0, columns):
            return mask_above(x, -math.inf if keep else math.inf, 0 if keep else None, packed)
        rows = _cut_rows(source, keep, to_device(np.ones(1, np.float32), source.stream), scaled=False)
        if packed:
            bits = empty_bits(source)
            launch_on(source, walk(source, as_stored=False), loops.packed_rows, *rows, view(bits).bits)
            return bits
        mask = empty_mask(source)
        target = view(mask)
        positions = walk(source, target, as_stored=False)
        launch_on(source, positions, loops.mask_rows, *rows, target.bits, positions.steps[1])
    return mask


def zero_n_of_m(x: Any, n: int, m: int, axis: int) -> None:
    """+0.0 at all but the n largest magnitudes of each m consecutive along an axis."""
    with opened(x) as (source,):
        positions = merged(*_groups(m, axis, source), as_stored=True)
        how = (int(n), int(m), source.strides[axis], source.bits)
        launch_on(source, positions, loops.zero_n_of_m, *how)


def zero_per_row(x: Any, keep: int, scale: Any) -> None:
    """+0.0 at all but the ``keep`` largest |x| * scale of each index of axis 0."""
    with opened(x, scale) as (source, factors):
        if keep == 0:
            zero_at_most(x, math.inf)
        elif keep < factors.size and source.size:
            rows = _cut_rows(source, keep, factors.numbers, scaled=True, double=factors.dtype == _FLOAT64)
            launch_on(source, walk(source, as_stored=False), loops.zero_rows, *rows, source.bits)


def first_nan_product(x: Any, scale: Any) -> int:
    """Position of the first NaN of x * scale in C order, or -1."""
    with opened(x, scale) as (source, factors):
        found = to_device(np.array([source.size]), source.stream)
        how = (factors.size, factors.numbers, found)
        launch_on(source, walk(source, as_stored=False), loops.first_nan_product, *how)
        position = int(fetched(found, source.stream)[0])
    return position if position < source.size else -1


def _groups(m: int, axis: int, *sources: View) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The shape of the first elements of groups of m, and their steps in each array."""
    shape = sources[0].shape
    firsts = (*shape[:axis], shape[axis] // m, *shape[axis + 1 :])
    every: Sequence[int] = [m if i == axis else 1 for i in range(len(shape))]
    steps = [
        (source.start, *(stride * by for stride, by in zip(source.strides, every, strict=True))) for source in sources
    ]
    return firsts, steps


def _cut_rows(source: View, keep: int, scale: Any, scaled: bool, double: bool = False) -> _Rows:
    """Where the rows of an array with elements are cut so that ``keep`` stay of each."""
    count, columns = source.shape[0], math.prod(source.shape[1:])
    double = double or source.dtype == _FLOAT64
    keys, ties, firsts = (
        cuda.device_array((count,), dtype=dtype, stream=source.stream) for dtype in (np.uint64, np.int64, np.int64)
    )
    row = merged(source.shape[1:], [(0, *source.strides[1:])], as_stored=False)
    where = (source.start, source.strides[0], row.size, row.shape, source.numbers, row.steps[0], source.is_bfloat)
    how = (*where, scale, scaled, double)
    if source.size:
        launch(loops.select_rows, source.stream, *how, int(keep), keys, ties, blocks=count)
        launch(loops.break_ties, source.stream, *how, keys, ties, firsts, blocks=count)
    return _Rows(columns, scale, double, keys, firsts)
