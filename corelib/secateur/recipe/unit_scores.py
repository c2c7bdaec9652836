"""The catalogue's scores of whole units: of neurons, channels, filters and heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secateur import scores
from secateur.recipe.score import Array, Statistics, UnitScore, listed


@listed
@dataclass(frozen=True)
class NormScale(UnitScore):
    """``|scale|`` of the normalisation of a unit (network slimming, Liu et al. 2017). Needs no data."""

    reads: ClassVar[str] = "scale"
    words: ClassVar[str] = "|scale of the normalisation|"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.magnitude`."""
        return scores.magnitude(weight, name)


@listed
@dataclass(frozen=True)
class GeometricMedian(UnitScore):
    """Sum of a filter's distances to the others of its layer (FPGM, He et al. 2019). Needs no data."""

    words: ClassVar[str] = "sum of distances to the layer's other filters"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.geometric_median`."""
        return scores.geometric_median(weight, 0, name)


@listed
@dataclass(frozen=True)
class ActivationTaylor(UnitScore):
    """``|mean of a * dL/da|`` of a unit's activation ``a`` (Molchanov et al. 2017). Needs labelled data and a loss.

    The sum of ``a * dL/da`` over examples and places is, by the chain rule, that of ``w * dL/dw`` over all weights that
    read the unit, so nothing but gradients of weights is gathered.
    """

    needs: ClassVar[tuple[str, ...]] = ("mean_gradient",)
    reads: ClassVar[str] = "in"
    summed: ClassVar[bool] = True
    words: ClassVar[str] = "|activation × gradient|"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """The sum of ``w * dL/dw`` over the weights that read each unit, exact and rounded once; signed."""
        products = -scores.movement(weight, statistics["mean_gradient"], name)
        return scores.reduce(products, axis=0, norm=1, name=f"the products of {name}", signed=True)


@dataclass(frozen=True)
class ReadActivation(UnitScore):
    """What scores share that ask how active a unit is, as the kernels see it that read it.

    So the activation is what comes after the activation function, normalisation and pooling, in either framework. A
    unit that is read in several places, by several kernels or from several positions of a flattened map, has the mean
    over them. Needs rows of data, without labels.
    """

    reads: ClassVar[str] = "in"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """The mean over what one index of the axis reads, exact and rounded once."""
        (need,) = self.needs
        return scores.reduce(statistics[need], axis=0, norm="mean", name=f"{need} of {name}")


@listed
@dataclass(frozen=True)
class Apoz(ReadActivation):
    """The share of a unit's activations that are not zero: 1 - APoZ (Hu et al. 2016)."""

    needs: ClassVar[tuple[str, ...]] = ("input_nonzero",)
    words: ClassVar[str] = "share of activations that are not zero"


@listed
@dataclass(frozen=True)
class MeanActivation(ReadActivation):
    """The mean magnitude of a unit's activations (Molchanov et al. 2017, for ReLU their mean)."""

    needs: ClassVar[tuple[str, ...]] = ("input_magnitude",)
    words: ClassVar[str] = "mean |activation|"


@listed
@dataclass(frozen=True)
class ActivationNorm(ReadActivation):
    """The Euclidean norm of a unit's activations: the root of their mean square."""

    needs: ClassVar[tuple[str, ...]] = ("input_square",)
    words: ClassVar[str] = "root mean square of the activations"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """The root of the mean over what one index of the axis reads."""
        return np.sqrt(super().__call__(weight, statistics, name))
