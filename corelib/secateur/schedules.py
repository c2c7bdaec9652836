"""When to prune, as a function of the training step: frozen dataclasses without state.

``fraction(step)`` is the share of the final sparsity that holds after ``step`` steps, 0.0 to 1.0 and never falling;
``due(step)`` tells whether masks are made at that step. Every schedule is due at its end, where the fraction is 1.0.
With ``unit="epoch"`` the same schedule counts epochs; :meth:`Timed.in_steps` turns it into one that counts steps.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from secateur.errors import OutOfRangeError, RecipeError
from secateur.scalars import real, whole

UNITS = ("step", "epoch")


class Schedule(Protocol):
    """What a recipe asks of a schedule."""

    @property
    def unit(self) -> str:
        """What is counted: ``"step"`` or ``"epoch"``."""

    @property
    def rewind(self) -> int | None:
        """The step whose weights come back after each pruning; None if weights train on."""

    @property
    def last(self) -> int:
        """The step at which the final sparsity is reached."""

    def fraction(self, step: int, sparsity: float = 0.0) -> float:
        """The share of the final sparsity after ``step`` training steps; some schedules need to know that sparsity."""

    def due(self, step: int) -> bool:
        """Whether masks are made after ``step`` training steps."""

    def in_steps(self, steps_per_epoch: int | None) -> Schedule:
        """The same schedule, counted in training steps."""


class Timed:
    """What everything that happens at certain times of a training shares."""

    unit: str

    _times: ClassVar[tuple[str, ...]] = ()
    _optional: ClassVar[tuple[str, ...]] = ()

    def in_steps(self, steps_per_epoch: int | None) -> Self:
        """The same, counted in training steps: itself, or all its times multiplied.

        Raises:
            RecipeError: it counts epochs, and nobody tells how many steps an epoch has.
            OutOfRangeError: an epoch of no steps.
        """
        if self.unit == "step":
            return self
        if steps_per_epoch is None:
            raise RecipeError(
                f"{self} counts epochs, whose length is not known here: give the pruner "
                "steps_per_epoch=len(loader), the number of optimizer steps in an epoch"
            )
        length = whole("steps_per_epoch", steps_per_epoch)
        if length < 1:
            raise OutOfRangeError(f"steps_per_epoch={length}: an epoch has 1 or more steps")
        times = {part: getattr(self, part) for part in self._times}
        scaled = {part: None if time is None else length * time for part, time in times.items()}
        return dataclasses.replace(self, unit="step", **scaled)  # type: ignore[type-var]

    def _check_times(self) -> None:
        name = type(self).__name__
        if self.unit not in UNITS:
            raise RecipeError(f"{name}(unit={self.unit!r}): use 'step' or 'epoch'")
        for part in self._times:
            if getattr(self, part) is not None or part not in self._optional:
                object.__setattr__(self, part, whole(f"{name}'s {part}", getattr(self, part)))


class Span(Timed):
    """What happens again and again from ``begin`` to ``end``."""

    begin: int
    end: int
    every: int

    _times: ClassVar[tuple[str, ...]] = ("begin", "end", "every")

    def due(self, step: int) -> bool:
        """At ``begin``, every ``every`` steps from there, and at ``end``."""
        return step == self.end or (self.begin <= step < self.end and (step - self.begin) % self.every == 0)

    def _check_times(self) -> None:
        super()._check_times()
        name = type(self).__name__
        if self.begin > self.end:
            raise OutOfRangeError(
                f"{name}(begin={self.begin}, end={self.end}) ends before it begins: give 0 <= begin <= end"
            )
        if self.begin < 0:
            raise OutOfRangeError(f"{name}(begin={self.begin}, end={self.end}): give 0 <= begin <= end")
        if self.every < 1:
            raise OutOfRangeError(f"{name}(every={self.every}): give 1 or more {self.unit}s from one time to the next")


@dataclass(frozen=True)
class OneShot(Timed):
    """All at once, after ``at`` training steps (0 = before the first).

    Raises:
        OutOfRangeError: ``at`` is negative.
        RecipeError: ``at`` is no whole number, or ``unit`` is unknown.
    """

    at: int = 0
    unit: str = "step"

    rewind: ClassVar[int | None] = None
    _times: ClassVar[tuple[str, ...]] = ("at",)

    def __post_init__(self) -> None:
        self._check_times()
        if self.at < 0:
            raise OutOfRangeError(f"OneShot(at={self.at}): a training step is 0 or more")

    @property
    def last(self) -> int:
        """See :class:`Schedule`."""
        return self.at

    def fraction(self, step: int, sparsity: float = 0.0) -> float:
        """0.0 before ``at``, then 1.0."""
        return 1.0 if step >= self.at else 0.0

    def due(self, step: int) -> bool:
        """Once, at ``at``."""
        return step == self.at


@dataclass(frozen=True)
class Ramp(Span):
    """What the schedules that grow from ``begin`` to ``end`` share; use one of them, such as :class:`Cubic`.

    Args:
        begin: the first step at which masks are made.
        end: the last one, where the final sparsity is reached.
        every: steps from one pruning to the next.
        initial: the share of the final sparsity that is pruned at ``begin``.
        unit: ``"step"``, or ``"epoch"`` if begin, end and every count epochs.

    Raises:
        OutOfRangeError: not 0 <= begin <= end, every < 1, or initial outside 0 to 1.
        RecipeError: a time is no whole number, ``initial`` no number, or ``unit`` unknown.
    """

    begin: int
    end: int
    every: int = 1
    initial: float = 0.0
    unit: str = "step"

    rewind: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        self._check_times()
        object.__setattr__(self, "initial", real(f"{name}'s initial", self.initial))
        if not 0.0 <= self.initial <= 1.0:
            raise OutOfRangeError(f"{name}(initial={self.initial}): give a share of the final sparsity, 0 to 1")

    @property
    def last(self) -> int:
        """See :class:`Schedule`."""
        return self.end

    def fraction(self, step: int, sparsity: float = 0.0) -> float:
        """0.0 before ``begin``, 1.0 from ``end`` on; between them as the schedule says."""
        if step < self.begin:
            return 0.0
        if step >= self.end:
            return 1.0
        return self._grown((self.end - step) / (self.end - self.begin), sparsity)

    def _grown(self, remaining: float, sparsity: float) -> float:
        """The share that is reached when this share of the time remains."""
        return 1.0 - (1.0 - self.initial) * self._to_come(remaining)

    def _to_come(self, remaining: float) -> float:
        """1.0 or less at ``begin``, where ``remaining`` is 1.0, and falling to 0.0 with it."""
        return remaining


@dataclass(frozen=True)
class Linear(Ramp):
    """The sparsity grows evenly: the share is linear in the step. Arguments and errors: see :class:`Ramp`."""


@dataclass(frozen=True)
class Polynomial(Ramp):
    """1 - (1 - initial) (1 - progress) ** exponent: above 1 fast at first, below 1 fast at last.

    Args:
        begin, end, every, initial, unit: see :class:`Ramp`.
        exponent: above 0; 1 is :class:`Linear`, 3 is :class:`Cubic`.

    Raises:
        OutOfRangeError: as :class:`Ramp`, or the exponent is not above 0 and finite.
    """

    exponent: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "exponent")

    def _to_come(self, remaining: float) -> float:
        return math.pow(remaining, self.exponent)


@dataclass(frozen=True)
class Cubic(Ramp):
    """Fast at first, then ever slower (Zhu and Gupta 2017). Arguments and errors: see :class:`Ramp`."""

    def _to_come(self, remaining: float) -> float:
        return remaining**3


@dataclass(frozen=True)
class Cosine(Ramp):
    """Slow at both ends: half a period of a cosine. Arguments and errors: see :class:`Ramp`."""

    def _to_come(self, remaining: float) -> float:
        return 0.5 * (1.0 - math.cos(math.pi * remaining))


@dataclass(frozen=True)
class OneCycle(Ramp):
    """Slow, fast, slow: a logistic curve (One-Cycle Pruning, Hubens et al. 2022).

    At ``begin`` it lies (1 + e^(β − α)) / (1 + e^β) of the way above ``initial``, 0.7 % by default, as in the paper.

    Args:
        begin, end, every, initial, unit: see :class:`Ramp`.
        alpha: above 0, how steep the curve is.
        beta: above 0, how late it rises: half of the way is done at ``beta / alpha`` of the time.

    Raises:
        OutOfRangeError: as :class:`Ramp`, or alpha or beta is not above 0 and finite.
    """

    alpha: float = 14.0
    beta: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in ("alpha", "beta"):
            _check_positive(self, part)

    def _to_come(self, remaining: float) -> float:
        progress = 1.0 - remaining
        reached = _logistic(self.alpha * progress - self.beta) / _logistic(self.alpha - self.beta)
        return max(0.0, 1.0 - reached)


@dataclass(frozen=True)
class Exponential(Ramp):
    """Each pruning takes the same share of what is left: the density falls exponentially to the final one.

    Arguments and errors: see :class:`Ramp`.
    """

    def _grown(self, remaining: float, sparsity: float) -> float:
        return _geometric(1.0 - remaining, sparsity, self.initial)


@dataclass(frozen=True)
class Iterative(Timed):
    """Train, prune, and again, so many rounds; each round prunes the same share of what is left.

    Round k is pruned after ``k * every`` steps; what is trained afterwards is the result. With ``rewind`` the weights
    that stay then become again what they were after ``rewind`` steps, and the optimizer forgets: the winning tickets
    of the lottery ticket hypothesis, from initialisation (0: Frankle and Carbin 2019) or from an early step (Frankle et
    al. 2020). Without it weights train on; let the learning rate restart with each round, by the pruner's
    ``round_step``, for learning-rate rewinding (Renda et al. 2020).

    Args:
        rounds: 1 or more.
        every: how long each round trains before it is pruned.
        rewind: None, or 0 <= rewind < every.
        unit: ``"step"``, or ``"epoch"`` if every and rewind count epochs.

    Raises:
        OutOfRangeError: rounds or every below 1, or rewind outside 0 to every.
        RecipeError: one of them is no whole number, or ``unit`` unknown.
    """

    rounds: int
    every: int
    rewind: int | None = None
    unit: str = "step"

    _times: ClassVar[tuple[str, ...]] = ("every", "rewind")
    _optional: ClassVar[tuple[str, ...]] = ("rewind",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds", whole("Iterative's rounds", self.rounds))
        self._check_times()
        for part in ("rounds", "every"):
            if getattr(self, part) < 1:
                raise OutOfRangeError(f"Iterative({part}={getattr(self, part)}): give 1 or more")
        if self.rewind is not None and not 0 <= self.rewind < self.every:
            raise OutOfRangeError(
                f"Iterative(every={self.every}, rewind={self.rewind}): give 0 (initialisation) or a {self.unit} before "
                "the first pruning"
            )

    @property
    def last(self) -> int:
        """See :class:`Schedule`."""
        return self.rounds * self.every

    def fraction(self, step: int, sparsity: float = 0.0) -> float:
        """(1 - (1 - sparsity) ** (round / rounds)) / sparsity, and 1.0 from the last round on."""
        done = step // self.every
        return 1.0 if done >= self.rounds else _geometric(done / self.rounds, sparsity)

    def due(self, step: int) -> bool:
        """At the end of each round."""
        return step % self.every == 0 and 1 <= step // self.every <= self.rounds


def _geometric(progress: float, sparsity: float, initial: float = 0.0) -> float:
    """The share of ``sparsity`` at which the density is so far on its geometric way to the final one."""
    if sparsity < 1e-200:  # too few digits to divide, and the limit to the last bit
        return initial + (1.0 - initial) * progress
    sparsity = min(sparsity, math.nextafter(1.0, 0.0))
    first, last = math.log1p(-initial * sparsity), math.log1p(-sparsity)
    return min(1.0, -math.expm1(first + progress * (last - first)) / sparsity)


def _logistic(value: float) -> float:
    """1 / (1 + e^-value), for values of any size."""
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0.0 else math.exp(value) / (1.0 + math.exp(value))


def _check_positive(schedule: object, part: str) -> None:
    name = type(schedule).__name__
    value = real(f"{name}'s {part}", getattr(schedule, part))
    object.__setattr__(schedule, part, value)
    if not 0.0 < value < math.inf:
        raise OutOfRangeError(f"{name}({part}={value}): give a number above 0")


SCHEDULES: dict[str, type] = {
    kind.__name__: kind for kind in (OneShot, Linear, Polynomial, Cubic, Exponential, Cosine, OneCycle, Iterative)
}
