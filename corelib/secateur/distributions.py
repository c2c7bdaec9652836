"""Distribution models of weights, gradients and scores: fit one, read quantiles off it, see how well it suits.

Every family is fitted by moments, from a :class:`~secateur.summary.Summary`, so that arrays, their shards and their
summary all give the same model, bit for bit. ``FAMILIES`` names them.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import as_source, total_size
from secateur.errors import InvalidTensorError, OutOfRangeError, RecipeError
from secateur.ranks import sorted_values
from secateur.scalars import real
from secateur.summary import Summary, summarize_source

Floats = npt.NDArray[np.float64]
_REDUCTION = 1024.0  # more than the largest finite quantile of any family in units of its scale
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
        p = float(_probabilities(real("the probability", p)))
        both_tails = np.abs(self.quantile(np.array([(1.0 - p) / 2.0, (1.0 + p) / 2.0])))
        low, high = 0.0, float(both_tails.max())
        if not math.isfinite(high):
            high = sys.float_info.max
            if p == 1.0 or self.cdf(high) - self.cdf(-high) < p:
                return math.inf
        for _ in range(_BISECTIONS):
            middle = low + (high - low) / 2.0
            if middle in (low, high):
                break
            low, high = (low, middle) if self.cdf(middle) - self.cdf(-middle) >= p else (middle, high)
        return high

    def ks_distance(self, data: Any) -> float:
        """Kolmogorov-Smirnov distance: the largest difference between the model's and the data's cumulative share.

        Args:
            data: an array, a list of arrays, or a callable that gives one for each pass: exact, on a sorted copy; or a
                :class:`Summary`: the lower end of :meth:`ks_bounds`.

        Raises:
            EmptyInputError: there is no element.
            InvalidTensorError: an element is NaN.
            ShapeMismatchError: passes over what a callable gives see different numbers of elements.
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
        items = as_source(data)
        total_size(items)
        kernels.refuse_nan(items)
        values = sorted_values(items)
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
        _refuse_constant(summary, cls.family)
        return cls(summary.mean, _scale(summary.std, summary, cls.family))

    def cdf(self, x: npt.ArrayLike) -> Any:
        """Phi((x - mean) / std)."""
        from scipy.special import ndtr

        return ndtr(_standardized(x, self.mean, self.std))

    def pdf(self, x: npt.ArrayLike) -> Any:
        """exp(-z**2 / 2) / (std * sqrt(2 pi)), z = (x - mean) / std."""
        z = _standardized(x, self.mean, self.std)
        with np.errstate(over="ignore"):
            return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) / self.std

    def quantile(self, p: npt.ArrayLike) -> Any:
        """mean + std * the standard normal quantile."""
        from scipy.special import ndtri

        return _placed(ndtri(_probabilities(p)), self.mean, self.std)


@dataclass(frozen=True)
class Uniform(Distribution):
    """The uniform distribution from ``low`` to ``high``, the data's minimum and maximum."""

    low: float
    high: float
    family: ClassVar[str] = "uniform"

    @classmethod
    def from_summary(cls, summary: Summary) -> Uniform:
        """Maximum likelihood: minimum and maximum."""
        _refuse_constant(summary, cls.family)
        return cls(summary.minimum, summary.maximum)

    def cdf(self, x: npt.ArrayLike) -> Any:
        """(x - low) / (high - low), within 0 and 1."""
        unit, low, width = self._measured()
        return np.clip(_standardized(_floats(x) * unit, low, width), 0.0, 1.0)

    def pdf(self, x: npt.ArrayLike) -> Any:
        """1 / (high - low) from low to high."""
        x = _floats(x)
        unit, _, width = self._measured()
        with np.errstate(over="ignore"):
            return np.where((x >= self.low) & (x <= self.high), np.divide(unit, width), 0.0)[()]

    def quantile(self, p: npt.ArrayLike) -> Any:
        """low + p * (high - low)."""
        unit, low, width = self._measured()
        return (low + _probabilities(p) * width) / unit

    def _measured(self) -> tuple[float, float, float]:
        """A unit, low and high - low times it: 1, or 1/2 where the width is too large for float64."""
        unit = 1.0 if math.isfinite(float(self.high) - float(self.low)) else 0.5
        return unit, self.low * unit, self.high * unit - self.low * unit


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
        _refuse_constant(summary, cls.family)
        return cls(_scale(summary.mean, summary, cls.family))

    def cdf(self, x: npt.ArrayLike) -> Any:
        """1 - exp(-x / scale) from 0 up."""
        return -np.expm1(-_standardized(np.maximum(_floats(x), 0.0), 0.0, self.scale))

    def pdf(self, x: npt.ArrayLike) -> Any:
        """exp(-x / scale) / scale from 0 up."""
        x = _floats(x)
        z = _standardized(np.maximum(x, 0.0), 0.0, self.scale)
        with np.errstate(over="ignore"):
            return np.where(x >= 0.0, np.exp(-z) / self.scale, 0.0)[()]

    def quantile(self, p: npt.ArrayLike) -> Any:
        """-scale * log(1 - p)."""
        with np.errstate(divide="ignore"):
            return _placed(-np.log1p(-_probabilities(p)), 0.0, self.scale)


