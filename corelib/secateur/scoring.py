"""The score of one parameter, from its numbers and its statistics; shared by all that ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Parameter
from secateur.errors import MissingDataError, ShapeMismatchError
from secateur.recipe.score import Score, UnitScore
from secateur.recipe.weight_scores import Magnitude

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Statistics = Mapping[str, Mapping[str, Array]]


def reducible(parameter: Parameter, score: Score, statistics: Statistics) -> Array:
    """As :func:`scored`, for reductions, which take magnitudes: of a magnitude, they can read the weight itself."""
    return parameter.view if score == Magnitude() else scored(parameter, score, statistics)


def scored(parameter: Parameter, score: Score, statistics: Statistics, axis: int = 0) -> Array:
    """One score an element, in canonical layout; of a score of units one an index of ``axis``, which it sees first.

    Raises MissingDataError if statistics that it needs are missing.
    """
    own = of_parameter(parameter, score, statistics)
    if len(own) < len(score.needs):
        raise MissingDataError(
            f"{parameter.name} has no {' or '.join(score.needs)}: its layer is frozen, the loss does not depend on it, "
            "no pass shows what it reads, or the statistics that were given lack it; exclude it from the recipe or "
            "score it by Magnitude()"
        )
    dimensions = parameter.view.ndim
    turned = {need: np.moveaxis(each, axis, 0) if each.ndim == dimensions else each for need, each in own.items()}
    found = score(np.moveaxis(parameter.view, axis, 0), turned, parameter.name)
    expected = parameter.view.shape[axis : axis + 1] if isinstance(score, UnitScore) else parameter.view.shape
    if np.shape(found) != expected:
        raise ShapeMismatchError(
            f"{type(score).__name__} gave {parameter.name} scores of shape {np.shape(found)}, expected {expected}"
        )
    return found


def chosen(
    parameters: Sequence[Parameter],
    score: Score,
    statistics: Statistics,
    kept: Mapping[str, BoolArray],
    before: Mapping[str, BoolArray] | None,
    by_row: bool,
) -> dict[str, BoolArray]:
    """Which single weights stay, where a score chooses among them while it adjusts them: as many as in ``kept``."""
    views = {each.name: each for each in parameters if each.name in kept and not kept[each.name].all()}
    found = {
        name: score.chosen(
            each.view,
            kept[name],
            None if before is None else before[name],
            of_parameter(each, score, statistics),
            name,
            by_row,
        )
        for name, each in views.items()
    }
    return {name: found.get(name, flags) for name, flags in kept.items()}


def of_parameter(parameter: Parameter, score: Score, statistics: Statistics) -> dict[str, Array]:
    """The statistics of one parameter that a score needs, as far as there are any."""
    return {
        need: statistics[need][parameter.name] for need in score.needs if parameter.name in statistics.get(need, {})
    }
