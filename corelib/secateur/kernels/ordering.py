"""A pass of the search for order statistics on the CPU: how many numbers lie beside a bracket, and which inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.arrays import as_stored, single_dtype
from secateur.kernels.bitwise import LANES, popcount
from secateur.kernels.compiled import compiled
from secateur.kernels.keys import limits
from secateur.kernels.lines import joined, pieces
from secateur.kernels.threads import mapped, thread_count
from secateur.kernels.vectors import against, lowest_bit

Array = npt.NDArray[Any]

_ONE = np.uint64(1)
_GOLDEN, _LOW = np.uint64(2654435769), np.uint64(0xFFFFFFFF)
_RUN = 8
"""Elements of a sample that lie side by side: they cost one access to memory."""
_WORDS = 16
"""Words that are compared before any is taken apart: which have something inside, no processor could foresee. Few, so
that the elements still lie in the cache, and the memory behind them is read on."""
_ROOM = 8
"""At most one in so many elements is collected."""
_INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80}


class Split(NamedTuple):
    """Where numbers lie against a bracket.

    Args:
        below: how many are smaller than its low end.
        above: how many are larger than its high end.
        nan: how many are NaN, where they were only counted.
        inside: all others, NaN among them, where they were collected: lines of float32 or wider, or of float16.
    """

    below: int
    above: int
    nan: int
    inside: list[Array]


def sample(arrays: Sequence[Array], dtype: np.dtype[Any], absolute: bool, count: int) -> Array:
    """About ``count`` numbers (or magnitudes) from places spread over the arrays, in runs of neighbours.

    The runs begin in equal parts of the arrays, each somewhere else in its part, so that they keep in step with no
    period of the data. A result of bfloat16 is of float32.
    """
    ends = np.cumsum([array.size for array in arrays])
    runs = np.diff(ends * max(1, count // _RUN) // ends[-1], prepend=0)
    lines = []
    for at in np.flatnonzero(runs).tolist():
        (stored,) = as_stored(arrays[at])
        starts = np.empty(runs[at], np.int64)
        _spread(stored.size, starts)
        if stored.ndim == 1 and stored.flags.c_contiguous:
            chosen = np.empty(starts.size * _RUN, stored.dtype)
            _pick(_words(stored), starts, _words(chosen))
        else:
            places = np.minimum(np.add.outer(starts, np.arange(_RUN)), stored.size - 1)
            chosen = stored[np.unravel_index(places.reshape(-1), stored.shape)]
        lines.append(chosen.astype(single_dtype(dtype), copy=False))
    values = np.concatenate(lines)
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
    room = size // _ROOM + LANES if collect else 0
    kept, ends, infinity = _operands(dtype, low, high, absolute)

    def work(waiting: Iterator[list[Array]]) -> tuple[int, int, int, Array]:
        found = np.empty(room, dtype)
        total = np.zeros(4, np.int64)
        for piece in waiting:
            line = _words(joined(piece, dtype))
            counts = _split(line, kept, *ends, infinity, collect, _words(found[total[3] :]))
            if counts[3] < 0:
                return 0, 0, -1, found[:0]
            total += counts
        inside = found[: total[3]].astype(single_dtype(dtype), copy=False)
        return int(total[0]), int(total[1]), int(total[2]), np.abs(inside, out=inside) if absolute else inside

    hands = thread_count()
    waiting = iter(list(pieces(arrays, size)))
    parts = mapped(work, [waiting] * hands)
    if any(nan < 0 for _, _, nan, _ in parts) or sum(inside.size for *_, inside in parts) > room:
        return None
    return Split(
        below=sum(below for below, *_ in parts),
        above=sum(above for _, above, *_ in parts),
        nan=sum(nan for _, _, nan, _ in parts),
        inside=[inside for *_, inside in parts if inside.size],
    )


def _operands(dtype: np.dtype[Any], low: float, high: float, absolute: bool) -> tuple[Any, tuple[Any, Any], Any]:
    """The bits that count, both ends and infinity as :func:`secateur.kernels.vectors.against` takes them."""
    if dtype.itemsize == 2:
        ends = limits(dtype, low).at_most, limits(dtype, high).at_most
        return np.int16(0x7FFF if absolute else -1), ends, np.int16(_INFINITY[dtype.name])
    unsigned = np.dtype(f"uint{8 * dtype.itemsize}").type
    return unsigned(np.iinfo(unsigned).max >> absolute), (dtype.type(low), dtype.type(high)), unsigned(0)


def _words(x: Array) -> Array:
    """16-bit floats as bit patterns, others as they are."""
    return x.view(np.int16) if x.itemsize == 2 else x


@compiled
def _split(
    x: Array, kept: Any, low: Any, high: Any, infinity: Any, collect: bool, found: Array
) -> tuple[Any, Any, Any, Any]:
    """Counts of elements below, above, NaN, and collected in ``found`` (-1: it is too small), by :func:`against`."""
    below, above, invalid, count = np.int64(0), np.int64(0), np.int64(0), 0
    starts, words = np.empty(_WORDS, np.int64), np.empty(_WORDS, np.uint64)
    whole = x.size // LANES * LANES
    for first in range(0, whole, _WORDS * LANES):
        waiting = 0
        for start in range(first, min(first + _WORDS * LANES, whole), LANES):
            smaller, larger, nan = against(x, start, kept, low, high, infinity)
            below += np.int64(popcount(smaller))
            above += np.int64(popcount(larger))
            if collect:
                inside = ~(smaller | larger)
                starts[waiting], words[waiting] = start, inside
                waiting += inside != 0
            else:
                invalid += np.int64(popcount(nan))
        count = _collect(x, starts[:waiting], words, found, count)
        if count < 0:
            return below, above, invalid, count
    rest = x.size - whole
    if rest != 0:
        line = np.zeros(LANES, x.dtype)
        line[:rest] = x[whole:]
        wanted = (_ONE << np.uint64(rest)) - _ONE
        smaller, larger, nan = against(line, 0, kept, low, high, infinity)
        below += np.int64(popcount(smaller & wanted))
        above += np.int64(popcount(larger & wanted))
        if collect:
            starts[0], words[0] = 0, ~(smaller | larger) & wanted
            count = _collect(line, starts[:1], words, found, count)
        else:
            invalid += np.int64(popcount(nan & wanted))
    return below, above, invalid, count


@compiled
def _spread(size: int, starts: Array) -> None:
    """Ascending places in an array of that size, one in each of equal parts: by multiples of the golden ratio."""
    step = size / starts.size
    for i in range(starts.size):
        shift = np.float64((np.uint64(i) * _GOLDEN) & _LOW) / 4294967296.0
        starts[i] = max(min(np.int64((i + shift) * step), size - _RUN), 0)


@compiled
def _pick(x: Array, starts: Array, chosen: Array) -> None:
    """The run of neighbours at each start; a loop that does little else waits for many of them at once."""
    for i in range(starts.size):
        for j in range(_RUN):
            chosen[i * _RUN + j] = x[min(starts[i] + j, x.size - 1)]


@compiled
def _collect(x: Array, starts: Array, words: Array, found: Array, count: int) -> int:
    """Append the elements of words to ``found``, after ``count`` others; the new count, or -1 if there is no room."""
    for i in range(starts.size):
        wanted = words[i]
        if count + np.int64(popcount(wanted)) > found.size:
            return -1
        while wanted != 0:
            found[count] = x[starts[i] + np.int64(lowest_bit(wanted))]
            count += 1
            wanted &= wanted - _ONE
    return count
