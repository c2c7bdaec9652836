"""How much is pruned. Every target resolves, for the scores that compete, to a number of elements to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur import distributions, masks, thresholds
from secateur.errors import NoMatchError, OutOfRangeError, RecipeError
from secateur.scalars import real

Arrays = Sequence[npt.NDArray[Any]]


class Target(Protocol):
    """What a recipe asks of a target."""

    def threshold(self, scores: Arrays) -> float:
        """The score at and below which elements are pruned; -inf if none is."""

    def keep(self, scores: Arrays) -> int:
        """How many of all the elements of ``scores`` stay."""


def _size(scores: Arrays) -> int:
    return sum(score.size for score in scores)


def _above(scores: Arrays, threshold: float) -> int:
    return sum(int(np.count_nonzero(masks.keep_above(score, threshold))) for score in scores)


@dataclass(frozen=True)
class Sparsity:
    """Prune exactly this fraction of the elements, to one element, whatever the ties.

    Args:
        sparsity: 0 <= sparsity < 1; ``floor(sparsity * n + 0.5)`` of n elements are pruned.
    """

    sparsity: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsity", real("the sparsity", self.sparsity))
        if not 0.0 <= self.sparsity < 1.0:
            raise OutOfRangeError(
                f"sparsity {self.sparsity!r} is outside 0 <= sparsity < 1; 0.9 prunes 90 % of the elements"
            )

    def keep(self, scores: Arrays) -> int:
        """``n - floor(sparsity * n + 0.5)``."""
        size = _size(scores)
        return size - math.floor(self.sparsity * size + 0.5)

    def threshold(self, scores: Arrays) -> float:
        """The largest score that is pruned."""
        pruned = _size(scores) - self.keep(scores)
        return float(thresholds.smallest(scores, pruned)) if pruned else -math.inf


@dataclass(frozen=True)
class Percentile:
    """Prune every score at or below a percentile; below the 90th percentile lie 90 % of the scores.

    Args:
        q: 0 <= q <= 100, as in ``numpy.percentile``.
        distribution: None for the exact percentile of the scores. ``"normal"``, ``"uniform"`` or ``"laplace"``: the
            scores are taken for the magnitudes of values spread so around zero, such as weights; ``"exponential"``: for
            values spread so from zero up, such as gradients. The threshold is then the quantile of the fitted model.
    """

    q: float
    distribution: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", real("the percentile", self.q))
        if not 0.0 <= self.q <= 100.0:
            raise OutOfRangeError(
                f"percentile {self.q!r} is outside 0 to 100; Percentile(90) prunes 90 % of the elements"
            )
        if self.distribution is not None and self.distribution not in tuple(distributions.FAMILIES):
            raise RecipeError(
                f"unknown distribution {self.distribution!r}; use one of {', '.join(distributions.FAMILIES)}"
            )

    def threshold(self, scores: Arrays) -> float:
        """Exact, or from the fitted distribution."""
        if self.distribution is None:
            return float(thresholds.percentile(scores, self.q))
        around_zero = [-score for score in scores] if self.distribution != "exponential" else []
        fitted = distributions.fit(distributions.summarize([*scores, *around_zero]), self.distribution)
        return fitted.magnitude_quantile(self.q / 100.0)

    def keep(self, scores: Arrays) -> int:
        """The number of scores strictly above the threshold."""
        return _above(scores, self.threshold(scores))


@dataclass(frozen=True)
class KSigma:
    """Prune every score at or below mean + k * sigma of the scores (population sigma); k may be negative."""

    k: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", real("k", self.k))
        if not math.isfinite(self.k):
            raise OutOfRangeError(f"KSigma(k={self.k!r}): k must be a finite number, such as 0.5 or -1")

    def threshold(self, scores: Arrays) -> float:
        """See :func:`secateur.thresholds.k_sigma`."""
        return float(thresholds.k_sigma(scores, self.k))

    def keep(self, scores: Arrays) -> int:
        """The number of scores strictly above the threshold."""
        return _above(scores, self.threshold(scores))


@dataclass(frozen=True)
class PerLayer:
    """A sparsity for each layer: patterns (``fnmatch``) of layer or parameter names; the first that fits counts.

    Args:
        sparsities: pattern -> 0 <= sparsity < 1. ``"*"``, as the last one, stands for all other layers; without it
            they stay whole. ``floor(sparsity * n + 0.5)`` of a layer's n elements are pruned.

    Raises:
        RecipeError: no mapping of patterns to numbers, or an empty one.
        OutOfRangeError: a sparsity outside 0 <= sparsity < 1; the message names its pattern.
    """

    sparsities: Mapping[str, float]

    def __post_init__(self) -> None:
        given = self.sparsities
        if not isinstance(given, Mapping) or not given or not all(isinstance(pattern, str) for pattern in given):
            raise RecipeError(f"PerLayer({given!r}): give patterns and their sparsities, such as {{'conv*': 0.5}}")
        checked = {pattern: real(f"the sparsity of {pattern!r}", sparsity) for pattern, sparsity in given.items()}
        for pattern, sparsity in checked.items():
            if not 0.0 <= sparsity < 1.0:
                raise OutOfRangeError(f"the sparsity {sparsity!r} of {pattern!r} is outside 0 <= sparsity < 1")
        object.__setattr__(self, "sparsities", checked)

    def __hash__(self) -> int:
        return hash(tuple(self.sparsities.items()))

    def pruned(self, sizes: Mapping[str, int], owners: Mapping[str, str]) -> list[int]:
        """How many elements go in each layer.

        Args:
            sizes: layer or parameter -> number of its elements, in the model's order.
            owners: parameter -> the layer that owns it, where that has another name.

        Raises:
            NoMatchError: a pattern that matches none of them.
        """
        names = {name: (name, owners.get(name, name)) for name in sizes}
        for pattern in self.sparsities:
            if not any(fnmatchcase(each, pattern) for both in names.values() for each in both):
                raise NoMatchError(
                    f"pattern {pattern!r} of PerLayer matches none of what is pruned: {', '.join(sizes)}"
                )
        return [math.floor(self._of(names[name]) * size + 0.5) for name, size in sizes.items()]

    def _of(self, names: tuple[str, str]) -> float:
        fitting = (value for key, value in self.sparsities.items() if any(fnmatchcase(name, key) for name in names))
        return next(fitting, 0.0)


TARGETS: dict[str, type] = {
    "Sparsity": Sparsity,
    "Percentile": Percentile,
    "KSigma": KSigma,
    "PerLayer": PerLayer,
}
