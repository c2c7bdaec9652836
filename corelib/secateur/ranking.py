"""What competes under a recipe: the weights of the chosen layers, or the units that the structure allows to remove.

Both kinds answer the same two questions: one score an element, layer by layer, and the masks that follow from the
elements that are kept. All arrays are in canonical layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur import scores
from secateur.adapter import PRUNABLE_ROLES, Parameter
from secateur.errors import EmptyLayerError, ExampleError, MissingDataError, NoMatchError, ParametrizationError
from secateur.recipe import Neurons, Recipe
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
        """Parameter name -> mask in canonical layout, for those parameters that the elements can touch."""


def prunable(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The kernels, recurrent kernels and embeddings that hold at least one number."""
    return [parameter for parameter in parameters if parameter.role in PRUNABLE_ROLES and parameter.view.size]


def units(recipe: Recipe, parameters: Sequence[Parameter], graph: Graph) -> Coupling:
    """The model's units; those of layers that the recipe leaves out stay."""
    candidates = prunable(parameters)
    chosen = {parameter.name for parameter in recipe.select(candidates)}
    return couple(graph, exclude=[parameter.name for parameter in candidates if parameter.name not in chosen])


def ranking(recipe: Recipe, parameters: Sequence[Parameter], graph: Graph | None) -> Ranking:
    """What the recipe ranks in this model.

    Raises:
        NoMatchError: a pattern of the recipe matches nothing, or no unit can be removed.
        ParametrizationError: a chosen weight is computed from others.
    """
    chosen = recipe.select(prunable(parameters))
    if refused := [parameter for parameter in chosen if parameter.refusal]:
        others = ", ".join(parameter.name for parameter in refused[1:])
        raise ParametrizationError(refused[0].refusal + (f"; likewise {others}" if others else ""))
    if not isinstance(recipe.granularity, Neurons):
        return WeightRanking(tuple(parameter.name for parameter in chosen))
    if graph is None:
        raise ExampleError(
            "neurons can only be pruned where the structure is known: pass example=, an input of the model"
        )
    coupling = units(recipe, parameters, graph)
    if coupling.count == 0:
        reasons = (
            "; ".join(f"{frozen.source}: {frozen.reason}" for frozen in coupling.frozen) or "nothing feeds on them"
        )
        raise NoMatchError(
            f"no neuron of the chosen layers can be removed ({reasons}); choose other layers or Weights()"
        )
    return NeuronRanking(graph, coupling, recipe.granularity.norm)


@dataclass(frozen=True)
class WeightRanking:
    """Every connection of the chosen parameters by itself."""

    names: tuple[str, ...]

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """The score of each weight, in the shape of its parameter."""
        by_name = {parameter.name: parameter for parameter in parameters}
        return {name: _score(by_name[name], score, statistics) for name in self.names}

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """What is kept is the mask."""
        for name, mask in kept.items():
            if not mask.any():
                raise EmptyLayerError(
                    f"this recipe would prune all {mask.size} weights of {name}; exclude it, lower the target, or use "
                    "scope='layer'"
                )
        return dict(kept)


@dataclass(frozen=True)
class NeuronRanking:
    """The removable units that the coupled structure allows, grouped by the layer that produces them."""

    graph: Graph
    coupling: Coupling
    norm: int | str

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """Layer -> float64 score of each of its units: the norm of its incoming weights, over all its producers."""
        total = np.zeros(self.coupling.count, np.float64)
        for parameter in parameters:
            axis = _producing_axis(parameter)
            units = None if axis is None else self.coupling.units.get((parameter.name, axis))
            if axis is None or units is None or not (units >= 0).any() or not parameter.view.size:
                continue
            reduced = scores.reduce(_score(parameter, score, statistics), axis=axis, norm=self.norm)
            np.add.at(total, units[units >= 0], reduced[units >= 0])
        return {layer: total[members] for layer, members in self._layers()}

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """False on every slice of a removed unit: its own weights and bias, and what its consumers read from it."""
        removed = np.zeros(self.coupling.count, np.bool_)
        for layer, members in self._layers():
            if not kept[layer].any():
                raise EmptyLayerError(
                    f"this recipe would remove all {len(members)} neurons of {layer}; exclude it, lower the target, or "
                    "use scope='layer'"
                )
            removed[members[~kept[layer]]] = True
        plan(self.graph, self.coupling, removed)  # raises if an axis between the layers would become empty
        return unit_masks(self.graph, self.coupling, removed)

    def _layers(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        return [
            (name, np.flatnonzero(self.coupling.layers == index))
            for index, name in enumerate(self.coupling.layer_names)
        ]


def _producing_axis(parameter: Parameter) -> int | None:
    """The axis along which a parameter makes features: ``out`` of a kernel, ``features`` of an embedding."""
    if parameter.role not in PRUNABLE_ROLES:
        return None
    name = "features" if parameter.role == "embedding" else "out"
    return parameter.axes.index(name) if name in parameter.axes else None


def _score(parameter: Parameter, score: Score, statistics: Statistics) -> Array:
    own = {need: statistics[need][parameter.name] for need in score.needs if parameter.name in statistics.get(need, {})}
    if len(own) < len(score.needs):
        raise MissingDataError(
            f"{parameter.name} has no {' or '.join(score.needs)}: its layer is frozen or the loss does not depend on "
            "it; exclude it from the recipe or score it by Magnitude()"
        )
    return score(parameter.view, own, parameter.name)
