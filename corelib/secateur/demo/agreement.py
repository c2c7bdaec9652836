"""Do the frameworks agree? Masks of every pair of runs of one recipe, compared bit by bit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.demo.exchange import Exchange, Named
from secateur.demo.plan import Choice
from secateur.errors import ShapeMismatchError
from secateur.report import Agreement
from secateur.report.runs import SAME_ARRAYS

Array = npt.NDArray[Any]

OWN_GRADIENTS = "own gradients"
OWN_TRAINING = "own training"


@dataclass(frozen=True)
class Made:
    """A run whose masks are compared: on which platform, of which network, by which recipe."""

    platform: str
    model: str
    choice: Choice


def different_bits(first: Named, second: Named) -> tuple[int, int]:
    """How many mask bits there are, and in how many the two differ.

    Raises:
        ShapeMismatchError: the masks are not of the same parameters and shapes.
    """
    shapes = [{name: mask.shape for name, mask in masks.items()} for masks in (first, second)]
    if shapes[0] != shapes[1]:
        raise ShapeMismatchError(f"masks of different parameters cannot be compared: {shapes[0]} and {shapes[1]}")
    bits = sum(mask.size for mask in first.values())
    return bits, sum(int(np.count_nonzero(mask != second[name])) for name, mask in first.items())


def largest_difference(first: Named, second: Named) -> float:
    """The largest difference of two sets of statistics, relative to the largest value of the same parameter."""
    largest = 0.0
    for name, array in first.items():
        scale = float(np.abs(array).max(initial=0.0))
        difference = float(np.abs(array.astype(np.float64) - second[name]).max(initial=0.0))
        largest = max(largest, difference / scale if scale else difference)
    return largest


class MaskComparison:
    """Compares runs by the mask files that their processes left.

    Args:
        exchange: where the files lie.
        reference: the platform whose trained weights and statistics were given to all.
    """

    def __init__(self, exchange: Exchange, reference: str) -> None:
        self.reference = reference
        self._read = cache(exchange.read)

    def every_pair(self, runs: Sequence[Made]) -> list[Agreement]:
        """Compare each pair of runs of the same recipe for the same network.

        Args:
            runs: in the order of the results, whose positions the records name.
        """
        pairs = itertools.combinations(enumerate(runs), 2)
        alike = [(a, b) for a, b in pairs if (a[1].model, a[1].choice) == (b[1].model, b[1].choice)]
        return [record for (i, first), (j, second) in alike for record in self._pair(i, first, j, second)]

    def _pair(self, i: int, first: Made, j: int, second: Made) -> list[Agreement]:
        kinds = [SAME_ARRAYS, OWN_TRAINING] if first.choice.score == "magnitude" else list(_FILES)
        records = []
        for inputs in kinds:
            bits, different = different_bits(self._masks(inputs, first), self._masks(inputs, second))
            reason = self._reason(inputs, different, first, second)
            records.append(Agreement(i, j, inputs, bits, different, reason))
        return records

    def _masks(self, inputs: str, run: Made) -> Mapping[str, Array]:
        stored = self._read(_FILES[inputs], run.model, run.platform)
        prefix = f"{run.choice.label}/"
        return {name.removeprefix(prefix): mask for name, mask in stored.items() if name.startswith(prefix)}

    def _reason(self, inputs: str, different: int, first: Made, second: Made) -> str:
        """Why bits differ; for gradients also how it comes that none does."""
        if inputs != OWN_GRADIENTS:
            return _REASONS[inputs] if different else ""
        gathered = [self._read("own-statistics", run.model, run.platform) for run in (first, second)]
        outcome = (
            "which decides next to the threshold" if different else "but no score lies that close to the threshold"
        )
        return (
            f"each framework adds up the gradients of the network that {self.reference} trained in its own order; they "
            f"differ by up to {largest_difference(*gathered):.1e} of the largest, {outcome}"
        )


_FILES = {SAME_ARRAYS: "shared-masks", OWN_GRADIENTS: "own-masks", OWN_TRAINING: "trained-masks"}
_REASONS = {
    SAME_ARRAYS: "a bug: both were given the same weights and statistics, so every bit should be equal",
    OWN_TRAINING: (
        "the trained weights differ: from the same initial weights and batches, differences in rounding grow with "
        "every step of training"
    ),
}
