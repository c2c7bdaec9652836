"""Scores of several tasks made one, by arithmetic that depends on the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.errors import InvalidTensorError
from secateur.recipe.allocation import competitions
from secateur.scores import reduce

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
ByLayer = Mapping[str, Array]


def combine(
    scores: Mapping[str, ByLayer], how: str = "mean", weights: Mapping[str, float] | None = None, scope: str = "model"
) -> dict[str, Floats]:
    """One score an element, from one of each task.

    A task reaches a layer if any of its scores there is not 0; a layer is ranked by the tasks that reach it. With
    ``"mean"`` and ``"max"`` a task's scores are divided by the sum of their magnitudes over all that competes, which is
    exact and rounded once; a mean is weighted, and divided by the sum of the weights of the tasks that reach the layer.
    With ``"min_rank"`` each task counts places from its best element down, of ties the later first, as in every ranking
    here; an element's score is the number of elements that compete, less its best place, the first being 0.

    Args:
        scores: task -> layer -> one score an element, of the same layers and shapes for each task.
        how: one of :data:`secateur.recipe.multitask.COMBINATIONS`.
        weights: task -> weight in a mean, more than 0; all alike if None.
        scope: what competes: ``"model"``, ``"layer"`` or ``"row"`` (an index of axis 0).

    Returns:
        layer -> float64, of the shape of its scores; 0 where no task reaches it.

    Raises:
        InvalidTensorError: the scores of a task add up to infinity, so that none has a share.
    """
    layers = next(iter(scores.values()))
    found: dict[str, Floats] = {}
    for group in competitions(list(layers), scope):
        size = sum(layers[layer].size for layer in group) // (len(layers[group[0]]) if scope == "row" else 1)
        rated = {task: _rated(own, group, how, scope == "row", size, task) for task, own in scores.items()}
        for layer in group:
            parts = {task: each[layer] for task, each in rated.items() if layer in each}
            joined = _joined(parts, how, weights) if parts else np.zeros(layers[layer].size)
            found[layer] = joined.reshape(layers[layer].shape)
    return found


def _rated(own: ByLayer, group: Sequence[str], how: str, by_row: bool, size: int, task: str) -> dict[str, Floats]:
    """What a task says of the layers that it reaches: float64[rows, elements] each, one row if none compete."""
    reached = [layer for layer in group if np.any(own[layer])]
    if not reached:
        return {}
    rows = len(own[reached[0]]) if by_row else 1
    flat = [own[layer].astype(np.float64).reshape(rows, -1) for layer in reached]
    together = np.concatenate(flat, axis=1)
    rated = _places(together, size) if how == "min_rank" else _shares(together, task)
    ends = np.cumsum([each.shape[1] for each in flat])[:-1]
    return dict(zip(reached, np.split(rated, ends, axis=1), strict=True))


def _shares(scores: Floats, task: str) -> Floats:
    """Each row divided by the sum of its magnitudes; zeros stay zeros."""
    totals = reduce(scores)[:, None]
    if not np.isfinite(totals).all():
        raise InvalidTensorError(
            f"the scores of task {task!r} add up to infinity, so that none is a share of them: look at its loss and "
            "weights, or use combine='min_rank'"
        )
    return np.divide(scores, totals, out=np.zeros_like(scores), where=totals > 0)


def _places(scores: Floats, size: int) -> Floats:
    """``size`` less each element's place in its row, 0 for the largest."""
    order = np.argsort(scores, axis=1, kind="stable")
    found = np.empty(scores.shape)
    np.put_along_axis(found, order, np.arange(size - scores.shape[1] + 1.0, size + 1.0)[None], axis=1)
    return found


def _joined(parts: Mapping[str, Floats], how: str, weights: Mapping[str, float] | None) -> Floats:
    if how != "mean":
        return np.asarray(np.maximum.reduce(list(parts.values())))
    own = {task: 1.0 if weights is None else weights[task] for task in parts}
    terms = [own[task] * part for task, part in parts.items()]
    return np.asarray(sum(terms[1:], terms[0]) / math.fsum(own.values()))
