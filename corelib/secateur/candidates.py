"""What goes one after the other until a target on costs is met: when each may go, and what the model then costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur.depth import BranchRanking
from secateur.ranking import NeuronRanking, Ranking
from secateur.reach import needed, shortfall
from secateur.recipe import Recipe, Units
from secateur.recipe.costs import CostTarget
from secateur.structure.budget import Sizes
from secateur.structure.bypassing import bypass
from secateur.structure.cost import sizes_of
from secateur.structure.turns import limits, turns

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


class Candidates(Protocol):
    """Units or branches, numbered from 0 on."""

    def layers(self) -> list[tuple[str, Numbers]]:
        """What is ranked under one name, with the numbers of its candidates."""

    def turns(self, order: Numbers) -> Numbers:
        """When each goes, given who wants to go first: as :func:`secateur.structure.turns.turns`."""

    def value(self, gone: Flags) -> float:
        """What is to be brought down, when these are gone. It never grows when more go."""

    def shortfall(self, gone: Flags, limit: float) -> str:
        """The message of an error: all that can go is gone, and it is not enough."""


def candidates(recipe: Recipe, ranking: Ranking) -> Candidates | None:
    """What this recipe has go one after the other; None where a number of elements is all that it asks for."""
    by_cost = isinstance(recipe.target, CostTarget)
    if isinstance(ranking, BranchRanking):
        return BranchCandidates(recipe, ranking) if by_cost else None
    is_limited = isinstance(recipe.granularity, Units) and recipe.granularity.is_limited
    return UnitCandidates(recipe, ranking) if isinstance(ranking, NeuronRanking) and (by_cost or is_limited) else None


def order(among: Candidates, scores: Mapping[str, Array], kept: Mapping[str, Flags] | None) -> Numbers:
    """Who wants to go first: what an earlier pruning took, then in ascending order of score; ties by position."""
    layers = among.layers()
    members = np.concatenate([members for _, members in layers])
    ranked = np.concatenate([scores[layer] for layer, _ in layers])
    stays = np.concatenate([np.ones(own.size, np.bool_) if kept is None else kept[name] for name, own in layers])
    return members[np.lexsort((ranked, stays))]


class UnitCandidates:
    """The removable units of a model."""

    def __init__(self, recipe: Recipe, ranking: NeuronRanking) -> None:
        self._recipe = recipe
        self._ranking = ranking
        kind = recipe.granularity
        least = (kind.minimum, kind.multiple) if isinstance(kind, Units) else (1, 1)
        self._limits = limits(ranking.graph, ranking.coupling, *least)
        self._sizes = Sizes(ranking.graph, ranking.coupling)
        self._measure = recipe.target.measure(ranking.graph) if isinstance(recipe.target, CostTarget) else None

    def layers(self) -> list[tuple[str, Numbers]]:
        """As :class:`Candidates`."""
        return self._ranking.layers()

    def turns(self, order: Numbers) -> Numbers:
        """As :class:`Candidates`: nothing is emptied, and widths are what the recipe asks for."""
        return turns(self._ranking.coupling, order, self._limits)

    def value(self, gone: Flags) -> float:
        """The cost of the model or, where the target is none, the number of units that stay."""
        if self._measure is None:
            return gone.size - int(np.count_nonzero(gone))
        return self._measure(self._sizes.after(gone))

    def shortfall(self, gone: Flags, limit: float) -> str:
        """As :class:`Candidates`."""
        dense, least = self.value(np.zeros_like(gone)), self.value(gone)
        return shortfall(self._recipe, self._ranking, gone, dense, least, limit)


class BranchCandidates:
    """The residual branches of a model: whichever goes, all others can."""

    def __init__(self, recipe: Recipe, ranking: BranchRanking) -> None:
        self._recipe = recipe
        self._ranking = ranking
        self._sizes = sizes_of(ranking.graph)

    def layers(self) -> list[tuple[str, Numbers]]:
        """As :class:`Candidates`."""
        return self._ranking.layers()

    def turns(self, order: Numbers) -> Numbers:
        """As :class:`Candidates`."""
        found = np.empty(order.size, np.int64)
        found[order] = np.arange(order.size)
        return found

    def value(self, gone: Flags) -> float:
        """The cost of the model without these branches, whose sizes are what they were."""
        target = self._recipe.target
        assert isinstance(target, CostTarget)
        return target.measure(bypass(self._ranking.graph, self._ranking.gone(gone)))(self._sizes)

    def shortfall(self, gone: Flags, limit: float) -> str:
        """As :class:`Candidates`."""
        return (
            f"{needed(self._recipe, self.value(np.zeros_like(gone)), self.value(gone), limit)} What stays has no skip "
            "connection round it, or is left out by the recipe. Lower the target, or prune Neurons() as well"
        )
