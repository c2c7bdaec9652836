"""Which statistics there are, and what it takes to gather each of them.

Both adapters gather what is named here, and only this: from the gradients of a loss, which needs labels, or from a pass
forward alone, for which rows are enough. All of it comes from one reading of the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from secateur.errors import MissingDataError
from secateur.kernels.formats import Kind

GRADIENTS = ("mean_abs_gradient", "mean_gradient")
"""Gathered from gradients: a number for each weight, in the weight's canonical layout."""

ACTIVATIONS: dict[str, Kind] = {"input_mean": "value", "input_square": "square"}
"""Gathered from what kernels read: the mean, and the mean square, of each input feature; name -> what is summed.

In the canonical layout of the kernel, with size 1 along axes on which it does not depend, so that it goes with the
weights by broadcasting: ``(1, in)`` for a dense layer, ``(1, in, 1, 1)`` for a convolution, ``(out, in, 1, 1)`` for one
with groups, whose outputs read different features, and ``(1, 1, in)`` for a recurrent kernel.
"""


@dataclass(frozen=True)
class Needs:
    """Statistics by the pass that they come from."""

    gradients: tuple[str, ...]
    activations: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Whether labels and a loss are needed."""
        return bool(self.gradients)


def sorted_needs(needs: Iterable[str]) -> Needs:
    """The statistics of these names. Raises MissingDataError if there is none of such a name."""
    names = list(dict.fromkeys(needs))
    if unknown := [name for name in names if name not in (*GRADIENTS, *ACTIVATIONS)]:
        raise MissingDataError(
            f"{', '.join(unknown)} cannot be gathered, only {', '.join((*GRADIENTS, *ACTIVATIONS))}: pass statistics="
        )
    return Needs(
        tuple(name for name in names if name in GRADIENTS), tuple(name for name in names if name in ACTIVATIONS)
    )
