"""One score taken for several tasks of a model, and how they are combined."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.errors import NoMatchError, OutOfRangeError, RecipeError
from secateur.recipe.score import SCORES, Score, listed
from secateur.recipe.serial import decode
from secateur.recipe.weight_scores import Taylor
from secateur.scalars import real
from secateur.statistics import STATISTICS

COMBINATIONS = ("mean", "max", "min_rank")


@listed
@dataclass(frozen=True)
class MultiTask(Score):
    """A score for several tasks that share a trunk; their data and losses come with the call, as ``tasks=``.

    Each task's scores are normalised, then combined, element by element: weights, blocks, units or branches, whatever
    competes. What a task does not reach (all of its scores in a layer are 0), such as another task's head, is ranked by
    the others alone. See :func:`secateur.combining.combine` for the arithmetic.

    Args:
        score: one of the catalogue's, or of your own, that is computed from data. It must neither look back on a
            training nor adjust weights.
        combine: ``"mean"`` of the shares that an element has in the sum of its task's scores; ``"max"`` of these;
            ``"min_rank"``: the best place that any task gives it, so that what is dear to one task stays.
        weights: task -> how much it counts in a mean, more than 0; all alike if empty.
    """

    score: Score = field(default_factory=Taylor)
    combine: str = "mean"
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.score, dict):
            object.__setattr__(self, "score", decode(self.score, SCORES, "score"))
        if not isinstance(self.score, Score) or isinstance(self.score, MultiTask):
            raise RecipeError(f"MultiTask's score is {self.score!r}: give a score, such as MultiTask(Taylor())")
        if self.combine not in COMBINATIONS:
            raise RecipeError(f"MultiTask(combine={self.combine!r}): use one of {', '.join(COMBINATIONS)}")
        _check_score(self.score)
        object.__setattr__(self, "weights", _checked(self.weights, self.combine))

    def __hash__(self) -> int:
        return hash((self.score, self.combine, tuple(self.weights.items())))

    @property
    def single(self) -> Score:
        """The score that each task has."""
        return self.score

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Statistics of each task."""
        return self.score.needs

    @property
    def words(self) -> str:  # type: ignore[override]
        """As reports tell it."""
        how = {"mean": "mean share over tasks", "max": "largest share over tasks", "min_rank": "best place over tasks"}
        return f"{how[self.combine]} of {self.score.words}"

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """As each task's."""
        return self.score.signed

    @property
    def iterations(self) -> int:
        """As each task's."""
        return self.score.iterations

    def weights_of(self, tasks: Collection[str]) -> dict[str, float]:
        """A weight for each task. Raises NoMatchError if those that were given are of others."""
        if self.weights and {*self.weights} != {*tasks}:
            raise NoMatchError(
                f"MultiTask has weights of {', '.join(self.weights)}, but the tasks are {', '.join(tasks)}: give each "
                "of them a weight, or none"
            )
        return {task: self.weights.get(task, 1.0) for task in tasks}


def _check_score(score: Score) -> None:
    """Refuse a score that is the same for all tasks, or more than a number an element."""
    name = type(score).__name__
    if score.adjusts:
        raise RecipeError(f"{name} changes weights to suit one set of inputs: it cannot be combined over tasks")
    unfit = [need for need in score.needs if need in STATISTICS and STATISTICS[need].origin in ("record", "flow")]
    if unfit or not score.needs:
        raise RecipeError(
            f"{name} is not computed from a task's data, so that no task has one of its own: use a score such as "
            "Taylor() in MultiTask, or this one by itself"
        )


def _checked(weights: Any, combine: str) -> dict[str, float]:
    if not isinstance(weights, Mapping) or not all(isinstance(task, str) for task in weights):
        raise RecipeError(
            f"MultiTask(weights={weights!r}): give task -> number, such as {{'digit': 2.0, 'parity': 1.0}}"
        )
    if weights and combine != "mean":
        raise RecipeError(f"MultiTask weighs tasks in a mean only: leave weights= out with combine={combine!r}")
    found = {task: real(f"the weight of {task!r}", weight) for task, weight in weights.items()}
    for task, weight in found.items():
        if not weight > 0:
            raise OutOfRangeError(f"the weight {weight} of {task!r} is not more than 0: leave out what does not count")
    return found
