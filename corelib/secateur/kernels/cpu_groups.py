"""The CPU kernels that keep so many of each group or row; ``cpu`` shows them. What each does: ``kernels.Kernels``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import PIECE, Index, partition
from secateur.kernels import groups as loops
from secateur.kernels import rows
from secateur.kernels.cpu_masks import packed_pieces
from secateur.kernels.lines import LARGEST, Piece, length, line, patterns, placed, update
from secateur.kernels.mask_loops import pack, zero_where_false
from secateur.kernels.threads import mapped
from secateur.kernels.transposing import TILE

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]


def mask_n_of_m(x: Array, n: int, m: int, axis: int, packed: bool = False) -> Mask | Bits:
    """True at the n largest of each m consecutive along an axis."""
    inner = math.prod(x.shape[axis + 1 :])

    def write(part: Array, mask: Bits) -> None:
        _mask_groups(line(part).reshape(-1, m, inner), n, mask)

    return _written(x.shape, _slabs(patterns(x), m, axis, packed) if x.size else [], write, packed)


def mask_per_row(x: Array, keep: int, packed: bool = False) -> Mask | Bits:
    """True at the ``keep`` largest of each index of axis 0."""
    columns = math.prod(x.shape[1:])

    def write(part: Array, mask: Bits) -> None:
        if keep:
            _mask_rows(line(part).reshape(-1, columns), keep, mask.reshape(-1, columns))
        else:
            mask[:] = 0

    return _written(x.shape, [patterns(x)[index] for index in _row_blocks(x, copied=packed)], write, packed)


def zero_n_of_m(x: Array, n: int, m: int, axis: int) -> None:
    """+0.0 at all but the n largest magnitudes of each m consecutive along an axis."""
    if n == 0:
        x[...] = 0
    if n in (0, m):
        return
    stored = _stored_groups(patterns(x), m, axis) if m <= loops.LARGEST else None
    if stored is None:
        _zero_copied_groups(patterns(x), n, m, axis)
    elif stored.shape[2] == 1:
        flat = stored.reshape(-1)
        step = m * max(1, length(flat.size) // m)
        mapped(lambda index: _zero_line(flat[index], n, m), list(partition(flat.shape, step)))
    else:
        _zero_planes(stored, n)


def zero_per_row(x: Array, keep: int, scale: Array) -> None:
    """+0.0 at all but the ``keep`` largest |x| * scale of each index of axis 0."""
    columns = math.prod(x.shape[1:])

    def change(found: Array) -> None:
        block = found.reshape(-1, columns)
        values = _floats(block.view(x.dtype), scale.dtype)
        scores = np.empty(columns, scale.dtype)
        rows.zero_rows(values, scale, keep, block, scores, patterns(scores))

    if keep == 0:
        x[...] = 0
    elif keep < columns:
        mapped(lambda index: update(patterns(x)[index], change), _row_blocks(x))


def first_nan_product(x: Array, scale: Array) -> int:
    """Position of the first NaN of x * scale in C order, or -1."""
    pieces = placed([x[index] for index in _row_blocks(x)])

    def work(piece: Piece) -> int:
        values = _floats(line(piece.part).reshape(-1, scale.size), scale.dtype)
        found: int = rows.first_nan_product(values, scale)
        return piece.start + found if found >= 0 else x.size

    position = min(mapped(work, pieces), default=x.size)
    return position if position < x.size else -1


def _slabs(x: Array, m: int, axis: int, copied: bool) -> list[Array]:
    """Consecutive parts, in C order, of whole groups; small ones if something is copied for each."""
    counts, inner = (*x.shape[:axis], x.shape[axis] // m), math.prod(x.shape[axis + 1 :])
    grouped = x.reshape(*counts, m, *x.shape[axis + 1 :])
    limit = length(x.size) if inner == 1 and not copied and x.flags.c_contiguous else PIECE
    at_once = max(1, limit // (m * inner))
    tiles = TILE * math.prod(counts[1:])
    if axis and not x.flags.c_contiguous and m * inner * tiles <= LARGEST:
        at_once = max(tiles, at_once - at_once % tiles)
    return [grouped[index] for index in partition(counts, at_once)]


def _mask_groups(groups: Array, n: int, mask: Bits) -> None:
    """The mask, in C order, of (groups, m, inner)."""
    count, m, inner = groups.shape
    if n in (0, m):
        mask[:] = n > 0
    elif m > loops.LARGEST:
        apart = line(groups.transpose(0, 2, 1)).reshape(-1, m)
        stays = np.empty(apart.shape, np.uint8)
        _mask_rows(apart, n, stays)
        mask.reshape(groups.shape)[...] = stays.reshape(count, inner, m).transpose(0, 2, 1)
    elif inner == 1:
        loops.mask_line(groups.reshape(-1), *_lengths(groups, n, m, together=m), mask)
    else:
        loops.mask_planes(groups.reshape(-1), inner, *_lengths(groups, n, m, together=1), mask)


def _mask_rows(block: Array, keep: int, mask: Array) -> None:
    rows.mask_rows(block, keep, mask, np.empty(block.shape[1], f"int{max(32, 8 * block.itemsize)}"))


def _zero_line(found: Array, n: int, m: int) -> None:
    loops.zero_line(found, *_lengths(found, n, m, together=m))


def _zero_planes(stored: Array, n: int) -> None:
    """In place, of (groups, m, inner)."""
    _, m, inner = stored.shape

    def work(cut: tuple[slice, int, int]) -> None:
        groups, first, last = cut
        loops.zero_planes(stored[groups].reshape(-1), inner, first, last, *_lengths(stored, n, m, together=1))

    mapped(work, _plane_cuts(stored.shape))


def _lengths(found: Array, n: int, m: int, together: int) -> tuple[loops.Length, loops.Length, int]:
    """n and m as lengths, and how many elements go at once; so many of a group lie together."""
    return (0,) * n, (0,) * m, loops.lanes(together, 8 * found.itemsize)


def _zero_copied_groups(x: Array, n: int, m: int, axis: int) -> None:
    """Groups of any layout and size, brought side by side piece by piece."""
    grouped = x.reshape(*x.shape[:axis], x.shape[axis] // m, m, *x.shape[axis + 1 :])
    groups = np.moveaxis(grouped, axis + 1, -1)

    def change(found: Array) -> None:
        if m <= loops.LARGEST:
            _zero_line(found, n, m)
        else:
            stays = np.empty((found.size // m, m), np.uint8)
            _mask_rows((found & np.iinfo(found.dtype).max).reshape(-1, m), n, stays)
            zero_where_false(found, stays.reshape(-1))

    mapped(lambda index: update(groups[index], change), list(partition(groups.shape, max(PIECE, m))))


def _stored_groups(x: Array, m: int, axis: int) -> Array | None:
    """x as (groups, m, inner), contiguous, if it lies so for some order of its other axes."""
    if x.strides[axis] < 0:
        return None
    flips = tuple(slice(None, None, -1) if stride < 0 else slice(None) for stride in x.strides)
    order = sorted(range(x.ndim), key=lambda each: -abs(x.strides[each]))
    stored, at = x[flips].transpose(order), order.index(axis)
    if not stored.flags.c_contiguous:
        return None
    return stored.reshape(-1, m, math.prod(stored.shape[at + 1 :])) if x.size else None


def _plane_cuts(shape: tuple[int, ...]) -> list[tuple[slice, int, int]]:
    """(groups, first column, last column) of pieces of (groups, m, inner)."""
    count, m, inner = shape
    at_once, columns = max(1, PIECE // (m * inner)), max(1, min(inner, PIECE // m))
    return [
        (slice(first, first + at_once), start, min(start + columns, inner))
        for first in range(0, count, at_once)
        for start in range(0, inner, columns)
    ]


def _row_blocks(x: Array, copied: bool = False) -> list[Index]:
    """Index tuples of blocks of whole rows, the indices of axis 0; small ones if something is copied for each."""
    columns = math.prod(x.shape[1:])
    if not x.size:
        return []
    if not x.flags.c_contiguous:
        at_once = max(TILE, PIECE // columns // TILE * TILE)
    else:
        at_once = max(1, (PIECE if copied else length(x.size)) // columns)
    return list(partition(x.shape[:1], at_once))


def _floats(x: Array, dtype: np.dtype[Any]) -> Array:
    """The numbers in a wider dtype; themselves if they are of it."""
    return np.ascontiguousarray(x.astype(dtype, copy=False))


def _written(shape: tuple[int, ...], parts: list[Array], write: Any, packed: bool) -> Mask | Bits:
    """The mask that ``write`` makes of consecutive parts."""
    size = math.prod(shape)
    if packed:

        def write_packed(piece: Piece, bits: Bits) -> None:
            stays = np.empty(piece.part.size, np.uint8)
            write(piece.part, stays)
            pack(stays, bits)

        return packed_pieces(size, placed(parts), write_packed)
    mask = np.empty(shape, np.bool_)
    out = mask.view(np.uint8).reshape(-1)
    mapped(lambda piece: write(piece.part, out[piece.start : piece.start + piece.part.size]), placed(parts))
    return mask
