"""Tasks that share a model: their data and losses, the scores of each, and how well the model does at them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from secateur.adapter import Parameter
from secateur.combining import combine
from secateur.errors import MissingDataError, NoMatchError
from secateur.recipe import MultiTask, Recipe, Score
from secateur.scalars import answer
from secateur.scoring import Statistics

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Task:
    """One thing that a model does.

    Args:
        data: labelled data of this task, as ``prune`` takes it; ``(x, y)`` or an iterable of batches.
        loss: the loss for them. It gets all outputs of the model, and takes those of its task:
            ``lambda outputs, labels: cross_entropy(outputs[0], labels)`` in PyTorch, ``(y_true, y_pred)`` in Keras.
        evaluate: model -> a number, such as the accuracy, which the result tells before and after pruning.
        statistics: statistics that are known already, instead of ``data``.
    """

    data: Any | None = None
    loss: Any | None = None
    evaluate: Callable[[Any], Any] | None = None
    statistics: Statistics | None = None


Tasks = Mapping[str, Task]


class Measured(NamedTuple):
    """What a task's ``evaluate`` told of the dense model, and of the pruned one; None of a task that has none."""

    before: float | None
    after: float | None


class TaskTable(dict[str, Measured]):
    """Task -> what it measures; prints as a table."""

    def __str__(self) -> str:
        """A line for each task."""
        rows = [("task", "before", "after"), *((name, *map(_number, measured)) for name, measured in self.items())]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = (f"{name:<{widths[0]}}  {before:>{widths[1]}}  {after:>{widths[2]}}" for name, before, after in rows)
        return "\n".join(lines)


class Ranking(Protocol):
    """See :class:`secateur.ranking.Ranking`."""

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Array]:
        """Layer -> one score an element."""


def require_tasks(recipe: Recipe, tasks: Any) -> None:
    """Raises MissingDataError if they are none, or the recipe's score needs some; NoMatchError if it is for others."""
    is_mapping = isinstance(tasks, Mapping) and all(isinstance(each, Task) for each in tasks.values())
    if not is_mapping or not all(isinstance(name, str) for name in tasks):
        raise MissingDataError(f"tasks is {tasks!r}: give name -> Task, such as {{'digit': Task((x, y), loss)}}")
    if not isinstance(recipe.score, MultiTask):
        return
    if not tasks:
        raise MissingDataError(
            f"{recipe.score} is computed from data of several tasks: pass tasks={{'digit': Task((x, y), loss), ...}}"
        )
    recipe.score.weights_of(tasks)


def named(need: str, task: str) -> str:
    """What a task's own statistic is called among those of all tasks."""
    return f"{need} of {task}"


def element_scores(
    ranking: Ranking, parameters: Sequence[Parameter], score: Score, statistics: Statistics, scope: str
) -> dict[str, Array]:
    """Layer -> one score an element, by whatever a ranking ranks; of several tasks combined.

    Args:
        ranking: tells the scores of each task.
        parameters: the model's.
        score: the recipe's.
        statistics: those that it needs, with names that :func:`named` gives if it is of several tasks.
        scope: what competes.
    """
    if not isinstance(score, MultiTask):
        return ranking.scores(parameters, score, statistics)
    own = by_task(statistics, score.needs)
    found = {task: ranking.scores(parameters, score.score, each) for task, each in own.items()}
    return dict(combine(found, score.combine, score.weights_of(found), scope))


def by_task(statistics: Statistics, needs: Sequence[str]) -> dict[str, dict[str, dict[str, Array]]]:
    """Task -> statistic -> parameter -> array; zeros where other tasks reach a parameter, and this one does not."""
    first = f"{needs[0]} of "
    tasks = [name.removeprefix(first) for name in statistics if name.startswith(first)]
    found: dict[str, dict[str, dict[str, Array]]] = {task: {} for task in tasks}
    for need in needs:
        known = {name: array for task in tasks for name, array in statistics[named(need, task)].items()}
        for task in tasks:
            given = statistics[named(need, task)]
            found[task][need] = {name: given.get(name, np.zeros_like(array)) for name, array in known.items()}
    return found


def checked(tasks: Tasks, check: Callable[[Statistics], Statistics]) -> dict[str, Task]:
    """The tasks with statistics that a check has passed; its errors name the task."""
    found = {}
    for name, task in tasks.items():
        try:
            known = None if task.statistics is None else check(task.statistics)
        except (MissingDataError, NoMatchError) as error:
            raise type(error)(f"task {name!r}: {error}") from error
        found[name] = dataclasses.replace(task, statistics=known)
    return found


def measured(tasks: Tasks, model: Any) -> dict[str, float]:
    """Task -> what its ``evaluate`` tells of a model; without tasks that have none."""
    given = {name: task.evaluate for name, task in tasks.items() if task.evaluate is not None}
    return {name: answer(f"evaluate of task {name!r}", evaluate, model) for name, evaluate in given.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
