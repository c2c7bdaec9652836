"""Lists of arrays, of which small neighbours are looked at as one: a call for each costs more than all its numbers.

A *run* is one array, or neighbours in the list that are small, lie in the host's memory and are of one dtype. Joined
end to end, in C order, they are an array like any other, so positions, ties and masks come out as those of the list.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from secateur.arrays import PIECE, Named, is_cuda
from secateur.kernels import of

SMALL = PIECE >> 5
"""Elements of the largest array that is joined to others; the call for a larger one is little against its numbers."""

Run = list[Named]


def runs(items: Iterable[Named]) -> Iterator[Run]:
    """The arrays in list order; together those of a run have at most PIECE elements."""
    run: Run = []
    room = 0
    for item in items:
        size = math.prod(item.array.shape)
        joins = size <= SMALL and not is_cuda(item.array)
        if run and not (joins and size <= room and item.array.dtype == run[0].array.dtype):
            yield run
            run = []
        if not joins:
            yield [item]
            continue
        room = (room if run else PIECE) - size
        run.append(item)
    if run:
        yield run


def joined(run: Run) -> Any:
    """The one array of a run, or a line of the elements of all: a copy."""
    return run[0].array if len(run) == 1 else np.concatenate([array.reshape(-1) for _, array in run])


def first_kept(items: Sequence[Named], threshold: float, last_equal: int, absolute: bool) -> int:
    """As :meth:`secateur.kernels.Kernels.first_kept`, of all arrays end to end: the position alone."""
    start = position = _size(items)
    for run in reversed(list(runs(items))):
        if last_equal <= 0:
            break
        array = joined(run)
        start -= _size(run)
        first, count = of(array).first_kept(array, threshold, last_equal, absolute)
        if count:
            position, last_equal = start + first, last_equal - count
    return position


def masks_above(items: Sequence[Named], threshold: float, first_kept: int, packed: bool) -> list[Any]:
    """As :meth:`secateur.kernels.Kernels.mask_above`, of all arrays end to end, none of them NaN: a mask for each."""
    masks: list[Any] = []
    for start, run in _placed(items):
        array = joined(run)
        alone = len(run) == 1
        mask = of(array).mask_above(array, threshold, _within(run, first_kept - start), packed and alone)
        masks += [mask] if alone else _apart(mask, run, packed)
    return masks


def zero_at_most(items: Sequence[Named], threshold: float, first_kept: int) -> None:
    """As :meth:`secateur.kernels.Kernels.zero_at_most`, of all arrays end to end."""
    for start, run in _placed(items):
        array = joined(run)
        of(array).zero_at_most(array, threshold, _within(run, first_kept - start))
        if len(run) > 1:
            for (_, target), (first, end) in zip(run, _bounds(run), strict=True):
                target[...] = array[first:end].reshape(target.shape)


def _size(items: Iterable[Named]) -> int:
    return sum(math.prod(array.shape) for _, array in items)


def _placed(items: Sequence[Named]) -> Iterator[tuple[int, Run]]:
    """Each run, with the position of its first element in all arrays end to end."""
    start = 0
    for run in runs(items):
        yield start, run
        start += _size(run)


def _within(run: Run, position: int) -> int:
    return min(max(position, 0), _size(run))


def _bounds(run: Run) -> Iterator[tuple[int, int]]:
    """Where each array of a run begins and ends in the line of all."""
    return itertools.pairwise(itertools.accumulate((array.size for _, array in run), initial=0))


def _apart(mask: Any, run: Run, packed: bool) -> list[Any]:
    """The mask of each array of a run, in memory of its own, so that one mask that is kept does not hold the others."""
    parts = (mask[first:end] for first, end in _bounds(run))
    if packed:
        return [np.packbits(part, bitorder="little") for part in parts]
    return [part.reshape(array.shape).copy() for part, (_, array) in zip(parts, run, strict=True)]
