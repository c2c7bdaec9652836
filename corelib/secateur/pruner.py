"""The loop that every adapter runs: statistics -> scores -> allocation -> masks -> hold.

:func:`prune` does it once; a :class:`Pruner` does it again at each due step of the recipe's schedule. Nothing is
written to the model before every check has passed and every mask is known.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from secateur import storage
from secateur.adapter import Adapter, Parameter
from secateur.batches import first_inputs, is_repeatable
from secateur.checks import (
    given_statistics,
    require_data,
    require_example,
    require_numbers,
    require_recipe,
    require_rows,
)
from secateur.compensation import STATISTIC, Compensation, compensation
from secateur.errors import CopyError, ExampleError, FileFormatError, RecipeError, TraceError
from secateur.history import History
from secateur.iterating import masked, shares
from secateur.latency import Stopwatch
from secateur.pruned import Pruned, count_nonzero
from secateur.ranking import NeuronRanking, ranking, remedy
from secateur.recipe import Magnitude, Recipe, Structured
from secateur.report.collect import Outcome, sampled
from secateur.report.words import what
from secateur.schedules import OneShot
from secateur.scoring import Statistics, of_parameter
from secateur.selection import selection
from secateur.statistics import gatherable, takes_loss
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
        optimizer: the optimizer that trains the model, to check that it does; masks hold through any.
        data: labelled data for scores that need gradients: arrays ``(x, y)`` or an iterable of batches; for
            ``compensate=True`` inputs are enough.
        loss: the loss for them, as the framework takes it.
        example: an input for tracing and verification; the first batch of ``data`` if None.
        statistics: statistics that are known already, instead of ``data``: statistic -> parameter name -> array in
            canonical layout.
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
        require_recipe(recipe)
        adapter.parameters(model)  # refuses a model without weights; only the trace knows all of their roles
        require_data(recipe, data, statistics)
        if example is None and data is not None:
            with adapter.reading(data):
                example = first_inputs(data)
        require_rows(example)
        require_example(recipe, example)
        super().__init__(adapter, model, recipe, example, _trace(adapter, model, recipe, example))
        if branching := self._branching():
            warnings.warn(branching, stacklevel=2)
        self._dense, self._dense_nonzero = sampled(self.parameters()), count_nonzero(self.parameters())
        self.step = 0
        self._given = {} if statistics is None else given_statistics(adapter, model, self.parameters(), statistics)
        self._history = History(recipe.score, self.parameters(), self._given)
        self._follows = optimizer is not None or recipe.schedule != OneShot()
        self._data, self._loss = data, loss
        self._ranking = ranking(recipe, self.parameters(), self._graph)
        if isinstance(self._ranking, NeuronRanking):
            self._coupling = self._ranking.coupling
        self._selection = selection(recipe, self._ranking, self._stopwatch())
        self._scores: Mapping[str, Array] = {}
        self._kept: dict[str, BoolArray] | None = None
        self._budgets: Sequence[int] | None = None
        self._reached = 0.0
        self._spared: dict[str, int] = {}
        self._lost: dict[str, str] = {}
        self._begin(optimizer)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """As :meth:`Pruned.__deepcopy__`, for what :func:`prune` returned. Raises CopyError in a training loop."""
        if self._follows:
            raise CopyError(
                "a pruner follows the optimizer of one training loop, so it cannot be copied: copy the model "
                "(copy.deepcopy(pruner.model)) and make a new pruner with the optimizer that trains the copy"
            )
        return super().__deepcopy__(memo)

    @property
    def finished(self) -> bool:
        """Whether the schedule has reached its final sparsity."""
        return self._reached == 1.0

    def advance(self, steps: int = 1) -> None:
        """Count optimizer steps, and prune further at each that the schedule has due, unless released."""
        for _ in range(steps):
            self.step += 1
            if self.recipe.schedule.due(self.step) and self._hold is not None:
                self._prune(self._rank())

    def _begin(self, optimizer: Any | None) -> None:
        """Prune at step 0 if that is due. Rehearse what is not, so that what cannot work fails before training."""
        schedule, scores = self.recipe.schedule, self._rank()
        masks: dict[str, BoolArray] = {}
        if schedule.fraction(0) < 1.0:
            rehearsed = self._rehearsed(scores)
            final, _ = self._selection.keep(rehearsed, 1.0, self._selection.budgets(rehearsed))
            masks = self._ranking.masks(final)
        if schedule.due(0):
            self._prune(scores, optimizer)
        else:
            self._hold_masks({name: np.ones_like(mask) for name, mask in masks.items()}, optimizer)

    def _rehearsed(self, scores: dict[str, Array]) -> dict[str, Array]:
        """Scores that stand for those of later, where those of now tell nothing: nothing has changed yet."""
        if "initial_weight" not in self.recipe.score.needs or "initial_weight" in self._given:
            return scores
        return self._ranking.scores(self.parameters(), Magnitude(), {})

    def _prune(self, scores: dict[str, Array], optimizer: Any | None = None) -> None:
        """Prune what the schedule asks for at this step; in mid-training nothing is emptied."""
        budgets = self._selection.budgets(scores) if self._budgets is None else self._budgets
        fraction = self.recipe.schedule.fraction(self.step)
        scores, before = self._iterated(scores, fraction, budgets)
        kept, spared = self._selection.keep(scores, fraction, budgets, before, training=self.step > 0)
        masks = self._ranking.masks(kept)
        made_up = self._compensation(masks)
        changed = {**self._adjusted(masks), **made_up.values}
        self._hold_masks(masks, optimizer)
        if changed:
            self.adapter.assign(self.model, changed)
        self._lost |= made_up.left
        self._budgets, self._kept, self._scores, self._reached = budgets, kept, scores, fraction
        self.thresholds = _thresholds(scores, kept, self.recipe.scope)
        self.timing = self._selection.timing if fraction == 1.0 else None
        self._tell(spared)

    def _compensation(self, masks: Mapping[str, BoolArray]) -> Compensation:
        """What makes up for what these masks remove of the model as it is; nothing unless the recipe asks for it."""
        if not self.recipe.compensates or not isinstance(self._ranking, NeuronRanking):
            return Compensation({}, {})
        means = self.statistics.get(STATISTIC, {})
        return compensation(self._ranking.graph, self._ranking.coupling, self.parameters(), masks, means)

    def _stopwatch(self) -> Stopwatch | None:
        """What a target in time is measured with."""
        if not isinstance(self._ranking, NeuronRanking):
            return None
        graph, coupling = self._ranking.graph, self._ranking.coupling
        return Stopwatch(self.adapter, self.model, self._example, graph, coupling)

    def _tell(self, spared: Sequence[str]) -> None:
        """Warn of what was spared for the first time; the summary goes on telling it."""
        for name in spared:
            if name not in self._spared:
                self._spared[name] = self.step
                warnings.warn(self._spared_words(name), stacklevel=2)

    def _spared_words(self, name: str) -> str:
        best = what(self.recipe).removesuffix("s")
        return (
            f"At step {self._spared[name]} the recipe would have emptied {name}. Its best {best} stays, and others are "
            f"pruned in its place. To avoid that, {remedy(self.recipe.scope)}."
        )

    def _notes(self) -> tuple[str, ...]:
        lost = (
            f"What {kernel} read of removed units on average is lost: {reason}."
            for kernel, reason in self._lost.items()
        )
        return (*super()._notes(), *map(self._spared_words, self._spared), *lost)

    def _rank(self) -> dict[str, Array]:
        self._enforce()
        parameters = self.parameters()
        require_numbers(parameters)
        self.statistics = self._history.with_records(parameters, self._gathered(self.recipe.needs))
        return self._ranking.scores(parameters, self.recipe.score, self.statistics)

    def _gathered(self, needs: Sequence[str], masks: Mapping[str, BoolArray] | None = None) -> Statistics:
        """These statistics, of the model as it is or under masks that it does not have yet."""
        missing = [need for need in gatherable(needs) if need not in self._given]
        if not missing:
            return self._given
        found = self.adapter.statistics(self.model, self._data, self._loss, missing, self._example, masks)
        return {**self._given, **found}

    def _adjusted(self, masks: Mapping[str, BoolArray]) -> dict[str, Array]:
        """New numbers for the weights that stay, where the score has them make up for those that go."""
        score = self.recipe.score
        if not score.adjusts:
            return {}
        return {
            each.name: score.adjusted(each.view, masks[each.name], known, each.name)
            for each in self.parameters()
            if each.name in masks
            and not masks[each.name].all()
            and (known := of_parameter(each, score, self.statistics))
        }

    def _iterated(
        self, scores: dict[str, Array], fraction: float, budgets: Sequence[int]
    ) -> tuple[dict[str, Array], dict[str, BoolArray] | None]:
        """Scores without what goes first, and what then stays; as they are, if the score is taken once."""
        elements, pruned = sum(each.size for each in scores.values()), fraction * sum(budgets)
        kept: dict[str, BoolArray] | None = self._kept
        for share in shares(self.recipe.score.iterations, elements, pruned):
            kept, _ = self._selection.keep(scores, fraction * share, budgets, kept, training=True)
            masks = self._ranking.masks(kept)
            parameters = masked(self.parameters(), masks)
            known = self._history.with_records(parameters, self._gathered(self.recipe.score.needs, masks))
            scores = self._ranking.scores(parameters, self.recipe.score, known)
        return scores, kept

    def outcome(self, example: Any | None) -> Outcome:
        """See :meth:`secateur.pruned.Pruned.outcome`; a pruner also knows the scores of what competed."""
        return dataclasses.replace(super().outcome(example), kept=self._kept or {}, scores=self._scores)

    def _statistics_now(self) -> Statistics:
        """Gradients of now, for reports."""
        needs = [need for need in gatherable(self.recipe.score.needs) if need not in self._given]
        if not needs or not takes_loss(needs) or not is_repeatable(self._data):
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
    require_recipe(recipe)
    if recipe.schedule != OneShot():
        raise RecipeError(
            f"{recipe.schedule} prunes over training steps, which prune() does not see; use a Pruner, or leave the "
            "schedule out"
        )
    return Pruner(
        adapter, model, recipe, optimizer=optimizer, data=data, loss=loss, example=example, statistics=statistics
    )


def load(
    adapter: Adapter,
    folder: str | Path,
    model: Any | None = None,
    example: Any | None = None,
    counterparts: Callable[[Path, Any], Mapping[str, str]] | None = None,
) -> Pruned:
    """Restore what :meth:`Pruned.save` wrote, and hold its masks.

    Args:
        adapter: the framework's adapter.
        folder: the saved folder.
        model: a model of the original architecture, whose weights are replaced; None if the folder holds all of it.
        example: an input for a later :meth:`Pruned.compact`.
        counterparts: tells from folder and model which names of weights and layers in the folder are others in the
            model; for frameworks that make up names.

    Raises:
        FileFormatError: the folder is damaged, foreign, or of another model; nothing was changed.
    """
    folder = Path(folder)
    recipe, masks = storage.read(folder, adapter.framework)
    target = adapter.read_model(folder, None) if model is None else model
    if counterparts is not None:
        recipe, masks = _renamed(recipe, masks, counterparts(folder, target))
    _check_masks(folder, masks, adapter.parameters(target))
    filled = target if model is None else adapter.read_model(folder, model)
    restored = Pruned(adapter, filled, recipe, example, None)
    restored._hold_masks(masks)
    return restored


def _renamed(
    recipe: Recipe, masks: Mapping[str, BoolArray], names: Mapping[str, str]
) -> tuple[Recipe, dict[str, BoolArray]]:
    """With the names of the model at hand, patterns that are a whole name included."""
    include, exclude = ([names.get(each, each) for each in patterns] for patterns in (recipe.include, recipe.exclude))
    renamed = {names.get(name, name): mask for name, mask in masks.items()}
    return (dataclasses.replace(recipe, include=include, exclude=exclude) if names else recipe), renamed


def _check_masks(folder: Path, masks: Mapping[str, BoolArray], parameters: Sequence[Parameter]) -> None:
    shapes = {parameter.name: parameter.view.shape for parameter in parameters}
    for name, mask in masks.items():
        if shapes.get(name) != mask.shape:
            raise FileFormatError(f"{folder} has a mask of shape {mask.shape} for {name}, the model {shapes.get(name)}")


def _trace(adapter: Adapter, model: Any, recipe: Recipe, example: Any | None) -> Graph | None:
    """The structure: required for what goes as one; for weights only to rank ties in the order of the forward pass."""
    try:
        return adapter.graph(model, example)
    except TraceError:
        if isinstance(recipe.granularity, Structured):
            raise
        return None
    except ExampleError:
        if isinstance(recipe.granularity, Structured) or example is not None:
            raise
        return None


def _thresholds(scores: Mapping[str, Array], kept: Mapping[str, BoolArray], scope: str) -> dict[str, float]:
    largest = {layer: float(np.max(score, where=~kept[layer], initial=-math.inf)) for layer, score in scores.items()}
    return {"model": max(largest.values())} if scope == "model" else largest
