"""Which elements stay, at each pruning of a schedule: by their number, or by what the whole model then costs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur.candidates import Candidates, candidates
from secateur.errors import UnreachableTargetError
from secateur.ranking import Ranking, sparing
from secateur.recipe import Recipe
from secateur.recipe.costs import CostTarget
from secateur.structure.budget import Flags, fewest, last

Array = npt.NDArray[Any]
Kept = Mapping[str, Flags]


class Selection(Protocol):
    """Scores in, elements that stay out."""

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """How many elements the target prunes in the end, by these scores, in each competition."""

    def keep(
        self,
        scores: Mapping[str, Array],
        fraction: float,
        budgets: Sequence[int],
        kept: Kept | None = None,
        training: bool = False,
    ) -> tuple[dict[str, Flags], tuple[str, ...]]:
        """Layer -> which elements stay, and the names of what keeps its best element instead of being emptied.

        Args:
            scores: layer -> one score an element.
            fraction: the share of the budgets that is due.
            budgets: as :meth:`budgets` told at the first pruning.
            kept: what the last pruning left; nothing comes back.
            training: whether a training goes on, which nothing may end any more.
        """


def selection(recipe: Recipe, ranking: Ranking) -> Selection:
    """How this recipe selects among what competes."""
    among = candidates(recipe, ranking)
    return ByCount(recipe, ranking) if among is None else ByTurn(recipe, among)


class ByCount:
    """Exactly as many elements as the target says, over everything or in each layer."""

    def __init__(self, recipe: Recipe, ranking: Ranking) -> None:
        self._recipe = recipe
        self._ranking = ranking

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """See :meth:`secateur.recipe.Recipe.budgets`."""
        return self._recipe.budgets(scores)

    def keep(
        self,
        scores: Mapping[str, Array],
        fraction: float,
        budgets: Sequence[int],
        kept: Kept | None = None,
        training: bool = False,
    ) -> tuple[dict[str, Flags], tuple[str, ...]]:
        """As :class:`Selection`; at once, only what no name of the user's stands for is spared: axes between layers."""
        pruned = [math.floor(fraction * budget + 0.5) for budget in budgets]
        return sparing(self._recipe, self._ranking, scores, pruned, kept, layers=training)


class ByTurn:
    """As few units or branches, one after the other, as bring the model down to the target.

    The target is a cost of the model; or a number of units, where layers have a minimum or a multiple to keep, so that
    more may go in one layer and fewer in another.
    """

    def __init__(self, recipe: Recipe, among: Candidates) -> None:
        self._recipe = recipe
        self._among = among
        self._count = sum(own.size for _, own in among.layers())

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """The number of units that go in the end, all that can if that is not enough."""
        found = self._turns(scores, None)
        needed = fewest(found, self._among.value, self._limit(scores))
        return [last(found) if needed is None else needed]

    def keep(
        self,
        scores: Mapping[str, Array],
        fraction: float,
        budgets: Sequence[int],
        kept: Kept | None = None,
        training: bool = False,
    ) -> tuple[dict[str, Flags], tuple[str, ...]]:
        """As :class:`Selection`. With the whole fraction due, the target is met by the scores of now.

        Raises:
            UnreachableTargetError: it cannot be met; in training a warning says so, and all goes that can.
        """
        found = self._turns(scores, kept)
        gone = sum(int(np.count_nonzero(~flags)) for flags in ({} if kept is None else kept).values())
        count: int | None = max(gone, math.floor(fraction * sum(budgets) + 0.5))
        if fraction == 1.0:
            count = fewest(found, self._among.value, self._limit(scores), start=gone)
        if count is None:
            problem = self._among.shortfall(found < last(found), self._limit(scores))
            if not training:
                raise UnreachableTargetError(problem)
            warnings.warn(problem, stacklevel=2)
            count = last(found)
        return {layer: found[members] >= count for layer, members in self._among.layers()}, ()

    def _turns(self, scores: Mapping[str, Array], kept: Kept | None) -> npt.NDArray[np.int64]:
        """When each unit goes: what has gone before first, then in ascending order of score; ties by position."""
        layers = self._among.layers()
        members = np.concatenate([members for _, members in layers])
        ranked = np.concatenate([scores[layer] for layer, _ in layers])
        stays = np.concatenate([np.ones(own.size, np.bool_) if kept is None else kept[name] for name, own in layers])
        return self._among.turns(members[np.lexsort((ranked, stays))])

    def _limit(self, scores: Mapping[str, Array]) -> float:
        target = self._recipe.target
        if isinstance(target, CostTarget):
            return target.limit(self._among.value(np.zeros(self._count, np.bool_)))
        return self._count - self._recipe.budgets(scores)[0]
