"""What is said of a target that cannot be met: what is the least, and which layers hold it there."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from secateur.ranking import NeuronRanking
from secateur.recipe import Recipe, Units
from secateur.recipe.costs import CostTarget, ModelTarget
from secateur.structure.cost import layer_costs, other_costs
from secateur.structure.graph import ParameterShape, producing_axis
from secateur.structure.removal import Plan, plan
from secateur.structure.rules import RULES, UNKNOWN

Flags = npt.NDArray[np.bool_]

SHOWN = 6


def shortfall(recipe: Recipe, ranking: NeuronRanking, gone: Flags, dense: float, least: float, limit: float) -> str:
    """The message of an error.

    Args:
        recipe: what was asked for.
        ranking: what competes.
        gone: bool[count], all units that can go.
        dense: what is to be brought down, of the dense model.
        least: the same without these units.
        limit: what it may be.
    """
    held = held_back(recipe, ranking, gone)
    more = f"; and {len(held) - SHOWN} more layers" if len(held) > SHOWN else ""
    return (
        f"{needed(recipe, dense, least, limit)} What stays, largest first: "
        f"{'; '.join(held[:SHOWN])}{more}. Lower the target, or let go of what holds these layers"
    )


def needed(recipe: Recipe, dense: float, least: float, limit: float) -> str:
    """What was asked for, and what there is: all of it, and what is left when everything has gone that can."""
    noun = recipe.target.noun if isinstance(recipe.target, ModelTarget) else "units"
    return (
        f"{recipe.target} allows at most {limit:,.0f} of the {dense:,.0f} {noun}, but {least:,.0f} are left when "
        f"everything has gone that can; at most {reachable(dense, least):.4f} of them can be removed."
    )


def reachable(dense: float, least: float) -> float:
    """The largest fraction of four digits that a cost target can ask for."""
    fraction = math.floor((1.0 - least / dense) * 10_000) / 10_000 if dense else 0.0
    return fraction if least <= (1.0 - fraction) * dense else max(0.0, fraction - 1e-4)


def held_back(recipe: Recipe, ranking: NeuronRanking, gone: Flags) -> list[str]:
    """One phrase a layer, with what is left of it and why it stays: the largest first, then in execution order."""
    removal = plan(ranking.graph, ranking.coupling, gone)
    costs = layer_costs(ranking.graph, removal)
    noun, left = "units", {name: _width(ranking, removal, name)[0] for name in costs}
    if isinstance(recipe.target, CostTarget):
        costs |= other_costs(ranking.graph, removal)
        noun, left = recipe.target.noun, {name: recipe.target.of(cost) for name, cost in costs.items()}
    order = sorted((name for name in left if left[name]), key=lambda name: -left[name])
    return [f"{name} ({left[name]:,} {noun}: {_why(recipe, ranking, removal, name)})" for name in order]


def _why(recipe: Recipe, ranking: NeuronRanking, removal: Plan, name: str) -> str:
    """How much of a layer's width stays, and the first reason that is known."""
    stays, width = _width(ranking, removal, name)
    reasons = [f"{cause.where}: {cause.reason}" for cause in ranking.coupling.frozen if name in cause.parameters]
    reasons += _unknown(ranking, name)
    units = recipe.granularity
    if isinstance(units, Units) and units.is_limited:
        reasons.append(f"minimum={units.minimum}, multiple={units.multiple}")
    return f"{stays} of {width} stay, {(*reasons, 'no axis may become empty')[0]}"


def _unknown(ranking: NeuronRanking, name: str) -> list[str]:
    """What Secateur does not know, of what uses a weight that makes no features by itself."""
    return [
        f"{f'{operation.source} {operation.label}'.strip()}: {operation.settings.get('reason', UNKNOWN)}"
        for operation in ranking.graph.operations
        if operation.kind not in RULES or operation.kind == "unknown"
        if name in operation.parameters.values()
    ]


def _width(ranking: NeuronRanking, removal: Plan, name: str) -> tuple[int, int]:
    """How many features of a layer stay, and how many there are."""
    shape: ParameterShape = ranking.graph.parameters[name]
    axis = producing_axis(shape.role, shape.axes) or 0
    kept = removal.keep.get((name, axis))
    return shape.shape[axis] if kept is None else int(kept.sum()), shape.shape[axis]
