"""Several granularities with one total: whole units first, ranked scale by scale, and single weights up to the total.

What a coarser scale takes is a mask on all that it touches; a finer one is scored on the model under that mask. So
the result is that of pruning with one recipe after the other, but the total is one, and it is met exactly.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Parameter
from secateur.candidates import BranchCandidates, Candidates, UnitCandidates, order
from secateur.depth import BranchRanking
from secateur.errors import ExampleError, UnreachableTargetError
from secateur.iterating import masked
from secateur.latency import Timing
from secateur.ranking import NeuronRanking, Ranking, WeightRanking, ranking, sparing
from secateur.recipe import Recipe, Scales, Sparsity
from secateur.recipe.costs import CostTarget
from secateur.recipe.score import Score
from secateur.scalars import portion
from secateur.scoring import Statistics
from secateur.structure.budget import fewest, last
from secateur.structure.cost import sizes_of
from secateur.structure.graph import Graph
from secateur.structure.removal import STATISTICS

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Masks = Mapping[str, Flags]


class Scored(dict[str, Array]):
    """The scores of single weights, and what scores the coarser scales: ``anew(scale, masks)``, of what masks leave."""

    def __init__(self, weights: Mapping[str, Array], anew: Callable[[Ranking, Masks], dict[str, Array]]) -> None:
        super().__init__(weights)
        self.anew = anew


@dataclass(frozen=True)
class ScaleRanking:
    """Scales, from coarse to fine.

    What is kept has the flags of the weights, under the names of their parameters, without those that coarser scales
    take; and the flags of units and branches, under names of their own.

    Args:
        coarse: those of units or branches.
        finest: single weights.
        graph: the traced model.
    """

    coarse: tuple[NeuronRanking | BranchRanking, ...]
    finest: WeightRanking
    graph: Graph

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> Scored:
        """The scores of the weights of the model as it is; those of the other scales are computed when masks are."""

        def anew(scale: Ranking, masks: Masks) -> dict[str, Array]:
            if all(mask.all() for mask in masks.values()):
                return scale.scores(parameters, score, statistics)
            return scale.scores(masked(parameters, masks), score, _left(statistics, masks))

        return Scored(self.finest.scores(parameters, score, statistics), anew)

    def masks(self, kept: Masks) -> dict[str, Flags]:
        """What all scales together leave, of all parameters that any of them touches."""
        found = self.coarse_masks(kept)
        weights = {name: kept[name] for name in self.finest.names}
        self.finest.masks({name: flags for name, flags in weights.items() if name not in self._closed(found)})
        return {**found, **weights, **both(found, weights)}

    def emptied(self, kept: Masks) -> dict[str, dict[str, Flags]]:
        """Parameters of which no weight is kept, though their layer stays."""
        weights, closed = {name: kept[name] for name in self.finest.names}, self._closed(self.coarse_masks(kept))
        return {name: among for name, among in self.finest.emptied(weights).items() if name not in closed}

    def coarse_masks(self, kept: Masks) -> dict[str, Flags]:
        """What the units and branches that are kept leave, as far as there are flags of them."""
        found: dict[str, Flags] = {}
        for scale in self.coarse:
            if (flags := self.flags(scale, kept)) is not None:
                new = scale.masks(flags)
                found = {**found, **new, **both(found, new)}
        return found

    def flags(self, scale: NeuronRanking | BranchRanking, kept: Masks | None) -> dict[str, Flags] | None:
        """The flags of one scale, under the names that it knows; None where there are none."""
        if kept is None or any(named(scale, layer) not in kept for layer, _ in scale.layers()):
            return None
        return {layer: kept[named(scale, layer)] for layer, _ in scale.layers()}

    def _closed(self, found: Masks) -> set[str]:
        """Parameters of which the coarser scales leave nothing."""
        return {name for name in self.finest.names if name in found and not found[name].any()}


def ranked(recipe: Recipe, parameters: Sequence[Parameter], graph: Graph | None) -> Ranking:
    """What the recipe ranks in this model, at one scale or several. Raises as :func:`secateur.ranking.ranking`."""
    kind = recipe.granularity
    if not isinstance(kind, Scales):
        return ranking(recipe, parameters, graph)
    if graph is None:
        raise ExampleError(
            "units and branches can only be pruned where the structure is known: pass example=, an input of the model"
        )
    coarse = [ranking(each, parameters, graph) for each in _recipes(recipe)[:-1]]
    finest = ranking(_recipes(recipe)[-1], parameters, graph)
    assert isinstance(finest, WeightRanking)
    known = tuple(each for each in coarse if isinstance(each, NeuronRanking | BranchRanking))
    return ScaleRanking(known, dataclasses.replace(finest, scope=recipe.competing), graph)


class ByScale:
    """As many numbers as the target says: by units and branches up to their shares, by single weights the rest."""

    timing: Timing | None = None

    def __init__(self, recipe: Recipe, ranking: ScaleRanking) -> None:
        self._recipe, self._ranking = recipe, ranking
        *own, self._finest = _recipes(recipe)
        self._candidates = [_candidates(each, scale) for each, scale in zip(own, ranking.coarse, strict=True)]
        shapes = ranking.graph.parameters
        trained = tuple(name for name, shape in shapes.items() if shape.role not in STATISTICS)
        self._counted = trained if isinstance(recipe.target, CostTarget) else ranking.finest.names

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """One number: of the chosen weights, or of all trainable parameters, those that go in the end."""
        target = self._recipe.target
        if not isinstance(target, CostTarget):
            return self._finest_budget(scores)
        dense = target.measure(self._ranking.graph)(sizes_of(self._ranking.graph))
        return [int(dense) - math.floor(target.limit(dense))]

    def keep(
        self,
        scores: Mapping[str, Array],
        fraction: float,
        budgets: Sequence[int],
        kept: Masks | None = None,
        training: bool = False,
    ) -> tuple[dict[str, Flags], tuple[str, ...]]:
        """As :class:`secateur.selection.Selection`: at least that fraction, and exactly the budget in the end.

        Raises UnreachableTargetError, but not in training.
        """
        total = portion(fraction, budgets[0])
        masks: dict[str, Flags] = {}
        found: dict[str, Flags] = {}
        for index, share in enumerate(np.cumsum(self._shares())):
            flags = self._units(index, scores, masks, kept, math.floor(share * total), budgets[0])
            own = self._ranking.coarse[index]
            masks = {**masks, **(new := own.masks(flags)), **both(masks, new)}
            found |= {named(own, layer): each for layer, each in flags.items()}
        weights, spared = self._weights(scores, masks, kept, total, training)
        return {**weights, **found}, spared

    def _units(
        self, index: int, scores: Mapping[str, Array], masks: Masks, kept: Masks | None, limit: int, most: int
    ) -> dict[str, Flags]:
        """As many of one scale, in ascending order of score, as bring what goes to at most its share of the total.

        And as fit below the final total, together with the weights that have gone before. Between, a branch may take
        more at once than the schedule has grown: if it waited for room, weights would always have taken that first.
        """
        own, among = self._ranking.coarse[index], self._candidates[index]
        before = self._ranking.flags(own, kept)
        turns = among.turns(order(among, self._anew(scores, own, masks), before))
        start = sum(int(np.count_nonzero(~flags)) for flags in (before or {}).values())

        def fits(gone: Flags) -> float:
            new = own.masks({layer: ~gone[members] for layer, members in own.layers()})
            alone = {**masks, **new, **both(masks, new)}
            return float(self._gone(alone) <= limit and self._gone(alone, kept) <= most)

        beyond = fewest(turns, fits, 0.0, start)
        count = last(turns) if beyond is None else max(start, beyond - 1)
        return {layer: turns[members] >= count for layer, members in own.layers()}

    def _weights(
        self, scores: Mapping[str, Array], masks: Masks, kept: Masks | None, total: int, training: bool
    ) -> tuple[dict[str, Flags], tuple[str, ...]]:
        """The largest of what is left, as many as the total leaves."""
        left = {name: np.ones(scores[name].shape, np.bool_) if kept is None else kept[name] for name in scores}
        left |= both(left, masks)
        missing = max(0, total - self._gone(masks, kept))
        there = sum(int(np.count_nonzero(flags)) for flags in left.values())
        if missing > there and not training:
            raise UnreachableTargetError(
                f"{self._recipe.target} takes {missing:,} single weights after what units and branches take, but the "
                f"chosen layers have only {there:,} left: lower the target, or include more layers"
            )
        names = [name for name in left if name not in masks or masks[name].any()]
        anew = self._anew(scores, self._ranking.finest, masks)
        among, alive = {name: anew[name] for name in names}, {name: left[name] for name in names}
        pruned = sum(flags.size - int(np.count_nonzero(flags)) for flags in alive.values()) + min(missing, there)
        found, spared = sparing(self._finest, self._ranking.finest, among, [pruned], alive, layers=training)
        return {**left, **found}, spared

    def _anew(self, scores: Mapping[str, Array], scale: Ranking, masks: Masks) -> dict[str, Array]:
        assert isinstance(scores, Scored)
        return scores.anew(scale, masks)

    def _gone(self, masks: Masks, kept: Masks | None = None) -> int:
        """How many of the numbers that count are pruned by masks, or by what was kept before."""
        earlier = {} if kept is None else {name: kept[name] for name in self._ranking.finest.names}
        together = {**earlier, **masks, **both(earlier, masks)}
        counted = (together[name] for name in self._counted if name in together)
        return sum(flags.size - int(np.count_nonzero(flags)) for flags in counted)

    def _shares(self) -> tuple[float, ...]:
        kind = self._recipe.granularity
        assert isinstance(kind, Scales)
        return kind.shares

    def _finest_budget(self, scores: Mapping[str, Array]) -> list[int]:
        return dataclasses.replace(self._finest, target=self._recipe.target).budgets(scores)


def both(first: Masks, second: Masks) -> dict[str, Flags]:
    """What is kept by both masks of a parameter, for those that both know."""
    return {name: mask & second[name] for name, mask in first.items() if name in second}


def named(scale: NeuronRanking | BranchRanking, layer: str) -> str:
    """A name for the elements that a scale has in a layer, which is no parameter's: ``units of conv.weight``."""
    return f"units of {layer}" if isinstance(scale, NeuronRanking) else layer


def _recipes(recipe: Recipe) -> list[Recipe]:
    """The same recipe for each scale by itself; how much, it does not say."""
    kind = recipe.granularity
    assert isinstance(kind, Scales)
    return [dataclasses.replace(recipe, granularity=part, target=Sparsity(0.0)) for part in kind.parts]


def _candidates(recipe: Recipe, scale: NeuronRanking | BranchRanking) -> Candidates:
    return UnitCandidates(recipe, scale) if isinstance(scale, NeuronRanking) else BranchCandidates(recipe, scale)


def _left(statistics: Statistics, masks: Masks) -> dict[str, dict[str, Array]]:
    """Statistics of which each weight has one are zero where weights are."""
    return {
        need: {
            name: np.where(masks[name], each, each.dtype.type(0))
            if name in masks and masks[name].shape == each.shape
            else each
            for name, each in by_name.items()
        }
        for need, by_name in statistics.items()
    }
