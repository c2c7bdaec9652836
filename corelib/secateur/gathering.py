"""How all statistics are gathered in one pass over the data, whatever the framework.

What is summed, in which order and type, and what is refused, is here, once for both frameworks. An adapter's
:class:`Source` only answers for one batch. Which statistics there are is said in :mod:`secateur.statistics`. All arrays
are in canonical layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur import kernels, scores
from secateur.batches import batches, explained, first_inputs, is_repeatable
from secateur.errors import ExampleError, InvalidTensorError, MissingDataError
from secateur.statistics import STATISTICS, of_origin

Array = npt.NDArray[Any]
ByName = Mapping[str, Array]

CHECKED_SUM = 1e-3
"""Outputs whose sums differ by less than this from 1 come from a softmax."""


class Observer(Protocol):
    """Sees what kernels read."""

    def observe(self, inputs: Any, batch: int) -> None:
        """Run the model on the inputs of one batch. Raises InvalidTensorError, and whatever the model raises."""

    def means(self) -> dict[str, dict[str, Array]]:
        """See :meth:`secateur.activations.Activations.means`."""


class Source(Protocol):
    """A model of one framework, in inference mode, that answers for one batch at a time."""

    def gradients(self, inputs: Any, labels: Any) -> ByName:
        """dL/dw of a batch's mean loss, for each trainable weight on which the loss depends."""

    def hessian_products(self, inputs: Any, labels: Any, vector: ByName) -> ByName:
        """The Hessian of a batch's mean loss times a vector of one number a weight, by differentiating twice."""

    def observer(self, needs: Sequence[str]) -> Observer:
        """What gathers these of :data:`secateur.statistics.ACTIVATIONS`."""

    def flow(self, ones: Any) -> tuple[list[Array], ByName]:
        """With |w| in place of each weight: the outputs for these inputs, and the gradients of the outputs' sum."""


def gather(source: Source, data: Any, needs: Iterable[str], example: Any | None = None) -> dict[str, dict[str, Array]]:
    """All of these statistics, in one pass over the data (in a second one too, for what is curvature).

    Of gradients every batch has equal weight. Sums are in float32, or in the gradients' own type if that is wider,
    batch after batch, as :func:`secateur.scores.accumulate` makes them. Of activations every row and position has.

    Args:
        source: the model.
        data: as :func:`secateur.batches.batches` takes it, with labels if a statistic is about a loss; None for what
            is flow.
        needs: names in :data:`secateur.statistics.STATISTICS`.
        example: an input, for what is flow; the first batch of ``data`` if None.

    Returns:
        Statistic -> name of a weight -> array, as :data:`secateur.statistics.STATISTICS` tells. A weight on which the
        loss does not depend is absent, and so is a kernel that is not simply multiplied with a tensor.

    Raises:
        MissingDataError: no data, no labels, an unknown statistic, or a batch that model or loss refuses.
        InvalidTensorError: a gradient, or what a kernel reads, is NaN; names batch and weight.
    """
    needs = list(dict.fromkeys(needs))
    curved, read = of_origin(needs, "curvature"), of_origin(needs, "activations")
    if curved and data is not None and not is_repeatable(data):
        raise MissingDataError(
            f"{', '.join(curved)} reads the data twice, but a generator can be read once; pass arrays or a data loader"
        )
    takes = [each for need in curved for each in STATISTICS[need].takes]
    about_loss = list(dict.fromkeys([*of_origin(needs, "gradients"), *takes]))
    found = _one_pass(source, data, about_loss, read) if about_loss or read else {}
    for need in curved:
        of_batch = partial(source.hessian_products, vector=found["mean_gradient"])
        found[need] = _Averages({need: "value"}).over(of_batch, data)[need]
    for need in of_origin(needs, "flow"):
        found[need] = _flow(source, data, example)
    return {need: found[need] for need in needs}


