"""What a pruner remembers of a training for the scores that look back, and knows of the model's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels, scores
from secateur.adapter import Parameter
from secateur.arrays import Named
from secateur.errors import FileFormatError
from secateur.recipe import Score
from secateur.scoring import Statistics

Array = npt.NDArray[Any]
Records = dict[str, dict[str, Array]]

SAVED = ("initial_weight", "movement")
"""Records that nothing but the training that went before can tell."""


class History:
    """The statistics of origin ``"record"`` in :data:`secateur.statistics.STATISTICS`, as far as a score needs them.

    Args:
        score: the recipe's.
        parameters: as they are when the pruner is made.
        given: what a user gave, which is not recorded.

    Attributes:
        adds_up: whether movement is recorded.
    """

    def __init__(self, score: Score, parameters: Sequence[Parameter], given: Statistics) -> None:
        needs = [need for need in score.needs if need not in given]
        self._records: Records = {}
        if "initial_weight" in needs:
            self._records["initial_weight"] = {each.name: np.array(each.view) for each in parameters}
        if "order" in needs:
            self._records["order"] = {each.name: np.array(place) for place, each in enumerate(parameters)}
        self.adds_up = "movement" in needs
        self._products: dict[str, Array] = {}

    def add(self, parameters: Sequence[Parameter], gradients: Mapping[str, Array]) -> None:
        """Add up what one step against these gradients moves; nothing if movement is not recorded.

        Raises InvalidTensorError where a gradient is NaN.
        """
        for each in parameters if self.adds_up else ():
            gradient = gradients.get(each.name)
            if gradient is not None:
                kernels.refuse_nan([Named(f"the gradient of {each.name}", gradient)])
                total = self._products.setdefault(each.name, np.zeros(each.view.shape))
                scores.accumulate(total, gradient, "product", each.view)

    def with_records(self, statistics: Statistics) -> Statistics:
        """These statistics and the records."""
        return {**statistics, **self._records, **self._moved()}

    def saved(self) -> Records:
        """Those of :data:`SAVED` that there are."""
        return {name: each for name, each in {**self._records, **self._moved()}.items() if name in SAVED}

    def _moved(self) -> Records:
        return {"movement": _turned(self._products)} if self.adds_up else {}

    def restore(self, saved: Mapping[str, Mapping[str, Array]]) -> None:
        """Take over what :meth:`saved` told of the training that goes on.

        Raises FileFormatError if the weights of the beginning are needed, and are not among it.
        """
        if "initial_weight" in self._records and not saved.get("initial_weight"):
            raise FileFormatError(
                "the saved training lacks the weights of its beginning, which the score compares with: it was saved by "
                "an older version; give statistics={'initial_weight': ...}"
            )
        self._records |= {name: dict(saved.get(name, {})) for name in SAVED if name in self._records}
        self._products = _turned(saved.get("movement", {})) if self.adds_up else {}


def _turned(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """With the other sign; zeros are positive."""
    return {name: 0.0 - array for name, array in arrays.items()}
