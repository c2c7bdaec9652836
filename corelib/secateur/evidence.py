"""What a pruner's scores are computed from: statistics that are given, gathered from data, or recorded in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Adapter, Array, Parameter
from secateur.batches import is_repeatable
from secateur.history import History
from secateur.recipe import Recipe
from secateur.scoring import Statistics
from secateur.statistics import gatherable, takes_loss

BoolArray = npt.NDArray[np.bool_]


class Evidence:
    """The statistics of one model, in the course of one training.

    Attributes:
        given: what the user gave, which is neither gathered nor recorded.
        follows_steps: whether gradients of the training's own steps are recorded: movement, where there is no data.

    Args:
        adapter: the framework's adapter.
        model: the model that is pruned.
        recipe: what asks for statistics.
        parameters: the model's, when the pruner is made.
        data: as :class:`secateur.pruner.Pruner` takes it; None if there is none.
        loss: for the same.
        example: an input, for statistics that need no data.
        given: what the user gave.
    """

    def __init__(
        self,
        adapter: Adapter,
        model: Any,
        recipe: Recipe,
        parameters: Sequence[Parameter],
        data: Any | None,
        loss: Any | None,
        example: Any | None,
        given: Statistics,
    ) -> None:
        self.given = given
        self._adapter, self._model, self._recipe = adapter, model, recipe
        self._data, self._loss, self._example = data, loss, example
        self._history = History(recipe.score, parameters, given)
        self.follows_steps = self._history.adds_up and data is None and "mean_gradient" not in given

    def of_now(self, parameters: Sequence[Parameter]) -> Statistics:
        """All that the recipe needs, of the model as it is."""
        found = self._gathered([need for need in self._recipe.needs if need != "movement" or not self.follows_steps])
        if not self.follows_steps:
            self._history.add(parameters, found.get("mean_gradient", {}))
        return self._history.with_records(found)

    def under(self, masks: Mapping[str, BoolArray]) -> Statistics:
        """What the score needs, under masks that the model does not have yet."""
        return self._history.with_records(self._gathered(self._recipe.score.needs, masks))

    def before_step(self, parameters: Sequence[Parameter]) -> None:
        """A training step is about to be made: add up what it moves, if its own gradients are recorded."""
        if self.follows_steps:
            self._history.add(parameters, self._adapter.step_gradients(self._model))

    def records(self) -> dict[str, dict[str, Array]]:
        """What a training that goes on elsewhere must know: see :meth:`secateur.history.History.saved`."""
        return self._history.saved()

    def restore(self, records: Mapping[str, Mapping[str, Array]]) -> None:
        """Take over what :meth:`records` told. Raises FileFormatError if something is missing."""
        self._history.restore(records)

    def gradients(self, needs: Sequence[str], known: Statistics) -> Statistics:
        """These statistics: known ones, those of the data, or else of the last training step."""
        if all(need in known for need in needs):
            return known
        if self._data is None:
            return {need: self._adapter.step_gradients(self._model) for need in needs}
        return self._gathered(needs)

    def for_report(self) -> Statistics:
        """Gradients of now, if the score is computed from gradients and data can be read again."""
        needs = gatherable(self._recipe.score.needs, self.given)
        if not needs or not takes_loss(needs) or not is_repeatable(self._data):
            return {}
        return self._gathered(needs)

    def _gathered(self, needs: Sequence[str], masks: Mapping[str, BoolArray] | None = None) -> Statistics:
        missing = gatherable(needs, self.given)
        if not missing:
            return self.given
        found = self._adapter.statistics(self._model, self._data, self._loss, missing, self._example, masks)
        return {**self.given, **found}
