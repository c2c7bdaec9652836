"""What a pruner remembers of a training for the scores that look back, and knows of the model's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import scores
from secateur.adapter import Parameter
from secateur.recipe import Score
from secateur.scoring import Statistics

Array = npt.NDArray[Any]


class History:
    """The statistics of origin ``"record"`` in :data:`secateur.statistics.STATISTICS`, as far as a score needs them.

    Args:
        score: the recipe's.
        parameters: as they are when the pruner is made.
        given: what a user gave, which is not recorded.
    """

    def __init__(self, score: Score, parameters: Sequence[Parameter], given: Statistics) -> None:
        needs = [need for need in score.needs if need not in given]
        self._records: dict[str, dict[str, Array]] = {}
        if "initial_weight" in needs:
            self._records["initial_weight"] = {each.name: np.array(each.view) for each in parameters}
        if "order" in needs:
            self._records["order"] = {each.name: np.array(place) for place, each in enumerate(parameters)}
        if "movement" in needs:
            self._records["movement"] = {}

    def with_records(self, parameters: Sequence[Parameter], statistics: Statistics) -> Statistics:
        """These statistics and the records; what has moved is added up by one step."""
        sums = self._records.get("movement", {})
        for each in parameters if "movement" in self._records else ():
            gradient = statistics["mean_gradient"].get(each.name)
            if gradient is not None:
                step = scores.movement(each.view, gradient, each.name)
                sums[each.name] = sums[each.name] + step if each.name in sums else step
        return {**statistics, **self._records}
