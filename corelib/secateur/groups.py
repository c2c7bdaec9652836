"""Groups of weights that compete by themselves: n of each m inputs of a kernel stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import masks
from secateur.adapter import Parameter
from secateur.errors import NoMatchError, ShapeMismatchError
from secateur.recipe import NofM, Recipe
from secateur.recipe.score import Score
from secateur.scoring import Statistics, scored

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

_WILD = frozenset("*?[")


@dataclass(frozen=True)
class GroupRanking:
    """The weights of kernels whose inputs can be cut into groups.

    Args:
        axes: kernel -> the axis along which its groups lie.
        kind: what stays of each group.
    """

    axes: Mapping[str, int]
    kind: NofM

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """The score of each weight, in the shape of its parameter."""
        by_name = {parameter.name: parameter for parameter in parameters}
        return {name: scored(by_name[name], score, statistics) for name in self.axes}

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """What is kept is the mask."""
        return dict(kept)

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """Nothing: each group keeps some."""
        return {}

    def largest(
        self, scores: Mapping[str, Array], count: int, kept: Mapping[str, BoolArray] | None
    ) -> dict[str, BoolArray]:
        """True at the ``count`` largest scores of each group; what an earlier result pruned ranks below all others."""
        return {
            name: masks.n_of_m(_below_all(score, name, kept), count, self.kind.m, self.axes[name], name)
            for name, score in scores.items()
        }


def grouped(recipe: Recipe, kind: NofM, parameters: Sequence[Parameter], chosen: Sequence[str]) -> GroupRanking:
    """The ranking of those of the chosen kernels that have groups.

    Raises:
        ShapeMismatchError: a kernel that ``include`` names has none.
        NoMatchError: none of them has.
    """
    known = {parameter.name: parameter for parameter in parameters}
    reasons = {name: _obstacle(known[name], kind.m) for name in chosen}
    named = [pattern for pattern in recipe.include if not _WILD & {*pattern}]
    for name, reason in reasons.items():
        if reason and {name, known[name].layer} & {*named}:
            raise ShapeMismatchError(f"{name} cannot be pruned to {kind.n} of {kind.m}: {reason}; do not include it")
    if all(reasons.values()):
        raise NoMatchError(
            f"no chosen kernel can be pruned to {kind.n} of {kind.m}: "
            + "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        )
    return GroupRanking({name: known[name].axes.index("in") for name in chosen if not reasons[name]}, kind)


def left_dense(recipe: Recipe, parameters: Sequence[Parameter]) -> tuple[str, ...]:
    """In one line, which of the kernels that the recipe chooses stay dense because they have no groups, and why."""
    kind = recipe.granularity
    if not isinstance(kind, NofM):
        return ()
    reasons = {each.name: _obstacle(each, kind.m) for each in recipe.select(parameters)}
    told = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    return (f"Left dense by {kind.n} of {kind.m}: {', '.join(told)}.",) if told else ()


def _obstacle(parameter: Parameter, m: int) -> str:
    """Why a kernel has no groups; empty if it has."""
    if "in" not in parameter.axes:
        return "it has no input axis"
    inputs = parameter.view.shape[parameter.axes.index("in")]
    return f"its {inputs} inputs are no multiple of {m}" if inputs % m else ""


def _below_all(score: Array, name: str, kept: Mapping[str, BoolArray] | None) -> Array:
    return score if kept is None else np.where(kept[name], score, score.dtype.type(-np.inf))
