"""Order statistics: the values at ranks of all elements of many arrays, exactly, without joining or sorting them.

Three ways lead to the same bits. Few elements are sorted. Arrays in the host's memory are read once: a sample brackets
the wanted value between two others, one pass counts what lies outside and collects the little that lies inside, among
which the search goes on. Where that cannot be done (arrays on a CUDA device, arrays that are made anew for each pass)
or did not work (the sample misled), histograms of the floats' bit patterns find the value digit by digit: two passes
for 16- and 32-bit floats, four for float64. Those histograms merge across devices, shards and files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, Source, Stream, common_dtype, is_cuda, single_dtype, total_size
from secateur.errors import ShapeMismatchError
from secateur.kernels import formats

Array = npt.NDArray[Any]

SORTED = 1 << 16
"""Up to so many elements are joined, and selected from; of more, few enough lie inside a bracket to be collected."""
_MANY = 12
"""Of more ranks, neighbours share a bracket even where their own are apart: a pass for each would cost more."""
_WIDEST = 0.1
"""The share of all elements that a bracket of several ranks may hold: what is collected at once."""
_PREFIXES_AT_ONCE = 8
"""Each takes a table of 65,536 counts in each thread."""
_LARGEST_SAMPLE = 1 << 19
_STANDARD_ERRORS = (3.0, 12.0)
"""How far from where the sample has a rank its bracket ends: at first, and after a failure."""
_TIED = 8
"""An end of a bracket that the sample has more often than that is counted instead of collected."""


class OrderStatistic(NamedTuple):
    """The value at a rank of all elements in ascending order, and how many lie below it and equal it."""

    value: float
    below: int
    equal: int


def order_statistics(arrays: Source, ranks: Sequence[int], absolute: bool = False) -> list[OrderStatistic]:
    """The elements at ranks (0 = smallest), in the order asked for.

    Args:
        arrays: with at least one element.
        ranks: each from 0 and below the number of elements.
        absolute: whether magnitudes are ranked.

    Raises:
        InvalidTensorError: an element is NaN.
    """
    size = total_size(arrays)
    found: dict[int, OrderStatistic] = {}
    if not ranks:
        kernels.refuse_nan(arrays)
        return []
    if not isinstance(arrays, Stream) and not any(is_cuda(array) for _, array in arrays):
        search = _Search([array for _, array in arrays], absolute)
        try:
            found = search.statistics(sorted(set(ranks)))
        except _NaNError:
            kernels.refuse_nan(arrays)
    elif size <= SORTED:
        kernels.refuse_nan(arrays)
        return _selected(_joined(arrays, absolute), ranks)
    missing = [rank for rank in ranks if rank not in found]
    if missing:
        kernels.refuse_nan(arrays)
        found |= _by_digits(arrays, missing, absolute)
    return [found[rank] for rank in ranks]


def sorted_values(arrays: Source) -> Array:
    """All numbers, none of which is NaN, in one array of their common dtype, ascending."""
    values = _joined(arrays, absolute=False)
    values.sort()
    return values


def _joined(arrays: Source, absolute: bool) -> Array:
    dtype = common_dtype(arrays)
    parts = [kernels.of(array).to_host(array).reshape(-1).astype(dtype) for _, array in _ranked(arrays)]
    values = np.concatenate(parts)
    return np.abs(values, out=values) if absolute else values


def _ranked(arrays: Source) -> Iterator[Named]:
    """The arrays of one pass; of a stream each is looked at for NaN, as it may hold what an earlier pass did not."""
    for item in arrays:
        if isinstance(arrays, Stream):
            kernels.refuse_nan([item])
        yield item


def _selected(values: Array, ranks: Sequence[int]) -> list[OrderStatistic]:
    """The elements of an array, which is put into another order, at ranks."""
    if len(ranks) > _MANY:
        values.sort()
        chosen = values[list(ranks)] + values.dtype.type(0)
        below, up_to = (np.searchsorted(values, chosen, side) for side in ("left", "right"))
        columns = (chosen.tolist(), below.tolist(), (up_to - below).tolist())
        return [OrderStatistic(*row) for row in zip(*columns, strict=True)]
    values.partition(sorted(set(ranks)))
    chosen = [values[rank] + 0.0 for rank in ranks]
    return [
        OrderStatistic(float(value), int(np.count_nonzero(values < value)), int(np.count_nonzero(values == value)))
        for value in chosen
    ]


class _NaNError(Exception):
    """A NaN was met among the numbers that are ranked."""


@dataclass(frozen=True)
class _Bracket:
    """Two values between which ranks are expected, and whether so many elements equal them that they are counted."""

    low: float
    high: float
    low_tied: bool
    high_tied: bool


class _Search:
    """The search by brackets in arrays of the host's memory."""

    def __init__(self, arrays: Sequence[Array], absolute: bool) -> None:
        self.arrays = arrays
        self.size = sum(array.size for array in arrays)
        self.absolute = absolute
        dtypes = {array.dtype for array in arrays if array.size}
        self.dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*map(single_dtype, dtypes))

    def statistics(self, ranks: Sequence[int]) -> dict[int, OrderStatistic]:
        """What was found for ascending ranks; those that the sample misled about are missing. Raises _NaNError."""
        samples = self._sample_size()
        if self.size <= max(SORTED, samples):
            return self._sorted(ranks)
        sample = kernels.sample(self.arrays, self.dtype, self.absolute, samples)
        found: dict[int, OrderStatistic] = {}
        for errors in _STANDARD_ERRORS:
            groups = self._grouped([rank for rank in ranks if rank not in found], sample.size, errors)
            ends = {end for first, last, _ in groups for end in (first, last) if 0 <= end < sample.size}
            known = _Search([sample], absolute=False).statistics(sorted(ends)) if ends else {}
            for first, last, members in groups:
                found |= self._searched(_bracket(known, first, last), members)
        return found

    def _sorted(self, ranks: Sequence[int]) -> dict[int, OrderStatistic]:
        values = _joined([Named("", array) for array in self.arrays], self.absolute)
        if np.isnan(values).any():
            raise _NaNError
        return dict(zip(ranks, _selected(values, ranks), strict=True))

    def _sample_size(self) -> int:
        """So many that the sample and what a bracket of it holds are about as large, and small against the whole."""
        return min(_LARGEST_SAMPLE, math.ceil(2 * math.pow(self.size, 2 / 3)))

    def _grouped(self, ranks: Sequence[int], samples: int, errors: float) -> list[tuple[int, int, list[int]]]:
        """Ranks that are searched for together, with the positions in the sorted sample at which their bracket ends.

        A bracket that holds many ranks is searched in like manner, so that k of them take about log(k) passes.
        """
        groups: list[tuple[int, int, list[int]]] = []
        for rank in ranks:
            share = (rank + 0.5) / self.size
            spread = errors * math.sqrt(samples * share * (1.0 - share)) + 2.0
            first, last = math.floor(share * samples - spread), math.ceil(share * samples + spread)
            near = bool(groups) and (groups[-1][1] >= first or len(ranks) > _MANY)
            if near and last - groups[-1][0] <= _WIDEST * samples:
                start, _, members = groups[-1]
                members.append(rank)
                groups[-1] = start, last, members
            else:
                groups.append((first, last, [rank]))
        return groups

    def _searched(self, bracket: _Bracket, ranks: Sequence[int]) -> dict[int, OrderStatistic]:
        if bracket.low == bracket.high:
            return self._counted(bracket.low, ranks)
        low = self._next(bracket.low, math.inf) if bracket.low_tied else bracket.low
        high = self._next(bracket.high, -math.inf) if bracket.high_tied else bracket.high
        split = kernels.split(self.arrays, self.dtype, low, high, self.absolute, collect=True)
        if split is None:
            return {}
        found: dict[int, OrderStatistic] = {}
        if bracket.low_tied:
            found |= self._counted(bracket.low, [rank for rank in ranks if rank < split.below])
        if bracket.high_tied:
            found |= self._counted(bracket.high, [rank for rank in ranks if rank >= self.size - split.above])
        within = [rank - split.below for rank in ranks if split.below <= rank < self.size - split.above]
        if within:
            inner = _Search(split.inside, absolute=False)
            statistics = inner.statistics(within) if inner.size < self.size else inner._sorted(within)
            for rank, statistic in statistics.items():
                found[rank + split.below] = statistic._replace(below=statistic.below + split.below)
        return found

    def _next(self, value: float, towards: float) -> float:
        with np.errstate(over="ignore"):  # beyond the largest number lies infinity
            return float(np.nextafter(np.array(value, self.dtype), np.array(towards, self.dtype)))

    def _counted(self, value: float, ranks: Sequence[int]) -> dict[int, OrderStatistic]:
        """What the elements that equal a value are the answer to."""
        if not ranks:
            return {}
        split = kernels.split(self.arrays, self.dtype, value, value, self.absolute, collect=False)
        if split.nan:
            raise _NaNError
        statistic = OrderStatistic(value, split.below, self.size - split.below - split.above)
        return {rank: statistic for rank in ranks if split.below <= rank < self.size - split.above}


