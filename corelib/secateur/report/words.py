"""A recipe in words, for headings and for the reason why something was removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secateur.recipe import (
    Bytes,
    Flops,
    Gradient,
    Heads,
    KSigma,
    Layers,
    Magnitude,
    Neurons,
    Parameters,
    Percentile,
    Recipe,
    Sparsity,
    Structured,
    Taylor,
    Units,
    Weights,
)
from secateur.report.formats import number
from secateur.schedules import OneShot

SCORES: dict[type, str] = {Magnitude: "|weight|", Gradient: "mean |gradient|", Taylor: "|weight × gradient|"}

_TARGETS: dict[type, Callable[[Any], str]] = {
    Sparsity: lambda target: f"the lowest {100 * target.sparsity:g} %",
    Percentile: lambda target: (
        f"percentile {target.q:g}"
        + (f" of the fitted {target.distribution} distribution" if target.distribution else "")
    ),
    KSigma: lambda target: f"mean {'+' if target.k >= 0 else '−'} {abs(target.k):g} σ",
    **dict.fromkeys(
        (Parameters, Flops, Bytes),
        lambda target: f"the lowest, until {100 * target.fraction:g} % of the {target.noun} are gone",
    ),
}
_KINDS: dict[type, tuple[str, str]] = {
    Weights: ("weight", "weights"),
    Neurons: ("neuron", "neurons"),
    Heads: ("head", "heads"),
    Layers: ("residual branch", "residual branches"),
}
_SCOPES = {"model": "over the whole model", "layer": "within each layer"}
_NORMS: dict[int | str, str] = {1: "sum of", 2: "Euclidean norm of", "inf": "largest", "mean": "mean"}


def target_words(recipe: Recipe) -> str:
    """The target: ``percentile 50``, ``mean + 1 σ``, ``the lowest 90 %``."""
    return _TARGETS[type(recipe.target)](recipe.target)


def what(recipe: Recipe) -> str:
    """What is removed as one: ``neurons``, ``heads``, ``residual branches`` or ``weights``."""
    return _KINDS[type(recipe.granularity)][1]


def recipe_words(recipe: Recipe) -> dict[str, str]:
    """The recipe as a list of facts."""
    once = isinstance(recipe.schedule, OneShot)
    facts = {
        "granularity": what(recipe) + _limits(recipe),
        "score": SCORES[type(recipe.score)],
        "target": target_words(recipe),
        "scope": _SCOPES[recipe.scope],
        "schedule": "at once" if once else type(recipe.schedule).__name__.lower(),
    }
    patterns = {"include": recipe.include, "exclude": recipe.exclude}
    chosen = {name: ", ".join(some) for name, some in patterns.items() if some and tuple(some) != ("*",)}
    return facts | chosen


def _limits(recipe: Recipe) -> str:
    """What each layer keeps: ``, at least 4 a layer, a multiple of 8``."""
    units = recipe.granularity
    if not isinstance(units, Units):
        return ""
    least = f", at least {units.minimum} a layer" if units.minimum > 1 else ""
    return least + (f", a multiple of {units.multiple}" if units.multiple > 1 else "")


def reason(recipe: Recipe, threshold: float | None) -> str:
    """Why something went: ``|weight| is 0.3 or less: percentile 90 over the whole model``."""
    score = SCORES[type(recipe.score)]
    kind = recipe.granularity
    if isinstance(kind, Structured):
        slices = _slices(kind) if isinstance(kind, Units) else "of"
        score = f"the {_NORMS[kind.norm]} {score} over all weights {slices} the {_KINDS[type(kind)][0]}"
    reached = "is lowest" if threshold is None else f"is {number(threshold)} or less"
    return f"{score} {reached}: {target_words(recipe)} {_SCOPES[recipe.scope]}"


def _slices(kind: Units) -> str:
    words = {"out": "into", "in": "out of", "bias": "in the biases of", "norm": "in the normalisations of"}
    return " and ".join(words[part] for part in kind.slices)
