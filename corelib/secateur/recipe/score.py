"""Which saliency score ranks the weights, and the statistics that it is computed from.

A score is a frozen dataclass with ``needs``, the names of the statistics that an adapter must gather, and a call that
turns a weight and its statistics into one number an element. The formulas are in :mod:`secateur.scores`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

from secateur import scores

Array = npt.NDArray[Any]


class Score(Protocol):
    """What a recipe asks of a score."""

    needs: ClassVar[tuple[str, ...]]

    def __call__(self, weight: Array, statistics: Mapping[str, Array], name: str) -> Array:
        """One saliency an element of ``weight``; low is pruned first. Errors call the weight ``name``."""


@dataclass(frozen=True)
class Magnitude:
    """``|w|`` (Han et al. 2015): small weights matter least. Needs no data."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, weight: Array, statistics: Mapping[str, Array], name: str) -> Array:
        """See :func:`secateur.scores.magnitude`."""
        return scores.magnitude(weight, name)


@dataclass(frozen=True)
class Gradient:
    """Mean ``|dL/dw|`` over batches: what the loss hardly feels matters least. Needs labelled data and a loss."""

    needs: ClassVar[tuple[str, ...]] = ("mean_abs_gradient",)

    def __call__(self, weight: Array, statistics: Mapping[str, Array], name: str) -> Array:
        """See :func:`secateur.scores.gradient`."""
        return scores.gradient(statistics["mean_abs_gradient"], f"the gradient of {name}")


@dataclass(frozen=True)
class Taylor:
    """``|w * dL/dw|``, first-order estimate of the loss change (Molchanov et al. 2017). Needs data and a loss."""

    needs: ClassVar[tuple[str, ...]] = ("mean_gradient",)

    def __call__(self, weight: Array, statistics: Mapping[str, Array], name: str) -> Array:
        """See :func:`secateur.scores.taylor`."""
        return scores.taylor(weight, statistics["mean_gradient"], name)


SCORES: dict[str, type] = {"Magnitude": Magnitude, "Gradient": Gradient, "Taylor": Taylor}
