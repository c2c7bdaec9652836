"""The one-pass summary of many numbers: exact, and mergeable.

A :class:`Summary` holds integers (counts and exact sums), so ``a + b`` equals the summary of both, bit for bit, however
the numbers were split over arrays, shards or threads. Sums are exact; means and sigmas are rounded once, from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, Source
from secateur.errors import EmptyInputError
from secateur.kernels import formats

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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
        bins = dict(self.occupied)
        for index, count in other.occupied:
            bins[index] = bins.get(index, 0) + count
        return Summary(
            count=self.count + other.count,
            zeros=self.zeros + other.zeros,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            exact_total=self.exact_total + other.exact_total,
            exact_magnitudes=self.exact_magnitudes + other.exact_magnitudes,
            exact_squares=self.exact_squares + other.exact_squares,
            infinities=(self.infinities[0] + other.infinities[0], self.infinities[1] + other.infinities[1]),
            occupied=tuple(sorted(bins.items())),
        )

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
        range ends at the largest finite edge of the grid that is needed.
        """
        edges, below = self.cumulative()
        finite = np.isfinite(edges)
        low, high = edges[finite][0], edges[finite][-1]
        wanted = np.linspace(low, high, bins + 1) if high > low else np.array([low - 0.5, high + 0.5])
        counts = np.diff(np.interp(wanted, edges[finite], below[finite]))
        return (counts if high > low else np.array([float(self.count)])), wanted

    def _bins(self) -> Counts:
        """All counts of the fixed grid, int64[HISTOGRAM_BINS]."""
        counts = np.zeros(formats.HISTOGRAM_BINS, np.int64)
        for index, count in self.occupied:
            counts[index] = count
        return counts


def summarize_array(item: Named) -> Summary:
    """The summary of one array.

    Raises:
        EmptyInputError: it has no element.
        InvalidTensorError: it holds NaN.
    """
    array = item.array
    count = math.prod(array.shape)
    if count == 0:
        raise EmptyInputError(f"{item.name} has no element to summarize")
    kernels.refuse_nan([item])
    device = kernels.of(array)
    minimum, maximum, zeros = device.extremes(array)
    total, magnitudes, squares = (
        device.exact_sums(array, kind, array.shape).reshape(-1) for kind in ("value", "absolute", "square")
    )
    bins = device.histogram(array)
    return Summary(
        count=count,
        zeros=zeros,
        minimum=minimum,
        maximum=maximum,
        exact_total=kernels.exact_integer(total),
        exact_magnitudes=kernels.exact_integer(magnitudes),
        exact_squares=kernels.exact_integer(squares),
        infinities=(int(total[-formats.COUNTERS]), int(total[-formats.COUNTERS + 1])),
        occupied=tuple((int(index), int(bins[index])) for index in np.flatnonzero(bins)),
    )


def summarize_source(arrays: Source) -> Summary:
    """The summary of all arrays.

    Raises:
        EmptyInputError: there is no element.
        InvalidTensorError: an array holds NaN.
    """
    total: Summary | None = None
    for item in arrays:
        if math.prod(item.array.shape):
            part = summarize_array(item)
            total = part if total is None else total + part
    if total is None:
        raise EmptyInputError("no array with at least one element was given")
    return total


def _root_of_ratio(numerator: int, denominator: int) -> float:
    """sqrt(numerator / denominator), the ratio correctly rounded to 53 bits whatever its exponent."""
    if numerator == 0:
        return 0.0
    shift = (numerator.bit_length() - denominator.bit_length()) // 2
    ratio = numerator / (denominator << 2 * shift) if shift >= 0 else (numerator << -2 * shift) / denominator
    return math.ldexp(math.sqrt(ratio), shift)
