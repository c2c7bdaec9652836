"""The score of one parameter, from its numbers and its statistics; shared by all that ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from secateur.adapter import Parameter
from secateur.errors import MissingDataError
from secateur.recipe.score import Magnitude, Score

Array = npt.NDArray[Any]
Statistics = Mapping[str, Mapping[str, Array]]


def reducible(parameter: Parameter, score: Score, statistics: Statistics) -> Array:
    """As :func:`scored`, for reductions, which take magnitudes: of a magnitude, they can read the weight itself."""
    return parameter.view if isinstance(score, Magnitude) else scored(parameter, score, statistics)


def scored(parameter: Parameter, score: Score, statistics: Statistics) -> Array:
    """One score an element, in canonical layout. Raises MissingDataError if statistics that it needs are missing."""
    own = {need: statistics[need][parameter.name] for need in score.needs if parameter.name in statistics.get(need, {})}
    if len(own) < len(score.needs):
        raise MissingDataError(
            f"{parameter.name} has no {' or '.join(score.needs)}: its layer is frozen, the loss does not depend on "
            "it, or the statistics that were given lack it; exclude it from the recipe or score it by Magnitude()"
        )
    return score(parameter.view, own, parameter.name)
