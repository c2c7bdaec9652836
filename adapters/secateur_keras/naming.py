"""Names of layers and weights that depend on the model alone.

Keras's ``variable.path`` holds the automatic name of the model that was built around a layer
(``sequential_3/dense/kernel``) and need not be unique. Here a weight is named by the way from the model to it:
``dense/kernel``, ``encoder/dense_1/kernel``; layers that share a name are told apart by a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import keras

from secateur.errors import ModelTypeError, NoMatchError, UnbuiltModelError


@dataclass(frozen=True)
class Weight:
    """A variable of the model, with the layer that owns it and both their names."""

    name: str
    variable: keras.Variable
    owner: keras.Layer
    layer: str


def require_model(model: object) -> None:
    """Raise ModelTypeError for anything but a Keras model, UnbuiltModelError if it has no weights yet."""
    if not isinstance(model, keras.Model):
        raise ModelTypeError(
            f"{type(model).__name__} is no keras.Model; pass the model itself, a layer as keras.Sequential([layer])"
        )
    require_built(model)


def require_built(model: keras.Model) -> None:
    """Raise UnbuiltModelError if the model has no weights yet."""
    if not model.built:
        raise UnbuiltModelError(
            f"model {model.name!r} has no weights yet: call it on an input, or start it with keras.Input(shape)"
        )


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly below ``layer``."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    return list(layer._flatten_layers(recursive=False, include_self=False))


def own_weights(layer: keras.Layer) -> list[keras.Variable]:
    """The weights of a layer that belong to none of its layers."""
    lower = {id(variable) for child in sublayers(layer) for variable in child.weights}
    return [variable for variable in layer.weights if id(variable) not in lower]


def layer_paths(model: keras.Model) -> dict[int, str]:
    """id of a layer -> its path from the model (``""`` for the model), in order of definition, first way found."""
    paths = {id(model): ""}
    taken = {""}
    for layer, parent in below(model):
        prefix = paths[id(parent)]
        paths[id(layer)] = unique(f"{prefix}/{layer.name}" if prefix else layer.name, taken)
    return paths


def weights(model: keras.Model) -> list[Weight]:
    """All variables of ``model.weights`` under unique names, in order of definition.

    Raises:
        UnbuiltModelError: they do not exist yet.
    """
    require_built(model)
    paths = layer_paths(model)
    found: dict[int, Weight] = {}
    taken: set[str] = set()
    for layer in [model, *(layer for layer, _ in below(model))]:
        path = paths[id(layer)]
        for variable in own_weights(layer):
            if id(variable) not in found:
                name = unique(f"{path}/{variable.name}" if path else variable.name, taken)
                found[id(variable)] = Weight(name, variable, layer, path)
    return list(found.values())


def below(layer: keras.Layer, seen: set[int] | None = None) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """Every layer below ``layer`` once, parents first, with its parent."""
    seen = {id(layer)} if seen is None else seen
    for child in sublayers(layer):
        if id(child) not in seen:
            seen.add(id(child))
            yield child, layer
            yield from below(child, seen)


def unique(name: str, taken: set[str]) -> str:
    """``name``, or with the first number after it that is free."""
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


class Counterparts:
    """Called with several models of one architecture: which names in each are others in the first, as Keras numbers.

    Raises:
        ModelTypeError, UnbuiltModelError: one is no model.
        NoMatchError: its weights are others, or of other names where the user gave any.
    """

    def __init__(self) -> None:
        self._first: list[list[str]] | None = None

    def __call__(self, model: keras.Model) -> dict[str, str]:
        """Name in the model -> name in the first one, of weights and layers; nothing if the names are the same."""
        require_model(model)
        own = owned(model)
        if self._first is None:
            self._first = own
        if apart := unlike(own, self._first):
            raise NoMatchError(
                f"models have different weights: first {apart[0]} in one, {apart[1]} in the first of them; give models "
                "of one architecture, with the same names where you give any"
            )
        return renamed(own, self._first)


def owned(model: keras.Model) -> list[list[str]]:
    """Name, layer and the layer's class of each weight, in order of definition."""
    return [[weight.name, weight.layer, type(weight.owner).__name__] for weight in weights(model)]


def unlike(there: Sequence[list[str]], here: Sequence[list[str]]) -> list[str]:
    """The first weights, of two models as :func:`owned` tells them, that are not each other's; none if all are.

    Those of one name are, in any order. Where names differ, weights are taken in the order of definition, and names may
    differ in the numbers that Keras gave.
    """
    if {name for name, *_ in there} == {name for name, *_ in here}:
        return []
    for pair in zip_longest(there, here):
        if None in pair or len({_unnumbered(each) for each in pair}) > 1:
            return ["no further weight" if each is None else f"{each[0]} (of a {each[2]})" for each in pair]
    return []


def renamed(there: Sequence[list[str]], here: Sequence[list[str]]) -> dict[str, str]:
    """Name there -> name here of weights and layers that are each other's; nothing if the names are the same."""
    if {name for name, *_ in there} == {name for name, *_ in here}:
        return {}
    pairs = zip(there, here, strict=True)
    return {old: new for one, other in pairs for old, new in zip(one[:2], other[:2], strict=True)}


def _unnumbered(told: list[str]) -> tuple[str, str]:
    name, _, kind = told
    return "/".join(re.sub(r"(_\d+)+$", "", part) for part in name.split("/")), kind
