"""What competes under a recipe: the weights of the chosen layers, or units or branches that the structure lets go.

All kinds answer the same two questions: one score an element, layer by layer, and the masks that follow from the
elements that are kept. All arrays are in canonical layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur.adapter import Parameter, prunable
from secateur.depth import BranchRanking
from secateur.errors import EmptyLayerError, ExampleError, NoMatchError, ParametrizationError
from secateur.groups import grouped
from secateur.recipe import Blocks, Heads, Layers, NofM, Recipe, Structured, Units
from secateur.recipe.allocation import best
from secateur.recipe.granularity import part
from secateur.recipe.score import Score, UnitScore
from secateur.rows import Rows
from secateur.scoring import Statistics, reducible, scored
from secateur.structure.branches import find
from secateur.structure.coupling import Coupling, couple, only
from secateur.structure.graph import Graph, producing_axes
from secateur.structure.removal import plan, producer, unit_masks
from secateur.tiles import block_means, block_shape, spread

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

Axis = str | tuple[str | int, int]
"""A layer, or an axis of a parameter or tensor."""


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
    """The units that the recipe may remove; those of layers that it leaves out stay. Raises as :func:`ranking`."""
    left_out = _left_out(recipe, parameters)
    kind = part(recipe.granularity, Units)
    if kind is None:
        return couple(graph, exclude=left_out)
    coupling = couple(graph, exclude=left_out, heads=kind.whole_heads, exact=kind.exact)
    return only(coupling, coupling.heads, "it is no head of an attention") if isinstance(kind, Heads) else coupling


def ranking(recipe: Recipe, parameters: Sequence[Parameter], graph: Graph | None) -> Ranking:
    """What the recipe ranks in this model.

    Raises:
        NoMatchError: a pattern of the recipe matches nothing, or no unit and no branch can be removed.
        ParametrizationError: a chosen weight is computed from others.
    """
    kind = recipe.granularity
    if isinstance(kind, Blocks):
        return BlockRanking(_chosen(recipe, parameters), kind, _shapes(parameters), recipe.competing)
    if isinstance(kind, NofM):
        return grouped(recipe, kind, parameters, _chosen(recipe, parameters))
    if not isinstance(kind, Structured):
        return WeightRanking(_chosen(recipe, parameters), recipe.competing)
    words = "residual branch" if isinstance(kind, Layers) else "head" if isinstance(kind, Heads) else "neuron"
    if graph is None:
        raise ExampleError(
            f"a {words} can only be pruned where the structure is known: pass example=, an input of the model"
        )
    if isinstance(kind, Layers):
        return _branches(kind, graph, _left_out(recipe, parameters))
    coupling = units(recipe, parameters, graph)
    if coupling.count == 0:
        reasons = "; ".join(f"{frozen.where}: {frozen.reason}" for frozen in coupling.frozen) or "nothing feeds on them"
        raise NoMatchError(
            f"no {words} of the chosen layers can be removed ({reasons}); choose other layers or Weights()"
        )
    return NeuronRanking(graph, coupling, kind, recipe.competing)


def _branches(kind: Layers, graph: Graph, left_out: Sequence[str]) -> BranchRanking:
    every = find(graph)
    branches = find(graph, left_out)
    if not branches:
        problem = (
            f"each of the {len(every)} residual branches has a kernel that the recipe leaves out"
            if every
            else "nowhere does the model add to a tensor what layers of its own, and nothing else, make of it, so that "
            "it would be zero with their weights"
        )
        raise NoMatchError(f"no residual branch can be removed: {problem}; choose other layers or Neurons()")
    return BranchRanking(graph, tuple(branches), kind.norm)


def remedy(scope: str) -> str:
    """What can be done where a recipe would empty a layer."""
    return (
        "exclude it, lower the target, or use scope='layer'" if scope == "model" else "exclude it or lower the target"
    )


def _left_out(recipe: Recipe, parameters: Sequence[Parameter]) -> list[str]:
    """The names of what the recipe could prune, but spares."""
    chosen = _chosen(recipe, parameters)
    return [parameter.name for parameter in prunable(parameters) if parameter.name not in chosen]


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
    layers: bool = True,
) -> tuple[dict[str, BoolArray], tuple[str, ...]]:
    """As :meth:`Recipe.allocate`, but what would be emptied keeps its best element, and others go in its place.

    Where a competition asks for so much that this is impossible, it prunes as much as it can. ``layers``: whether whole
    layers are spared too, and not only axes between them, such as a piece of a layer's output.

    Returns:
        What is kept, and the names of what was spared.
    """
    result = recipe.allocate(scores, pruned, kept)
    protected: dict[str, BoolArray] = {}
    names: list[str] = []
    while empty := {name: each for name, each in ranking.emptied(result).items() if layers or name not in scores}:
        for name, among in empty.items():
            names.append(name)
            for layer, flags in best(scores, among, kept).items():
                protected[layer] = protected[layer] | flags if layer in protected else flags
        result = recipe.allocate(scores, pruned, kept, protected)
    return result, tuple(names)


def _without_any(kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
    """Parameters of which nothing is kept, each by itself, with all of its elements."""
    return {name: {name: np.ones_like(flags)} for name, flags in kept.items() if not flags.any()}


def _require_some(kept: Mapping[str, BoolArray], what: str, scope: str) -> None:
    for name, flags in kept.items():
        if not flags.any():
            raise EmptyLayerError(f"this recipe would prune all {flags.size} {what} of {name}; {remedy(scope)}")


@dataclass(frozen=True)
class WeightRanking:
    """Every connection of the chosen parameters by itself."""

    names: tuple[str, ...]
    scope: str = "model"

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """The score of each weight, in the shape of its parameter."""
        by_name = {parameter.name: parameter for parameter in parameters}
        return {name: scored(by_name[name], score, statistics) for name in self.names}

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """What is kept is the mask."""
        _require_some(kept, "weights", self.scope)
        return dict(kept)

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """Parameters of which no weight is kept."""
        return _without_any(kept)


@dataclass(frozen=True)
class BlockRanking:
    """Blocks of the chosen parameters, each of which has its own grid of them."""

    names: tuple[str, ...]
    kind: Blocks
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]]
    scope: str = "model"

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """The mean score of each block, in the shape of its parameter's grid."""
        by_name = {parameter.name: parameter for parameter in parameters}
        return {
            name: block_means(scored(by_name[name], score, statistics), self._block(name), name) for name in self.names
        }

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """Each block's flag on all of its weights."""
        _require_some(kept, "blocks", self.scope)
        extents = {name: self.shapes[name][0] for name in kept}
        return {
            name: np.array(spread(flags, extents[name], self._block(name)), order="C").reshape(extents[name])
            for name, flags in kept.items()
        }

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """Parameters of which no block is kept."""
        return _without_any(kept)

    def _block(self, name: str) -> tuple[int, ...]:
        extents, axes = self.shapes[name]
        return block_shape(self.kind.within(axes, extents), extents, name)


