"""Names of layers and weights that depend on the model alone.

Keras's ``variable.path`` holds the automatic name of the model that was built around a layer
(``sequential_3/dense/kernel``) and need not be unique. Here a weight is named by the way from the model to it:
``dense/kernel``, ``encoder/dense_1/kernel``; layers that share a name are told apart by a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras

from secateur.errors import ModelTypeError, UnbuiltModelError


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
