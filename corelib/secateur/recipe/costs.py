"""How much is pruned, as a share of what the whole model costs. Such a target is met on a traced model.

A cost that is counted is met to one unit. To target another one, add a class with a :meth:`CostTarget.measure` of its
own: any function of the sizes of all axes that never grows when one of them shrinks. :class:`Latency` is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from secateur.errors import OutOfRangeError, RecipeError
from secateur.scalars import real
from secateur.structure.cost import MEASURES, Cost, Measure
from secateur.structure.graph import Graph


class ModelTarget:
    """A target on the whole model: as few units go as bring something of it down to a limit.

    Attributes:
        fraction: what is to go of the dense model's, where it is told so.
        noun: what it is counted in.
    """

    fraction: float | None
    noun: ClassVar[str] = "cost"

    def limit(self, dense: float) -> float:
        """The most that the pruned model may cost: ``(1 - fraction) * dense``, in float64."""
        return dense if self.fraction is None else (1.0 - self.fraction) * dense


@dataclass(frozen=True)
class CostTarget(ModelTarget):
    """What the targets on costs share: as few units go as bring the cost down to ``(1 - fraction)`` of the dense one.

    Units go in ascending order of score, ties as everywhere. A unit whose turn would empty an axis, or take a layer
    below :class:`secateur.recipe.Neurons`'s ``minimum``, stays.

    Args:
        fraction: 0 <= fraction < 1, the fraction of the dense model's cost to remove.
    """

    fraction: float

    quantity: ClassVar[str] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", _fraction(self, self.fraction))

    def measure(self, graph: Graph) -> Measure:
        """The cost of a model, as a function of the sizes of its axes."""
        return MEASURES[self.quantity](graph)

    def of(self, cost: Cost) -> int:
        """This one of a layer's costs."""
        return int(getattr(cost, self.quantity))


@dataclass(frozen=True)
class Parameters(CostTarget):
    """Remove this fraction of the model's trainable parameters: all of them, biases and normalisations included."""

    quantity: ClassVar[str] = "parameters"
    noun: ClassVar[str] = "parameters"


@dataclass(frozen=True)
class Flops(CostTarget):
    """Remove this fraction of the floating-point operations of one example: two for each multiply-add."""

    quantity: ClassVar[str] = "flops"
    noun: ClassVar[str] = "floating-point operations"


@dataclass(frozen=True)
class Bytes(CostTarget):
    """Remove this fraction of the bytes in which parameters and running statistics are stored."""

    quantity: ClassVar[str] = "bytes"
    noun: ClassVar[str] = "bytes"


@dataclass(frozen=True)
class Latency(ModelTarget):
    """Remove this fraction of the time that one forward pass takes on this machine, or bring it down to a time.

    The time is measured, of the whole model and of models that are really made smaller, on the example, so its batch
    size counts. Another machine may take another number of units: prune on one that is like those that will run it.

    Args:
        fraction: 0 <= fraction < 1, the fraction of the dense model's time to remove.
        milliseconds: instead, the most that a pass may take; more than 0.
    """

    fraction: float | None = None
    milliseconds: float | None = None

    noun: ClassVar[str] = "microseconds"

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.milliseconds is None):
            raise RecipeError(
                "Latency takes one of two: Latency(0.5), the fraction of the time to remove, or "
                "Latency(milliseconds=3.0), the time that may be left"
            )
        if self.fraction is not None:
            object.__setattr__(self, "fraction", _fraction(self, self.fraction))
        else:
            object.__setattr__(self, "milliseconds", real("the milliseconds of Latency", self.milliseconds))
            if not 0.0 < self.milliseconds < math.inf:  # type: ignore[operator]
                raise OutOfRangeError(f"Latency(milliseconds={self.milliseconds!r}): give a time above 0, such as 3.0")

    def limit(self, dense: float) -> float:
        """The most seconds that the pruned model may take, given those of the dense one."""
        return super().limit(dense) if self.milliseconds is None else self.milliseconds / 1000.0


def _fraction(target: ModelTarget, given: object) -> float:
    name = type(target).__name__
    fraction = real(f"the fraction of {name}", given)
    if not 0.0 <= fraction < 1.0:
        raise OutOfRangeError(
            f"{name}({fraction!r}) is outside 0 <= fraction < 1; {name}(0.5) removes half of the {target.noun}"
        )
    return fraction


COST_TARGETS: dict[str, type] = {"Parameters": Parameters, "Flops": Flops, "Bytes": Bytes, "Latency": Latency}
