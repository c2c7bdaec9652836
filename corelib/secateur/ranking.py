"""What competes under a recipe: the weights of the chosen layers, or the units that the structure allows to remove.

Both kinds answer the same two questions: one score an element, layer by layer, and the masks that follow from the
elements that are kept. All arrays are in canonical layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur import scores
from secateur.adapter import Parameter, prunable
from secateur.errors import EmptyLayerError, ExampleError, MissingDataError, NoMatchError, ParametrizationError
from secateur.recipe import Neurons, Recipe
from secateur.recipe.allocation import best
from secateur.recipe.score import Score
from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan, unit_masks

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Statistics = Mapping[str, Mapping[str, Array]]


class Ranking(Protocol):
    """Scores of what competes, and the masks that follow from what is kept."""

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """Layer -> one score an element, in the model's order."""

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """Parameter name -> mask in canonical layout, for those parameters that the elements can touch.

        Raises EmptyLayerError where :meth:`emptied` is not empty.
        """

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """What would be left without a single element: its name -> all its elements, layer by layer.

        Of what overlaps, the first is told.
        """


def units(recipe: Recipe, parameters: Sequence[Parameter], graph: Graph) -> Coupling:
    """The model's units; those of layers that the recipe leaves out stay. Raises as :func:`ranking`."""
    chosen = _chosen(recipe, parameters)
    return couple(graph, exclude=[parameter.name for parameter in prunable(parameters) if parameter.name not in chosen])


def ranking(recipe: Recipe, parameters: Sequence[Parameter], graph: Graph | None) -> Ranking:
    """What the recipe ranks in this model.

    Raises:
        NoMatchError: a pattern of the recipe matches nothing, or no unit can be removed.
        ParametrizationError: a chosen weight is computed from others.
    """
    if not isinstance(recipe.granularity, Neurons):
        return WeightRanking(_chosen(recipe, parameters), recipe.scope)
    if graph is None:
        raise ExampleError(
            "neurons can only be pruned where the structure is known: pass example=, an input of the model"
        )
    coupling = units(recipe, parameters, graph)
    if coupling.count == 0:
        reasons = "; ".join(f"{frozen.where}: {frozen.reason}" for frozen in coupling.frozen) or "nothing feeds on them"
        raise NoMatchError(
            f"no neuron of the chosen layers can be removed ({reasons}); choose other layers or Weights()"
        )
    return NeuronRanking(graph, coupling, recipe.granularity.norm, recipe.scope)


def remedy(scope: str) -> str:
    """What can be done where a recipe would empty a layer."""
    return (
        "exclude it, lower the target, or use scope='layer'" if scope == "model" else "exclude it or lower the target"
    )


