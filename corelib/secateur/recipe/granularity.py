"""What is pruned as one: single weights, or whole neurons (units, channels, filters)."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.errors import OutOfRangeError, RecipeError
from secateur.scalars import is_real, whole

NORMS = (1, 2, "inf", "mean")


@dataclass(frozen=True)
class Weights:
    """Single connections. The model's shapes change only where a whole unit is no longer read."""


@dataclass(frozen=True)
class Neurons:
    """Whole output units of a layer: neurons of a dense layer, channels (filters) of a convolution.

    Args:
        norm: how the scores of a unit's incoming weights become one score: ``1`` their sum of absolute values, ``2``
            the Euclidean norm, ``"inf"`` the largest, ``"mean"`` the mean absolute value. Only ``"mean"`` lets layers
            of different fan-in compete fairly in scope ``"model"``; within one layer it ranks as ``1`` does.
        minimum: so many units of each layer stay, or all if it has fewer.
        multiple: the width of each layer stays a multiple of this (8 or 16 suit fast kernels), or the dense one: more
            stays than the target asks for in one layer, and others lose more. Layers that share some of their units
            are rounded together.

    ``minimum`` and ``multiple`` need scope ``"model"``.
    """

    norm: int | str = "mean"
    minimum: int = 1
    multiple: int = 1

    def __post_init__(self) -> None:
        if is_real(self.norm):
            object.__setattr__(self, "norm", whole("the norm", self.norm))
        if not isinstance(self.norm, (int, str)) or isinstance(self.norm, bool) or self.norm not in NORMS:
            raise RecipeError(f"Neurons(norm={self.norm!r}): use one of {', '.join(map(repr, NORMS))}")
        for name in ("minimum", "multiple"):
            value = whole(f"Neurons's {name}", getattr(self, name))
            object.__setattr__(self, name, value)
            if value < 1:
                raise OutOfRangeError(f"Neurons({name}={value}): give a number of units, 1 or more")

    @property
    def is_limited(self) -> bool:
        """Whether layers must keep more than one unit, or round numbers of them."""
        return (self.minimum, self.multiple) != (1, 1)


Granularity = Weights | Neurons
GRANULARITIES: dict[str, type] = {"Weights": Weights, "Neurons": Neurons}
