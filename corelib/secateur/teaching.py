"""How much a pruned model learns from the dense one: the options of distillation, the same in every framework."""

from __future__ import annotations

import math
from dataclasses import dataclass

from secateur.errors import OutOfRangeError
from secateur.scalars import real


@dataclass(frozen=True)
class Teaching:
    """The weights of the two terms of a distillation's loss (Hinton, Vinyals and Dean 2015, section 2):

    ``(1 - weight) * loss(outputs, labels) + weight * T^2 * KL(softmax(teacher / T) || softmax(outputs / T))``.

    Args:
        weight: of the teacher, 0 to 1.
        temperature: ``T``, above 0; the higher, the more the teacher tells of the classes that it thinks unlikely.

    Raises:
        RecipeError: one of them is no number.
        OutOfRangeError: one of them is out of its range.
    """

    weight: float = 0.7
    temperature: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", real("the weight of the teacher", self.weight))
        object.__setattr__(self, "temperature", real("the temperature", self.temperature))
        if not 0.0 <= self.weight <= 1.0:
            raise OutOfRangeError(f"the weight of the teacher is {self.weight}: give 0 to 1")
        if not 0.0 < self.temperature < math.inf:
            raise OutOfRangeError(f"the temperature is {self.temperature}: give a number above 0, such as 2")
