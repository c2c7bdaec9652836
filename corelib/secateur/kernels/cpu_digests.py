"""Digests on the CPU: how arrays of any layout and dtype reach the compiled passes behind a summary.

Of many 16-bit floats the patterns are counted; other numbers are read as float32, or float64, and summed. Each thread
takes pieces as long as there are any; what they find is merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.arrays import PIECE, single_dtype
from secateur.kernels import counted, digests, formats, limbs
from secateur.kernels.formats import COUNTERS, Digest, ExactSums
from secateur.kernels.lines import added, bits, joined, line, pieces, unwritable, values
from secateur.kernels.threads import mapped, thread_count

Array = npt.NDArray[Any]
Cells = npt.NDArray[np.int64]

COUNTED_FROM = 1 << 20
"""From so many 16-bit floats on, the time that their patterns take once is little beside what counting them saves."""
_FOLDED_BY = 1 << 31
"""Numbers after which counts leave tables whose cells hold 32 bits."""


def digest(x: Array) -> Digest:
    """All that a summary needs, in one pass."""
    return digest_together([x])


def digest_together(arrays: Sequence[Array]) -> Digest:
    """All that a summary of several arrays needs, of all float64 or none, in one pass."""
    dtype = np.result_type(np.float32, *{single_dtype(x.dtype) for x in arrays})
    by_format: dict[bool | None, list[Array]] = {}
    for x in arrays:
        by_format.setdefault(x.dtype == np.float16 if x.itemsize == 2 else None, []).append(x)
    parts: list[_Part] = []
    others: list[Array] = []
    for is_half, group in by_format.items():
        if is_half is None or _size(group) < COUNTED_FROM:
            others += group
        else:
            parts.append(_by_patterns(group))
    return _merged(parts + _by_numbers(others, dtype), dtype)


class _Totals(NamedTuple):
    """What passes add to: limbs[width, 1] of each sum, above ``bases``, counters[3, 3], and the fixed grid's counts."""

    bases: Cells
    limbs: tuple[Cells, Cells, Cells]
    counters: Cells
    bins: Cells


class _Part(NamedTuple):
    """The digest of some numbers."""

    smallest: float
    largest: float
    zeros: int
    totals: _Totals


def _by_patterns(arrays: Sequence[Array]) -> _Part:
    """Of many numbers of one 16-bit format."""
    waiting = iter(list(pieces(arrays, _size(arrays))))

    def count(_: int) -> Cells:
        counts = np.zeros(counted.CELLS, np.int64)
        for piece in waiting:
            for view in piece:
                counted.count(unwritable(bits(line(view))), counts)
        return counts

    counts = added(mapped(count, range(thread_count())))
    every = values(np.arange(formats.DIGITS, dtype=np.uint16).view(arrays[0].dtype))
    totals = _totals(every.dtype)
    smallest, largest, zeros = counted.digest(every, bits(every), *totals, counts)
    return _Part(smallest, largest, zeros, totals)


def _by_numbers(arrays: Sequence[Array], dtype: np.dtype[Any]) -> list[_Part]:
    """Of any numbers; nothing of none."""
    size = _size(arrays)
    copied = any(x.dtype != dtype for x in arrays)
    waiting = iter(list(pieces(arrays, 0 if copied else size)))
    return mapped(lambda _: _digest(waiting, dtype, size), range(thread_count() if size > PIECE else min(size, 1)))


def _digest(waiting: Iterator[list[Array]], dtype: np.dtype[Any], size: int) -> _Part:
    """Of as many pieces as one thread gets to see, of ``size`` elements at most."""
    totals = _totals(dtype)
    tables = np.zeros(digests.TABLE_CELLS if size >= digests.MANY else digests.TABLE, np.uint32)
    smallest, largest, zeros, counted_there = math.inf, -math.inf, 0, 0
    for piece in waiting:
        numbers = unwritable(joined(piece, dtype))
        low, high, none = digests.digest(numbers, bits(numbers), *totals, tables)
        smallest, largest, zeros = min(smallest, low), max(largest, high), zeros + none
        counted_there += numbers.size
        for total in totals.limbs:
            limbs.carry(total)
        if counted_there > _FOLDED_BY:
            digests.fold(tables, totals.bins)
            counted_there = 0
    digests.fold(tables, totals.bins)
    return _Part(smallest, largest, zeros, totals)


def _merged(parts: Sequence[_Part], dtype: np.dtype[Any]) -> Digest:
    """The digest of all parts, at least one."""
    counters, bins = added([part.totals.counters for part in parts]), added([part.totals.bins for part in parts])
    sums = {}
    for i, kind in enumerate(formats.KINDS):
        base, width = formats.window(kind, dtype)
        total = added([part.totals.limbs[i] for part in parts])
        limbs.carry(total)
        sums[kind] = ExactSums(base, total.reshape(width), counters[:, i].reshape(COUNTERS))
    smallest, largest = min(part.smallest for part in parts), max(part.largest for part in parts)
    return Digest(smallest + 0.0, largest + 0.0, sum(part.zeros for part in parts), sums, bins)


def _totals(dtype: np.dtype[Any]) -> _Totals:
    """Zeros, for numbers of that dtype."""
    windows = [formats.window(kind, dtype) for kind in formats.KINDS]
    value, absolute, square = (np.zeros((width, 1), np.int64) for _, width in windows)
    return _Totals(
        bases=np.array([base for base, _ in windows]),
        limbs=(value, absolute, square),
        counters=np.zeros((COUNTERS, 3), np.int64),
        bins=np.zeros(formats.HISTOGRAM_BINS, np.int64),
    )


def _size(arrays: Sequence[Array]) -> int:
    return sum(x.size for x in arrays)
