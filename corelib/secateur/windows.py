"""What a row of a kernel's weights is multiplied with: all features at a position, or in a window round it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

PIECE = 1 << 22
"""Numbers that are laid out as rows at a time, unless one example has more."""


@dataclass(frozen=True)
class Window:
    """The window of a convolution; without sides that of a dense layer: each position by itself.

    Args:
        sides: of the kernel, one a spatial axis.
        strides: from one window to the next.
        dilation: from one number of a window to the next.
        padding: zeros before and behind each spatial axis.
    """

    sides: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()

    def products(self, x: Array, axis: int, groups: int = 1) -> tuple[Floats, int]:
        """Sums of the products of any two numbers of a row, float64[groups, n, n], and how many rows there are.

        Args:
            x: what is read; with sides the examples along the first axis and spatial axes, in order, besides.
            axis: of the features.
            groups: into how many the features are divided, one after the other, of which a row has one.

        A row is in C order of (features, \\*sides), as the weights of a kernel's row are.
        """
        moved = np.moveaxis(x, axis, -1)
        total, count = np.zeros((), np.float64), 0
        for rows in self._rows(moved if self.sides else moved.reshape(-1, moved.shape[-1])):
            parts = rows.reshape(len(rows), groups, -1).swapaxes(0, 1)
            total, count = total + parts.swapaxes(1, 2) @ parts, count + len(rows)
        return np.asarray(total), count

    def _rows(self, x: Array) -> Iterator[Floats]:
        """float64[rows, n], a few examples at a time; features last."""
        step = max(1, PIECE // max(1, math.prod(x.shape[1:]) * math.prod(self.sides)))
        for start in range(0, len(x), step):
            part = x[start : start + step]
            yield self._spread(part) if self.sides else part.astype(np.float64)

    def _spread(self, x: Array) -> Floats:
        padded = np.pad(x.astype(np.float64), [(0, 0), *self.padding, (0, 0)])
        spans = [(side - 1) * apart + 1 for side, apart in zip(self.sides, self.dilation, strict=True)]
        seen = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(1, 1 + len(spans))))
        places = [slice(None, None, stride) for stride in self.strides]
        within = [slice(None, None, apart) for apart in self.dilation]
        picked = seen[(slice(None), *places, slice(None), *within)]
        return picked.reshape(-1, x.shape[-1] * math.prod(self.sides))


FLAT = Window()
"""That of a dense layer."""


def same_padding(
    sizes: Sequence[int], sides: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Zeros with which a convolution has an output at every stride; where their number is odd, one more behind."""
    found = []
    for size, side, stride, apart in zip(sizes, sides, strides, dilation, strict=True):
        whole = max(0, (math.ceil(size / stride) - 1) * stride + (side - 1) * apart + 1 - size)
        found.append((whole // 2, whole - whole // 2))
    return tuple(found)
