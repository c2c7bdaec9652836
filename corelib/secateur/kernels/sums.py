"""Exact sums and largest magnitudes on the CPU: how arrays of any layout reach the compiled loops.

An array that lies without gaps, whatever the order of its axes, is read where it is, in few large pieces; another is
brought piece by piece into a line. Pieces are summed apart, on the shared threads, and their exact sums added.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import PIECE, Index, as_stored, partition
from secateur.kernels import exact, exact_columns, few, formats, limbs, loops
from secateur.kernels.formats import COUNTERS, ExactSums, Kind
from secateur.kernels.lines import added, bits, length, line, unwritable, values
from secateur.kernels.threads import mapped, thread_count

Array = npt.NDArray[Any]
Cells = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LONG_ROW = 512
_MANY_ROWS = 64
_MANY_COLUMNS = 1 << 14


def exact_sums(x: Array, kind: Kind, block: Sequence[int]) -> ExactSums:
    """Exact sums over blocks, in limbs."""
    grid = formats.grid(x.shape, block)
    base, width = formats.window(kind, x.dtype)
    adding = _Adding(kind, base, width + COUNTERS)
    gapless = _before_kept_after(x, block)
    if gapless is None:
        by_block = np.zeros((*grid, adding.height), np.int64)
        _by_block(x, block, lambda rows: adding.rows(rows, len(rows)).T, np.add, by_block)
        cells = np.ascontiguousarray(np.moveaxis(by_block, -1, 0)).reshape(adding.height, -1)
    else:
        cells = _by_axis(gapless[0], adding)[:, :: -1 if gapless[1] else 1]
    cells = np.ascontiguousarray(cells)
    limbs.carry(cells[:width])
    return ExactSums(base, cells[:width].reshape(width, *grid), cells[width:].reshape(COUNTERS, *grid))


def rounded_few(x: Array, kind: Kind, block: Sequence[int]) -> Floats:
    """Sums over blocks of few elements, or the roots of those of squares, rounded once."""
    how = (kind == "square", kind != "value", *formats.window(kind, x.dtype))
    gapless = _before_kept_after(x, block)
    if gapless is not None:
        stored, flipped = gapless
        return _few(stored, how)[:: -1 if flipped else 1].reshape(formats.grid(x.shape, block))
    result = np.zeros(formats.grid(x.shape, block))
    for place, blocks in _regions(x, block):
        counts = blocks.shape[: x.ndim]
        found = np.empty(counts)

        def work(index: Index, blocks: Array = blocks, found: Floats = found) -> None:
            cells = found[index]
            cells[...] = _few(line(blocks[index]).reshape(1, cells.size, -1), how).reshape(cells.shape)

        mapped(work, list(partition(counts, max(1, PIECE // math.prod(block)))))
        result[place] = found
    return result


def _few(stored: Array, how: tuple[bool, bool, int, int]) -> Floats:
    """Of each index of the middle axis of contiguous [before, kept, after]."""
    result = np.empty(stored.shape[1])

    def work(index: Index) -> None:
        first, last = index[0].start, index[0].stop
        if stored.itemsize > 2:
            part = unwritable(stored)
            few.add_few(part, bits(part), first, last, *how, result)
        else:
            part = _readable(stored[:, first:last]).reshape(len(stored), last - first, -1)
            few.add_few(part, bits(part), 0, last - first, *how, result[first:last])

    mapped(work, list(partition(result.shape, max(1, PIECE // max(1, stored.size // max(1, result.size))))))
    return result


def largest_magnitudes(x: Array, block: Sequence[int]) -> Floats:
    """The largest magnitude of each block."""

    def reduce(rows: Array) -> Floats:
        patterns = bits(rows)
        kept = patterns.dtype.type(np.iinfo(patterns.dtype).max >> 1)
        largest = np.empty(len(rows), patterns.dtype)
        loops.largest_magnitudes(patterns, kept, largest)
        return largest.view(rows.dtype).astype(np.float64)

    return _by_block(x, block, reduce, np.maximum, np.zeros(formats.grid(x.shape, block)))


class _Adding:
    """Adds the rows or the columns of a matrix of one kind to new cells: limbs, and below them the three counters."""

    def __init__(self, kind: Kind, base: int, height: int) -> None:
        self.height = height
        self._how = (kind == "square", kind != "value", base)

    def rows(self, matrix: Array, columns: int) -> Cells:
        """int64[height, columns]: row i is added to column i % columns."""
        cells = np.zeros((self.height, columns), np.int64)
        exact.add_rows(matrix, bits(matrix), *self._how, cells[:-COUNTERS], cells[-COUNTERS:])
        limbs.carry(cells[:-COUNTERS])
        return cells

    def columns(self, matrix: Array, left: int, right: int, cells: Cells) -> None:
        """Add columns ``left`` to ``right`` to those of the cells."""
        exact_columns.add_columns(matrix, bits(matrix), left, right, *self._how, cells[:-COUNTERS], cells[-COUNTERS:])


def _readable(x: Array) -> Array:
    return unwritable(values(x))


def _limit(stored: Array) -> int:
    """Elements of one piece of an array: many if it is read in place, as each costs a call."""
    if stored.itemsize == 2 or not stored.flags.c_contiguous:
        return PIECE
    return length(stored.size)


def _before_kept_after(x: Array, block: Sequence[int]) -> tuple[Array, bool] | None:
    """([before, kept, after], flipped) if x lies without gaps and each index of one axis, or all of x, is a block."""
    kept = [axis for axis, (side, extent) in enumerate(zip(block, x.shape, strict=True)) if side < extent]
    if len(kept) > 1 or any(block[axis] != 1 for axis in kept):
        return None
    flips = tuple(slice(None, None, -1) if stride < 0 else slice(None) for stride in x.strides)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    stored = x[flips].transpose(order) if x.ndim else x
    if x.size == 0 or not stored.flags.c_contiguous:
        return None
    if not kept:
        return stored.reshape(1, 1, -1), False
    at = order.index(kept[0])
    shape = (math.prod(stored.shape[:at]), stored.shape[at], math.prod(stored.shape[at + 1 :]))
    return stored.reshape(shape), x.strides[kept[0]] < 0


def _by_axis(stored: Array, adding: _Adding) -> Cells:
    """The sums for each index of the middle axis."""
    before, kept, after = stored.shape
    if after < _LONG_ROW and before >= _MANY_ROWS:
        cells = _by_columns(stored.reshape(before, kept * after), adding)
        summed: Cells = cells.reshape(adding.height, kept, after).sum(2)
        return summed
    cells = np.zeros((adding.height, kept), np.int64)

    def work(index: Index) -> tuple[slice, Cells]:
        at = index[1] if len(index) > 1 else slice(0, kept)
        columns = at if isinstance(at, slice) else slice(at, at + 1)
        part = stored[index]
        row_size = part.shape[-1]
        return columns, adding.rows(_readable(part).reshape(-1, row_size), columns.stop - columns.start)

    for columns, part in mapped(work, list(partition(stored.shape, _limit(stored)))):
        cells[:, columns] += part
    return cells


def _by_columns(matrix: Array, adding: _Adding) -> Cells:
    """The sums of the columns. Of a narrow matrix, several rows are read as one, so that columns are repeated."""
    rows, columns = matrix.shape
    repeats = max(1, min(exact_columns.COLUMNS // columns, rows // _MANY_ROWS))
    whole = rows // repeats * repeats
    wide = matrix[:whole].reshape(-1, columns * repeats)
    in_stripes = columns > _MANY_COLUMNS and matrix.itemsize > 2
    cells = _in_stripes(wide, adding) if in_stripes else _in_rows(wide, adding)
    total: Cells = np.sum(cells.reshape(adding.height, repeats, columns), axis=1)
    if whole < rows:
        total += _in_rows(matrix[whole:], adding)
    return total


def _in_rows(matrix: Array, adding: _Adding) -> Cells:
    """The sums of the columns, some rows at a time."""
    rows, columns = matrix.shape
    pieces = list(partition((rows, columns), max(_limit(matrix), columns)))
    hands = min(thread_count(), len(pieces))

    def work(hand: int) -> Cells:
        cells = np.zeros((adding.height, columns), np.int64)
        for index in pieces[hand::hands]:
            adding.columns(_readable(matrix[index]).reshape(-1, columns), 0, columns, cells)
        return cells

    return added(mapped(work, range(hands)))


def _in_stripes(matrix: Array, adding: _Adding) -> Cells:
    """The sums of so many columns that cells for each thread would take too much memory."""
    cells = np.zeros((adding.height, matrix.shape[1]), np.int64)
    stripes = partition((matrix.shape[1],), max(exact_columns.COLUMNS, _limit(matrix) // matrix.shape[0]))
    mapped(
        lambda index: adding.columns(_readable(matrix).reshape(matrix.shape), index[0].start, index[0].stop, cells),
        list(stripes),
    )
    return cells


def _by_block(
    x: Array, block: Sequence[int], reduce: Callable[[Array], Array], merge: np.ufunc, result: Array
) -> Array:
    """Merge into ``result[*grid]`` what ``reduce`` makes of each block, given as rows of a 2-D contiguous array."""
    if math.prod(formats.grid(x.shape, block)) == 1:
        (stored,) = as_stored(x)
        for _, part in _reduce_rows(stored, x.size, 0, reduce):
            merge(result, part.reshape(result.shape), out=result)
        return result
    for place, blocks in _regions(x, block):
        counts, sizes = blocks.shape[: x.ndim], blocks.shape[x.ndim :]
        region_result = np.zeros((math.prod(counts), *result.shape[x.ndim :]), result.dtype)
        for row, part in _reduce_rows(blocks, math.prod(sizes), x.ndim, reduce):
            merge(region_result[row : row + len(part)], part, out=region_result[row : row + len(part)])
        result[place] = region_result.reshape(*counts, *result.shape[x.ndim :])
    return result


def _regions(x: Array, block: Sequence[int]) -> Iterator[tuple[Index, Array]]:
    """Regions of equal blocks, cut where the last whole block of an axis ends.

    For each its place in the grid, and its blocks: the axes of the blocks' numbers, then those of one block.
    """
    axes = []
    for extent, size in zip(x.shape, block, strict=True):
        whole = extent // size * size
        axes.append([part for part in ((0, whole, size), (whole, extent, extent - whole)) if part[0] < part[1]])
    for region in itertools.product(*axes):
        source = x[tuple(slice(start, stop) for start, stop, _ in region)]
        counts = [(stop - start) // size for start, stop, size in region]
        place = tuple(slice(lo // b, lo // b + n) for (lo, _, _), b, n in zip(region, block, counts, strict=True))
        blocks = source.reshape([n for count, (_, _, size) in zip(counts, region, strict=True) for n in (count, size)])
        yield place, blocks.transpose(*range(0, blocks.ndim, 2), *range(1, blocks.ndim, 2))


def _reduce_rows(
    blocks: Array, row_size: int, grid_axes: int, reduce: Callable[[Array], Array]
) -> list[tuple[int, Array]]:
    """(first row, reduced rows) of every piece of ``blocks``, whose first ``grid_axes`` axes number the rows."""

    def work(index: Index) -> tuple[int, Array]:
        starts = [at.start if isinstance(at, slice) else at for at in index if at is not ...][:grid_axes]
        row = 0
        for axis in range(grid_axes):
            row = row * blocks.shape[axis] + (starts[axis] if axis < len(starts) else 0)
        whole_rows = len(index) <= grid_axes
        part = _readable(blocks[index])
        return row, reduce(part.reshape(-1, row_size) if whole_rows else part[None])

    return mapped(work, list(partition(blocks.shape, PIECE)))