@dataclass(frozen=True)
class Laplace(Distribution):
    """The Laplace (double exponential) distribution; location is the mean, scale is sigma / sqrt(2)."""

    location: float
    scale: float
    family: ClassVar[str] = "laplace"

    @classmethod
    def from_summary(cls, summary: Summary) -> Laplace:
        """By moments; the maximum likelihood needs the median, which no mergeable summary holds."""
        _refuse_constant(summary, cls.family)
        return cls(summary.mean, _scale(summary.std / math.sqrt(2.0), summary, cls.family))

    def cdf(self, x: npt.ArrayLike) -> Any:
        """exp(z) / 2 below the location, 1 - exp(-z) / 2 above, z = (x - location) / scale."""
        z = _standardized(x, self.location, self.scale)
        tail = 0.5 * np.exp(-np.abs(z))
        return np.where(z < 0.0, tail, 1.0 - tail)[()]

    def pdf(self, x: npt.ArrayLike) -> Any:
        """exp(-|z|) / (2 scale), z = (x - location) / scale."""
        z = _standardized(x, self.location, self.scale)
        with np.errstate(over="ignore"):
            return 0.5 * np.exp(-np.abs(z)) / self.scale

    def quantile(self, p: npt.ArrayLike) -> Any:
        """location + scale * log(2 p) below the median, location - scale * log(2 (1 - p)) above."""
        p = _probabilities(p)
        with np.errstate(divide="ignore"):
            logarithm = np.log(2.0 * np.minimum(p, 1.0 - p))
        return _placed(np.where(p < 0.5, logarithm, -logarithm), self.location, self.scale)


FAMILIES: dict[str, type[Distribution]] = {kind.family: kind for kind in (Normal, Uniform, Exponential, Laplace)}


def summarize(arrays: Any, names: Sequence[str] | None = None) -> Summary:
    """Summarize an array, a list of arrays of any shapes and float dtypes, or a callable that gives one.

    ``names`` are for error messages.

    Raises:
        EmptyInputError: there is no element.
        InvalidTensorError: an array holds NaN.
        UnsupportedDtypeError: an array's elements are not floats.
    """
    return summarize_source(as_source(arrays, names))


def fit(data: Any, family: str) -> Distribution:
    """Fit a family (a key of ``FAMILIES``) to a :class:`Summary`, an array or a list of arrays.

    Raises:
        RecipeError: unknown family.
        OutOfRangeError: all numbers are equal, or are negative for the exponential family.
        InvalidTensorError: the data hold infinities or NaN.
        EmptyInputError: there is no element.
    """
    if not isinstance(family, str) or family not in FAMILIES:
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

    Raises:
        RecipeError: ``families`` is no list of keys of ``FAMILIES``.
        InvalidTensorError, EmptyInputError: as :func:`fit`.
    """
    if isinstance(families, str) or not isinstance(families, Iterable):
        known = ", ".join(FAMILIES)
        raise RecipeError(f"families is {families!r}, a {type(families).__name__}: give a list, of {known}")
    data = list(data) if isinstance(data, Iterator) else data
    data = as_source(data) if callable(data) else data  # one for all passes, which must see the same
    summary = data if isinstance(data, Summary) else summarize(data)
    fitted = []
    for family in families:
        try:
            fitted.append(fit(summary, family))
        except OutOfRangeError:
            continue
    return sorted(((model, model.ks_distance(data)) for model in fitted), key=lambda pair: pair[1])


def _floats(x: npt.ArrayLike) -> Floats:
    try:
        return np.asarray(x, np.float64)
    except (OverflowError, TypeError, ValueError) as failure:
        raise RecipeError(f"{x!r} is no number, and no array of numbers: {failure}") from failure


def _standardized(x: npt.ArrayLike, location: float, scale: float) -> Any:
    """(x - location) / scale, also where the difference alone is too large for float64."""
    x = _floats(x)
    with np.errstate(over="ignore"):
        apart = x - location
        halves = (x / 2.0 - location / 2.0) / scale * 2.0
        return np.where(np.isinf(apart) & np.isfinite(x), halves, apart / scale)[()]


def _placed(z: npt.ArrayLike, location: float, scale: float) -> Any:
    """location + scale * z, also where the product alone is too large for float64; infinite if the sum is."""
    z = _floats(z)
    with np.errstate(over="ignore"):
        step = scale * z
        reduced = (location / _REDUCTION + scale / _REDUCTION * z) * _REDUCTION
        return np.where(np.isinf(step) & np.isfinite(z), reduced, location + step)[()]


def _probabilities(p: npt.ArrayLike) -> Floats:
    p = _floats(p)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise OutOfRangeError("a probability is outside 0 to 1; for the 90th percentile give 0.9")
    return p


def _refuse_constant(summary: Summary, family: str) -> None:
    if summary.minimum == summary.maximum:
        raise OutOfRangeError(
            f"all {summary.count} values are {summary.mean}, so no {family} distribution can be fitted"
        )


def _scale(scale: float, summary: Summary, family: str) -> float:
    """The scale, which is above 0 but for numbers that float64 can hardly tell apart."""
    if scale == 0.0:
        raise OutOfRangeError(
            f"the values, {summary.minimum} to {summary.maximum}, lie so close together that the scale of the {family} "
            "distribution is 0 in float64: multiply them by a power of two first"
        )
    return scale
