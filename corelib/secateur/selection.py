"""Which elements stay, at each pruning of a schedule: by their number, or by what the whole model then costs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur.candidates import Candidates, UnitCandidates, candidates, order
from secateur.errors import UnreachableTargetError
from secateur.groups import GroupRanking
from secateur.latency import Stopwatch, Timing
from secateur.ranking import NeuronRanking, Ranking, sparing
from secateur.reach import shortfall
from secateur.recipe import Recipe
from secateur.recipe.costs import CostTarget, Latency
from secateur.scalars import portion
from secateur.scales import ByScale, ScaleRanking
from secateur.structure.budget import Flags, fewest, last
from secateur.structure.turns import NEVER

Array = npt.NDArray[Any]
Kept = Mapping[str, Flags]
Turns = npt.NDArray[np.int64]


class Selection(Protocol):
    """Scores in, elements that stay out.

    Attributes:
        timing: what was measured of the model without what the last call pruned; None where nothing was.
    """

    timing: Timing | None

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


def selection(
    recipe: Recipe, ranking: Ranking, stopwatch: Stopwatch | None = None, owners: Mapping[str, str] | None = None
) -> Selection:
    """How this recipe selects among what competes; only a :class:`Latency` needs the stopwatch.

    Owners (parameter -> its layer) serve patterns that name layers.
    """
    if isinstance(ranking, NeuronRanking) and stopwatch is not None and isinstance(recipe.target, Latency):
        return ByTime(recipe, ranking, stopwatch)
    if isinstance(ranking, ScaleRanking):
        return ByScale(recipe, ranking)
    if isinstance(ranking, GroupRanking):
        return ByGroup(recipe, ranking)
    among = candidates(recipe, ranking)
    return ByCount(recipe, ranking, owners) if among is None else ByTurn(recipe, among)


class ByCount:
    """Exactly as many elements as the target says, over everything or in each layer."""

    timing: Timing | None = None

    def __init__(self, recipe: Recipe, ranking: Ranking, owners: Mapping[str, str] | None = None) -> None:
        self._recipe = recipe
        self._ranking = ranking
        self._owners = owners

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """See :meth:`secateur.recipe.Recipe.budgets`."""
        return self._recipe.budgets(scores, self._owners)

    def keep(
        self,
        scores: Mapping[str, Array],
        fraction: float,
        budgets: Sequence[int],
        kept: Kept | None = None,
        training: bool = False,
    ) -> tuple[dict[str, Flags], tuple[str, ...]]:
        """As :class:`Selection`; at once, only what no name of the user's stands for is spared: axes between layers."""
        pruned = [portion(fraction, budget) for budget in budgets]
        return sparing(self._recipe, self._ranking, scores, pruned, kept, layers=training)


class ByGroup:
    """So many of each group; on the way there those go first that the whole model, or the layer, can best spare."""

    timing: Timing | None = None

    def __init__(self, recipe: Recipe, ranking: GroupRanking) -> None:
        self._recipe = recipe
        self._ranking = ranking
        self._lost = ranking.kind.m - ranking.kind.n

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """As :class:`Selection`: of each group, all but n."""
        each = [score.size // self._ranking.kind.m * self._lost for score in scores.values()]
        return each if self._recipe.competing == "layer" else [sum(each)]

    def keep(
        self,
        scores: Mapping[str, Array],
        fraction: float,
        budgets: Sequence[int],
        kept: Kept | None = None,
        training: bool = False,
    ) -> tuple[dict[str, Flags], tuple[str, ...]]:
        """As :class:`Selection`."""
        if self._ranking.kind.even:
            lost = portion(fraction, self._lost)
            return self._ranking.largest(scores, self._ranking.kind.m - lost, kept), ()
        safe = self._ranking.largest(scores, self._ranking.kind.n, kept)
        pruned = [portion(fraction, budget) for budget in budgets]
        return self._recipe.allocate(scores, pruned, kept, safe), ()


class ByTurn:
    """As few units or branches, one after the other, as bring the model down to the target.

    The target is a cost of the model; or a number of units, where layers have a minimum or a multiple to keep, so that
    more may go in one layer and fewer in another.
    """

    timing: Timing | None = None

    def __init__(self, recipe: Recipe, among: Candidates) -> None:
        self._recipe = recipe
        self._among = among
        self._count = sum(own.size for _, own in among.layers())

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """The number of units that go in the end, all that can if that is not enough."""
        found = self._turns(scores, None)
        needed = self._fewest(found, scores, 0)
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
        count: int | None = max(gone, portion(fraction, sum(budgets)))
        if fraction == 1.0:
            count = self._fewest(found, scores, gone)
        if count is None:
            problem = self._shortfall(found, scores)
            if not training:
                raise UnreachableTargetError(problem)
            warnings.warn(problem, stacklevel=2)
            count = last(found)
        return {layer: found[members] >= count for layer, members in self._among.layers()}, ()

    def _turns(self, scores: Mapping[str, Array], kept: Kept | None) -> Turns:
        """When each unit goes."""
        return self._among.turns(order(self._among, scores, kept))

    def _fewest(self, found: Turns, scores: Mapping[str, Array], start: int) -> int | None:
        """The fewest turns, from ``start`` on, that meet the target; None if all do not."""
        return fewest(found, self._among.value, self._limit(scores), start)

    def _shortfall(self, found: Turns, scores: Mapping[str, Array]) -> str:
        return self._among.shortfall(found < last(found), self._limit(scores))

    def _limit(self, scores: Mapping[str, Array]) -> float:
        target = self._recipe.target
        if isinstance(target, CostTarget):
            return target.limit(self._among.value(np.zeros(self._count, np.bool_)))
        return self._count - self._recipe.budgets(scores)[0]


class ByTime(ByTurn):
    """As few units, one after the other, as bring the measured time of a forward pass down to the target."""

    def __init__(self, recipe: Recipe, ranking: NeuronRanking, stopwatch: Stopwatch) -> None:
        super().__init__(recipe, UnitCandidates(recipe, ranking))
        self._ranking = ranking
        self._stopwatch = stopwatch
        self._measured: tuple[bytes, int] = (b"", 0)
        self._answer: int | None = None
        self._least = Timing(0.0, 0.0)

    def _fewest(self, found: Turns, scores: Mapping[str, Array], start: int) -> int | None:
        """As measured; the same question twice, to plan and to prune, is measured once."""
        asked = found.tobytes(), start
        if asked != self._measured:
            self._measured, self._answer = asked, self._search(found, start)
        return self._answer

    def _search(self, found: Turns, start: int) -> int | None:
        counts = [start, *(count for count in np.unique(found[found < NEVER]) + 1 if count > start)]
        race = self._stopwatch.race([found < count for count in counts])
        index = race.smallest(self._time_limit)
        self._least = min(race.timings.values(), key=lambda timing: timing.small / timing.dense)
        self.timing = self._least if index is None else race.timings[index]
        return None if index is None else int(counts[index])

    def _shortfall(self, found: Turns, scores: Mapping[str, Array]) -> str:
        dense, least = 1e6 * self._least.dense, 1e6 * self._least.small
        limit = 1e6 * self._time_limit(self._least.dense)
        return shortfall(self._recipe, self._ranking, found < last(found), dense, least, limit)

    def _time_limit(self, dense: float) -> float:
        target = self._recipe.target
        return target.limit(dense) if isinstance(target, Latency) else dense
