"""Blocks of an array, side by side: their means, and one value for each block on all of its elements.

Blocks at the upper borders may be smaller, and a side beyond the array's is the array's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named
from secateur.errors import ShapeMismatchError
from secateur.scalars import sides

Shape = tuple[int, ...]


def block_shape(shape: Sequence[int], extents: Sequence[int], name: str) -> Shape:
    """The block's sides, none of them beyond the array's.

    Raises:
        RecipeError: ``shape`` is no sequence of whole numbers.
        OutOfRangeError: a side is below 1.
        ShapeMismatchError: array and block differ in their number of axes.
    """
    shape = sides("the block", shape, least=1)
    if len(shape) != len(extents):
        raise ShapeMismatchError(f"{name} has {len(extents)} axes, the block {shape} has {len(shape)}")
    return tuple(min(side, max(extent, 1)) for side, extent in zip(shape, extents, strict=True))


def block_means(score: Any, shape: Shape, name: str) -> npt.NDArray[np.float64]:
    """The mean of each block of this shape, in host memory: an exact sum, rounded once, divided by the number.

    Raises:
        InvalidTensorError: the score holds NaN.
    """
    means = kernels.rounded_sums(score, "value", shape)
    if np.isnan(means).any():
        kernels.refuse_nan([Named(name, score)])
    np.divide(means, _sizes(score.shape, shape), out=means)
    return means


def spread(kept: npt.NDArray[np.bool_], extents: Sequence[int], shape: Shape) -> npt.NDArray[np.bool_]:
    """Each block's value on all of its elements, in C order.

    Where blocks fill the array, it is a view that takes no memory, of twice as many axes: (blocks, side) for each.
    """
    if all(extent % side == 0 for extent, side in zip(extents, shape, strict=True)):
        apart = kept.reshape([n for count in kept.shape for n in (count, 1)])
        return np.broadcast_to(apart, [n for pair in zip(kept.shape, shape, strict=True) for n in pair])
    for axis, side in enumerate(shape):
        kept = np.repeat(kept, side, axis=axis)
    return kept[tuple(slice(size) for size in extents)]


def _sizes(extents: Sequence[int], shape: Shape) -> npt.NDArray[np.float64]:
    """How many elements each block has: one number where all are equal."""
    if all(extent % side == 0 for extent, side in zip(extents, shape, strict=True)):
        return np.array(float(math.prod(shape)))
    sizes = np.ones(())
    for extent, side in zip(extents, shape, strict=True):
        sizes = np.multiply.outer(sizes, np.minimum(side, extent - np.arange(0, extent, side)).astype(np.float64))
    return sizes
