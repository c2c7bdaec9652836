"""The same recipe carried out several times, with other random numbers and on other parts of the data."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from secateur import masks
from secateur.batches import undisturbed
from secateur.checks import require_recipe
from secateur.errors import EmptyInputError, ModelTypeError, OutOfRangeError, RecipeError
from secateur.pruned import Pruned
from secateur.recipe import Recipe
from secateur.scalars import real, whole
from secateur.stability import Rows, Stability, compare

Train = Callable[[Recipe, int, Any], tuple[Any, Any]]
Seeding = Callable[[int], AbstractContextManager[None]]
Counterparts = Callable[[Any], Mapping[str, str]]
SEEDS = (0, 1, 2)


def repeat(
    train: Train,
    recipe: Recipe,
    seeds: Sequence[int] = SEEDS,
    subsets: Sequence[Any] | None = None,
    *,
    seeding: Seeding,
    counterparts: Counterparts | None = None,
) -> Stability:
    """Train once with each seed on each subset, and compare the masks and scores. Models are not kept.

    Args:
        train: recipe, seed, rows -> the pruned model and its score. It builds a new model and trains it; rows are those
            of one of the subsets, None if there are none. Random states are seeded when it is called, and afterwards
            are as they were.
        recipe: what to prune; ``train`` gets it.
        seeds: whole numbers from 0.
        subsets: for each subset its rows, as :func:`secateur.stability.draw` draws them.
        seeding: a block within which the framework's random numbers are those of a seed.
        counterparts: called with each model: which names of its weights are others in the first.

    Raises:
        RecipeError: ``recipe`` is none, a seed or row is no whole number, or ``train`` gives no score.
        OutOfRangeError: there are fewer than two runs, a seed is not from 0 to 2^32 - 1, or a row is negative.
        EmptyInputError: there is no subset, or one without rows.
        ModelTypeError: what ``train`` gives is not pruned.
        NoMatchError: it gives models of different parameters.
    """
    require_recipe(recipe)
    plan = [(seed, place, rows) for place, rows in enumerate(_rows(subsets)) for seed in _seeds(seeds)]
    if len(plan) < 2:
        raise OutOfRangeError(f"{len(plan)} runs tell nothing of what stays the same: give two seeds at least")
    runs, scores = [], []
    shapes: dict[str, tuple[int, ...]] = {}
    for seed, place, rows in plan:
        with undisturbed():
            random.seed(seed)
            np.random.seed(seed)
            with seeding(seed):
                pruned, score = _outcome(train(recipe, seed, rows), f"seed {seed}, subset {place}")
        names = {} if counterparts is None else counterparts(pruned.model)
        found = {names.get(name, name): mask for name, mask in pruned.masks.items()}
        shapes = shapes or {name: mask.shape for name, mask in found.items()}
        runs.append({name: masks.pack(mask) for name, mask in found.items()})
        scores.append(score)
    told = {"seeds": [seed for seed, _, _ in plan], "subsets": [place for _, place, _ in plan]}
    return compare(runs, scores, **told, shapes=shapes)


def _seeds(seeds: Sequence[int]) -> list[int]:
    found = [whole("a seed", seed) for seed in seeds]
    wrong = [seed for seed in found if not 0 <= seed < 1 << 32]
    if wrong:
        raise OutOfRangeError(f"the seed {wrong[0]} is not from 0 to 2^32 - 1, which every framework takes")
    return found


def _rows(subsets: Sequence[Any] | None) -> list[Rows | None]:
    if subsets is None:
        return [None]
    found: list[Rows | None] = []
    for place, rows in enumerate(subsets):
        given = np.asarray(rows)
        if given.ndim != 1 or not given.size:
            raise EmptyInputError(f"subset {place} is of shape {given.shape}: give the rows that it keeps, in one line")
        if given.dtype.kind not in "iu":
            raise RecipeError(f"subset {place} is of {given.dtype}: give numbers of rows, as np.flatnonzero(flags)")
        if given.min() < 0:
            raise OutOfRangeError(f"subset {place} has the row {given.min()}: give rows from 0")
        found.append(given.astype(np.int64))
    if not found:
        raise EmptyInputError("there is no subset: give one at least, or None for all of the data")
    return found


def _outcome(result: Any, run: str) -> tuple[Pruned, float]:
    """The pruned model and its score."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise RecipeError(f"train gives {result!r} ({run}): return the pruned model and its score")
    pruned, score = result
    if not isinstance(pruned, Pruned):
        raise ModelTypeError(
            f"train gives a {type(pruned).__name__} ({run}): return what prune() returned, or a Pruner"
        )
    if not getattr(pruned, "finished", True):
        warnings.warn(f"the schedule was not at its end when training ended ({run}): train longer", stacklevel=3)
    return pruned, real(f"the score ({run})", score.item() if hasattr(score, "item") else score)
