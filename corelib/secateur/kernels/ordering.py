"""One pass of the search for an order statistic on the CPU: how many lie on either side of a bracket, and what inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.arrays import LONGEST_PIECE, PIECE, as_stored, pieces, single_dtype
from secateur.kernels.compiled import compiled
from secateur.kernels.threads import mapped, thread_count
from secateur.kernels.vectors import LANES, against, lowest_bit, popcount

Array = npt.NDArray[Any]

_ONE = np.uint64(1)
_GOLDEN = 0.6180339887498949
_ROOM = 8
"""At most one in so many elements is collected."""
_INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80}


class Split(NamedTuple):
    """Where numbers lie against a bracket.

    Args:
        below: how many are smaller than its low end.
        above: how many are larger than its high end.
        nan: how many are NaN, where they were only counted.
        inside: all others, NaN among them, where they were collected: lines of the type in which they are computed with.
    """

    below: int
    above: int
    nan: int
    inside: list[Array]


def sample(arrays: Sequence[Array], dtype: np.dtype[Any], absolute: bool, count: int) -> Array:
    """About ``count`` numbers (or magnitudes) from places spread over the arrays, evenly but for a small shift each.

    The shifts keep in step with no period of the data. A result of 16-bit floats is of float32.
    """
    ends = np.cumsum([array.size for array in arrays])
    taken = np.diff(ends * count // ends[-1], prepend=0)
    lines = []
    for at in np.flatnonzero(taken):
        (stored,) = as_stored(arrays[at])
        places = np.empty(taken[at], np.int64)
        _spread_places(stored.size, places)
        chosen = stored[np.unravel_index(places, stored.shape)] if stored.ndim != 1 else stored[places]
        lines.append(chosen)
    values = np.concatenate([line.astype(single_dtype(dtype)) for line in lines])
    return np.abs(values, out=values) if absolute else values


def split(
    arrays: Sequence[Array], dtype: np.dtype[Any], low: float, high: float, absolute: bool, collect: bool
) -> Split | None:
    """Where the elements of arrays, or their magnitudes, lie against low <= high; one pass on the shared threads.

    Args:
        arrays: of the host, of any layout.
        dtype: that of all arrays, or one that holds the values of all.
        low: a value of ``dtype``, as ``high``.
        high: the other end.
        absolute: whether magnitudes are looked at.
        collect: whether the elements inside are wanted, or only counts.

    Returns:
        None if so many elements lie inside that collecting them would take too much memory.
    """
    size = sum(array.size for array in arrays)
    longest = min(max(size // (8 * thread_count()), PIECE), LONGEST_PIECE)
    room = size // _ROOM + LANES
    kept, ends, infinity = _operands(dtype, low, high, absolute)

    def work(piece: list[Array]) -> tuple[int, int, int, Array]:
        line = joined(piece, dtype)
        found = np.empty(min(line.size, room) if collect else 0, dtype)
        below, above, nan, count = _split(_words(line), kept, *ends, infinity, collect, _words(found))
        inside = found[: max(count, 0)].astype(single_dtype(dtype))
        return below, above, -1 if count < 0 else nan, np.abs(inside, out=inside) if absolute else inside

    parts = mapped(work, list(pieces(arrays, longest)))
    if any(nan < 0 for _, _, nan, _ in parts) or sum(inside.size for *_, inside in parts) > room:
        return None
    below, above, nan = (sum(part[i] for part in parts) for i in range(3))
    return Split(below, above, nan, [inside for *_, inside in parts if inside.size])


def joined(piece: Sequence[Array], dtype: np.dtype[Any]) -> Array:
    """The elements of a piece (see :func:`secateur.arrays.pieces`) as one line of ``dtype``; a copy if they are not."""
    lines = [view.reshape(-1).astype(dtype, copy=False) for view in piece]
    return lines[0] if len(lines) == 1 else np.concatenate(lines)


def _operands(dtype: np.dtype[Any], low: float, high: float, absolute: bool) -> tuple[Any, tuple[Any, Any], Any]:
    """The bits that count, both ends and infinity as :func:`secateur.kernels.vectors.against` takes them."""
    if dtype.itemsize == 2:
        ends = _key(dtype, low, -1), _key(dtype, high, 0)
        return np.int16(0x7FFF if absolute else -1), ends, np.int16(_INFINITY[dtype.name])
    unsigned = np.dtype(f"uint{8 * dtype.itemsize}").type
    return unsigned(np.iinfo(unsigned).max >> absolute), (dtype.type(low), dtype.type(high)), unsigned(0)


def _words(x: Array) -> Array:
    """16-bit floats as bit patterns, others as they are."""
    return x.view(np.int16) if x.itemsize == 2 else x


def _key(dtype: np.dtype[Any], value: float, of_zero: int) -> np.int16:
    """The key of a value; of the two that a zero has, the one that is asked for."""
    if value == 0.0:
        return np.int16(of_zero)
    pattern = np.array(value, dtype).view(np.int16)[()]
    return np.int16(pattern if pattern >= 0 else pattern ^ 0x7FFF)


@compiled
def _split(
    x: Array, kept: Any, low: Any, high: Any, infinity: Any, collect: bool, found: Array
) -> tuple[Any, Any, Any, Any]:
    """Counts of elements below, above, NaN, and collected in ``found`` (-1: it is too small), by :func:`against`."""
    below, above, invalid, count = np.int64(0), np.int64(0), np.int64(0), 0
    for start in range(0, x.size - LANES + 1, LANES):
        smaller, larger, nan = against(x, start, kept, low, high, infinity)
        below += np.int64(popcount(smaller))
        above += np.int64(popcount(larger))
        if collect:
            inside = ~(smaller | larger)
            if inside != 0:
                count = _collect(x, start, inside, found, count)
                if count < 0:
                    return below, above, invalid, count
        else:
            invalid += np.int64(popcount(nan))
    rest = x.size % LANES
    if rest != 0:
        line = np.zeros(LANES, x.dtype)
        line[:rest] = x[x.size - rest :]
        wanted = (_ONE << np.uint64(rest)) - _ONE
        smaller, larger, nan = against(line, 0, kept, low, high, infinity)
        below += np.int64(popcount(smaller & wanted))
        above += np.int64(popcount(larger & wanted))
        if collect:
            count = _collect(line, 0, ~(smaller | larger) & wanted, found, count)
        else:
            invalid += np.int64(popcount(nan & wanted))
    return below, above, invalid, count


@compiled
def _spread_places(size: int, places: Array) -> None:
    """Ascending places in 0..size-1, one in each of as many equal parts: the fractional parts of multiples of phi."""
    step = size / places.size
    for i in range(places.size):
        shift = (i * _GOLDEN) % 1.0
        places[i] = min(np.int64((i + shift) * step), size - 1)


@compiled
def _collect(x: Array, start: int, wanted: Any, found: Array, count: int) -> int:
    """Append the elements of a word to ``found``, after ``count`` others; the new count, or -1 if there is no room."""
    if count + np.int64(popcount(wanted)) > found.size:
        return -1
    while wanted != 0:
        found[count] = x[start + np.int64(lowest_bit(wanted))]
        count += 1
        wanted &= wanted - _ONE
    return count
