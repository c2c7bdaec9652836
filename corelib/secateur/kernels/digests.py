"""The compiled pass behind a summary: counts, extremes, exact sums and a histogram of a line, each number read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels import exact
from secateur.kernels.compiled import compiled
from secateur.kernels.formats import BINS_PER_OCTAVE, MAGNITUDES, SMALLEST_OCTAVE
from secateur.kernels.lanes import LANES, TABLES, digest_lanes
from secateur.kernels.limbs import add_integer
from secateur.kernels.loops import histogram_bin

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Sums = tuple[Counts, Counts, Counts]
Tables = npt.NDArray[np.uint32]

TABLE = 1 << 14
"""Cells of a table of counts by the sign, the exponent and the top five bits of a float32."""
STRIDE = TABLE + 80
"""From one table to the next: not a multiple of a page, so that equal cells do not share a line of the cache."""
TABLE_CELLS = TABLES * STRIDE
MANY = 1 << 12
"""Below so many numbers, one table does for all."""
# A lane adds so many (binary digits) of a block's numbers, to less than 2**51 units.
_SHARE_BITS = exact.BLOCK_BITS - 4
_ROOM_BITS = 51
# Blocks whose sums, below 2**55 units each, stay within an int64 together.
_SETTLE_EVERY = 1 << 7
# The keys (``lanes``) of -inf and inf.
_FIRST_KEY, _LAST_KEY = -0x7F800001, 0x7F800000


@compiled
def digest(x: Array, bits: Array, bases: Counts, limbs: Sums, counters: Counts, bins: Counts, tables: Tables) -> Any:
    """(smallest, largest, zeros) of a line of float32 or float64, of which nothing needs to be finite.

    Adds the sums of values, magnitudes and squares to the three limbs[width, 1], each of a base of its own, what is
    not finite to counters[3, 3], a column for each sum, and the counts of the fixed grid to ``bins`` or to ``tables``,
    uint32[TABLE_CELLS], or uint32[TABLE] for fewer than MANY, whence :func:`fold` takes them.
    """
    room = np.empty((2, exact.BLOCK))
    if bits.itemsize == 8:
        return _digest_any(x, bits, bases, limbs, counters, bins, room)
    first = min(-(bits.ctypes.data // bits.itemsize) % LANES, x.size)  # from there on, vectors lie on cache lines
    last = first + (x.size - first) // LANES * LANES
    found = _digest_single(x[first:last], bits[first:last], bases, limbs, counters, tables, room)
    before = _digest_any(x[:first], bits[:first], bases, limbs, counters, bins, room)
    after = _digest_any(x[last:], bits[last:], bases, limbs, counters, bins, room)
    smallest, largest = min(found[0], before[0], after[0]), max(found[1], before[1], after[1])
    return smallest, largest, found[2] + before[2] + after[2]


@compiled
def _digest_single(
    x: Array, bits: Array, bases: Counts, limbs: Sums, counters: Counts, tables: Tables, room: Floats
) -> tuple[Any, Any, Any]:
    """The digest of float32 but for the histogram, which is left in the tables."""
    smallest, largest, zeros = np.int32(_LAST_KEY), np.int32(_FIRST_KEY), np.int64(0)
    stride = STRIDE if tables.size > TABLE else 0
    cap, gathered = np.int64(0), np.zeros(4, np.int64)
    for start in range(0, x.size, exact.BLOCK):
        part, patterns = x[start : start + exact.BLOCK], bits[start : start + exact.BLOCK]
        magics = exact.magic(_grid(cap)), exact.magic(_square_grid(cap)), exact.magic(2 * _grid(cap))
        low_key, high_key, low, none, sums = digest_lanes(patterns, magics, tables, stride)
        smallest, largest, zeros = min(smallest, low_key), max(largest, high_key), zeros + none
        high = max(high_key, np.int32(~low_key))  # one of them is not negative
        above, lowest = exact.span(np.uint32(high), low, False)
        if above <= cap and lowest >= _grid(cap):
            for i in range(4):
                gathered[i] += sums[i]
        else:
            _settle(gathered, cap, bases, limbs)
            _add_all(part, patterns, bases, limbs, counters, room, cap)
            cap = exact.next_cap(above, cap)
        if start // exact.BLOCK % _SETTLE_EVERY == _SETTLE_EVERY - 1:
            _settle(gathered, cap, bases, limbs)
    _settle(gathered, cap, bases, limbs)
    return _value(smallest), _value(largest), zeros


@compiled
def _grid(cap: Any) -> Any:
    """The exponent of the finest unit of numbers below 2**cap whose sums fit in a lane."""
    return np.int64(cap + _SHARE_BITS - _ROOM_BITS)


@compiled
def _square_grid(cap: Any) -> Any:
    """The same of their squares; what that cuts off is whole in units of 2**(2 * grid), and fits, too."""
    return np.int64(2 * cap + _SHARE_BITS - _ROOM_BITS)


@compiled
def _settle(gathered: Counts, cap: Any, bases: Counts, limbs: Sums) -> None:
    """Move the sums of blocks, gathered in units that hold as long as the cap does, to the limbs."""
    _add_units(gathered[0], _grid(cap), bases[0], limbs[0][:, 0])
    _add_units(gathered[1], _grid(cap), bases[1], limbs[1][:, 0])
    _add_units(gathered[2], _square_grid(cap), bases[2], limbs[2][:, 0])
    _add_units(gathered[3], 2 * _grid(cap), bases[2], limbs[2][:, 0])
    gathered[:] = 0


@compiled
def _add_units(value: np.int64, grid: Any, base: int, limbs: Counts) -> None:
    """Add value * 2**grid, a multiple of 2**base, though the grid may be finer."""
    finer = max(np.int64(base - grid), np.int64(0))
    add_integer(value >> finer, np.int64(grid + finer - base), limbs)


@compiled
def _digest_any(
    x: Array, bits: Array, bases: Counts, limbs: Sums, counters: Counts, bins: Counts, room: Floats
) -> tuple[Any, Any, Any]:
    """The digest block by block, with a look for each figure."""
    smallest, largest, zeros, cap = np.inf, -np.inf, np.int64(0), np.int64(0)
    for start in range(0, x.size, exact.BLOCK):
        part, patterns = x[start : start + exact.BLOCK], bits[start : start + exact.BLOCK]
        for i in range(part.size):
            value = np.float64(part[i])
            smallest, largest = min(smallest, value), max(largest, value)
            zeros += value == 0.0
            bins[histogram_bin(np.uint64(patterns[i]), bits.itemsize == 8)] += 1
        cap = _add_all(part, patterns, bases, limbs, counters, room, cap)
    return smallest, largest, zeros


@compiled
def _add_all(x: Array, bits: Array, bases: Counts, limbs: Sums, counters: Counts, room: Floats, cap: Any) -> Any:
    """Add a block to all three sums."""
    exact.add_values(x, bits, False, bases[0], limbs[0][:, 0], counters[:, 0], room)
    exact.add_values(x, bits, True, bases[1], limbs[1][:, 0], counters[:, 1], room)
    return exact.add_squares(x, bits, bases[2], limbs[2][:, 0], counters[:, 2], room, cap)


@compiled
def _value(key: np.int32) -> float:
    """The number whose key that is."""
    return np.float64(np.int32(key ^ ((key >> 31) & 0x7FFFFFFF)).view(np.float32))


@compiled
def fold(tables: Tables, bins: Counts) -> None:
    """Add the tables, in which no cell may have overflowed, to the counts of the fixed grid, and write zeros there."""
    cells = np.zeros(TABLE, np.int64)
    for start in range(0, tables.size, STRIDE):
        table = tables[start : start + TABLE]
        for i in range(TABLE):
            cells[i] += table[i]
        table[:] = 0
    _fold_side(cells[: TABLE // 2], bins[MAGNITUDES:])
    _fold_side(cells[TABLE // 2 :], bins[MAGNITUDES::-1])


@compiled
def _fold_side(cells: Counts, bins: Counts) -> None:
    """Cells are bins of the grid, but for magnitudes off its ends, which go to the middle bin and to the outermost."""
    lowest = (127 + SMALLEST_OCTAVE) * BINS_PER_OCTAVE
    bins[0] += cells[:lowest].sum()
    bins[MAGNITUDES] += cells[lowest + MAGNITUDES - 1 :].sum()
    for i in range(1, MAGNITUDES):
        bins[i] += cells[lowest + i - 1]
