"""Distribution models of weights, gradients and scores: fit one, read quantiles off it, see how well it suits.

Every family is fitted by moments, from a :class:`~secateur.summary.Summary`, so that arrays, their shards and their
summary all give the same model, bit for bit. ``FAMILIES`` names them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_arrays, total_size
from secateur.errors import InvalidTensorError, OutOfRangeError, RecipeError
from secateur.summary import Summary, merged, summarize_array

Floats = npt.NDArray[np.float64]
_BISECTIONS = 1100  # halves the whole range of float64 exponents, then its 52 bits


@dataclass(frozen=True)
class Distribution(ABC):
    """A continuous distribution of one variable. ``x`` and ``p`` are floats or arrays; results are float64."""

    family: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_summary(cls, summary: Summary) -> Distribution:
        """The member of the family with the moments of the data."""

    @abstractmethod
    def cdf(self, x: npt.ArrayLike) -> Any:
        """Probability of a value at or below ``x``."""

    @abstractmethod
    def pdf(self, x: npt.ArrayLike) -> Any:
        """Density at ``x``."""

    @abstractmethod
    def quantile(self, p: npt.ArrayLike) -> Any:
        """The value with probability ``p`` at or below it. Raises OutOfRangeError unless 0 <= p <= 1."""

    def magnitude_quantile(self, p: float) -> float:
        """The t >= 0 for which ``p`` of the magnitudes lie at or below t: the threshold on |x| from a model of x."""
        _probabilities(p)
        both_tails = np.abs(self.quantile(np.array([(1.0 - p) / 2.0, (1.0 + p) / 2.0])))
        low, high = 0.0, float(both_tails.max())
        if not math.isfinite(high):
            return high
        for _ in range(_BISECTIONS):
            middle = low + (high - low) / 2.0
            if middle in (low, high):
                break
            low, high = (low, middle) if self.cdf(middle) - self.cdf(-middle) >= p else (middle, high)
        return high

    def ks_distance(self, data: Any) -> float:
        """Kolmogorov-Smirnov distance: the largest difference between the model's and the data's cumulative share.

        Args:
            data: an array or a list of arrays: exact, on a sorted float64 copy; or a :class:`Summary`: the lower end of
                :meth:`ks_bounds`.
        """
        return self.ks_bounds(data)[0]

    def ks_bounds(self, data: Any) -> tuple[float, float]:
        """Two numbers between which the Kolmogorov-Smirnov distance lies; equal for arrays.

        For a :class:`Summary` the first is the largest difference at the edges of its grid. Between two edges the
        distance cannot grow by more than the model's share of that bin: for numbers around 0 at most 0.011 in the
        families here, but much where the spread is small against the mean.
        """
        if isinstance(data, Summary):
            edges, below = data.cumulative()
            shares, model = below / data.count, np.asarray(self.cdf(edges), np.float64)
            inside = np.arange(1, len(edges) - 1)
            exact = float(np.max(np.abs(shares - model)[inside], initial=0.0))
            rises = np.maximum(shares[1:] - model[:-1], model[1:] - shares[:-1])
            tails = max(float(model[0]), 1.0 - float(model[-1]))
            low = max(exact, tails)
            return low, max(low, float(rises.max()))
        values = sorted_values(as_arrays(data))
        model = np.asarray(self.cdf(values), np.float64)
        steps = np.arange(len(values) + 1) / len(values)
        distance = float(max(np.max(steps[1:] - model), np.max(model - steps[:-1])))
        return distance, distance


@dataclass(frozen=True)
class Normal(Distribution):
    """The normal (Gaussian) distribution; mean and sigma are the data's."""

    mean: float
    std: float
    family: ClassVar[str] = "normal"

    @classmethod
    def from_summary(cls, summary: Summary) -> Normal:
        """Maximum likelihood: mean and population sigma."""
        return cls(summary.mean, _spread(summary, cls.family))

    def cdf(self, x: npt.ArrayLike) -> Any:
        """Phi((x - mean) / std)."""
        from scipy.special import ndtr

        return ndtr((_floats(x) - self.mean) / self.std)

    def pdf(self, x: npt.ArrayLike) -> Any:
        """exp(-z**2 / 2) / (std * sqrt(2 pi)), z = (x - mean) / std."""
        z = (_floats(x) - self.mean) / self.std
        return np.exp(-0.5 * z * z) / (self.std * math.sqrt(2.0 * math.pi))

    def quantile(self, p: npt.ArrayLike) -> Any:
        """mean + std * the standard normal quantile."""
        from scipy.special import ndtri

        return self.mean + self.std * ndtri(_probabilities(p))


