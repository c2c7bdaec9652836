"""Exact zeros where masks are False, now and through training, whatever optimizer steps.

A hold belongs to the weights: it lives as long as they do, whether or not anybody keeps it, in whatever models they
are, and is no part of a copy of them.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from secateur.adapter import Masks
from secateur.errors import HoldError
from secateur_keras import backends, optimizers
from secateur_keras.naming import weights
from secateur_keras.optimizers import BoolArray, MaskedWeight, Optimizer
from secateur_keras.parameters import to_canonical, to_native


def apply(model: keras.Model, masks: Masks) -> None:
    """Write exact zeros where a mask (canonical layout) is False. Other weights keep their bits.

    Raises:
        NoMatchError: a name that the model does not have.
        ShapeMismatchError: a mask of another shape than the weight.
    """
    backends.synchronise(model)
    native = to_native(model, masks)
    for weight in weights(model):
        if weight.name in native:
            weight.variable.assign(backends.masked(weight.variable, native[weight.name]))


def hold(model: keras.Model, masks: Masks, optimizer: Optimizer | None = None) -> Hold:
    """Apply the masks and keep them through training, by whichever optimizer trains any of the weights.

    Args:
        model: a built model.
        masks: parameter name -> mask in canonical layout; True = kept.
        optimizer: one that must train some of the model's weights, now or once it is built.

    Raises:
        HoldError: the optimizer was built for other variables. Nothing was changed.
    """
    return Hold(model, masks, optimizer)


def release(model: keras.Model) -> None:
    """Release every hold on any weight of the model, for when nobody has kept what ``prune`` returned; that is released
    by its own ``release()``, so that it knows.
    """
    optimizers.drop_from(model.weights)


class Hold:
    """Masks that stay: see :class:`secateur.adapter.Hold`."""

    def __init__(self, model: keras.Model, masks: Masks, optimizer: Optimizer | None) -> None:
        backends.synchronise(model)
        native = to_native(model, masks)
        if optimizer is not None:
            _require_owner(optimizer, model)
        self._model = weakref.ref(model)
        self._weights: list[MaskedWeight] = []
        self._set(model, native)
        apply(model, masks)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hold:
        """The same masks, held in Keras's own copy of the model."""
        model = self._required()
        masks = {id(weight.variable()): weight.mask for weight in self._weights}
        named = {weight.name: masks[id(weight.variable)] for weight in weights(model) if id(weight.variable) in masks}
        return Hold(copy.deepcopy(model, memo), to_canonical(model, named), None)

    def update(self, masks: Masks) -> None:
        """Replace the masks (canonical layout) and apply the new ones at once; a weight without one is kept whole.

        Slots of optimizers (momenta, averages) of dead and of regrown weights become what they began with.

        Raises:
            HoldError: the model is gone, with it the names of its weights.
        """
        model = self._required()
        backends.synchronise(model)
        self._set(model, to_native(model, masks))
        apply(model, masks)

    def forget(self, step: int) -> None:
        """As :class:`secateur.adapter.Hold`: a learning rate that is a schedule goes on from ``step``."""
        optimizers.forget(self._required().trainable_variables, step)

    def release(self) -> None:
        """Stop holding and leave optimizers as they were found. Weights keep their values."""
        optimizers.drop(self)

    def _required(self) -> keras.Model:
        model = self._model()
        if model is None:
            raise HoldError("the model that these masks belong to no longer exists")
        return model

    def _set(self, model: keras.Model, native: Mapping[str, BoolArray]) -> None:
        known = {id(weight.variable()) for weight in self._weights}
        self._weights = [
            MaskedWeight(
                weakref.ref(weight.variable, self._forget),
                native.get(weight.name, np.ones(tuple(weight.variable.shape), np.bool_)),
            )
            for weight in weights(model)
            if weight.name in native or id(weight.variable) in known
        ]
        optimizers.put(self, self._weights)

    def _forget(self, _: weakref.ReferenceType[keras.Variable]) -> None:
        """A weight is gone; with the last one goes the hold."""
        if all(weight.variable() is None for weight in self._weights):
            optimizers.drop(self)


def _require_owner(optimizer: Optimizer, model: keras.Model) -> None:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise HoldError(f"{optimizer!r} is no Keras optimizer; pass the one whose apply() trains the model")
    if optimizer.built and not any(optimizers.trains(optimizer, variable) for variable in model.weights):
        raise HoldError(
            f"optimizer {optimizer.name!r} was built for other variables than those of model {model.name!r}; make a "
            "new optimizer for this model"
        )