def _bracket(sample: dict[int, OrderStatistic], first: int, last: int) -> _Bracket:
    """Between the sample's values at two ranks; beyond its ends, and where it is not known, lie the infinities."""
    low, high = sample.get(first), sample.get(last)
    return _Bracket(
        low=-math.inf if low is None else low.value,
        high=math.inf if high is None else high.value,
        low_tied=low is not None and low.equal > _TIED,
        high_tied=high is not None and high.equal > _TIED,
    )


def _by_digits(arrays: Source, ranks: Sequence[int], absolute: bool) -> dict[int, OrderStatistic]:
    """By radix histograms: level by level, the counts of the next digit of all keys that begin as the rank's does."""
    dtype = np.result_type(common_dtype(arrays), np.float32)
    open_ranks = {0: [(rank, rank) for rank in set(ranks)]}
    expected = {0: total_size(arrays)}
    found: dict[int, OrderStatistic] = {}
    for level in range(formats.levels(dtype)):
        deeper: dict[int, list[tuple[int, int]]] = {}
        for prefix, counts in _digit_counts(arrays, dtype, sorted(open_ranks), level, absolute):
            up_to = np.cumsum(counts)
            if up_to[-1] != expected[prefix]:
                raise ShapeMismatchError(
                    f"one pass saw {expected[prefix]} numbers where the next saw {up_to[-1]}: the callable must give "
                    "the same arrays anew each time it is called"
                )
            for rank, within in open_ranks[prefix]:
                digit = int(np.searchsorted(up_to, within, side="right"))
                rest = within - int(up_to[digit] - counts[digit])
                key = prefix << formats.DIGIT_BITS | digit
                deeper.setdefault(key, []).append((rank, rest))
                expected[key] = int(counts[digit])
                found[rank] = OrderStatistic(0.0, rank - rest, int(counts[digit]))
        open_ranks = deeper
    for key, members in open_ranks.items():
        for rank, _ in members:
            found[rank] = found[rank]._replace(value=formats.key_to_float(key, dtype))
    return found


def _digit_counts(
    arrays: Source, dtype: np.dtype[Any], prefixes: Sequence[int], level: int, absolute: bool
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Counts of the next digit, over all arrays, for each prefix."""
    for start in range(0, len(prefixes), _PREFIXES_AT_ONCE):
        group = prefixes[start : start + _PREFIXES_AT_ONCE]
        counts = np.zeros((len(group), formats.DIGITS), np.int64)
        for _, array in _ranked(arrays):
            counts += kernels.of(array).digit_counts(array, dtype, group, level, absolute)
        yield from zip(group, counts, strict=True)