@dataclass(frozen=True)
class Uniform(Distribution):
    """The uniform distribution from ``low`` to ``high``, the data's minimum and maximum."""

    low: float
    high: float
    family: ClassVar[str] = "uniform"

    @classmethod
    def from_summary(cls, summary: Summary) -> Uniform:
        """Maximum likelihood: minimum and maximum."""
        _spread(summary, cls.family)
        return cls(summary.minimum, summary.maximum)

    def cdf(self, x: npt.ArrayLike) -> Any:
        """(x - low) / (high - low), within 0 and 1."""
        return np.clip((_floats(x) - self.low) / (self.high - self.low), 0.0, 1.0)

    def pdf(self, x: npt.ArrayLike) -> Any:
        """1 / (high - low) from low to high."""
        x = _floats(x)
        return np.where((x >= self.low) & (x <= self.high), 1.0 / (self.high - self.low), 0.0)[()]

    def quantile(self, p: npt.ArrayLike) -> Any:
        """low + p * (high - low)."""
        return self.low + _probabilities(p) * (self.high - self.low)


@dataclass(frozen=True)
class Exponential(Distribution):
    """The exponential distribution of values from 0 up, such as |gradient|; ``scale`` is the mean."""

    scale: float
    family: ClassVar[str] = "exponential"

    @classmethod
    def from_summary(cls, summary: Summary) -> Exponential:
        """Maximum likelihood: the mean. Raises OutOfRangeError for negative numbers."""
        if summary.minimum < 0.0:
            raise OutOfRangeError(
                f"an exponential distribution starts at 0, but the smallest value is {summary.minimum}: fit magnitudes"
            )
        _spread(summary, cls.family)
        return cls(summary.mean)

    def cdf(self, x: npt.ArrayLike) -> Any:
        """1 - exp(-x / scale) from 0 up."""
        return -np.expm1(-np.maximum(_floats(x), 0.0) / self.scale)

    def pdf(self, x: npt.ArrayLike) -> Any:
        """exp(-x / scale) / scale from 0 up."""
        x = _floats(x)
        return np.where(x >= 0.0, np.exp(-np.maximum(x, 0.0) / self.scale) / self.scale, 0.0)[()]

    def quantile(self, p: npt.ArrayLike) -> Any:
        """-scale * log(1 - p)."""
        with np.errstate(divide="ignore"):
            return -self.scale * np.log1p(-_probabilities(p))


@dataclass(frozen=True)
class Laplace(Distribution):
    """The Laplace (double exponential) distribution; location is the mean, scale is sigma / sqrt(2)."""

    location: float
    scale: float
    family: ClassVar[str] = "laplace"

    @classmethod
    def from_summary(cls, summary: Summary) -> Laplace:
        """By moments; the maximum likelihood needs the median, which no mergeable summary holds."""
        return cls(summary.mean, _spread(summary, cls.family) / math.sqrt(2.0))

    def cdf(self, x: npt.ArrayLike) -> Any:
        """exp(z) / 2 below the location, 1 - exp(-z) / 2 above, z = (x - location) / scale."""
        z = (_floats(x) - self.location) / self.scale
        tail = 0.5 * np.exp(-np.abs(z))
        return np.where(z < 0.0, tail, 1.0 - tail)[()]

    def pdf(self, x: npt.ArrayLike) -> Any:
        """exp(-|z|) / (2 scale), z = (x - location) / scale."""
        return np.exp(-np.abs((_floats(x) - self.location) / self.scale)) / (2.0 * self.scale)

    def quantile(self, p: npt.ArrayLike) -> Any:
        """location + scale * log(2 p) below the median, location - scale * log(2 (1 - p)) above."""
        p = _probabilities(p)
        with np.errstate(divide="ignore"):
            logarithm = np.log(2.0 * np.minimum(p, 1.0 - p))
        return self.location + self.scale * np.where(p < 0.5, logarithm, -logarithm)[()]


