"""What Keras answers for one batch, of which :mod:`secateur.gathering` makes the statistics of scores.

Gradients are taken in inference mode and with respect to values that are handed to the model, so no weight, running
statistic, seed, metric or optimizer changes. Penalties (regularizers, ``add_loss``) are no part of the loss.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from secateur.adapter import Masks
from secateur.errors import MissingDataError
from secateur.gathering import gather
from secateur.statistics import takes_loss
from secateur_keras import backends
from secateur_keras.activations import Observer
from secateur_keras.examples import made_up
from secateur_keras.inference import forward, values
from secateur_keras.naming import require_model
from secateur_keras.parameters import layouts, to_native
from secateur_keras.reading import reading

Array = npt.NDArray[Any]
Loss = Callable[[Any, Any], Any]
Differentiable = Callable[..., Any]


def statistics(
    model: keras.Model,
    data: Any,
    loss: Any,
    needs: Iterable[str],
    example: Any | None = None,
    masks: Masks | None = None,
) -> dict[str, dict[str, Array]]:
    """Gather statistics; see :func:`secateur.gathering.gather` for what is returned and raised.

    Args:
        model: a built model.
        data: ``(x, y)`` arrays or an iterable of ``(inputs, labels)``; see :func:`secateur.batches.batches`.
        loss: a Keras loss, its name, or ``loss(y_true, y_pred)``; None for the loss that the model was compiled with.
        needs: names in :data:`secateur.statistics.STATISTICS`.
        example: an input, where there is no data; not needed if the model knows its inputs' shapes.
        masks: name -> mask (canonical layout): the statistics are those of the model under these masks.

    On JAX a weight on which the loss does not depend has zeros.

    Raises:
        MissingDataError: no loss, though a statistic is about one.
        UnbuiltModelError: the model has no weights yet.
    """
    needs = list(needs)
    about_loss = takes_loss(needs)
    require_model(model)
    backends.synchronise(model)
    if example is None and data is None and not about_loss:
        example = _known_inputs(model)
    source = _Source(model, _objective(model, loss) if about_loss else None, loss, masks or {})
    with reading(data):
        return gather(source, data, needs, example)


class _Source:
    """See :class:`secateur.gathering.Source`."""

    def __init__(self, model: keras.Model, objective: Loss | None, loss: Any, masks: Masks) -> None:
        self._model = model
        self._objective = objective
        self._loss = loss if loss is not None else getattr(model, "_compile_loss", None)
        self._known = {id(weight.variable): (weight.name, form) for weight, form in layouts(model)}
        native = to_native(model, masks)
        self._trainable = self._masked(model.trainable_variables, native)
        self._others = self._masked(model.non_trainable_variables, native)

    def gradients(self, inputs: Any, labels: Any) -> dict[str, Array]:
        """One backward pass."""
        function = self._function("gradient", backends.gradient)
        found = function(self._trainable, self._others, backends.tensors(inputs), backends.tensors(labels))
        return self._named(found)

    def hessian_products(self, inputs: Any, labels: Any, vector: Mapping[str, Array]) -> dict[str, Array]:
        """A derivative of a backward pass."""
        function = self._function("hessian", backends.hessian_product)
        along = [
            keras.ops.convert_to_tensor(self._native(variable, vector), keras.backend.standardize_dtype(value.dtype))
            for variable, value in zip(self._model.trainable_variables, self._trainable, strict=True)
        ]
        given = backends.tensors(inputs), backends.tensors(labels)
        return {
            name: each
            for name, each in self._named(function(self._trainable, along, self._others, *given)).items()
            if name in vector
        }

    def observer(self, needs: Sequence[str]) -> Observer:
        """See :class:`secateur_keras.activations.Observer`."""
        return Observer(self._model, needs, (self._trainable, self._others))

    def flow(self, ones: Any) -> tuple[list[Array], dict[str, Array]]:
        """One backward pass of the outputs' sum."""
        trainable = self._positive(self._model.trainable_variables, self._trainable)
        others = self._positive(self._model.non_trainable_variables, self._others)
        given = backends.tensors(ones)
        found = self._function("flow", backends.gradient)(trainable, others, given)
        outputs = keras.tree.flatten(forward(self._model, trainable, others, given))
        return [backends.array(output) for output in outputs if _is_float(output)], self._named(found)

    def _masked(self, variables: Sequence[keras.Variable], native: Mapping[str, Array]) -> list[Any]:
        """The variables' numbers, under their masks."""
        names = [self._name(variable) for variable in variables]
        return [
            backends.masked(variable, native[name]) if name in native else value
            for variable, name, value in zip(variables, names, values(variables), strict=True)
        ]

    def _positive(self, variables: Sequence[keras.Variable], numbers: Sequence[Any]) -> list[Any]:
        """The magnitudes of weights; running statistics, counters and seeds as they are."""
        roles = [self._known[id(variable)][1].role if id(variable) in self._known else "" for variable in variables]
        return [
            value if role in ("", "mean", "variance") else keras.ops.abs(value)
            for role, value in zip(roles, numbers, strict=True)
        ]

    def _named(self, found: Sequence[Any]) -> dict[str, Array]:
        listed = zip(self._model.trainable_variables, backends.arrays(found), strict=True)
        known = ((*self._known[id(variable)], each) for variable, each in listed if each is not None)
        return {name: form.to_canonical(each) for name, form, each in known}

    def _name(self, variable: keras.Variable) -> str:
        return self._known[id(variable)][0] if id(variable) in self._known else ""

    def _native(self, variable: keras.Variable, vector: Mapping[str, Array]) -> Array:
        """A vector's part for a variable, in Keras's layout; zeros where it has none."""
        name, form = self._known[id(variable)]
        return np.array(form.to_native(vector[name]), order="C") if name in vector else np.zeros(form.native)

    def _function(self, kind: str, derive: Callable[[Differentiable], Differentiable]) -> Differentiable:
        """The derivative of a batch's loss, or of the outputs' sum, with respect to the trainable values."""
        variables = tuple(map(id, self._model.trainable_variables))
        key = (kind, None if kind == "flow" else self._loss, variables)
        own = _functions.setdefault(self._model, {})
        if key not in own:
            while len(own) >= KEPT:
                del own[next(iter(own))]
            own[key] = derive(_summed(self._model) if kind == "flow" else _valued(self._model, self._objective))
        return own[key]


