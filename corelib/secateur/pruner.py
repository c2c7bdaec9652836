"""The loop that every adapter runs: statistics -> scores -> allocation -> masks -> hold.

:func:`prune` does it once; a :class:`Pruner` does it again at each due step of the recipe's schedule. Nothing is
written to the model before every check has passed and every mask is known.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from secateur.adapter import Adapter, Parameter
from secateur.batches import first_inputs
from secateur.checks import (
    given_statistics,
    require_callable,
    require_data,
    require_example,
    require_numbers,
    require_recipe,
    require_rows,
)
from secateur.compensation import Compensation, compensation
from secateur.errors import CopyError, ExampleError, RecipeError, TraceError
from secateur.evidence import Evidence
from secateur.iterating import masked, shares
from secateur.latency import Stopwatch
from secateur.loading import Counterparts, interrupted
from secateur.progress import Progress
from secateur.pruned import Pruned, count_nonzero
from secateur.ranking import NeuronRanking
from secateur.recipe import Magnitude, Recipe, Score, Structured, Weights
from secateur.recipe.granularity import COMPENSATION, part
from secateur.regrowing import regrower
from secateur.remarks import Remarks
from secateur.report.collect import Outcome, sampled
from secateur.rounds import Rounds
from secateur.scales import ranked
from secateur.scoring import Statistics, chosen, of_parameter
from secateur.selection import selection
from secateur.structure.graph import Graph
from secateur.tasks import Measured, Tasks, TaskTable, checked, element_scores, measured

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


class Pruner(Pruned):
    """Prunes step by step while training goes on; the adapter's own loop calls :meth:`advance` after each step.

    Attributes:
        step: optimizer steps seen since the pruner was made, or the training that it resumes began.

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
        steps_per_epoch: optimizer steps in an epoch, for a schedule or a regrowth that counts epochs.
        after_round: called with the pruner after each pruning of the schedule, to restart a learning rate for example.
        resume: a folder that :meth:`save` wrote in the middle of a training, of this model under this recipe: its
            weights, masks and the place in the schedule are taken over. The optimizer's own state is its user's affair.
        counterparts: as for :func:`secateur.loading.load`.
        tasks: of a score of several tasks (:class:`secateur.recipe.MultiTask`), name -> :class:`secateur.tasks.Task`;
            with any score, what :attr:`tasks` measures.

    Raises:
        FileFormatError: ``resume`` is no such folder, or was saved from another model or under another recipe.
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
        steps_per_epoch: int | None = None,
        after_round: Callable[[Any], Any] | None = None,
        resume: str | Path | None = None,
        counterparts: Counterparts | None = None,
        tasks: Tasks | None = None,
    ) -> None:
        require_recipe(recipe)
        require_callable("after_round", after_round)
        adapter.parameters(model)  # refuses a model without weights; only the trace knows all of their roles
        require_data(recipe, data, statistics, adapter.keeps_gradients, tasks)
        self._schedule = recipe.schedule.in_steps(steps_per_epoch)
        growth = None if recipe.regrowth is None else recipe.regrowth.in_steps(steps_per_epoch)
        saved = None if resume is None else interrupted(adapter, Path(resume), model, recipe, counterparts)
        shown = next(
            (each for each in (data, *(task.data for task in (tasks or {}).values())) if each is not None), None
        )
        if example is None and shown is not None:
            with adapter.reading(shown):
                example = first_inputs(shown)
        require_rows(example)
        require_example(recipe, example)
        super().__init__(adapter, model, recipe, example, trace(adapter, model, recipe, example))
        if branching := self._branching():
            warnings.warn(branching, stacklevel=2)
        parameters = self.parameters()
        self._dense, self._dense_nonzero = sampled(parameters), count_nonzero(parameters)
        self.step, self._rounds, self._after_round = 0, Rounds(self._schedule.rewind), after_round
        known = partial(given_statistics, adapter, model, parameters)
        given = {} if statistics is None else known(statistics)
        self._tasks = checked({} if tasks is None else tasks, known)
        self._evidence = Evidence(adapter, model, recipe, parameters, data, loss, example, given, self._tasks)
        self._follows = optimizer is not None or recipe.follows_training
        self._ranking = ranked(recipe, parameters, self._graph)
        if isinstance(self._ranking, NeuronRanking):
            self._coupling = self._ranking.coupling
        owners = {parameter.name: parameter.layer for parameter in parameters}
        self._selection = selection(recipe, self._ranking, self._stopwatch(), owners)
        self._scores: Mapping[str, Array] = {}
        self._kept: dict[str, BoolArray] | None = None
        self._budgets: Sequence[int] | None = None
        self._reached = 0.0
        self._remarks = Remarks(recipe)
        self._growth, self._regrower = growth, regrower(recipe, growth, self._ranking, self._gather)
        self._dense_measures = measured(self._tasks, model) if saved is None else {}
        if saved is None:
            self._begin(self._rank(parameters), optimizer)
        else:
            self._continue(Path(str(resume)), *saved, optimizer)

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

    @property
    def rounds(self) -> int:
        """How often the schedule has pruned."""
        return self._rounds.count

    @property
    def tasks(self) -> TaskTable:
        """See :attr:`secateur.pruned.Pruned.tasks`."""
        self.enforce()
        after = measured(self._tasks, self.model)
        found = {name: Measured(self._dense_measures.get(name), after.get(name)) for name in self._tasks}
        return TaskTable(found)

    @property
    def round_step(self) -> int:
        """Steps since the schedule last pruned: what a learning rate that restarts with each round depends on.

        After a rewinding to step k it starts from k.
        """
        return self.step - self._rounds.began

    def is_due(self, step: int) -> bool:
        """Whether anything happens after ``step`` training steps: masks change, or weights are recorded."""
        return self._changes_masks(step) or step == self._schedule.rewind

    def _changes_masks(self, step: int) -> bool:
        grows = self._growth is not None and self._kept is not None and self._growth.due(step)
        return self._schedule.due(step) or grows

    def before_step(self) -> None:
        """To be called before each optimizer step, with its gradients at hand, where scores are made from these."""
        if self._evidence.follows_steps and self._hold is not None:
            self._evidence.before_step(self.parameters())

    def advance(self, steps: int = 1) -> None:
        """Count optimizer steps, and prune further at each that the schedule has due, unless released."""
        for _ in range(steps):
            self.step += 1
            if self._hold is not None:
                self._rounds.record(self.step, self.parameters)
                if self._changes_masks(self.step):
                    self._prune(self._rank())
                    self._end_round()

    def _begin(self, scores: dict[str, Array], optimizer: Any | None) -> None:
        """Prune at step 0 if that is due. Rehearse what is not, so that what cannot work fails before training."""
        masks: dict[str, BoolArray] = {}
        if self._schedule.fraction(0) < 1.0 or self._growth is not None:
            final = self._rehearsed(self._foreseen(scores))
            masks = self._ranking.masks(final)
            if self._growth is not None:
                self._growth.require_room(final)
        self._rounds.record(0, self.parameters)
        if self._schedule.due(0):
            self._prune(scores, optimizer)
            self._end_round()
        else:
            self._hold_masks({name: np.ones_like(mask) for name, mask in masks.items()}, optimizer)

    def _rehearsed(self, scores: dict[str, Array]) -> dict[str, BoolArray]:
        """What the final target keeps by the scores of now, with nothing emptied if these can still move."""
        budgets = self._selection.budgets(scores)
        final, _ = self._selection.keep(scores, 1.0, budgets)
        if self._schedule.fraction(0) == 1.0:
            return final
        spared, _ = self._selection.keep(scores, 1.0, budgets, training=True)
        gone, without = (sum(int(np.count_nonzero(~each)) for each in kept.values()) for kept in (final, spared))
        return spared if gone == without else final

    def _foreseen(self, scores: dict[str, Array]) -> dict[str, Array]:
        """Scores that stand for those of later, where those of now tell nothing: nothing has changed yet."""
        if "initial_weight" not in self.recipe.score.needs or "initial_weight" in self._evidence.given:
            return scores
        return self._ranking.scores(self.parameters(), Magnitude(), {})

    def _prune(self, scores: dict[str, Array], optimizer: Any | None = None) -> None:
        """Prune what the schedule asks for at this step; in mid-training nothing is emptied."""
        budgets = self._selection.budgets(scores) if self._budgets is None else self._budgets
        fraction = self._fraction(scores, budgets)
        scores, before = self._iterated(scores, fraction, budgets)
        kept, spared = self._selection.keep(scores, fraction, budgets, before, training=self.step > 0)
        kept = self._regrown(scores, self._chosen(kept, before))
        masks = self._ranking.masks(kept)
        made_up = self._compensation(masks)
        changed = {**self._adjusted(masks), **made_up.values}
        self._hold_masks(masks, optimizer)
        if self._regrower is not None:
            changed |= self._regrower.revived(self._masks)
        if changed:
            self.adapter.assign(self.model, changed)
        self._budgets, self._kept, self._scores, self._reached = budgets, kept, dict(scores), fraction
        self.thresholds = _thresholds(scores, kept, self.recipe.competing)
        self.timing = self._selection.timing if fraction == 1.0 else None
        self._remarks.add(self.step, spared, made_up.left)

    def _compensation(self, masks: Mapping[str, BoolArray]) -> Compensation:
        """What makes up for what these masks remove of the model as it is; nothing unless the recipe asks for it."""
        if not self.recipe.compensates or not isinstance(self._ranking, NeuronRanking):
            return Compensation({}, {})
        means = self.statistics.get(COMPENSATION, {})
        return compensation(self._ranking.graph, self._ranking.coupling, self.parameters(), masks, means)

    def _fraction(self, scores: Mapping[str, Array], budgets: Sequence[int]) -> float:
        """What the schedule asks for; between its times, what it last asked for."""
        if not self._schedule.due(self.step):
            return self._reached
        return self._schedule.fraction(self.step, sum(budgets) / sum(score.size for score in scores.values()))

    def _regrown(self, scores: dict[str, Array], kept: dict[str, BoolArray]) -> dict[str, BoolArray]:
        """As many kept elements as before, others if weights come back at this step."""
        if self._regrower is None or self._growth is None:
            return kept
        parameters = self.parameters()
        self._regrower.observe(parameters, self._masks, kept)
        if self.step == 0 or not self._growth.due(self.step):
            return kept
        return self._regrower.regrown(self.step, parameters, scores, kept, self.statistics)

    def _end_round(self) -> None:
        """If the schedule has pruned at this step: rewind where it says so, and tell the user."""
        if self._schedule.due(self.step):
            self._rounds.end(self.step, self.adapter, self.model, self._masks, self._hold)
            if self._after_round is not None:
                self._after_round(self)

    def _continue(self, folder: Path, masks: dict[str, BoolArray], saved: Progress, optimizer: Any | None) -> None:
        """Stand where a saved training stood."""
        self._evidence.restore({"initial_weight": saved.initial_weight, "movement": saved.movement})
        self._hold_masks({name: np.ones_like(mask) for name, mask in masks.items()}, optimizer)  # refuses a wrong one
        self.adapter.read_model(folder, self.model)
        self._hold_masks(masks)
        self.step = saved.step
        self._rounds = Rounds(self._schedule.rewind, saved.rounds, saved.round_began, saved.recorded)
        self._reached, self._budgets, self._remarks.spared = saved.reached, saved.budgets, saved.spared
        self._kept = saved.kept or None
        self._dense, self._dense_nonzero = (), None
        if self._regrower is not None:
            self._regrower.values = saved.values

    def _write_progress(self, folder: Path) -> None:
        if self._follows:
            Progress(
                step=self.step,
                rounds=self._rounds.count,
                round_began=self._rounds.began,
                reached=self._reached,
                budgets=self._budgets,
                spared=self._remarks.spared,
                kept=self._kept or {},
                recorded=dict(self._rounds.recorded),
                values={} if self._regrower is None else self._regrower.values,
                **self._evidence.records(),
            ).write(folder)

    def _gather(self, needs: Sequence[str]) -> Statistics:
        return self._evidence.gradients(needs, self.statistics)

    def _stopwatch(self) -> Stopwatch | None:
        """What a target in time is measured with."""
        if not isinstance(self._ranking, NeuronRanking):
            return None
        graph, coupling = self._ranking.graph, self._ranking.coupling
        return Stopwatch(self.adapter, self.model, self._example, graph, coupling)

    def _notes(self) -> tuple[str, ...]:
        return (*super()._notes(), *self._remarks.lines())

    def _rank(self, known: Sequence[Parameter] | None = None) -> dict[str, Array]:
        """The scores of now; ``known`` if the parameters have just been read."""
        self.enforce()
        parameters = self.parameters() if known is None else known
        require_numbers(parameters)
        self.statistics = self._evidence.of_now(parameters)
        tells = self.step > 0 or not self._evidence.follows_steps  # before the first step magnitudes stand in
        return self._scored(parameters, self.recipe.score if tells else Magnitude(), self.statistics)

    def _scored(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        return element_scores(self._ranking, parameters, score, statistics, self.recipe.competing)

    def _chosen(self, kept: dict[str, BoolArray], before: Mapping[str, BoolArray] | None) -> dict[str, BoolArray]:
        """As many weights as are kept, others where the score chooses among single weights by itself."""
        if not self.recipe.score.adjusts or not isinstance(self.recipe.granularity, Weights):
            return kept
        by_row = self.recipe.competing == "row"
        return chosen(self.parameters(), self.recipe.score, self.statistics, kept, before, by_row)

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
            scores = self._scored(parameters, self.recipe.score, self._evidence.under(masks))
        return scores, kept

    def outcome(self, example: Any | None) -> Outcome:
        """See :meth:`secateur.pruned.Pruned.outcome`; a pruner also knows the scores of what competed."""
        return dataclasses.replace(super().outcome(example), kept=self._kept or {}, scores=self._scores)

    def _statistics_now(self) -> Statistics:
        return self._evidence.for_report()


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
    tasks: Tasks | None = None,
) -> Pruned:
    """Prune at once, and hold the masks from now on; arguments as for :class:`Pruner`.

    Raises:
        RecipeError: the recipe has a schedule over training steps, which a single call cannot follow.
    """
    require_recipe(recipe)
    if recipe.follows_training:
        raise RecipeError(
            f"{recipe.regrowth or recipe.schedule} prunes over training steps, which prune() does not see; use a "
            "Pruner, or leave schedule and regrowth out"
        )
    given: dict[str, Any] = {"data": data, "loss": loss, "example": example, "statistics": statistics, "tasks": tasks}
    return Pruner(adapter, model, recipe, optimizer=optimizer, **given)


def trace(adapter: Adapter, model: Any, recipe: Recipe, example: Any | None) -> Graph | None:
    """The structure: required for what goes as one; for weights only to rank ties in the order of the forward pass."""
    try:
        return adapter.graph(model, example)
    except TraceError:
        if part(recipe.granularity, Structured) is not None:
            raise
        return None
    except ExampleError:
        if part(recipe.granularity, Structured) is not None or example is not None:
            raise
        return None


def _thresholds(scores: Mapping[str, Array], kept: Mapping[str, BoolArray], scope: str) -> dict[str, float]:
    if scope == "scale":
        return {}
    largest = {layer: float(np.max(score, where=~kept[layer], initial=-math.inf)) for layer, score in scores.items()}
    return {"model": max(largest.values())} if scope == "model" else largest
