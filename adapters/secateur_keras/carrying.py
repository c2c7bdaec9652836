"""An optimizer for the smaller model, which goes on where the large model's stopped."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from secateur.errors import HoldError, ModelTypeError
from secateur.structure.removal import Plan
from secateur_keras import backends
from secateur_keras.cutting import cut, cut_shape
from secateur_keras.layouts import layout
from secateur_keras.naming import Weight
from secateur_keras.optimizers import Optimizer, inner, remembered
from secateur_keras.parameters import layouts
from secateur_keras.rebuilding import carry_compilation, fresh
from secateur_keras.surgery import counterparts

Pair = tuple[Weight, Weight]


def carried(optimizer: Optimizer, model: keras.Model, small: keras.Model, plan: Plan) -> Optimizer:
    """An optimizer of the same class and config for ``small``, with the state of what stays.

    Momenta, averages and accumulated gradients are cut as the weights were; iterations, the rate and loss scales go on.
    If ``optimizer`` is the one that ``model`` is compiled with, ``small`` is compiled with the new one.

    Args:
        optimizer: the one that trained ``model``; it is not changed.
        model: the large model.
        small: what became of it.
        plan: what was removed.

    Raises:
        ModelTypeError: ``small`` is no model.
        HoldError: ``optimizer`` is none, trains other weights than the model's, or keeps averages over rows and columns
            of a weight that was cut; or ``small`` was made otherwise.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise HoldError(f"the optimizer is a {type(optimizer).__name__}: give the keras.optimizers.Optimizer itself")
    if not isinstance(small, keras.Model):
        raise ModelTypeError(f"the smaller model is a {type(small).__name__}: give what compact() returned")
    backends.synchronise(model)
    pairs = _pairs(optimizer, model, counterparts(small))
    carrier = _Carrier(plan, pairs)
    carrier.require(optimizer)
    twin: Optimizer = fresh(optimizer)
    if optimizer.built:
        twin.build([after.variable for _, after in pairs])
        carrier.fill(optimizer, twin)
    if model.compiled and optimizer is model.optimizer:
        carry_compilation(model, small, twin)
    return twin


def _pairs(optimizer: Optimizer, model: keras.Model, made: dict[str, Weight]) -> list[Pair]:
    """The weights that the optimizer trains and what became of each; without those that the smaller model has not."""
    known = {id(weight.variable): weight for weight, _ in layouts(model)}
    trained = optimizer._trainable_variables if optimizer.built else []
    foreign = [variable.path for variable in trained if id(variable) not in known]
    if foreign:
        raise HoldError(
            f"the optimizer trains {', '.join(foreign)}, which are no weights of {model.name!r}; give the optimizer "
            "that trained the model that was pruned"
        )
    weights = [known[id(variable)] for variable in trained]
    return [(weight, made[weight.name]) for weight in weights if weight.name in made]


class _Carrier:
    """Moves state from one optimizer to another."""

    def __init__(self, plan: Plan, pairs: list[Pair]) -> None:
        self._plan, self._pairs = plan, pairs
        self._cut = {name for name, _ in plan.keep}

    def require(self, optimizer: Optimizer) -> None:
        """Raises HoldError if some state can not be cut, or the plan is another one."""
        for before, after in self._pairs:
            expected = cut_shape(before, self._plan)
            if layout(after).shape != expected:
                raise HoldError(
                    f"{before.name} has the sizes {layout(after).shape} ({', '.join(layout(after).axes)}) in the "
                    f"smaller model, but by the masks of now {expected}: give what compact() returned, before anything "
                    "more was pruned"
                )
            for each in (optimizer, *inner(optimizer)):
                self._require_slots(each, before)

    def _require_slots(self, optimizer: Optimizer, weight: Weight) -> None:
        shape = weight.variable.shape
        for name, slot in remembered(optimizer, weight.variable).items():
            if weight.name in self._cut and slot.shape != shape and len(slot.shape):
                raise HoldError(
                    f"{type(optimizer).__name__} keeps {name} of {weight.name} in the shape {tuple(slot.shape)}, "
                    f"not {tuple(shape)}, which cannot be cut as the weight was: make a new optimizer for the model"
                )

    def fill(self, optimizer: Optimizer, twin: Optimizer) -> None:
        """Give ``twin``, which is built, the state of ``optimizer``, and so on for the optimizers within."""
        for name, value in vars(optimizer).items():
            if isinstance(value, keras.Variable):
                getattr(twin, name).assign(_copied(value))
        for before, after in self._pairs:
            slots = remembered(twin, after.variable)
            for name, slot in remembered(optimizer, before.variable).items():
                same = slot.shape != before.variable.shape
                slots[name].assign(_copied(slot) if same else self._sliced(before, after, slot))
        for old, new in zip(inner(optimizer), inner(twin), strict=True):
            self.fill(old, new)

    def _sliced(self, before: Weight, after: Weight, variable: Any) -> backends.Array:
        return cut(backends.array(variable), before, after, self._plan)


def _copied(variable: keras.Variable) -> backends.Array:
    """Numbers that nothing else uses: JAX's compiled steps take the memory of those that they replace."""
    return np.array(backends.array(variable))
