"""The statistics that scores are computed from: which there are, and how all of them are gathered in one pass.

What is summed, in which order and type, and what is refused, is here, once for both frameworks. An adapter's
:class:`Source` only answers for one batch. All arrays are in canonical layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from secateur import kernels, scores
from secateur.batches import batches, explained, first_inputs, is_repeatable
from secateur.errors import ExampleError, InvalidTensorError, MissingDataError
from secateur.kernels.formats import Term

Array = npt.NDArray[Any]
ByName = Mapping[str, Array]
Origin = Literal["gradients", "curvature", "flow", "record"]

CHECKED_SUM = 1e-3
"""Outputs whose sums differ by less than this from 1 come from a softmax."""


@dataclass(frozen=True)
class Statistic:
    """One statistic of each weight.

    Args:
        words: what it is.
        origin: what it takes. ``"gradients"``: labelled data and a loss; ``"curvature"``: these, read twice;
            ``"flow"``: an input's shape; ``"record"``: nothing but a training that goes on.
        term: what of each batch is averaged.
        takes: another statistic that it is made from.
    """

    words: str
    origin: Origin
    term: Term = "value"
    takes: tuple[str, ...] = ()


STATISTICS: dict[str, Statistic] = {
    "mean_abs_gradient": Statistic("mean over batches of |dL/dw|", "gradients", "absolute"),
    "mean_gradient": Statistic("mean over batches of dL/dw", "gradients"),
    "mean_square_gradient": Statistic("mean over batches of (dL/dw)^2", "gradients", "square"),
    "hessian_gradient": Statistic(
        "mean over batches of H g, g the mean gradient", "curvature", takes=("mean_gradient",)
    ),
    "flow_gradient": Statistic("dR/d|w|, R the sum of what |w| makes of ones", "flow"),
    "initial_weight": Statistic("the weight when the training began", "record"),
    "movement": Statistic("sum of -w dL/dw over the prunings so far", "record", takes=("mean_gradient",)),
    "order": Statistic("the place of its parameter in the forward pass", "record"),
}
"""Name -> what it is. An adapter gathers all but those of origin ``"record"``, which a pruner keeps itself."""


class Source(Protocol):
    """A model of one framework, in inference mode, that answers for one batch at a time."""

    def gradients(self, inputs: Any, labels: Any) -> ByName:
        """dL/dw of a batch's mean loss, for each trainable weight on which the loss depends."""

    def hessian_products(self, inputs: Any, labels: Any, vector: ByName) -> ByName:
        """The Hessian of a batch's mean loss times a vector of one number a weight, by differentiating twice."""

    def flow(self, ones: Any) -> tuple[list[Array], ByName]:
        """With |w| in place of each weight: the outputs for these inputs, and the gradients of the outputs' sum."""


def gatherable(needs: Iterable[str]) -> list[str]:
    """What an adapter must gather for these: themselves, or what a pruner makes its records from."""
    found: dict[str, None] = {}
    for need in needs:
        known = STATISTICS.get(need)
        is_record = known is not None and known.origin == "record"
        found |= dict.fromkeys(known.takes if known is not None and is_record else (need,))
    return list(found)


def is_free(need: str) -> bool:
    """Whether it takes no data."""
    return need in STATISTICS and STATISTICS[need].origin == "flow"


def takes_loss(needs: Iterable[str]) -> bool:
    """Whether gathering these takes labels and a loss. Raises as :func:`gather` for unknown ones."""
    return any(STATISTICS[need].origin in ("gradients", "curvature") for need in _known(needs))


def gather(source: Source, data: Any, needs: Iterable[str], example: Any | None = None) -> dict[str, dict[str, Array]]:
    """All of these statistics, in one pass over the data (in a second one too, for what is curvature).

    Every batch has equal weight. Sums are in float32, or in the gradients' own type if that is wider, batch after
    batch, as :func:`secateur.scores.accumulate` makes them.

    Args:
        source: the model.
        data: as :func:`secateur.batches.batches` takes it; None if no statistic is about a loss.
        needs: names in :data:`STATISTICS`.
        example: an input, for what is flow; the first batch of ``data`` if None.

    Returns:
        Statistic -> name of a weight -> array. A weight on which the loss does not depend is absent.

    Raises:
        MissingDataError: no data, no labels, an unknown statistic, or a batch that model or loss refuses.
        InvalidTensorError: a gradient is NaN; names batch and weight.
    """
    wanted = {need: STATISTICS[need] for need in _known(needs)}
    curved = [need for need, each in wanted.items() if each.origin == "curvature"]
    if curved and data is not None and not is_repeatable(data):
        raise MissingDataError(
            f"{', '.join(curved)} reads the data twice, but a generator can be read once; pass arrays or a data loader"
        )
    first = [need for need, each in wanted.items() if each.origin == "gradients"]
    passes = dict.fromkeys([*first, *(each for need in curved for each in wanted[need].takes)])
    terms = {need: STATISTICS[need].term for need in passes}
    found = _averages(source.gradients, data, terms) if terms else {}
    for need in curved:
        vector = found["mean_gradient"]
        found |= _averages(lambda x, y: source.hessian_products(x, y, vector), data, {need: "value"})  # noqa: B023
    for need in (need for need, each in wanted.items() if each.origin == "flow"):
        found[need] = _flow(source, data, example)
    return {need: found[need] for need in wanted}


def _known(needs: Iterable[str]) -> list[str]:
    known = [need for need, each in STATISTICS.items() if each.origin != "record"]
    listed = list(needs)
    if unknown := [need for need in listed if need not in known]:
        raise MissingDataError(f"{', '.join(unknown)} cannot be gathered, only {', '.join(known)}: pass statistics=")
    return listed


def _averages(
    of_batch: Callable[[Any, Any], ByName], data: Any, terms: Mapping[str, Term]
) -> dict[str, dict[str, Array]]:
    """Statistic -> weight -> mean over the batches of its term."""
    totals: dict[str, dict[str, Array]] = {need: {} for need in terms}
    count = 0
    for inputs, labels in batches(data):
        with explained(count, inputs, labels):
            gradients = of_batch(inputs, labels)
        for name, gradient in gradients.items():
            _require_numbers(gradient, name, count)
            for need, term in terms.items():
                _add(totals[need], name, gradient, term)
        count += 1
    return {need: {name: each / each.dtype.type(count) for name, each in totals[need].items()} for need in terms}


def _add(totals: dict[str, Array], name: str, gradient: Array, term: Term) -> None:
    if name not in totals:
        totals[name] = np.zeros_like(gradient, np.promote_types(gradient.dtype, np.float32))
    scores.accumulate(totals[name], gradient, term)


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
