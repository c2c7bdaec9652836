"""The loop that every adapter runs: statistics -> scores -> allocation -> masks -> hold.

:func:`prune` does it once; a :class:`Pruner` does it again at each due step of the recipe's schedule. Nothing is
written to the model before every check has passed and every mask is known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import storage
from secateur.adapter import Adapter, Parameter
from secateur.batches import first_inputs, is_repeatable
from secateur.errors import ExampleError, FileFormatError, MissingDataError, RecipeError, TraceError
from secateur.pruned import Pruned, count_nonzero
from secateur.ranking import NeuronRanking, Statistics, ranking
from secateur.recipe import Neurons, Recipe
from secateur.report.collect import Outcome
from secateur.schedules import OneShot
from secateur.structure.graph import Graph

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


class Pruner(Pruned):
    """Prunes step by step while training goes on; the adapter's own loop calls :meth:`advance` after each step.

    Attributes:
        step: optimizer steps seen since the pruner was made.

    Args:
        adapter: the framework's adapter.
        model: the model that trains.
        recipe: what to prune, and when.
        optimizer: the optimizer whose steps must not revive a weight; None for whichever trains the model.
        data: labelled data for scores that need gradients: arrays ``(x, y)`` or an iterable of batches.
        loss: the loss for them, as the framework takes it.
        example: an input for tracing and verification; the first batch of ``data`` if None.
        statistics: statistics that are known already, instead of ``data``.
    """

    def __init__(
        self,
        adapter: Adapter,
        model: Any,
        recipe: Recipe,
        *,
        optimizer: Any | None = None,
        data: Any | None = None,
        loss: Any | None = None,
        example: Any | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        adapter.parameters(model)  # refuses a model without weights; only the trace knows all of their roles
        _check_data(recipe, data, statistics)
        if example is None and data is not None:
            example = first_inputs(data)
        super().__init__(adapter, model, recipe, example, _trace(adapter, model, recipe, example))
        self._dense_nonzero = count_nonzero(self.parameters())
        self.step = 0
        self.statistics = statistics or {}
        self._data, self._loss, self._given = data, loss, statistics is not None
        self._ranking = ranking(recipe, self.parameters(), self._graph)
        self._scores: Mapping[str, Array] = {}
        self._kept: dict[str, BoolArray] | None = None
        self._budgets: Sequence[int] | None = None
        self._begin(optimizer)

    @property
    def finished(self) -> bool:
        """Whether the schedule has reached its final sparsity."""
        return self._budgets is not None and self.recipe.schedule.fraction(self.step) == 1.0

    def advance(self, steps: int = 1) -> None:
        """Count optimizer steps, and prune further at each that the schedule has due."""
        for _ in range(steps):
            self.step += 1
            if self.recipe.schedule.due(self.step):
                self._update()

    def _begin(self, optimizer: Any | None) -> None:
        """Prune at step 0 if that is due; else rehearse, so that a recipe that cannot work fails before training."""
        if self.recipe.schedule.due(0):
            self._update(optimizer)
            return
        scores = self._rank()
        masks = self._ranking.masks(self.recipe.allocate(scores, self.recipe.budgets(scores)))
        self._hold_masks({name: np.ones_like(mask) for name, mask in masks.items()}, optimizer)

    def _update(self, optimizer: Any | None = None) -> None:
        scores = self._rank()
        budgets = self.recipe.budgets(scores) if self._budgets is None else self._budgets
        fraction = self.recipe.schedule.fraction(self.step)
        kept = self.recipe.allocate(scores, [math.floor(fraction * budget + 0.5) for budget in budgets], self._kept)
        self._hold_masks(self._ranking.masks(kept), optimizer)
        self._budgets, self._kept, self._scores = budgets, kept, scores
        self.thresholds = _thresholds(scores, kept, self.recipe.scope)

    def _rank(self) -> dict[str, Array]:
        needs = self.recipe.score.needs
        if needs and not self._given:
            self.statistics = self.adapter.statistics(self.model, self._data, self._loss, needs)
        return self._ranking.scores(self.parameters(), self.recipe.score, self.statistics)

    def outcome(self, example: Any | None) -> Outcome:
        """See :meth:`secateur.pruned.Pruned.outcome`; a pruner also knows scores and what competed."""
        coupling = self._ranking.coupling if isinstance(self._ranking, NeuronRanking) else None
        known = super().outcome(example)
        return dataclasses.replace(known, kept=self._kept or {}, scores=self._scores, coupling=coupling)

    def _statistics_now(self) -> Statistics:
        needs = self.recipe.score.needs
        if not needs or self._given or not is_repeatable(self._data):
            return {}
        return self.adapter.statistics(self.model, self._data, self._loss, needs)


def prune(
    adapter: Adapter,
    model: Any,
    recipe: Recipe,
    *,
    optimizer: Any | None = None,
    data: Any | None = None,
    loss: Any | None = None,
    example: Any | None = None,
    statistics: Statistics | None = None,
) -> Pruned:
    """Prune at once, and hold the masks from now on; arguments as for :class:`Pruner`.

    Raises:
        RecipeError: the recipe has a schedule over training steps, which a single call cannot follow.
    """
    if recipe.schedule != OneShot():
        raise RecipeError(
            f"{recipe.schedule} prunes over training steps, which prune() does not see; use a Pruner, or leave the "
            "schedule out"
        )
    return Pruner(
        adapter, model, recipe, optimizer=optimizer, data=data, loss=loss, example=example, statistics=statistics
    )


def load(adapter: Adapter, folder: str | Path, model: Any | None = None, example: Any | None = None) -> Pruned:
    """Restore what :meth:`Pruned.save` wrote, and hold its masks.

    Args:
        adapter: the framework's adapter.
        folder: the saved folder.
        model: a model of the original architecture, whose weights are replaced; None if the folder holds all of it.
        example: an input for a later :meth:`Pruned.compact`.

    Raises:
        FileFormatError: the folder is damaged, foreign, or of another model; nothing was changed.
    """
    folder = Path(folder)
    recipe, masks = storage.read(folder, adapter.framework)
    if model is not None:
        _check_masks(folder, masks, adapter.parameters(model))
    restored = Pruned(adapter, adapter.read_model(folder, model), recipe, example, None)
    _check_masks(folder, masks, restored.parameters())
    restored._hold_masks(masks)
    return restored


def _check_masks(folder: Path, masks: Mapping[str, BoolArray], parameters: Sequence[Parameter]) -> None:
    shapes = {parameter.name: parameter.view.shape for parameter in parameters}
    for name, mask in masks.items():
        if shapes.get(name) != mask.shape:
            raise FileFormatError(f"{folder} has a mask of shape {mask.shape} for {name}, the model {shapes.get(name)}")


def _check_data(recipe: Recipe, data: Any | None, statistics: Statistics | None) -> None:
    name, needs = type(recipe.score).__name__, recipe.score.needs
    missing = [need for need in needs if need not in (statistics or {})]
    if not missing:
        return
    if statistics is not None:
        raise MissingDataError(f"statistics lack {', '.join(missing)}, which {name} needs")
    if data is None:
        raise MissingDataError(f"{name} is computed from gradients: pass data=(x, y) or a data loader, and loss=")
    if recipe.schedule != OneShot() and not is_repeatable(data):
        raise MissingDataError(
            f"{name} with {recipe.schedule} reads data at every update, but a generator can be read once; pass "
            "arrays or a data loader"
        )


def _trace(adapter: Adapter, model: Any, recipe: Recipe, example: Any | None) -> Graph | None:
    """The structure: required for neurons; for weights only to rank ties in the order of the forward pass."""
    try:
        return adapter.graph(model, example)
    except TraceError:
        if isinstance(recipe.granularity, Neurons):
            raise
        return None
    except ExampleError:
        if isinstance(recipe.granularity, Neurons) or example is not None:
            raise
        return None


def _thresholds(scores: Mapping[str, Array], kept: Mapping[str, BoolArray], scope: str) -> dict[str, float]:
    largest = {layer: float(np.max(score, where=~kept[layer], initial=-math.inf)) for layer, score in scores.items()}
    return {"model": max(largest.values())} if scope == "model" else largest
