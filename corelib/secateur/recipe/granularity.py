"""What is pruned as one: single weights, or whole neurons (units, channels, filters)."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.errors import RecipeError
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
    """

    norm: int | str = "mean"

    def __post_init__(self) -> None:
        if is_real(self.norm):
            object.__setattr__(self, "norm", whole("the norm", self.norm))
        if not isinstance(self.norm, (int, str)) or isinstance(self.norm, bool) or self.norm not in NORMS:
            raise RecipeError(f"Neurons(norm={self.norm!r}): use one of {', '.join(map(repr, NORMS))}")


Granularity = Weights | Neurons
GRANULARITIES: dict[str, type] = {"Weights": Weights, "Neurons": Neurons}
