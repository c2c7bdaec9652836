"""Means of what kernels read, over batches: the one sum that both adapters feed.

An adapter hands over each tensor that a kernel multiplies, and which of its features each weight multiplies. Sums of a
batch are exact and rounded once; batches are added in float64, and the mean is over all rows and positions, so that it
hardly depends on how the data is cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import as_array
from secateur.errors import InvalidTensorError
from secateur.statistics import ACTIVATIONS
from secateur.windows import FLAT, Window

Array = npt.NDArray[Any]
Features = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass
class _Read:
    """What one kernel has read so far.

    Args:
        features: for the weights, the feature that each multiplies: int64, in canonical layout, 1 along other axes.
        rows: how often each feature was read; of products how many rows were.
        sums: statistic -> float64, one a feature.
    """

    features: Features
    rows: dict[str, int] = field(default_factory=dict)
    sums: dict[str, Floats] = field(default_factory=dict)


class Activations:
    """Gathers some of :data:`secateur.statistics.ACTIVATIONS`.

    Args:
        needs: their names.
    """

    def __init__(self, needs: Iterable[str]) -> None:
        self._needs = tuple(needs)
        self._read: dict[str, _Read | None] = {}

    def add(self, name: str, x: Array, axis: int, features: Features, batch: int, window: Window | None = FLAT) -> None:
        """A kernel reads a tensor; one that is used several times has one mean over all uses.

        Args:
            name: of the kernel.
            x: what it reads, of a floating type and any shape; positions of padding are not part of it.
            axis: of its features.
            features: which of them each weight multiplies, see :class:`_Read`. If another use of the kernel has others,
                the kernel has no statistics.
            batch: its number, for messages.
            window: what a row of weights reads of its features; None if that is no sum of products.

        Raises:
            InvalidTensorError: ``x`` holds NaN, or infinities whose sum is none.
        """
        x = as_array(x, f"what {name} reads")
        if not math.prod(x.shape):
            return
        known = self._read.setdefault(name, _Read(features))
        if known is None or not np.array_equal(known.features, features):
            self._read[name] = None
            return
        axis %= x.ndim
        block = tuple(1 if each == axis else size for each, size in enumerate(x.shape))
        for need in self._needs:
            if ACTIVATIONS[need] != "gram":
                found, rows = _sums(x, need, block), math.prod(block)
            elif window is not None and (groups := _groups(features, x.shape[axis], bool(window.sides))):
                products, rows = window.products(x, axis, groups)
                found = products[0] if groups == 1 else products
            else:
                continue
            known.rows[need] = known.rows.get(need, 0) + rows
            if np.isnan(found).any():
                raise InvalidTensorError(_not_a_number(x, name, batch))
            known.sums[need] = known.sums[need] + found if need in known.sums else found

    def means(self) -> dict[str, dict[str, Floats]]:
        """Statistic -> kernel -> float64, laid out as :data:`secateur.statistics.ACTIVATIONS` tells."""
        read = {name: each for name, each in self._read.items() if each is not None}
        found: dict[str, dict[str, Floats]] = {}
        for need in self._needs:
            means = {name: each.sums[need] / each.rows[need] for name, each in read.items() if need in each.sums}
            is_gram = ACTIVATIONS[need] == "gram"
            found[need] = {name: mean if is_gram else mean[read[name].features] for name, mean in means.items()}
        return found


def grouped_features(outputs: int, inputs: int, groups: int, space: int) -> Features:
    """For a kernel ``(outputs, inputs // groups, *space)`` of a convolution: which input channel each weight reads."""
    within = np.arange(inputs // groups)
    first = np.zeros(1, np.int64) if groups == 1 else np.arange(outputs) // (outputs // groups) * within.size
    return (first[:, None] + within).reshape(first.size, within.size, *[1] * space)


def _groups(features: Features, channels: int, is_convolution: bool) -> int:
    """Into how many groups of features, side by side, the rows of a kernel divide all channels; 0 if they do not."""
    rows = features.reshape(len(features), -1)
    if len(rows) > 1 and not is_convolution:
        return 0  # a table that is read along its other axis
    first = rows[np.r_[True, (rows[1:] != rows[:-1]).any(axis=1)]]
    fits = np.array_equal(first.ravel(), np.arange(channels)) and len(rows) % len(first) == 0
    return len(first) if fits else 0


def along(axis: int, rank: int, size: int) -> Features:
    """Feature i is what the weights with index i along one axis read."""
    return np.arange(size).reshape([size if each == axis else 1 for each in range(rank)])


def _sums(x: Array, need: str, block: tuple[int, ...]) -> Floats:
    taken = ACTIVATIONS[need]
    if taken == "nonzero":
        return kernels.rounded_sums(np.where(np.isnan(x), x, x != 0).astype(np.float32), "value", block).reshape(-1)
    kind: Any = taken
    sums = kernels.rounded_sums(x, kind, block).reshape(-1)
    return sums**2 if kind == "square" else sums  # of squares it is the root


def _not_a_number(x: Array, name: str, batch: int) -> str:
    position = tuple(int(index) for index in np.argwhere(~np.isfinite(x))[0])
    return f"what {name} reads is {x[position]} at {position} in batch {batch}: look at that batch and the weights"
