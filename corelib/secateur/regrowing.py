"""What a pruner does where weights come back: gradients, exchange, and the values that pruned weights would have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur.adapter import Parameter
from secateur.ranking import Ranking, sparing
from secateur.recipe import Recipe
from secateur.recipe.regrowth import DynamicSurgery, Exchange, Regrowth
from secateur.recipe.weight_scores import Gradient
from secateur.scoring import Statistics
from secateur.tasks import element_scores

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Kept = Mapping[str, Flags]
Scores = Mapping[str, Array]
Masks = Mapping[str, Flags]
Gather = Callable[[Sequence[str]], Statistics]


class Regrower(Protocol):
    """Carries a regrowth out, in a training that a pruner follows.

    Attributes:
        values: parameter -> what its weights would be without masks; empty where pruned weights are simply zero.
    """

    values: dict[str, Array]

    def observe(self, parameters: Sequence[Parameter], masks: Masks, names: Iterable[str]) -> None:
        """Called before masks change, with those of now: see what is about to be zeroed."""

    def regrown(
        self,
        step: int,
        parameters: Sequence[Parameter],
        scores: Mapping[str, Array],
        kept: Kept,
        statistics: Statistics,
    ) -> dict[str, Flags]:
        """What is kept from now on, as many as before.

        Args:
            step: training steps so far.
            parameters: the model's, masked.
            scores: layer -> one score an element.
            kept: layer -> which elements are to be kept, before any comes back.
            statistics: what the recipe's score needs.
        """

    def revived(self, masks: Masks) -> dict[str, Array]:
        """Parameter -> its numbers under these masks, where something comes back with a value of its own."""


def regrower(recipe: Recipe, regrowth: Regrowth | None, ranking: Ranking, gather: Gather) -> Regrower | None:
    """What carries out the recipe's regrowth; None where it has none.

    Args:
        recipe: what is asked for.
        regrowth: its regrowth, counted in steps.
        ranking: of the recipe.
        gather: statistics of the model as it is, by their names.
    """
    if isinstance(regrowth, DynamicSurgery):
        return Operating(recipe, regrowth, ranking, gather)
    return Exchanging(regrowth, ranking, gather) if isinstance(regrowth, Exchange) else None


class Exchanging:
    """:class:`secateur.recipe.regrowth.SET` and :class:`secateur.recipe.regrowth.RigL`, counted in steps."""

    def __init__(self, regrowth: Exchange, ranking: Ranking, gather: Gather) -> None:
        self.values: dict[str, Array] = {}
        self._regrowth, self._ranking, self._gather = regrowth, ranking, gather

    def observe(self, parameters: Sequence[Parameter], masks: Masks, names: Iterable[str]) -> None:
        """As :class:`Regrower`: there is nothing to keep."""

    def regrown(
        self,
        step: int,
        parameters: Sequence[Parameter],
        scores: Mapping[str, Array],
        kept: Kept,
        statistics: Statistics,
    ) -> dict[str, Flags]:
        """As :class:`Regrower`."""
        growth: Mapping[str, Array] = {}
        if self._regrowth.needs:
            gradients = self._gather(self._regrowth.needs)[self._regrowth.needs[0]]
            growth = self._ranking.scores(parameters, Gradient(), {"mean_abs_gradient": gradients})
        return self._regrowth.exchange(step, scores, kept, growth)

    def revived(self, masks: Masks) -> dict[str, Array]:
        """As :class:`Regrower`: what comes back is zero."""
        return {}


class Operating:
    """:class:`secateur.recipe.regrowth.DynamicSurgery`: the values of pruned weights are kept here, and train."""

    def __init__(self, recipe: Recipe, regrowth: DynamicSurgery, ranking: Ranking, gather: Gather) -> None:
        self.values: dict[str, Array] = {}
        self._recipe, self._regrowth, self._ranking, self._gather = recipe, regrowth, ranking, gather

    def observe(self, parameters: Sequence[Parameter], masks: Masks, names: Iterable[str]) -> None:
        """As :class:`Regrower`: kept weights are what they are, pruned ones what they were when they were last seen."""
        wanted = {*names}
        for item in parameters:
            if item.name in wanted:
                before = self.values.get(item.name, item.view)
                self.values[item.name] = np.where(masks.get(item.name, np.True_), item.view, before)

    def regrown(
        self,
        step: int,
        parameters: Sequence[Parameter],
        scores: Mapping[str, Array],
        kept: Kept,
        statistics: Statistics,
    ) -> dict[str, Flags]:
        """As :class:`Regrower`."""
        gradients = self._gather(self._regrowth.needs)["mean_gradient"]
        for name, flags in self._ranking.masks(kept).items():
            self.values[name] = self._regrowth.moved(self.values[name], gradients.get(name), flags)
        dense = [dataclasses.replace(item, view=self.values.get(item.name, item.view)) for item in parameters]
        scored = element_scores(self._ranking, dense, self._recipe.score, statistics, self._recipe.competing)
        ranked = self._regrowth.ranked(scored, kept)
        found, _ = sparing(self._recipe, self._ranking, ranked, self._gone(kept), None)
        return found

    def revived(self, masks: Masks) -> dict[str, Array]:
        """As :class:`Regrower`: kept weights have the bits that they had."""
        return {name: np.where(masks[name], each, each.dtype.type(0)) for name, each in self.values.items()}

    def _gone(self, kept: Kept) -> list[int]:
        """How many elements are pruned in each ranking."""
        gone = [int(np.count_nonzero(~flags)) for flags in kept.values()]
        return [sum(gone)] if self._recipe.competing == "model" else gone