FAMILIES: dict[str, type[Distribution]] = {kind.family: kind for kind in (Normal, Uniform, Exponential, Laplace)}


def summarize(arrays: Any, names: Sequence[str] | None = None) -> Summary:
    """Summarize an array or a list of arrays of any shapes and float dtypes; ``names`` are for error messages.

    Raises:
        EmptyInputError: there is no element.
        InvalidTensorError: an array holds NaN.
        UnsupportedDtypeError: an array's elements are not floats.
    """
    items = as_arrays(arrays, names)
    total_size(items)
    return merged([summarize_array(item) for item in items if math.prod(item.array.shape)])


def fit(data: Any, family: str) -> Distribution:
    """Fit a family (a key of ``FAMILIES``) to a :class:`Summary`, an array or a list of arrays.

    Raises:
        RecipeError: unknown family.
        OutOfRangeError: all numbers are equal, or are negative for the exponential family.
        InvalidTensorError: the data hold infinities or NaN.
        EmptyInputError: there is no element.
    """
    if family not in FAMILIES:
        raise RecipeError(f"unknown distribution {family!r}; use one of {', '.join(FAMILIES)}")
    summary = data if isinstance(data, Summary) else summarize(data)
    if not summary.is_finite:
        raise InvalidTensorError(
            f"{sum(summary.infinities)} of the values are infinite, so no distribution can be fitted"
        )
    return FAMILIES[family].from_summary(summary)


def compare(data: Any, families: Sequence[str] = tuple(FAMILIES)) -> list[tuple[Distribution, float]]:
    """The fitted families that suit the data, each with its Kolmogorov-Smirnov distance, the closest first.

    Left out are families that cannot be fitted (the exponential to negative numbers, all of them to a constant).
    """
    data = data if isinstance(data, Summary) else [item.array for item in as_arrays(data)]
    summary = data if isinstance(data, Summary) else summarize(data)
    fitted = []
    for family in families:
        try:
            fitted.append(fit(summary, family))
        except OutOfRangeError:
            continue
    return sorted(((model, model.ks_distance(data)) for model in fitted), key=lambda pair: pair[1])


def sorted_values(items: Sequence[Named]) -> Floats:
    """All numbers of the arrays in one float64 array, ascending.

    Raises:
        EmptyInputError: there is no element.
        InvalidTensorError: an array holds NaN.
    """
    values = np.empty(total_size(items))
    kernels.refuse_nan(items)
    start = 0
    for _, array in items:
        host = kernels.of(array).to_host(array)
        values[start : start + host.size] = host.reshape(-1)
        start += host.size
    values.sort()
    return values


def _floats(x: npt.ArrayLike) -> Floats:
    return np.asarray(x, np.float64)


def _probabilities(p: npt.ArrayLike) -> Floats:
    p = _floats(p)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise OutOfRangeError("a probability is outside 0 to 1; for the 90th percentile give 0.9")
    return p


def _spread(summary: Summary, family: str) -> float:
    std = summary.std
    if std == 0.0:
        raise OutOfRangeError(
            f"all {summary.count} values are {summary.mean}, so no {family} distribution can be fitted"
        )
    return std
