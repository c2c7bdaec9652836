"""When to prune, as a function of the training step: frozen dataclasses without state.

``fraction(step)`` is the share of the final sparsity that holds after ``step`` steps, 0.0 to 1.0 and never falling;
``due(step)`` tells whether masks are made at that step. Every schedule is due at its end, where the fraction is 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from secateur.errors import OutOfRangeError
from secateur.scalars import real, whole


class Schedule(Protocol):
    """What a recipe asks of a schedule."""

    def fraction(self, step: int) -> float:
        """The share of the final sparsity after ``step`` training steps."""

    def due(self, step: int) -> bool:
        """Whether masks are made after ``step`` training steps."""


@dataclass(frozen=True)
class OneShot:
    """All at once, after ``at`` training steps (0 = before the first).

    Raises:
        OutOfRangeError: ``at`` is negative.
        RecipeError: ``at`` is no whole number.
    """

    at: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", whole("OneShot's at", self.at))
        if self.at < 0:
            raise OutOfRangeError(f"OneShot(at={self.at}): a training step is 0 or more")

    def fraction(self, step: int) -> float:
        """0.0 before ``at``, then 1.0."""
        return 1.0 if step >= self.at else 0.0

    def due(self, step: int) -> bool:
        """Once, at ``at``."""
        return step == self.at


@dataclass(frozen=True)
class Ramp:
    """What :class:`Linear` and :class:`Cubic` share: pruning at ``begin``, every ``every`` steps, and at ``end``.

    Args:
        begin: the first step at which masks are made.
        end: the last one, where the final sparsity is reached.
        every: steps from one pruning to the next.
        initial: the share of the final sparsity that is pruned at ``begin``.

    Raises:
        OutOfRangeError: not 0 <= begin <= end, every < 1, or initial outside 0 to 1.
        RecipeError: a step is no whole number, or ``initial`` no number.
    """

    begin: int
    end: int
    every: int = 1
    initial: float = 0.0

    _exponent: ClassVar[int] = 1

    def __post_init__(self) -> None:
        name = type(self).__name__
        for part in ("begin", "end", "every"):
            object.__setattr__(self, part, whole(f"{name}'s {part}", getattr(self, part)))
        object.__setattr__(self, "initial", real(f"{name}'s initial", self.initial))
        if not 0 <= self.begin <= self.end:
            raise OutOfRangeError(f"{name}(begin={self.begin}, end={self.end}): give 0 <= begin <= end")
        if self.every < 1:
            raise OutOfRangeError(f"{name}(every={self.every}): give 1 or more steps from one pruning to the next")
        if not 0.0 <= self.initial <= 1.0:
            raise OutOfRangeError(f"{name}(initial={self.initial}): give a share of the final sparsity, 0 to 1")

    def fraction(self, step: int) -> float:
        """1 - (1 - initial) * (1 - (step - begin) / (end - begin)) ** exponent, 0.0 before and 1.0 from ``end`` on."""
        if step < self.begin:
            return 0.0
        if step >= self.end:
            return 1.0
        remaining = (self.end - step) / (self.end - self.begin)
        return 1.0 - (1.0 - self.initial) * remaining**self._exponent

    def due(self, step: int) -> bool:
        """At ``begin``, every ``every`` steps from there, and at ``end``."""
        return step == self.end or (self.begin <= step < self.end and (step - self.begin) % self.every == 0)


@dataclass(frozen=True)
class Linear(Ramp):
    """The sparsity grows evenly: the share is linear in the step. Arguments and errors: see :class:`Ramp`."""

    _exponent: ClassVar[int] = 1


@dataclass(frozen=True)
class Cubic(Ramp):
    """Fast at first, then ever slower (Zhu and Gupta 2017). Arguments and errors: see :class:`Ramp`."""

    _exponent: ClassVar[int] = 3


SCHEDULES: dict[str, type] = {"OneShot": OneShot, "Linear": Linear, "Cubic": Cubic}
