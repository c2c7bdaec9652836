"""The one-pass summary of many numbers: exact, and mergeable.

A :class:`Summary` holds integers (counts and exact sums), so ``a + b`` equals the summary of both, bit for bit, however
the numbers were split over arrays, shards or threads. Sums are exact; means and sigmas are rounded once, from them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, Source, Stream, is_cuda
from secateur.errors import EmptyInputError, InvalidTensorError, OutOfRangeError
from secateur.kernels import formats
from secateur.scalars import whole

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LARGEST = sys.float_info.max
_TOP = sys.float_info.max_exp


@dataclass(frozen=True)
class Summary:
    """What is known of ``count`` numbers after one look at each.

    Args:
        count: how many numbers, at least 1.
        zeros: how many are exactly 0.
        minimum: the smallest.
        maximum: the largest.
        exact_total: their exact sum, in units of 2**-1074, infinities left out.
        exact_magnitudes: the exact sum of their magnitudes, in the same unit.
        exact_squares: the exact sum of their squares, in units of 2**-2148.
        infinities: how many are +inf, and how many -inf.
        occupied: (bin, count) of the bins that are not empty, ascending, in the grid of ``kernels.formats``.
    """

    count: int
    zeros: int
    minimum: float
    maximum: float
    exact_total: int
    exact_magnitudes: int
    exact_squares: int
    infinities: tuple[int, int]
    occupied: tuple[tuple[int, int], ...]

    def __add__(self, other: Summary) -> Summary:
        """The summary of the numbers of both."""
        if not isinstance(other, Summary):
            return NotImplemented
        return merged([self, other])

    def __radd__(self, other: object) -> Summary:
        """So that ``sum`` of summaries, which begins with 0, is the summary of the numbers of all."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    @property
    def is_finite(self) -> bool:
        """Whether none of the numbers is infinite."""
        return self.infinities == (0, 0)

    @property
    def mean(self) -> float:
        """The mean, correctly rounded; inf or -inf with infinities of one sign, NaN with both."""
        plus, minus = self.infinities
        if plus or minus:
            return math.nan if plus and minus else math.inf if plus else -math.inf
        return self.exact_total / (self.count << -formats.UNIT["value"])

    @property
    def mean_absolute(self) -> float:
        """The mean magnitude, correctly rounded."""
        return self.exact_magnitudes / (self.count << -formats.UNIT["value"]) if self.is_finite else math.inf

    @property
    def std(self) -> float:
        """The population's standard deviation: the root of the correctly rounded variance; NaN with infinities."""
        if not self.is_finite:
            return math.nan
        spread = self.count * self.exact_squares - self.exact_total**2
        return _root_of_ratio(spread, self.count**2 << -formats.UNIT["square"])

    @property
    def std_absolute(self) -> float:
        """The population's standard deviation of the magnitudes; NaN with infinities."""
        if not self.is_finite:
            return math.nan
        spread = self.count * self.exact_squares - self.exact_magnitudes**2
        return _root_of_ratio(spread, self.count**2 << -formats.UNIT["square"])

    def magnitude_histogram(self) -> tuple[Counts, Floats]:
        """Exact counts (int64) of magnitudes on a logarithmic grid, and its float64 edges, one more.

        Bin i is [edges[i], edges[i + 1]), 32 bins to an octave; the first begins at 0 and holds all below 2**-96, the
        last ends at infinity and holds all from 2**32 * 63/64.
        """
        bins = self._bins()
        middle = formats.MAGNITUDES
        counts = bins[middle:].copy()
        counts[1:] += bins[:middle][::-1]
        edges = np.concatenate(([0.0], formats.magnitude_edges()))
        edges[-1] = math.inf
        return counts, edges

    def cumulative(self) -> tuple[Floats, Counts]:
        """Ascending edges over all the numbers, and how many lie below each: exact, at the edges of the fixed grid.

        The first edge is the minimum and has 0 below, the last is the maximum and has all at or below. At a negative
        edge, numbers equal to it count as below.
        """
        grid = formats.magnitude_edges()
        edges = np.concatenate((-grid[::-1], grid))
        below = np.concatenate(([0], np.cumsum(self._bins())))
        inner = (edges > self.minimum) & (edges < self.maximum)
        inner[[0, -1]] = False
        return (
            np.concatenate(([self.minimum], edges[inner], [self.maximum])),
            np.concatenate(([0], below[inner], [self.count])),
        )

    def histogram(self, bins: int = 64) -> tuple[Floats, Floats]:
        """Counts (float64) in evenly spaced bins from minimum to maximum, and the bins' edges, one more; for plots.

        Numbers within one bin of the logarithmic grid (at most 3 % wide) are taken to lie evenly. With infinities, the
        range ends at the largest finite edge of the grid that is needed. A constant has one bin around it.

        Raises:
            RecipeError: bins is no whole number.
            OutOfRangeError: fewer than 1 bin.
            InvalidTensorError: all numbers are infinite.
        """
        if whole("bins", bins) < 1:
            raise OutOfRangeError(f"{bins} bins hold nothing: ask for at least 1")
        edges, below = self.cumulative()
        finite = np.isfinite(edges)
        if not finite.any():
            raise InvalidTensorError(f"all {self.count} numbers are infinite, so there is no range to draw them in")
        edges, below = edges[finite], below[finite]
        if edges[0] == edges[-1]:
            value = float(edges[0])
            margin = max(0.5, abs(value) * 2.0**-50)
            around = max(value - margin, -_LARGEST), min(value + margin, _LARGEST)
            return np.array([float(self.count)]), np.array(around)
        edges, exponent = _of_unit_width(edges)
        wanted = np.linspace(edges[0], edges[-1], bins + 1)
        return np.diff(np.interp(wanted, edges, below)), np.ldexp(wanted, exponent)

    def _bins(self) -> Counts:
        """All counts of the fixed grid, int64[HISTOGRAM_BINS]."""
        counts = np.zeros(formats.HISTOGRAM_BINS, np.int64)
        for index, count in self.occupied:
            counts[index] = count
        return counts


