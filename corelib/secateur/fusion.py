"""Several models with one set of masks made into one: the weighted mean of their weights, which costs nothing to run.

Of a pruned model and the dense one that it came from, or of several that were trained apart under the same masks: model
soups (Wortsman et al. 2022). What the masks prune is exactly +0.0 in the result; the means are those of
:mod:`secateur.averaging`, so no framework, order or number of threads can change a bit of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import masks
from secateur.adapter import Adapter, Parameter
from secateur.averaging import weighted_mean
from secateur.checks import loss_of
from secateur.errors import (
    EmptyInputError,
    InvalidTensorError,
    MaskMismatchError,
    ModelTypeError,
    NoMatchError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
)
from secateur.pruned import Pruned
from secateur.scalars import real

Array = npt.NDArray[Any]
Evaluate = Callable[[Any], Any]
Counterparts = Callable[[Any], Mapping[str, str]]
Masks = Mapping[str, npt.NDArray[np.bool_]]
SLACK = 1e-6
"""How far weights may be from 1 in all, as thirds in decimals are."""


@dataclass(frozen=True)
class Fusion:
    """What a model was made of.

    Args:
        weights: the share of the pruned model, then those of the others, in their order; 0.0 where a greedy soup left
            one out.
        losses: what ``evaluate`` said of each by itself, under the masks; empty if there was none.
        loss: what it said of the result; None if there was none.
    """

    weights: tuple[float, ...]
    losses: tuple[float, ...] = ()
    loss: float | None = None


def fuse(
    adapter: Adapter,
    pruned: Pruned,
    others: Any,
    weights: Sequence[float] | None = None,
    evaluate: Evaluate | None = None,
    *,
    counterparts: Counterparts | None = None,
) -> Fusion:
    """Write into a pruned model the mean of its weights and those of others; masks hold as before.

    Weights, biases and running statistics (means and variances) are averaged. Whole numbers, such as counts of batches,
    and buffers of other kinds stay those of the pruned model, and so does what an optimizer remembers. A weight that a
    layer computes from others is not averaged, but these are. Each number is rounded once, to the type that the pruned
    model has it in. The mean of running variances is not the variance under the mean weights: where a model has batch
    normalisation, a few batches in training mode afterwards make it exact.

    Args:
        adapter: the framework's adapter.
        pruned: a pruned model, also one in the middle of a training: its masks are those of now.
        others: a model, such as the dense original, or what pruning another one returned; or several of these. They
            are only read.
        weights: the share of the pruned model, then one of each other: not negative, together 1. None for equal ones.
        evaluate: model -> a number that grows as the model gets worse, on data that no test uses. The soup is then
            *greedy*: from the best model on, each next one, as good as it is by itself, is taken in with an equal share
            if the mean gets no worse. Every candidate is evaluated in the place of the pruned model.
        counterparts: called with each model, the pruned one first: which names of its weights are others in that one.

    Raises:
        ModelTypeError: ``pruned`` is no pruned model.
        EmptyInputError: there is no other model.
        RecipeError: both weights and ``evaluate`` are given, or a weight is no number.
        OutOfRangeError: a weight is negative or not finite, or they do not add up to 1.
        NoMatchError: a model has other parameters.
        ShapeMismatchError: a parameter has another shape, or there is not one weight for each model.
        MaskMismatchError: another pruned model has other masks.
        InvalidTensorError: a number that would be averaged is not finite.
        HoldError: since the masks were released, weights that they prune are not zero any more.
    """
    if not isinstance(pruned, Pruned):
        raise ModelTypeError(
            f"{type(pruned).__name__} is not pruned: give what prune() returned, or a Pruner, and fuse before compact()"
        )
    listed = list(others) if isinstance(others, Sequence) else [others]
    if not listed:
        raise EmptyInputError("there is no other model to fuse with: give one at least")
    if evaluate is not None and weights is not None:
        raise RecipeError("a greedy soup (evaluate=) finds the weights itself: leave weights= or evaluate= out")
    given = _checked(weights, 1 + len(listed))
    pruned.require_zeros("a mean would lose them; prune the model again")
    mixture = _Mixture(adapter, pruned, listed, counterparts or (lambda _: {}))
    if evaluate is not None:
        return mixture.greedy(evaluate)
    adapter.assign(pruned.model, mixture.mean(given))
    return Fusion(given)


class _Mixture:
    """Models that were found to fit together, as parameter name -> array in canonical layout.

    Raises as :func:`fuse`.
    """

    def __init__(self, adapter: Adapter, pruned: Pruned, others: Sequence[Any], counterparts: Counterparts) -> None:
        self._adapter, self._model = adapter, pruned.model
        self._masks = adapter.canonical(pruned.model, pruned.masks)
        counterparts(pruned.model)
        self._parts = [_numbers(adapter.parameters(pruned.model))]
        self._names = ["the pruned model", *(f"other model {place}" for place in range(len(others)))]
        for name, other in zip(self._names[1:], others, strict=True):
            model = other.model if isinstance(other, Pruned) else other
            names = counterparts(model)
            numbers = {names.get(key, key): value for key, value in _numbers(adapter.parameters(model)).items()}
            _require_alike(name, numbers, self._parts[0])
            if isinstance(other, Pruned):
                own = adapter.canonical(model, other.masks)
                _require_masks(name, {names.get(key, key): mask for key, mask in own.items()}, self._masks)
            self._parts.append(numbers)
        for name, numbers in zip(self._names, self._parts, strict=True):
            _require_finite(name, numbers)

    def mean(self, weights: Sequence[float]) -> dict[str, Array]:
        """The masked mean; models of weight 0 have no part in it."""
        used = [(part, weight) for part, weight in zip(self._parts, weights, strict=True) if weight]
        found = {}
        for name, own in self._parts[0].items():
            mean = weighted_mean([part[name] for part, _ in used], [weight for _, weight in used], own.dtype)
            found[name] = masks.apply(mean, self._masks[name]) if name in self._masks else mean
        return found

    def greedy(self, evaluate: Evaluate) -> Fusion:
        """The greedy soup, written into the model; what the model was if ``evaluate`` fails."""
        self._parts = [{name: np.array(view) for name, view in part.items()} for part in self._parts]
        try:
            return self._soup(evaluate)
        except BaseException:
            self._adapter.assign(self._model, self._parts[0])
            raise

    def _soup(self, evaluate: Evaluate) -> Fusion:
        everyone = range(len(self._parts))
        losses = [self._loss(evaluate, [place]) for place in everyone]
        best, *rest = sorted(everyone, key=lambda place: losses[place])
        chosen, loss = [best], losses[best]
        for place in rest:
            found = self._loss(evaluate, [*chosen, place])
            if found <= loss:
                chosen, loss = [*chosen, place], found
        weights = self._write(chosen)
        return Fusion(weights, tuple(losses), loss)

    def _loss(self, evaluate: Evaluate, chosen: Sequence[int]) -> float:
        self._write(chosen)
        told = " with ".join(self._names[place] for place in chosen)
        return loss_of(evaluate, self._model, told)

    def _write(self, chosen: Sequence[int]) -> tuple[float, ...]:
        """Equal shares of some of the models; returns the weights of all."""
        weights = tuple(1.0 / len(chosen) if place in chosen else 0.0 for place in range(len(self._parts)))
        self._adapter.assign(self._model, self.mean(weights))
        return weights


def _checked(weights: Sequence[float] | None, models: int) -> tuple[float, ...]:
    if weights is None:
        return (1.0 / models,) * models
    if not hasattr(weights, "__len__") or len(weights) != models:
        raise ShapeMismatchError(
            f"weights are {weights!r}: give {models} numbers, that of the pruned model first, then one of each other"
        )
    found = tuple(real(f"weight {place}", weight) for place, weight in enumerate(weights))
    for place, weight in enumerate(found):
        if not 0.0 <= weight < math.inf:
            raise OutOfRangeError(f"weight {place} is {weight}: give numbers from 0 that add up to 1")
    if abs(math.fsum(found) - 1.0) > SLACK:
        raise OutOfRangeError(f"weights {found} add up to {math.fsum(found):g}: divide them by that, to add up to 1")
    return found


def _numbers(parameters: Sequence[Parameter]) -> dict[str, Array]:
    return {parameter.name: parameter.view for parameter in parameters}


def _require_alike(name: str, numbers: Mapping[str, Array], own: Mapping[str, Array]) -> None:
    if different := sorted(numbers.keys() ^ own.keys()):
        raise NoMatchError(
            f"{name} and the pruned model have different parameters ({', '.join(different[:8])}): fuse models of one "
            "architecture, unwrapped"
        )
    shapes = [(key, value.shape, own[key].shape) for key, value in numbers.items() if value.shape != own[key].shape]
    if shapes:
        told = ", ".join(f"{key} {shape}, not {wanted}" for key, shape, wanted in shapes[:8])
        raise ShapeMismatchError(
            f"{name} has parameters of other shapes ({told}): what compact() returned does not tell which units it has "
            "left, so fuse first and compact the result"
        )


def _require_masks(name: str, theirs: Masks, own: Masks) -> None:
    differ = {}
    for key in sorted(theirs.keys() | own.keys()):
        both = [given.get(key) for given in (theirs, own)]
        known = next(mask for mask in both if mask is not None)
        first, second = (np.ones_like(known) if mask is None else mask for mask in both)
        differ[key] = masks.hamming(first, second)
    if any(differ.values()):
        told = ", ".join(f"{count} in {key}" for key, count in differ.items() if count)
        raise MaskMismatchError(
            f"{name} and the pruned model prune different weights ({told} differ), and a mean under one set of masks "
            "would lose what the other keeps: train both under the same masks, as from copies of one pruned model, or "
            "give its plain model"
        )


def _require_finite(name: str, numbers: Mapping[str, Array]) -> None:
    for key, value in numbers.items():
        if not np.isfinite(value).all():
            index = tuple(int(at) for at in np.argwhere(~np.isfinite(value))[0])
            raise InvalidTensorError(
                f"{key} of {name} holds {value[index]} at index {index}, which has no mean with others: leave it out"
            )
