"""How much is pruned, as a share of what the whole model costs. Such a target is met on a traced model, to one unit.

To target another cost, such as a latency, add a class with a :meth:`CostTarget.measure` of its own: any function of the
sizes of all axes that never grows when one of them shrinks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secateur.errors import OutOfRangeError
from secateur.scalars import real
from secateur.structure.cost import MEASURES, Cost, Measure
from secateur.structure.graph import Graph


@dataclass(frozen=True)
class CostTarget:
    """What the targets on costs share: as few units go as bring the cost down to ``(1 - fraction)`` of the dense one.

    Units go in ascending order of score, ties as everywhere. A unit whose turn would empty an axis, or take a layer
    below :class:`secateur.recipe.Neurons`'s ``minimum``, stays.

    Args:
        fraction: 0 <= fraction < 1, the fraction of the dense model's cost to remove.
    """

    fraction: float

    quantity: ClassVar[str] = ""
    noun: ClassVar[str] = "cost"

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "fraction", real(f"the fraction of {name}", self.fraction))
        if not 0.0 <= self.fraction < 1.0:
            raise OutOfRangeError(
                f"{name}({self.fraction!r}) is outside 0 <= fraction < 1; {name}(0.5) removes half of the {self.noun}"
            )

    def limit(self, dense: float) -> float:
        """The most that the pruned model may cost: ``(1 - fraction) * dense``, in float64."""
        return (1.0 - self.fraction) * dense

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


COST_TARGETS: dict[str, type] = {"Parameters": Parameters, "Flops": Flops, "Bytes": Bytes}
