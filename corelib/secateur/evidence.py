"""What a pruner's scores are computed from: statistics that are given, gathered from data, or recorded in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Adapter, Array, Parameter
from secateur.batches import is_repeatable
from secateur.history import History
from secateur.recipe import MultiTask, Recipe
from secateur.scoring import Statistics
from secateur.statistics import gatherable, takes_loss
from secateur.tasks import Task, Tasks, named

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
        tasks: where the score is one of several tasks, their data.
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
        tasks: Tasks,
    ) -> None:
        self.given = given
        self._adapter, self._model, self._recipe = adapter, model, recipe
        self._all, self._example = Task(data, loss, statistics=given), example
        self._tasks = tasks if isinstance(recipe.score, MultiTask) else {}
        self._history = History(recipe.score, parameters, given)
        self.follows_steps = self._history.adds_up and data is None and "mean_gradient" not in given

    def of_now(self, parameters: Sequence[Parameter]) -> Statistics:
        """All that the recipe needs, of the model as it is."""
        own = self._recipe.score.needs if self._tasks or self.follows_steps else ()
        found = self._gathered([need for need in self._recipe.needs if need not in own])
        found = {**found, **self._of_tasks()}
        if not self.follows_steps:
            self._history.add(parameters, found.get("mean_gradient", {}))
        return self._history.with_records(found)

    def under(self, masks: Mapping[str, BoolArray]) -> Statistics:
        """What the score needs, under masks that the model does not have yet."""
        needs = () if self._tasks else self._recipe.score.needs
        return self._history.with_records({**self._gathered(needs, masks), **self._of_tasks(masks)})

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
        if self._all.data is None:
            return {need: self._adapter.step_gradients(self._model) for need in needs}
        return self._gathered(needs)

    def for_report(self) -> Statistics:
        """Gradients of now, if the score is computed from gradients and data can be read again."""
        needs = gatherable(self._recipe.score.needs, self.given)
        if self._tasks or not needs or not takes_loss(needs) or not is_repeatable(self._all.data):
            return {}
        return self._gathered(needs)

    def _of_tasks(self, masks: Mapping[str, BoolArray] | None = None) -> Statistics:
        """What the score needs of each task, by the names of :func:`secateur.tasks.named`."""
        needs = self._recipe.score.needs
        found = {name: self._gathered(needs, masks, task) for name, task in self._tasks.items()}
        return {named(need, name): own[need] for name, own in found.items() for need in needs}

    def _gathered(
        self, needs: Sequence[str], masks: Mapping[str, BoolArray] | None = None, task: Task | None = None
    ) -> Statistics:
        source = self._all if task is None else task
        known: Statistics = source.statistics or {}
        missing = gatherable(needs, known)
        if not missing:
            return known
        found = self._adapter.statistics(self._model, source.data, source.loss, missing, self._example, masks)
        return {**known, **found}
