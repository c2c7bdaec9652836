"""Which pruned weights come back in training, and which kept ones go in their place: the number stays exact.

A regrowth is a frozen dataclass without state, counted in steps or epochs as a schedule is. All arrays are in canonical
layout, layers in the model's order, and random numbers follow from seed, step and position alone, so that both
frameworks exchange the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from secateur import masks
from secateur.errors import OutOfRangeError, UnreachableTargetError
from secateur.scalars import portion, real, whole
from secateur.schedules import Span

Array = npt.NDArray[Any]
Scores = Mapping[str, Array]
Kept = Mapping[str, npt.NDArray[np.bool_]]


class Regrowth(Protocol):
    """What a recipe asks of a regrowth."""

    needs: ClassVar[tuple[str, ...]]

    def due(self, step: int) -> bool:
        """Whether weights come back after ``step`` training steps."""

    def in_steps(self, steps_per_epoch: int | None) -> Regrowth:
        """The same regrowth, counted in training steps."""

    def require_room(self, kept: Kept) -> None:
        """Raises UnreachableTargetError if what is kept in the end cannot be exchanged as asked for."""


@dataclass(frozen=True)
class Exchange(Span):
    """What :class:`SET` and :class:`RigL` share: in each layer the kept weights of lowest score go, as many come back.

    A weight that goes does not come back at once, and those that come back start at zero, with the optimizer's memory
    of them cleared. A layer in which fewer weights are pruned than would go exchanges as many as it can.

    Args:
        begin, end, every: the times of the exchanges; none before the first training step.
        share: 0 < share < 1, of the kept weights of a layer.
        unit: ``"step"`` or ``"epoch"``.

    Raises:
        OutOfRangeError: not 0 <= begin <= end, every < 1, or share outside 0 to 1.
        RecipeError: a time is no whole number, ``share`` no number, or ``unit`` unknown.
    """

    begin: int
    end: int
    every: int
    share: float = 0.3
    unit: str = "step"

    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        name = type(self).__name__
        self._check_times()
        object.__setattr__(self, "share", real(f"{name}'s share", self.share))
        if not 0.0 < self.share < 1.0:
            raise OutOfRangeError(f"{name}(share={self.share}): give a share of the kept weights, above 0 and below 1")

    def share_at(self, step: int) -> float:
        """The share of the kept weights that is exchanged after ``step`` steps."""
        return self.share

    def exchange(self, step: int, scores: Scores, kept: Kept, growth: Scores) -> dict[str, npt.NDArray[np.bool_]]:
        """What is kept from now on: as many of each layer as before.

        Args:
            step: training steps so far.
            scores: layer -> one score an element; of those that are kept the lowest go.
            kept: layer -> which elements are kept.
            growth: layer -> how much each element deserves to come back.
        """
        found = {}
        for index, (layer, flags) in enumerate(kept.items()):
            live = int(np.count_nonzero(flags))
            count = min(portion(self.share_at(step), live), flags.size - live)
            staying = masks.keep_largest(np.where(flags, scores[layer], -np.inf), live - count)
            wanted = self._wanted(step, index, flags.shape, growth.get(layer))
            found[layer] = staying | masks.keep_largest(np.where(flags, -np.inf, wanted), count)
        return found

    def require_room(self, kept: Kept) -> None:
        """As :class:`Regrowth`: as many weights of the whole model as are to be exchanged must be pruned."""
        live = sum(int(np.count_nonzero(flags)) for flags in kept.values())
        gone = sum(flags.size for flags in kept.values()) - live
        count = portion(self.share, live)
        if count > gone:
            raise UnreachableTargetError(
                f"{type(self).__name__}(share={self.share:g}) exchanges {count} of the {live} weights that are kept, "
                f"but only {gone} are pruned, so that many cannot come back: prune more, or lower the share"
            )

    def _wanted(self, step: int, index: int, shape: tuple[int, ...], growth: Array | None) -> Array:
        """How much each element of a layer, the ``index``-th, deserves to come back."""
        raise NotImplementedError


@dataclass(frozen=True)
class SET(Exchange):
    """Sparse evolutionary training (Mocanu et al. 2018): weights of lowest score go, any others come back, at random.

    Args:
        begin, end, every, share, unit: see :class:`Exchange`; the share is constant.
        seed: 0 or more, from which all random numbers follow.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seed", whole("SET's seed", self.seed))
        if self.seed < 0:
            raise OutOfRangeError(f"SET(seed={self.seed}): give 0 or more")

    def _wanted(self, step: int, index: int, shape: tuple[int, ...], growth: Array | None) -> Array:
        """Raw bits of a generator whose stream is fixed for all versions of NumPy."""
        words = np.random.PCG64(np.random.SeedSequence([self.seed, step, index])).random_raw(math.prod(shape))
        return ((np.asarray(words) >> np.uint64(11)) * 2.0**-53).reshape(shape)


