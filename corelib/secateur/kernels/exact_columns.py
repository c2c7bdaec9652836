"""Exact sums of the columns of a row-major matrix of float32 or float64: the ways of ``exact``, for a tile at a time.

The sums of a tile's columns are gathered in lines that stay in the cache, and added to the limbs together, all shifted
alike. Eight rows are read at once: memory delivers more from several places than from one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels import exact
from secateur.kernels.compiled import compiled, reordered
from secateur.kernels.limbs import add_numbers

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Limbs = npt.NDArray[np.int64]
Patterns = npt.NDArray[np.uint32]

ROWS = 1 << 4
COLUMNS = 1 << 12
_ROW_BITS = 4
_AT_ONCE = 8
_WIDE_COLUMNS = 1 << 10

_BARE = np.uint32((1 << 31) - 1)
_ALL = np.uint32((1 << 32) - 1)
_UNIT = np.uint32(1)


@compiled
def add_columns(
    x: Array, bits: Array, first: int, last: int, square: bool, absolute: bool, base: int, limbs: Limbs, counters: Limbs
) -> None:
    """Add columns ``first`` to ``last`` of a matrix to those columns of limbs[width, columns], counters[3, columns]."""
    parts, empty = np.empty(2 * COLUMNS), np.zeros(COLUMNS, bits.dtype)
    room = np.empty((2, _AT_ONCE, _WIDE_COLUMNS))
    cap = np.int64(0)
    for start in range(0, x.shape[0], ROWS):
        stop = min(start + ROWS, x.shape[0])
        for left in range(first, last, COLUMNS):
            right = min(left + COLUMNS, last)
            done = False
            if bits.itemsize == 4:
                done, cap = _add_tile(bits, start, stop, left, right, square, absolute, base, limbs, parts, empty, cap)
            for row in range(start, stop if not done else start, _AT_ONCE):
                for column in range(left, right, _WIDE_COLUMNS):
                    end = min(row + _AT_ONCE, stop), min(column + _WIDE_COLUMNS, right)
                    _add_wide(x, bits, row, end[0], column, end[1], square, absolute, base, limbs, counters, room)


@compiled
def _add_tile(
    bits: Patterns,
    start: int,
    stop: int,
    left: int,
    right: int,
    square: bool,
    absolute: bool,
    base: int,
    limbs: Limbs,
    parts: Floats,
    empty: Patterns,
    cap: Any,
) -> tuple[bool, Any]:
    """(whether all was added, the cap for the next): nothing is added of a tile of float32 with too wide a span."""
    size = right - left
    parts[:size] = 0.0
    parts[COLUMNS : COLUMNS + size] = 0.0
    grid = exact.square_grid(cap, _ROW_BITS)
    kept = _BARE if absolute else _ALL
    high, low = np.uint32(0), _ALL
    for row in range(start, stop, _AT_ONCE):
        a, b = _row(bits, row, stop, left, right, empty), _row(bits, row + 1, stop, left, right, empty)
        c, d = _row(bits, row + 2, stop, left, right, empty), _row(bits, row + 3, stop, left, right, empty)
        e, f = _row(bits, row + 4, stop, left, right, empty), _row(bits, row + 5, stop, left, right, empty)
        g, h = _row(bits, row + 6, stop, left, right, empty), _row(bits, row + 7, stop, left, right, empty)
        if square:
            found = _gather_squares(a, b, c, d, e, f, g, h, exact.magic(grid), parts)
        else:
            found = _gather(a, b, c, d, e, f, g, h, kept, parts)
        high, low = max(high, found[0]), min(low, found[1])
    if high == 0:
        return True, cap
    above, lowest = exact.span(high, low, False)
    if not exact.fits(max(above, cap) if square else above, lowest, _ROW_BITS) or (square and above > cap):
        return False, exact.next_cap(above, cap)
    _spread_doubles(parts[:size], grid if square else lowest, base, limbs, left)
    if square:
        _spread_doubles(parts[COLUMNS : COLUMNS + size], 2 * lowest, base, limbs, left)
    return True, cap


@compiled
def _row(bits: Patterns, row: int, stop: int, left: int, right: int, empty: Patterns) -> Patterns:
    """A row of the tile, or zeros below its end."""
    return bits[row, left:right] if row < stop else empty[: right - left]


@reordered
def _gather(
    a: Patterns, b: Patterns, c: Patterns, d: Patterns, e: Patterns, f: Patterns, g: Patterns, h: Patterns,
    kept: np.uint32, sums: Floats,
) -> tuple[Any, Any]:  # fmt: skip
    """Add eight rows, of which only the bits in ``kept`` count, to the sums; (high, low) for ``exact.span``."""
    span = np.uint32(0), _ALL
    for i in range(a.size):
        span = _wider(_wider(_wider(_wider(span, a[i]), b[i]), c[i]), d[i])
        span = _wider(_wider(_wider(_wider(span, e[i]), f[i]), g[i]), h[i])
        first = (_real(a[i] & kept) + _real(b[i] & kept)) + (_real(c[i] & kept) + _real(d[i] & kept))
        second = (_real(e[i] & kept) + _real(f[i] & kept)) + (_real(g[i] & kept) + _real(h[i] & kept))
        sums[i] += first + second
    return span


@reordered
def _gather_squares(
    a: Patterns, b: Patterns, c: Patterns, d: Patterns, e: Patterns, f: Patterns, g: Patterns, h: Patterns,
    magic: float, parts: Floats,
) -> tuple[Any, Any]:  # fmt: skip
    """Add the squares of eight rows: heads to the first half of ``parts``, what is left of them to the second."""
    span = np.uint32(0), _ALL
    for i in range(a.size):
        span = _wider(_wider(_wider(_wider(span, a[i]), b[i]), c[i]), d[i])
        span = _wider(_wider(_wider(_wider(span, e[i]), f[i]), g[i]), h[i])
        first = _both(_split(a[i], magic), _split(b[i], magic)), _both(_split(c[i], magic), _split(d[i], magic))
        second = _both(_split(e[i], magic), _split(f[i], magic)), _both(_split(g[i], magic), _split(h[i], magic))
        head, tail = _both(_both(*first), _both(*second))
        parts[i] += head
        parts[i + COLUMNS] += tail
    return span


@reordered
def _both(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
    return a[0] + b[0], a[1] + b[1]


@compiled
def _split(pattern: Any, magic: float) -> Any:
    return exact.split_square(_real(pattern), magic)


@compiled
def _wider(span: tuple[Any, Any], pattern: np.uint32) -> tuple[Any, Any]:
    """(high, low) after one more number."""
    bare = np.uint32(pattern & _BARE)
    return max(span[0], bare), min(span[1], np.uint32(bare - _UNIT))


@compiled
def _real(pattern: Any) -> Any:
    """The float32 of that pattern, as float64."""
    return np.float64(np.uint32(pattern).view(np.float32))


@compiled
def _spread_doubles(sums: Floats, grid: Any, base: int, limbs: Limbs, left: int) -> None:
    """Add float64 that are multiples of 2**grid, and below 2**(grid + 53), to the limbs from column ``left`` on."""
    scale = exact.power(-grid)
    integers = np.empty(sums.size, np.int64)
    for i in range(sums.size):
        integers[i] = np.int64(sums[i] * scale)
    _spread(integers, np.int64(grid - base), limbs, left)


@compiled
def _spread(values: Limbs, position: np.int64, limbs: Limbs, left: int) -> None:
    """Add values[i] * 2**position to three limbs of column left + i, as ``limbs.add_integer`` does."""
    index, shift = position >> 5, position & 31
    first = limbs[index, left : left + values.size]
    second, third = limbs[index + 1, left : left + values.size], limbs[index + 2, left : left + values.size]
    for i in range(values.size):
        low, high = (values[i] & 0xFFFFFFFF) << shift, (values[i] >> 32) << shift
        first[i] += low & 0xFFFFFFFF
        second[i] += (low >> 32) + (high & 0xFFFFFFFF)
        third[i] += high >> 32


@compiled
def _add_wide(
    x: Array, bits: Array, start: int, stop: int, left: int, right: int, square: bool, absolute: bool, base: int,
    limbs: Limbs, counters: Limbs, room: Floats,
) -> None:  # fmt: skip
    """Add up to eight rows of any numbers."""
    high, low = bits.dtype.type(0), bits.dtype.type(0xFFFFFFFFFFFFFFFF)
    for row in range(start, stop):
        found = exact.look(x[row, left:right], bits[row, left:right])
        high, low = max(high, found[0]), min(low, found[1])
    above, lowest = exact.span(high, low, bits.itemsize == 8)
    if not exact.fits_levels(above, lowest, square):
        for row in range(start, stop):
            for column in range(left, right):
                number = bits[row, column : column + 1]
                add_numbers(number, square, absolute, base, limbs[:, column], counters[:, column])
        return
    for row in range(start, stop):
        rest, errors = room[0, row - start, : right - left], room[1, row - start, : right - left]
        if square:
            exact.square(x[row, left:right], rest, errors)
        else:
            exact.widen(x[row, left:right], absolute, rest)
    _add_levels(room[0, : stop - start], right - left, 2 * above if square else above, base, limbs, left)
    if square and bits.itemsize == 8:
        _add_levels(room[1, : stop - start], right - left, 2 * above - 53, base, limbs, left)


@compiled
def _add_levels(rest: Floats, size: int, above: Any, base: int, limbs: Limbs, column: int) -> None:
    """Add the columns of ``rest``, as ``exact`` does for a line. Writes zeros over them."""
    sums = np.empty(size, np.int64)
    while True:
        grid = exact.level_grid(above, base)
        sums[:] = 0
        left = np.int64(0)
        for row in range(rest.shape[0]):
            left = max(left, _peel(rest[row, :size], exact.magic(grid), sums))
        _spread(sums, np.int64(grid - base), limbs, column)
        if left == 0:
            return
        above = exact.above_pattern(left)


@compiled
def _peel(rest: Floats, magic: float, sums: Limbs) -> Any:
    """Take off what is above the grid and add it, in units of the grid; the largest pattern that is left."""
    zero = np.float64(magic).view(np.int64)
    left = np.int64(0)
    for i in range(rest.size):
        shifted = rest[i] + magic
        sums[i] += np.float64(shifted).view(np.int64) - zero
        remainder = rest[i] - (shifted - magic)
        rest[i] = remainder
        left = max(left, np.float64(abs(remainder)).view(np.int64))
    return left
