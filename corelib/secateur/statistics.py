"""Which statistics there are, and what it takes to gather each of them.

Both adapters gather what is named here, and only this: from the gradients of a loss, which needs labels, from a pass
forward alone, for which rows are enough, or from ones in place of rows. What a training leaves behind, a pruner keeps.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal

from secateur.errors import MissingDataError
from secateur.kernels.formats import Term

Origin = Literal["gradients", "curvature", "activations", "flow", "record"]
Taken = Term | Literal["nonzero", "gram"]


@dataclass(frozen=True)
class Statistic:
    """One statistic.

    Args:
        words: what it is.
        origin: what it takes. ``"gradients"``: labelled data and a loss; ``"curvature"``: these, read twice;
            ``"activations"``: rows; ``"flow"``: an input's shape; ``"record"``: nothing but a training that goes on.
        term: what of each batch, or of each number that a kernel reads, is averaged.
        takes: other statistics that it is made from.
    """

    words: str
    origin: Origin
    term: Taken = "value"
    takes: tuple[str, ...] = ()


STATISTICS: dict[str, Statistic] = {
    "mean_abs_gradient": Statistic("mean over batches of |dL/dw|", "gradients", "absolute"),
    "mean_gradient": Statistic("mean over batches of dL/dw", "gradients"),
    "mean_square_gradient": Statistic("mean over batches of (dL/dw)^2", "gradients", "square"),
    "hessian_gradient": Statistic(
        "mean over batches of H g, g the mean gradient", "curvature", takes=("mean_gradient",)
    ),
    "input_mean": Statistic("mean of the feature that the weight reads", "activations"),
    "input_magnitude": Statistic("mean magnitude of the feature", "activations", "absolute"),
    "input_square": Statistic("mean square of the feature", "activations", "square"),
    "input_nonzero": Statistic("fraction of the feature's values that are not zero", "activations", "nonzero"),
    "input_gram": Statistic("mean products of any two features that a row of weights reads", "activations", "gram"),
    "flow_gradient": Statistic("dR/d|w|, R the sum of what |w| makes of ones", "flow"),
    "initial_weight": Statistic("the weight when the training began", "record"),
    "movement": Statistic(
        "sum of -w dL/dw over the training steps, or prunings, so far", "record", takes=("mean_gradient",)
    ),
    "order": Statistic("the place of its parameter in the forward pass", "record"),
}
"""Name -> what it is. An adapter gathers all but those of origin ``"record"``.

Arrays are float numbers in the canonical layout of a weight. Those of activations have size 1 along axes on which they
do not depend, so that they go with the weights by broadcasting: ``(1, in)`` for a dense layer, ``(1, in, 1, 1)`` for a
convolution, ``(out, in, 1, 1)`` for one with groups, whose outputs read different features, and ``(1, 1, in)`` for a
recurrent kernel. ``input_gram`` is ``(n, n)``, n the number of weights in a row, as ``in * height * width`` of a
convolution, and ``(groups, n, n)`` of one with groups; kernels of transposed convolutions have none.
"""

ACTIVATIONS: dict[str, Taken] = {name: each.term for name, each in STATISTICS.items() if each.origin == "activations"}
"""Those that are gathered from what kernels read: name -> what is averaged."""


def of_origin(needs: Iterable[str], *origins: Origin) -> list[str]:
    """Those of them that come from there. Raises MissingDataError if there is none of such a name."""
    names = list(dict.fromkeys(needs))
    known = [name for name, each in STATISTICS.items() if each.origin != "record"]
    if unknown := [name for name in names if name not in known]:
        raise MissingDataError(f"{', '.join(unknown)} cannot be gathered, only {', '.join(known)}: pass statistics=")
    return [name for name in names if STATISTICS[name].origin in origins]


def takes_loss(needs: Iterable[str]) -> bool:
    """Whether gathering these takes labels and a loss. Raises as :func:`of_origin`."""
    return bool(of_origin(needs, "gradients", "curvature"))


def gatherable(needs: Iterable[str], given: Container[str] = ()) -> list[str]:
    """What an adapter must gather for these, besides what is given: themselves, or what records are made from."""
    found: dict[str, None] = {}
    for need in (need for need in needs if need not in given):
        known = STATISTICS.get(need)
        is_record = known is not None and known.origin == "record"
        found |= dict.fromkeys(known.takes if known is not None and is_record else (need,))
    return [need for need in found if need not in given]
