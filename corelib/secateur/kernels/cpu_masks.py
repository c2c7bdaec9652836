"""The CPU kernels that make, pack, compare and apply masks; ``cpu`` shows them. What each does: ``kernels.Kernels``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import Index, as_stored
from secateur.kernels import mask_loops as loops
from secateur.kernels.keys import limits
from secateur.kernels.lines import Piece, cuts, in_order, line, patterns, update
from secateur.kernels.threads import mapped

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]


def mask_above(x: Array, threshold: float, first_kept: int | None = None, packed: bool = False) -> Mask | Bits | None:
    """True above the threshold, and where elements equal it from position ``first_kept`` on; None if one is NaN."""
    before, after = limits(x.dtype, threshold)
    split = x.size if first_kept is None else first_kept
    pieces, infinity, nan = in_order(patterns(x)), _infinity(x), []

    def write(piece: Piece, bits: Bits) -> None:
        nan.append(loops.packed_above(line(piece.part), before, after, split - piece.start, infinity, bits))

    def work(piece: Piece) -> None:
        start, part = piece
        kept = out[start : start + part.size]
        nan.append(loops.bool_above(line(part), before, after, split - start, kept) > infinity)

    result: Array
    if packed:
        result = packed_pieces(x.size, pieces, write)
    else:
        result = np.empty(x.shape, np.bool_)
        out = result.view(np.uint8).reshape(-1)
        mapped(work, pieces)
    return None if any(nan) else result


def first_kept(x: Array, threshold: float, last_equal: int, absolute: bool = False) -> tuple[int, int]:
    """Where the last ``last_equal`` elements equal to the threshold begin, and how many they are."""
    key, below = limits(x.dtype, threshold)
    if key == below or last_equal <= 0:
        return x.size, 0
    pieces = in_order(patterns(x))
    counts = mapped(lambda piece: loops.count_equal(line(piece.part), key, absolute), pieces)
    pruned = sum(counts) - last_equal
    if pruned <= 0:
        return (0, sum(counts)) if any(counts) else (x.size, 0)
    for (start, part), count in zip(pieces, counts, strict=True):
        if pruned < count:
            return start + loops.find_equal(line(part), key, absolute, pruned), last_equal
        pruned -= count
    return x.size, 0


def zero_at_most(x: Array, threshold: float, first_kept: int | None = None) -> None:
    """+0.0 where |x| is at most the threshold, but not where it equals it from position ``first_kept`` on."""
    before, after = (max(limit, limit.dtype.type(-1)) for limit in limits(x.dtype, threshold))
    split = x.size if first_kept is None else first_kept
    if 0 < split < x.size:
        for_each(in_order(patterns(x)), lambda start, found: loops.zero_at_most(found, before, after, split - start))
    else:
        (stored,) = as_stored(patterns(x))
        for_each(
            [Piece(0, stored[index]) for index in cuts(stored)],
            lambda _, found: loops.zero_at_most(found, before, after, found.size if split else 0),
        )


def zero_where_false(x: Array, mask: Mask | Bits) -> None:
    """+0.0 where the mask is False."""
    if mask.dtype == np.uint8:
        bits = line(mask)

        def change(start: int, found: Array) -> None:
            loops.zero_where_clear(found, _bits_from(bits, start, found.size))

        for_each(in_order(patterns(x)), change)
        return
    target, kept = as_stored(patterns(x), mask.view(np.uint8))

    def work(index: Index) -> None:
        update(target[index], lambda out: loops.zero_where_false(out, line(kept[index])))

    mapped(work, cuts(target))


def pack(mask: Mask) -> Bits:
    """Eight elements a byte, in C order."""
    pieces = in_order(mask.view(np.uint8))
    return packed_pieces(mask.size, pieces, lambda piece, bits: loops.pack(line(piece.part), bits))


def unpack(bits: Bits, shape: tuple[int, ...]) -> Mask:
    """One element a byte."""
    mask, packed = np.empty(shape, np.bool_), line(bits)
    for_each(
        in_order(mask.view(np.uint8)),
        lambda start, found: loops.unpack(_bits_from(packed, start, found.size), found),
    )
    return mask


def combine(a: Array, b: Array, union: bool) -> Array:
    """a | b, or a & b."""
    result = np.empty(a.shape, a.dtype)
    first, second, target = as_stored(a.view(np.uint8), b.view(np.uint8), result.view(np.uint8))
    loop = loops.combine_bools if a.dtype == np.bool_ else loops.combine

    def work(index: Index) -> None:
        update(target[index], lambda out: loop(line(first[index]), line(second[index]), union, out))

    mapped(work, cuts(first))
    return result


def count_kept(a: Array, b: Array) -> tuple[int, int, int]:
    """How many elements are kept by a, by b, and by both."""
    first, second = as_stored(a.view(np.uint8), b.view(np.uint8))
    loop = loops.count_bools if a.dtype == np.bool_ else loops.count_bits
    counts = mapped(lambda index: loop(line(first[index]), line(second[index])), cuts(first))
    in_a, in_b, in_both = (sum(int(each[at]) for each in counts) for at in range(3))
    return in_a, in_b, in_both


def for_each(pieces: list[Piece], change: Callable[[int, Array], None]) -> None:
    """Change each piece, given its position and its elements as a line, in place."""
    mapped(lambda piece: update(piece.part, lambda found: change(piece.start, found)), pieces)


def packed_pieces(size: int, pieces: list[Piece], write: Callable[[Piece, Bits], None]) -> Bits:
    """A packed mask of that many elements, each piece written by ``write``.

    Pieces that share a byte with others are written aside and put in afterwards, so that no two threads write to it.
    """
    result = np.zeros(-(-size // 8), np.uint8)

    def work(piece: Piece) -> tuple[Bits, int] | None:
        start, stop = piece.start, piece.start + piece.part.size
        if start % 8 == 0 and (stop % 8 == 0 or stop == size):
            write(piece, result[start // 8 : -(-stop // 8)])
            return None
        aside = np.empty(-(-piece.part.size // 8), np.uint8)
        write(piece, aside)
        return aside, start

    for written in mapped(work, pieces):
        if written:
            loops.place_bits(*written, result)
    return result


def has_nan(x: Array) -> bool:
    """Whether some element is NaN."""
    (stored,) = as_stored(patterns(x))
    largest = mapped(lambda index: loops.largest_magnitude(line(stored[index])), cuts(stored))
    return bool(max(largest, default=0) > _infinity(x))


def _infinity(x: Array) -> Any:
    """The key of infinity; magnitudes beyond it are NaN."""
    return limits(x.dtype, math.inf).at_most


def _bits_from(bits: Bits, start: int, count: int) -> Bits:
    """The packed mask of ``count`` elements from one on."""
    if start % 8 == 0:
        return bits[start // 8 : -(-(start + count) // 8)]
    part = np.empty(-(-count // 8), np.uint8)
    loops.cut_bits(bits, start, part)
    return part