@dataclass(frozen=True)
class RigL(Exchange):
    """Rigging the lottery (Evci et al. 2020): weights of lowest score go, those of largest gradient come back.

    The share falls with a cosine to 0 at ``end``. Gradients are those of the loss over ``data`` or, in PyTorch without
    any, of the training step's own batch. Arguments and errors: see :class:`Exchange`.
    """

    needs: ClassVar[tuple[str, ...]] = ("mean_gradient",)

    def share_at(self, step: int) -> float:
        """share / 2 * (1 + cos(pi * progress)) (Evci et al. 2020, equation 1)."""
        progress = (step - self.begin) / max(1, self.end - self.begin)
        return 0.5 * self.share * (1.0 + math.cos(math.pi * min(1.0, progress)))

    def _wanted(self, step: int, index: int, shape: tuple[int, ...], growth: Array | None) -> Array:
        return np.zeros(shape) if growth is None else growth


@dataclass(frozen=True)
class DynamicSurgery(Span):
    """Dynamic network surgery (Guo et al. 2016): pruned weights train on unseen, and come back once large enough.

    The pruner keeps what the pruned weights would be: at each time they take a step of gradient descent at ``rate``,
    since the optimizer's own steps on them are undone by the masks. Then all weights are ranked anew, those that are
    kept as if they were ``1 / (1 - margin)`` times larger, those that are pruned as if ``1 + margin`` times smaller. So
    a weight comes back above ``1 + margin`` times the threshold at which others stay, and goes below ``1 - margin``
    times it: the paper's two thresholds, mean + k sigma with ``KSigma``, but the number is exact.
    What comes back starts at its own value, with the optimizer's memory of it cleared.

    Args:
        begin, end, every: the times; none before the first training step.
        rate: above 0, the learning rate of what is pruned.
        margin: 0 <= margin < 1, of the hysteresis (0.1 in the paper's code).
        unit: ``"step"`` or ``"epoch"``.

    Raises:
        OutOfRangeError: not 0 <= begin <= end, every < 1, or rate or margin out of range.
        RecipeError: a time is no whole number, rate or margin no number, or ``unit`` unknown.
    """

    begin: int
    end: int
    every: int
    rate: float
    margin: float = 0.1
    unit: str = "step"

    needs: ClassVar[tuple[str, ...]] = ("mean_gradient",)

    def __post_init__(self) -> None:
        self._check_times()
        for part in ("rate", "margin"):
            object.__setattr__(self, part, real(f"DynamicSurgery's {part}", getattr(self, part)))
        if not 0.0 < self.rate < math.inf:
            raise OutOfRangeError(f"DynamicSurgery(rate={self.rate}): give a learning rate above 0")
        if not 0.0 <= self.margin < 1.0:
            raise OutOfRangeError(f"DynamicSurgery(margin={self.margin}): give 0 <= margin < 1, such as 0.1")

    def moved(self, weight: Array, gradient: Array | None, kept: npt.NDArray[np.bool_]) -> Array:
        """The weight after a step of what is pruned; the kept part keeps its bits."""
        if gradient is None:
            return weight
        return np.where(kept, weight, (weight - self.rate * gradient).astype(weight.dtype))

    def ranked(self, scores: Scores, kept: Kept) -> dict[str, Array]:
        """The scores, with hysteresis."""
        stays, returns = 1.0 / (1.0 - self.margin), 1.0 / (1.0 + self.margin)
        return {layer: score * np.where(kept[layer], stays, returns) for layer, score in scores.items()}

    def require_room(self, kept: Kept) -> None:
        """As :class:`Regrowth`: there always is, since as many go as come back."""


REGROWTHS: dict[str, type] = {"SET": SET, "RigL": RigL, "DynamicSurgery": DynamicSurgery}