def _shapes(parameters: Sequence[Parameter]) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Name -> shape and axes."""
    return {parameter.name: (tuple(parameter.view.shape), parameter.axes) for parameter in parameters}


@dataclass(frozen=True)
class NeuronRanking:
    """The removable units that the coupled structure allows, grouped by the layer that produces them."""

    graph: Graph
    coupling: Coupling
    kind: Units
    scope: str = "model"

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """Layer -> float64 score of each of its units: the norm of its slices, over all parameters that have some."""
        if isinstance(score, UnitScore):
            total = self._whole(parameters, score, statistics)
        else:
            total = self._norms(parameters, score, statistics)
        found = {layer: total[members] for layer, members in self.layers()}
        return {layer: _relative(each) for layer, each in found.items()} if self.kind.relative else found

    def _norms(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> Array:
        """One number a unit, from the scores of its weights."""
        makers = [(each, *part) for each in parameters for part in self._slices(each, self.kind.slices)]
        rows = Rows([units for _, _, units in makers], self.coupling.count, self.kind.norm, score.signed)
        for parameter, axis, units in makers:
            rows.add(np.moveaxis(reducible(parameter, score, statistics), axis, 0), units)
        return rows.reduced()

    def _whole(self, parameters: Sequence[Parameter], score: UnitScore, statistics: Statistics) -> Array:
        """One number a unit, from the score's numbers for its slices. Raises NoMatchError where it has none."""
        found = [(each, *part) for each in parameters for part in self._slices(each, (score.reads,))]
        rows = Rows([units for _, _, units in found], self.coupling.count, 1 if score.summed else "mean", signed=True)
        if bare := [name for name, members in self.layers() if rows.lack(members)]:
            words = {"out": "weights that make them", "in": "kernels that read them", "scale": "normalisation scales"}
            raise NoMatchError(
                f"{type(score).__name__} reads {words[score.reads]} of units, but some of {', '.join(bare)} have none: "
                "exclude these layers, or use another score"
            )
        for parameter, axis, units in found:
            rows.add(scored(parameter, score, statistics, axis)[:, None], units)
        return np.abs(rows.reduced()) if score.summed else rows.reduced()

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """False on every slice of a removed unit: its own weights and bias, and what its consumers read from it."""
        for layer, members in self.layers():
            if not kept[layer].any():
                raise EmptyLayerError(
                    f"this recipe would remove all {len(members)} units of {layer}; {remedy(self.scope)}"
                )
        removed = self._removed(kept)
        plan(self.graph, self.coupling, removed)  # raises if an axis between the layers would become empty
        return unit_masks(self.graph, self.coupling, removed)

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """Layers, and axes of parameters and tensors between them, of which no unit is kept."""
        removed, told = self._removed(kept), np.zeros(self.coupling.count, np.bool_)
        found: dict[str, dict[str, BoolArray]] = {}
        for axis, units in self._axes():
            if removed[units].all() and (units >= 0).all() and not told[units].any():
                own = np.isin(np.arange(self.coupling.count), units)
                told |= own
                found[self._named(axis)] = {layer: own[each] for layer, each in self.layers() if own[each].any()}
        return found

    def _slices(self, parameter: Parameter, parts: Sequence[str]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Axes of a parameter along which it has slices of these parts of units, and the unit of each of their indices.

        Parts are those of :data:`secateur.recipe.granularity.SLICES`, or ``"scale"``, a part of ``"norm"``.
        """
        for axis in range(parameter.view.ndim) if parameter.view.size else ():
            units = self.coupling.units.get((parameter.name, axis))
            if units is not None and (units >= 0).any() and {self._part(parameter, axis), parameter.role} & {*parts}:
                yield axis, units

    def _part(self, parameter: Parameter, axis: int) -> str:
        """What a slice along this axis is to its unit, in the words of :data:`secateur.recipe.granularity.SLICES`."""
        if axis in producing_axes(parameter.role, parameter.axes):
            return "out"
        if (parameter.name, axis) in self.coupling.readers:
            return "in"
        return {"bias": "bias", "scale": "norm", "shift": "norm"}.get(parameter.role, "")

    def _removed(self, kept: Mapping[str, BoolArray]) -> BoolArray:
        """One flag a unit."""
        removed = np.zeros(self.coupling.count, np.bool_)
        for layer, members in self.layers():
            removed[members[~kept[layer]]] = True
        return removed

    def _axes(self) -> Collection[tuple[Axis, npt.NDArray[np.int64]]]:
        """Whatever must not be emptied, with its units; of axes that share an array, the first."""
        found: dict[int, tuple[Axis, npt.NDArray[np.int64]]] = {}
        for axes in (self.layers(), self.coupling.units.items(), self.coupling.tensors.items()):
            for axis, units in axes:
                found.setdefault(id(units), (axis, units))
        return found.values()

    def _named(self, axis: Axis) -> str:
        """In words."""
        if isinstance(axis, str):
            return axis
        owner, index = axis
        if isinstance(owner, str):
            return f"axis {self.graph.parameters[owner].axes[index]!r} of {owner}"
        return f"axis {index} of the result of {producer(self.graph, owner)}"

    def layers(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Each layer that produces units, in the model's order, with the numbers of its units."""
        return self._layers

    @cached_property
    def _layers(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        return [
            (name, np.flatnonzero(self.coupling.layers == index))
            for index, name in enumerate(self.coupling.layer_names)
        ]


def _relative(scores: Array) -> Array:
    """Divided by their mean; zeros alone stay zeros."""
    mean = scores.mean()
    return scores / mean if mean > 0 else scores
