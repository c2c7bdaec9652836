"""What competes with what: one ranking over the whole model, one a layer, or one a row of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import masks
from secateur.recipe.targets import Target

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
SCOPES = ("model", "layer", "row")


def competitions(layers: Sequence[str], scope: str) -> list[list[str]]:
    """The layers that are ranked together: all of them, or each by itself."""
    return [list(layers)] if scope == "model" else [[layer] for layer in layers]


def budgets(scores: Mapping[str, Array], target: Target, scope: str) -> list[int]:
    """How many elements the target prunes in each competition, in the order of :func:`competitions`.

    Where rows compete, these are so many of each row of a layer: an index of axis 0.
    """
    if scope == "row":
        return [len(score) * (score[0].size - target.keep([score[0]])) for score in scores.values()]
    groups = competitions(list(scores), scope)
    return [_size(scores, group) - target.keep([scores[layer] for layer in group]) for group in groups]


def allocate(
    scores: Mapping[str, Array],
    pruned: Sequence[int],
    scope: str,
    kept: Mapping[str, BoolArray] | None = None,
    protected: Mapping[str, BoolArray] | None = None,
) -> dict[str, BoolArray]:
    """Keep the largest scores of every competition.

    Args:
        scores: layer -> one score an element, in the model's order.
        pruned: how many elements to prune in each competition.
        scope: ``"model"``, ``"layer"`` or ``"row"``.
        kept: an earlier result; what it pruned ranks below everything else, so that it stays pruned.
        protected: elements that stay whatever their score; others go in their place, as far as there are any.
    """
    result: dict[str, BoolArray] = {}
    for group, count in zip(competitions(list(scores), scope), pruned, strict=True):
        ranked = [_below_all(scores[layer], None if kept is None else kept[layer]) for layer in group]
        safe = [_flags(scores[layer], None if protected is None else protected.get(layer)) for layer in group]
        keep = _size(scores, group) - count
        found = [_keep_per_row(ranked[0], safe[0], count)] if scope == "row" else _keep(ranked, safe, keep)
        result.update(zip(group, found, strict=True))
    return {layer: result[layer] for layer in scores}


def best(
    scores: Mapping[str, Array], among: Mapping[str, BoolArray], kept: Mapping[str, BoolArray] | None = None
) -> dict[str, BoolArray]:
    """Layer -> True at one element in all: the largest score of those in ``among`` that are kept; ties: the last."""
    layers = [layer for layer in scores if layer in among]
    live = [among[layer] if kept is None else among[layer] & kept[layer] for layer in layers]
    ranked = [_below_all(scores[layer], flags) for layer, flags in zip(layers, live, strict=True)]
    return dict(zip(layers, masks.keep_largest(ranked, 1), strict=True))


def _keep(scores: Sequence[Array], safe: Sequence[BoolArray], keep: int) -> list[BoolArray]:
    """The largest, but first of all what is safe."""
    held = sum(int(np.count_nonzero(flags)) for flags in safe)
    if not held:
        return masks.keep_largest(scores, keep)
    others = [_below_all(score, ~flags) for score, flags in zip(scores, safe, strict=True)]
    found = masks.keep_largest(others, max(0, keep - held))
    return [mask | flags for mask, flags in zip(found, safe, strict=True)]


def _keep_per_row(score: Array, safe: BoolArray, count: int) -> BoolArray:
    """The largest of each row, without ``count`` in all; first of all what is safe."""
    keep = score[0].size - count // len(score)
    ranked = np.where(safe, score.dtype.type(math.inf), score) if safe.any() else score
    found: BoolArray = masks.keep_per_row(ranked, keep) | safe
    return found


def _flags(score: Array, given: BoolArray | None) -> BoolArray:
    return np.zeros(score.shape, np.bool_) if given is None else given


def _below_all(score: Array, kept: BoolArray | None) -> Array:
    return score if kept is None else np.where(kept, score, score.dtype.type(-math.inf))


def _size(scores: Mapping[str, Array], group: Sequence[str]) -> int:
    return sum(scores[layer].size for layer in group)