_functions: weakref.WeakKeyDictionary[keras.Model, dict[tuple[Any, ...], Differentiable]] = weakref.WeakKeyDictionary()
"""The derivatives of each model, kept so that repeated updates during training compile them once."""

KEPT = 8
"""So many derivatives of a model are kept: those of a few tasks."""


def _valued(model: keras.Model, objective: Any) -> Differentiable:
    """``(trainable values, other values, inputs, labels) -> the batch's mean loss``."""
    reference = weakref.ref(model)

    def of_batch(trainable: Any, non_trainable: Any, inputs: Any, labels: Any) -> Any:
        predictions = forward(reference(), trainable, non_trainable, inputs)
        with keras.StatelessScope():
            return objective(labels, predictions)

    return of_batch


def _summed(model: keras.Model) -> Differentiable:
    """``(trainable values, other values, inputs) -> the sum of all outputs``."""
    reference = weakref.ref(model)

    def of_inputs(trainable: Any, non_trainable: Any, inputs: Any) -> Any:
        outputs = keras.tree.flatten(forward(reference(), trainable, non_trainable, inputs))
        first, *others = [keras.ops.sum(output) for output in outputs if _is_float(output)]
        return sum(others, first)

    return of_inputs


def _is_float(tensor: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def _known_inputs(model: keras.Model) -> Any | None:
    """An input of the shapes that the model knows, if it knows any."""
    inputs = getattr(model, "inputs", None)
    parts = [] if inputs is None else made_up(model, inputs)
    return parts[0] if len(parts) == 1 else parts or None


def _objective(model: keras.Model, loss: Any) -> Loss:
    """A batch's mean loss as ``objective(labels, predictions)``."""
    if loss is None:
        compiled = getattr(model, "_compile_loss", None)
        if compiled is None:
            raise MissingDataError("gradients need a loss, and the model is not compiled with one: pass loss=")
        return compiled
    try:
        found = keras.losses.get(loss)
    except (TypeError, ValueError) as error:
        raise MissingDataError(
            f"loss={loss!r} is none that Keras knows: pass a keras.losses.Loss, its name, or loss(y_true, y_pred)"
        ) from error
    if not callable(found):
        raise MissingDataError(f"loss={loss!r} cannot be called: pass a Keras loss, its name, or loss(y_true, y_pred)")
    return found if isinstance(found, keras.losses.Loss) else _FunctionLoss(found)


class _FunctionLoss(keras.losses.Loss):
    """A plain function as Keras's ``compile`` would take it: labels converted, result averaged."""

    def __init__(self, function: Loss) -> None:
        super().__init__(name="loss")
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each example."""
        return self.function(y_true, y_pred)
