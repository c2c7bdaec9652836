"""How the CPU kernels bring arrays before their compiled loops: as contiguous lines of numbers or of bit patterns.

An array is cut into pieces, each a view. A piece that does not lie contiguously is copied, and written back where it is
changed. Where the order of elements matters pieces follow one another in C order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.arrays import PIECE, Index, as_stored, partition
from secateur.kernels import loops, transposing
from secateur.kernels.threads import thread_count

Array = npt.NDArray[Any]

LARGEST = 1 << 24
"""Elements of the largest piece of a contiguous line, which needs no copy: few calls, yet work for all threads."""
_ALIGNMENT = 64
_PIECES_EACH = 4


class Piece(NamedTuple):
    """A part of an array: the position of its first element in C order, and the part itself."""

    start: int
    part: Array


def patterns(x: Array) -> Array:
    """The bit patterns as signed integers, without a copy."""
    return x.view(f"int{8 * x.itemsize}")


def bits(x: Array) -> Array:
    """The bit patterns as unsigned integers, without a copy."""
    return x.view(f"uint{8 * x.itemsize}")


def values(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """The elements as a contiguous line of float32 or float64: of ``dtype``, or as narrow as holds them exactly."""
    if x.itemsize == 2:
        patterns, is_half = bits(line(x)), x.dtype == np.float16
        x = np.empty(patterns.size, np.float32)
        loops.widen(patterns, is_half, bits(x))
    return line(x).astype(dtype or x.dtype, copy=False)


def line(x: Array) -> Array:
    """The elements in C order as a contiguous line; a copy only if they do not lie so."""
    if x.flags.c_contiguous:
        return x.reshape(-1)
    result = np.empty(x.shape, x.dtype)
    transposing.copy(x, result)
    return result.reshape(-1)


def unwritable(x: Array) -> Array:
    """The same as an array that cannot be written, whether x can or not: Numba compiles for both apart."""
    result = x.view()
    result.flags.writeable = False
    return result


def update(view: Array, change: Callable[[Array], None]) -> None:
    """Run ``change`` on the elements of ``view`` as a contiguous line, in place or by way of a copy."""
    if view.flags.c_contiguous:
        change(view.reshape(-1))
    else:
        copied = line(view)
        change(copied)
        transposing.copy(copied.reshape(view.shape), view)


def cuts(x: Array) -> list[Index]:
    """Index tuples of consecutive pieces, in C order: few for a contiguous line, of limited size for all else."""
    if x.ndim == 1 and 0 < x.size <= PIECE:  # no more to think about: lists of small arrays take long enough
        return [(slice(0, x.size),)]
    if x.flags.c_contiguous and x.ndim == 1:
        return list(partition(x.shape, length(x.size)))
    tiles = transposing.TILE * math.prod(x.shape[1:])
    if not 0 < tiles <= LARGEST:
        return list(partition(x.shape, PIECE))
    return list(partition(x.shape, max(tiles, PIECE - PIECE % tiles)))


def length(size: int) -> int:
    """How many elements of a contiguous line are best taken at once."""
    fair = -(-size // (_PIECES_EACH * thread_count()))
    wanted = max(PIECE, min(fair, LARGEST))
    return wanted - wanted % _ALIGNMENT if wanted > _ALIGNMENT else wanted


def in_order(x: Array) -> list[Piece]:
    """The array in C order, cut as :func:`cuts` does."""
    x = x.reshape(-1) if x.flags.c_contiguous else x
    parts = [x[index] for index in cuts(x)]
    return placed(parts)


def placed(parts: list[Array]) -> list[Piece]:
    """Consecutive parts, each with its position."""
    starts = itertools.accumulate((part.size for part in parts), initial=0)
    return [Piece(start, part) for start, part in zip(starts, parts, strict=False)]


def pieces(arrays: Iterable[Array], size: int) -> Iterator[list[Array]]:
    """Cut arrays of ``size`` elements in all, whose order does not matter, into pieces: views to be read end to end.

    A piece is one contiguous line, or views of at most PIECE elements together that must be copied into one (see
    :func:`joined`): several small arrays, or part of one that is spread out.
    """
    longest = length(size)
    small: list[Array] = []
    waiting = 0
    for array in arrays:
        if array.size > PIECE // 2:
            stored = array.reshape(-1) if array.flags.c_contiguous else as_stored(array)[0]
            limit = longest if stored.flags.c_contiguous else PIECE
            yield from ([stored[index]] for index in partition(stored.shape, limit))
        elif array.size:
            if waiting + array.size > PIECE:
                yield small
                small, waiting = [], 0
            small.append(array)
            waiting += array.size
    if small:
        yield small


def joined(piece: Sequence[Array], dtype: np.dtype[Any]) -> Array:
    """The elements of a piece as one line of ``dtype``, which holds their values; a copy if they are not."""
    lines = [line(view) if view.dtype == dtype else values(view, dtype) for view in piece]
    return lines[0] if len(lines) == 1 else np.concatenate(lines)


def added(parts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """The sum of at least one array, which may be the first itself: what threads counted apart."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