def summarize_source(arrays: Source) -> Summary:
    """The summary of all arrays. What lies in the host's memory together is read together.

    Raises:
        EmptyInputError: there is no element.
        InvalidTensorError: an array holds NaN.
    """
    parts: list[Summary] = []
    together: dict[bool, list[Named]] = {}
    for item in arrays:
        if not math.prod(item.array.shape):
            continue
        if isinstance(arrays, Stream) or is_cuda(item.array):
            parts.append(_summary([item], kernels.of(item.array).digest(item.array)))
        else:
            together.setdefault(item.array.dtype.itemsize == 8, []).append(item)
    parts += [_summary(items, kernels.digest_together([item.array for item in items])) for items in together.values()]
    if not parts:
        raise EmptyInputError("no array with at least one element was given")
    return merged(parts)


def _summary(items: Sequence[Named], found: formats.Digest) -> Summary:
    """The summary of arrays from their digest. Raises InvalidTensorError if one holds NaN."""
    plus, minus, nan = found.sums["value"].counters.tolist()
    if nan:
        kernels.refuse_nan(items)
    occupied = np.flatnonzero(found.histogram > 0)
    return Summary(
        count=sum(math.prod(item.array.shape) for item in items),
        zeros=found.zeros,
        minimum=found.smallest,
        maximum=found.largest,
        exact_total=kernels.exact_integer(found.sums["value"], "value"),
        exact_magnitudes=kernels.exact_integer(found.sums["absolute"], "absolute"),
        exact_squares=kernels.exact_integer(found.sums["square"], "square"),
        infinities=(plus, minus),
        occupied=tuple(zip(occupied.tolist(), found.histogram[occupied].tolist(), strict=True)),
    )


def merged(summaries: Sequence[Summary]) -> Summary:
    """The summary of the numbers of all, of at least one summary."""
    bins: dict[int, int] = {}
    for summary in summaries:
        for index, count in summary.occupied:
            bins[index] = bins.get(index, 0) + count
    return Summary(
        count=sum(each.count for each in summaries),
        zeros=sum(each.zeros for each in summaries),
        minimum=min(each.minimum for each in summaries),
        maximum=max(each.maximum for each in summaries),
        exact_total=sum(each.exact_total for each in summaries),
        exact_magnitudes=sum(each.exact_magnitudes for each in summaries),
        exact_squares=sum(each.exact_squares for each in summaries),
        infinities=(sum(each.infinities[0] for each in summaries), sum(each.infinities[1] for each in summaries)),
        occupied=tuple(sorted(bins.items())),
    )


def _of_unit_width(edges: Floats) -> tuple[Floats, int]:
    """(scaled, e): ascending edges times 2**-e, some 1 apart in all, so that no difference or slope leaves float64."""
    with np.errstate(over="ignore"):
        width = float(edges[-1] - edges[0])
    exponent = math.frexp(width)[1] if math.isfinite(width) else _TOP + 1
    return np.ldexp(edges, -exponent), exponent


def _root_of_ratio(numerator: int, denominator: int) -> float:
    """sqrt(numerator / denominator), the ratio correctly rounded to 53 bits whatever its exponent."""
    if numerator == 0:
        return 0.0
    shift = (numerator.bit_length() - denominator.bit_length()) // 2
    ratio = numerator / (denominator << 2 * shift) if shift >= 0 else (numerator << -2 * shift) / denominator
    return math.ldexp(math.sqrt(ratio), shift)
