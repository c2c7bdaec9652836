"""What scores are computed from, gathered over batches: the gradients of a loss, averaged, and what kernels read.

Gradients are taken in inference mode and with respect to values that are handed to the model, so no weight, running
statistic, seed, metric or optimizer changes. Penalties (regularizers, ``add_loss``) are no part of the loss.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from secateur.batches import batches, explained
from secateur.errors import InvalidTensorError, MissingDataError
from secateur.statistics import Needs, sorted_needs
from secateur_keras import backends
from secateur_keras.activations import Observer
from secateur_keras.inference import forward, values
from secateur_keras.naming import require_model
from secateur_keras.parameters import layouts
from secateur_keras.reading import reading

Array = npt.NDArray[Any]
Loss = Callable[[Any, Any], Any]

STATISTICS: dict[str, Callable[[Array], Array]] = {
    "mean_abs_gradient": np.abs,
    "mean_gradient": lambda gradient: gradient,
}
"""Name -> what is averaged over the batches, of those in :data:`secateur.statistics.GRADIENTS`."""


def statistics(model: keras.Model, data: Any, loss: Any, needs: Iterable[str]) -> dict[str, dict[str, Array]]:
    """Gather statistics of the gradients of a loss, and of what kernels read.

    Of gradients every batch has equal weight; sums are in float32, or in the weight's own type if that is wider, batch
    after batch. Of activations every row and position has.

    Args:
        model: a built model.
        data: ``(x, y)`` arrays or an iterable of ``(inputs, labels)``; without gradients labels may be left out; see
            :func:`secateur.batches.batches`.
        loss: a Keras loss, its name, or ``loss(y_true, y_pred)``; None for the loss that the model was compiled with.
            For gradients only.
        needs: names from :mod:`secateur.statistics`.

    Returns:
        Statistic -> name of a trainable weight -> array in canonical layout; of activations name of a kernel -> float64
        that goes with the canonical layout by broadcasting. A weight on which the loss does not depend is absent (on
        JAX: zeros), and so is a kernel that is not simply multiplied with a tensor.

    Raises:
        MissingDataError: no data, no labels, no loss, an unknown statistic, or a batch that model or loss refuses.
        InvalidTensorError: a gradient, or what a kernel reads, is NaN; names batch and weight.
        UnbuiltModelError: the model has no weights yet.
    """
    wanted = sorted_needs(needs)
    require_model(model)
    backends.synchronise(model)
    observer = Observer(model, wanted.activations)
    with reading(data):
        means = _means(_Gradients(model, loss) if wanted.labelled else None, observer, data, wanted)
    forms = {weight.name: form for weight, form in layouts(model)}
    canonical = {
        need: {name: forms[name].to_canonical(array) for name, array in found.items()} for need, found in means.items()
    }
    return {**canonical, **observer.means()}


class _Gradients:
    """A batch's gradients, by the names of the trainable weights."""

    def __init__(self, model: keras.Model, loss: Any) -> None:
        known = {id(weight.variable): weight.name for weight, _ in layouts(model)}
        self._names = [known[id(variable)] for variable in model.trainable_variables]
        self._function = _gradients(model, loss)
        self._state = values(model.trainable_variables), values(model.non_trainable_variables)

    def of(self, inputs: Any, labels: Any) -> dict[str, Array]:
        """Those that there are, in Keras's layout."""
        found = self._function(*self._state, backends.tensors(inputs), backends.tensors(labels))
        pairs = zip(self._names, backends.arrays(found), strict=True)
        return {name: gradient for name, gradient in pairs if gradient is not None}


def _means(gradients: _Gradients | None, observer: Observer, data: Any, wanted: Needs) -> dict[str, dict[str, Array]]:
    """Statistic of gradients -> weight -> mean over the batches; the observer has then seen them too."""
    totals: dict[str, dict[str, Array]] = {need: {} for need in wanted.gradients}
    count = 0
    for inputs, labels in batches(data, labelled=wanted.labelled):
        with explained(count, inputs, labels if wanted.labelled else None):
            if wanted.activations:
                observer.observe(inputs, count)
            found = {} if gradients is None else gradients.of(inputs, labels)
        for name, gradient in found.items():
            _require_numbers(gradient, name, count)
            _add(totals, name, gradient)
        count += 1
    return {
        need: {name: total / total.dtype.type(count) for name, total in sums.items()} for need, sums in totals.items()
    }


def _add(totals: dict[str, dict[str, Array]], name: str, gradient: Array) -> None:
    for need, sums in totals.items():
        if name not in sums:
            sums[name] = np.zeros(gradient.shape, np.promote_types(gradient.dtype, np.float32))
        np.add(sums[name], STATISTICS[need](gradient).astype(sums[name].dtype), out=sums[name])


def _require_numbers(gradient: Array, name: str, batch: int) -> None:
    invalid = np.isnan(gradient)
    if invalid.any():
        position = tuple(int(index) for index in np.argwhere(invalid)[0])
        raise InvalidTensorError(
            f"the gradient of {name} is NaN at {position} in batch {batch}: look at the batch, the loss, the weights"
        )


_functions: weakref.WeakKeyDictionary[keras.Model, tuple[tuple[Any, ...], Callable[..., Any]]] = (
    weakref.WeakKeyDictionary()
)
"""The gradient function of each model, kept so that repeated updates during training compile it once."""


def _gradients(model: keras.Model, loss: Any) -> Callable[..., Any]:
    """``(trainable values, other values, inputs, labels) -> gradients`` with respect to the trainable values."""
    objective = _objective(model, loss)
    key = (loss if loss is not None else model._compile_loss, *map(id, model.trainable_variables))
    if model not in _functions or _functions[model][0] != key:
        reference = weakref.ref(model)

        def of_batch(trainable: Any, non_trainable: Any, inputs: Any, labels: Any) -> Any:
            alive = reference()
            predictions = forward(alive, trainable, non_trainable, inputs)
            with keras.StatelessScope():
                return objective(labels, predictions)

        _functions[model] = key, backends.gradient(of_batch)
    return _functions[model][1]


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