def _one_pass(source: Source, data: Any, about_loss: Sequence[str], read: Sequence[str]) -> dict[str, dict[str, Array]]:
    """What comes from gradients and from activations, of one reading of the data."""
    averages = _Averages({need: STATISTICS[need].term for need in about_loss})
    observer = source.observer(read) if read else None
    for count, (inputs, labels) in enumerate(batches(data, labelled=bool(about_loss))):
        with explained(count, inputs, labels if about_loss else None):
            if observer is not None:
                observer.observe(inputs, count)
            gradients = source.gradients(inputs, labels) if about_loss else {}
        averages.add(gradients)
    return averages.means() | ({} if observer is None else observer.means())


class _Averages:
    """Means over batches of terms of what each batch gives.

    Args:
        terms: statistic -> term.
    """

    def __init__(self, terms: Mapping[str, Any]) -> None:
        self._terms = terms
        self._totals: dict[str, dict[str, Array]] = {need: {} for need in terms}
        self._count = 0

    def over(self, of_batch: Callable[[Any, Any], ByName], data: Any) -> dict[str, dict[str, Array]]:
        """Of all batches."""
        for count, (inputs, labels) in enumerate(batches(data)):
            with explained(count, inputs, labels):
                gradients = of_batch(inputs, labels)
            self.add(gradients)
        return self.means()

    def add(self, gradients: ByName) -> None:
        """One more batch. Raises InvalidTensorError where a gradient is NaN."""
        for name, gradient in gradients.items():
            _require_numbers(gradient, name, self._count)
            for need, term in self._terms.items():
                totals = self._totals[need]
                if name not in totals:
                    totals[name] = np.zeros_like(gradient, np.promote_types(gradient.dtype, np.float32))
                scores.accumulate(totals[name], gradient, term)
        self._count += 1

    def means(self) -> dict[str, dict[str, Array]]:
        """Statistic -> weight -> mean over the batches."""
        return {
            need: {name: total / total.dtype.type(self._count) for name, total in totals.items()}
            for need, totals in self._totals.items()
        }


def _require_numbers(gradient: Array, name: str, batch: int) -> None:
    first = kernels.of(gradient).first_nan(gradient)
    if first >= 0:
        position = tuple(int(index) for index in np.unravel_index(first, gradient.shape))
        raise InvalidTensorError(
            f"the gradient of {name} is NaN at {position} in batch {batch}: look at that batch, the loss, the weights"
        )


def _flow(source: Source, data: Any, example: Any | None) -> dict[str, Array]:
    """The gradients that ones make. Raises ExampleError, InvalidTensorError."""
    given = first_inputs(data) if example is None and data is not None else example
    if given is None:
        raise ExampleError("ones are sent through the model, of the shape of an input: pass example= or data=")
    outputs, gradients = source.flow(_ones_like(given))
    if any(_is_softmax(output) for output in outputs):
        raise ExampleError(
            "the model ends in a softmax, whose outputs add up to 1 whatever the weights are, so that nothing flows: "
            "score a model that ends in logits, or use another score"
        )
    for name, gradient in gradients.items():
        if not np.isfinite(gradient).all():
            raise InvalidTensorError(
                f"what flows through {name} is too large for {gradient.dtype}: the model is too deep for this score"
            )
    return {name: np.array(gradient) for name, gradient in gradients.items()}


def _ones_like(example: Any) -> Any:
    """Float32 ones of the shapes of an example, in its nesting."""
    if isinstance(example, Mapping):
        return {key: _ones_like(item) for key, item in example.items()}
    if isinstance(example, tuple | list):
        return type(example)(_ones_like(item) for item in example)
    name = str(getattr(example, "dtype", type(example).__name__))
    if not hasattr(example, "shape") or "float" not in name:
        raise ExampleError(
            f"ones are sent through the model in place of its inputs, but one is {name} and no array of floats: use "
            "another score"
        )
    return np.ones(tuple(example.shape), np.float32)


def _is_softmax(output: Array) -> bool:
    if not output.ndim or output.shape[-1] < 2:
        return False
    sums = np.sum(output, axis=-1, dtype=np.float64)
    return bool(output.size) and bool(np.all(np.abs(sums - 1.0) < CHECKED_SUM))
