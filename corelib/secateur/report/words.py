"""A recipe in words, for headings and for the reason why something was removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from secateur.recipe import (
    ERK,
    Blocks,
    Bytes,
    Flops,
    Global,
    Heads,
    KSigma,
    Latency,
    Layers,
    Neurons,
    NofM,
    Parameters,
    Percentile,
    PerLayer,
    Recipe,
    Scales,
    Sensitivity,
    Sparsity,
    Structured,
    Uniform,
    Units,
    UnitScore,
    Weights,
)
from secateur.recipe.granularity import Granularity
from secateur.report.formats import number
from secateur.schedules import OneShot
from secateur.structure.coupling import Frozen
from secateur.structure.sets import Slice

_TARGETS: dict[type, Callable[[Any], str]] = {
    Sparsity: lambda target: f"the lowest {100 * target.sparsity:g} %",
    Percentile: lambda target: (
        f"percentile {target.q:g}"
        + (f" of the fitted {target.distribution} distribution" if target.distribution else "")
    ),
    PerLayer: lambda target: (
        "the lowest " + ", ".join(f"{100 * value:g} % of {name}" for name, value in target.sparsities.items())
    ),
    KSigma: lambda target: f"mean {'+' if target.k >= 0 else '−'} {abs(target.k):g} σ",
    **dict.fromkeys(
        (Parameters, Flops, Bytes),
        lambda target: f"the lowest, until {100 * target.fraction:g} % of the {target.noun} are gone",
    ),
    Latency: lambda target: (
        f"the lowest, until {100 * target.fraction:g} % of the time of a forward pass is gone"
        if target.milliseconds is None
        else f"the lowest, until a forward pass takes at most {target.milliseconds:g} ms"
    ),
}
_KINDS: dict[type, tuple[str, str]] = {
    Weights: ("weight", "weights"),
    Blocks: ("block", "blocks"),
    NofM: ("weight", "weights"),
    Scales: ("weight", "weights"),
    Neurons: ("neuron", "neurons"),
    Heads: ("head", "heads"),
    Layers: ("residual branch", "residual branches"),
}
_SCOPES = {"model": "over the whole model", "layer": "within each layer", "row": "within each row"}
_ALLOCATIONS: dict[type, str] = {
    Uniform: "the same sparsity in every layer",
    ERK: "Erdős–Rényi kernels",
    Sensitivity: "the same increase of the loss in every layer",
}
_NORMS: dict[int | str, str] = {1: "sum of", 2: "Euclidean norm of", "inf": "largest", "mean": "mean"}


def target_words(recipe: Recipe) -> str:
    """The target: ``percentile 50``, ``mean + 1 σ``, ``the lowest 90 %``."""
    return _TARGETS[type(recipe.target)](recipe.target)


def what(recipe: Recipe) -> str:
    """What is removed as one: ``neurons``, ``heads``, ``blocks``, ``residual branches`` or ``weights``."""
    return _KINDS[type(recipe.granularity)][1]


def recipe_words(recipe: Recipe) -> dict[str, str]:
    """The recipe as a list of facts."""
    once = recipe.schedule == OneShot()
    facts = {
        "granularity": _kinds(recipe.granularity),
        "score": recipe.score.words,
        "target": target_words(recipe),
        "scope": _SCOPES[recipe.scope],
        **({} if isinstance(recipe.allocation, Global) else {"allocation": _ALLOCATIONS[type(recipe.allocation)]}),
        "schedule": "at once" if once else _timed(recipe.schedule),
        **({} if recipe.regrowth is None else {"regrowth": _timed(recipe.regrowth)}),
    }
    patterns = {"include": recipe.include, "exclude": recipe.exclude}
    chosen = {name: ", ".join(some) for name, some in patterns.items() if some and tuple(some) != ("*",)}
    return facts | chosen


def _divided(recipe: Recipe) -> str:
    return "" if isinstance(recipe.allocation, Global) else f", {_ALLOCATIONS[type(recipe.allocation)]}"


def _timed(part: Any) -> str:
    """A schedule or a regrowth: ``Cubic: begin 0, end 20 (steps)``, without what is as always."""
    told = [
        f"{field.name} {value}"
        for field in fields(part)
        if field.name != "unit" and (value := getattr(part, field.name)) != field.default
    ]
    return f"{type(part).__name__}: {', '.join(told)} ({part.unit}s)"


def _kinds(kind: Granularity) -> str:
    """What is removed: ``neurons, at least 4 a layer``; ``neurons (40 %), then weights``."""
    if not isinstance(kind, Scales):
        return _KINDS[type(kind)][1] + _limits(kind)
    coarse = zip(kind.parts, kind.shares, strict=False)
    return ", then ".join([*(f"{_kinds(each)} ({100 * share:g} %)" for each, share in coarse), _kinds(kind.parts[-1])])


def _limits(units: Granularity) -> str:
    """What each layer or group keeps, ``, at least 4 a layer, a multiple of 8``, and of what goes."""
    if isinstance(units, NofM):
        return f", {units.n} of each {units.m} inputs"
    if not isinstance(units, Units):
        return ""
    least = f", at least {units.minimum} a layer" if units.minimum > 1 else ""
    least += f", a multiple of {units.multiple}" if units.multiple > 1 else ""
    return least + (", their means folded into biases" if units.compensate else "")


def reason(recipe: Recipe, threshold: float | None) -> str:
    """Why something went: ``|weight| is 0.3 or less: percentile 90 over the whole model``."""
    score = recipe.score.words
    kind = recipe.granularity
    if isinstance(kind, Structured) and not isinstance(recipe.score.single, UnitScore):
        slices = _slices(kind) if isinstance(kind, Units) else "of"
        score = f"the {_NORMS[kind.norm]} {score} over all weights {slices} the {_KINDS[type(kind)][0]}"
    reached = "is lowest" if threshold is None else f"is {number(threshold)} or less"
    return f"{score} {reached}: {target_words(recipe)} {_SCOPES[recipe.scope]}{_divided(recipe)}"


def _slices(kind: Units) -> str:
    words = {"out": "into", "in": "out of", "bias": "in the biases of", "norm": "in the normalisations of"}
    return " and ".join(words[part] for part in kind.slices)


def together(slices: Sequence[Slice], most: int) -> str:
    """What goes with one unit: ``conv.weight out, conv.bias, fc.weight in (49)``; of many slices the first few."""
    told = [" ".join(filter(None, (each.parameter, each.axis, _times(each.times)))) for each in slices]
    return first_of(told, most)


def _times(times: int) -> str:
    return f"({times})" if times > 1 else ""


def held_back(frozen: Sequence[Frozen], most: int) -> Iterator[str]:
    """What stays, and why: one line for all operations that hold the same parameters back for the same reason."""
    places: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for item in frozen:
        places.setdefault((item.parameters, item.reason), []).append(item.where)
    for (parameters, reason), where in places.items():
        yield f"{first_of(parameters, most)}: {first_of(where, most)}: {reason}"


def first_of(names: Sequence[str], most: int) -> str:
    """Names in a row; of many the first few, and how many there are besides."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