def _chosen(recipe: Recipe, parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """The names of what the recipe prunes."""
    chosen = recipe.select(prunable(parameters))
    if refused := [parameter for parameter in chosen if parameter.refusal]:
        others = ", ".join(parameter.name for parameter in refused[1:])
        raise ParametrizationError(refused[0].refusal + (f"; likewise {others}" if others else ""))
    return tuple(parameter.name for parameter in chosen)


def sparing(
    recipe: Recipe,
    ranking: Ranking,
    scores: Mapping[str, Array],
    pruned: Sequence[int],
    kept: Mapping[str, BoolArray] | None,
) -> tuple[dict[str, BoolArray], tuple[str, ...]]:
    """As :meth:`Recipe.allocate`, but what would be emptied keeps its best element, and others go in its place.

    Where a competition asks for so much that this is impossible, it prunes as much as it can.

    Returns:
        What is kept, and the names of what was spared.
    """
    result = recipe.allocate(scores, pruned, kept)
    protected: dict[str, BoolArray] = {}
    names: list[str] = []
    while empty := ranking.emptied(result):
        for name, among in empty.items():
            names.append(name)
            for layer, flags in best(scores, among, kept).items():
                protected[layer] = protected[layer] | flags if layer in protected else flags
        result = recipe.allocate(scores, pruned, kept, protected)
    return result, tuple(names)


@dataclass(frozen=True)
class WeightRanking:
    """Every connection of the chosen parameters by itself."""

    names: tuple[str, ...]
    scope: str = "model"

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """The score of each weight, in the shape of its parameter."""
        by_name = {parameter.name: parameter for parameter in parameters}
        return {name: _score(by_name[name], score, statistics) for name in self.names}

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """What is kept is the mask."""
        for name, mask in kept.items():
            if not mask.any():
                raise EmptyLayerError(
                    f"this recipe would prune all {mask.size} weights of {name}; {remedy(self.scope)}"
                )
        return dict(kept)

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """Parameters of which no weight is kept."""
        return {name: {name: np.ones_like(mask)} for name, mask in kept.items() if not mask.any()}


@dataclass(frozen=True)
class NeuronRanking:
    """The removable units that the coupled structure allows, grouped by the layer that produces them."""

    graph: Graph
    coupling: Coupling
    norm: int | str
    scope: str = "model"

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """Layer -> float64 score of each of its units: the norm of its incoming weights, over all its producers."""
        makers = [(parameter, *made) for parameter in parameters if (made := self._made_by(parameter)) is not None]
        rows = _Rows([units for _, _, units in makers], self.coupling.count, self.norm)
        for parameter, axis, units in makers:
            rows.add(np.moveaxis(_score(parameter, score, statistics), axis, 0), units)
        total = rows.reduced()
        return {layer: total[members] for layer, members in self.layers()}

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """False on every slice of a removed unit: its own weights and bias, and what its consumers read from it."""
        for layer, members in self.layers():
            if not kept[layer].any():
                raise EmptyLayerError(
                    f"this recipe would remove all {len(members)} neurons of {layer}; {remedy(self.scope)}"
                )
        removed = self._removed(kept)
        plan(self.graph, self.coupling, removed)  # raises if an axis between the layers would become empty
        return unit_masks(self.graph, self.coupling, removed)

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """Layers, and axes of parameters and tensors between them, of which no unit is kept."""
        removed, told = self._removed(kept), np.zeros(self.coupling.count, np.bool_)
        found: dict[str, dict[str, BoolArray]] = {}
        for name, units in self._axes():
            if (units >= 0).all() and removed[units].all() and not told[units].any():
                own = np.isin(np.arange(self.coupling.count), units)
                told |= own
                found[name] = {layer: own[members] for layer, members in self.layers() if own[members].any()}
        return found

    def _made_by(self, parameter: Parameter) -> tuple[int, npt.NDArray[np.int64]] | None:
        """The axis along which a parameter makes units, and the unit of each of its indices."""
        axis = parameter.producing_axis
        units = None if axis is None else self.coupling.units.get((parameter.name, axis))
        if axis is None or units is None or not (units >= 0).any() or not parameter.view.size:
            return None
        return axis, units

    def _removed(self, kept: Mapping[str, BoolArray]) -> BoolArray:
        """One flag a unit."""
        removed = np.zeros(self.coupling.count, np.bool_)
        for layer, members in self.layers():
            removed[members[~kept[layer]]] = True
        return removed

    def _axes(self) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """Whatever must not be emptied, with its units."""
        yield from self.layers()
        for (name, axis), units in self.coupling.units.items():
            yield f"axis {self.graph.parameters[name].axes[axis]!r} of {name}", units
        for (tensor, axis), units in self.coupling.tensors.items():
            yield f"axis {axis} of tensor {tensor}", units

    def layers(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Each layer that produces units, in the model's order, with the numbers of its units."""
        return [
            (name, np.flatnonzero(self.coupling.layers == index))
            for index, name in enumerate(self.coupling.layer_names)
        ]


class _Rows:
    """Rows of scores and the units that they make; a unit that several rows make has one norm over all of them.

    Args:
        makers: for each kernel the unit of each row, -1 where it makes none.
        count: number of units.
        norm: as in :class:`secateur.recipe.Neurons`.
    """

    def __init__(self, makers: Sequence[npt.NDArray[np.int64]], count: int, norm: int | str) -> None:
        self._norm = norm
        self._counts = np.zeros((len(makers), count), np.int64)
        for row, units in zip(self._counts, makers, strict=True):
            row += np.bincount(units[units >= 0], minlength=count)
        self._times = self._counts.sum(axis=0)
        self._total = np.zeros(count)
        self._shared: list[tuple[Array, npt.NDArray[np.int64]]] = []

    def add(self, rows: Array, units: npt.NDArray[np.int64]) -> None:
        """Take the next kernel's scores; only rows of units that other rows make too are kept."""
        single, several = (units >= 0) & (self._times[units] == 1), (units >= 0) & (self._times[units] > 1)
        if single.any():
            self._total[units[single]] = scores.reduce(rows, axis=0, norm=self._norm)[single]
        self._shared.append((rows[several], units[several]))

    def reduced(self) -> npt.NDArray[np.float64]:
        """float64[count]: exact, and rounded once, however the rows are spread."""
        for pattern in np.unique(self._counts[:, self._times > 1], axis=1).T:
            members = np.flatnonzero((self._counts == pattern[:, None]).all(axis=0))
            self._total[members] = scores.reduce(self._joined(pattern, members), axis=0, norm=self._norm)
        return self._total

    def _joined(self, pattern: npt.NDArray[np.int64], members: npt.NDArray[np.int64]) -> Array:
        """One row for each of the units ``members``, of which kernel i makes ``pattern[i]`` rows."""
        parts = []
        for (rows, units), times in zip(self._shared, pattern, strict=True):
            if times:
                order = np.argsort(units, kind="stable")
                own = order[np.isin(units[order], members)]
                parts.append(rows[own].reshape(len(members), -1))
        return np.concatenate(parts, axis=1)


def _score(parameter: Parameter, score: Score, statistics: Statistics) -> Array:
    own = {need: statistics[need][parameter.name] for need in score.needs if parameter.name in statistics.get(need, {})}
    if len(own) < len(score.needs):
        raise MissingDataError(
            f"{parameter.name} has no {' or '.join(score.needs)}: its layer is frozen, the loss does not depend on "
            "it, or the statistics that were given lack it; exclude it from the recipe or score it by Magnitude()"
        )
    return score(parameter.view, own, parameter.name)
