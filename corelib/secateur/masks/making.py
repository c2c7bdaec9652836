"""Masks from scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_array, as_arrays, is_array
from secateur.errors import OutOfRangeError, RecipeError, ShapeMismatchError
from secateur.kernels.formats import grid
from secateur.masks.ties import count, largest
from secateur.scalars import sides, whole, within_floats


def keep_above(score: Any, threshold: float, name: str = "the score", *, packed: bool = False) -> Any:
    """True where score > threshold, compared as real numbers: the threshold is not rounded to the score's dtype.

    Raises:
        RecipeError: the threshold is no single number.
        OutOfRangeError: it is NaN, or finite but too large for a float.
        InvalidTensorError: the score holds NaN.
    """
    threshold = number("the threshold", threshold)
    score = as_array(score, name)
    mask = kernels.of(score).mask_above(score, threshold, packed=packed)
    if mask is None:
        kernels.refuse_nan([Named(name, score)])
    return mask


@overload
def keep_largest(
    scores: npt.NDArray[Any], keep: int, names: Sequence[str] | None = None, *, packed: bool = False
) -> Any: ...
@overload
def keep_largest(
    scores: Sequence[Any], keep: int, names: Sequence[str] | None = None, *, packed: bool = False
) -> list[Any]: ...
def keep_largest(scores: Any, keep: int, names: Sequence[str] | None = None, *, packed: bool = False) -> Any:
    """Exactly ``keep`` True, at the largest of all scores; of equal ones the last are kept.

    Args:
        scores: an array, which gives a mask, or a list of arrays that compete, which gives a list of masks.
        keep: how many of all elements stay.
        names: what error messages call the arrays.
        packed: whether masks are packed.

    Raises:
        OutOfRangeError: keep is below 0 or above the number of elements.
        InvalidTensorError: a score is NaN.
    """
    items = as_arrays(scores, names)
    keep = count("keep", keep, sum(math.prod(item.array.shape) for item in items))
    threshold, first_kept = largest(items, keep)
    masks = kernels.masks_above(items, threshold, first_kept, packed)
    return masks[0] if is_array(scores) else masks


def n_of_m(score: Any, n: int = 2, m: int = 4, axis: int = -1, name: str = "the score", *, packed: bool = False) -> Any:
    """True at the n largest of each m consecutive elements along ``axis`` (Mishra et al. 2021); ties: the later.

    Raises:
        RecipeError: n, m or the axis is no whole number.
        OutOfRangeError: not 0 <= n <= m, m < 1, or no such axis.
        ShapeMismatchError: the axis cannot be cut into groups of m.
        InvalidTensorError: the score holds NaN.
    """
    score = as_array(score, name)
    axis = group_axis(Named(name, score), n, m, axis)
    kernels.refuse_nan([Named(name, score)])
    return kernels.of(score).mask_n_of_m(score, n, m, axis, packed)


def keep_per_row(score: Any, keep: int, name: str = "the score", *, packed: bool = False) -> Any:
    """Exactly ``keep`` True in each row, an index of axis 0 with all other axes flattened; of equal ones, the last.

    Raises:
        OutOfRangeError: keep is outside 0 to the length of a row.
        ShapeMismatchError: the score has no axis.
        InvalidTensorError: the score holds NaN.
    """
    score = as_array(score, name)
    keep = count("keep", keep, row_length(Named(name, score)))
    kernels.refuse_nan([Named(name, score)])
    return kernels.of(score).mask_per_row(score, keep, packed)


def blocks(
    score: Any, shape: Sequence[int] = (16, 16), *, keep: int, name: str = "the score", packed: bool = False
) -> Any:
    """True on exactly ``keep`` blocks: those of the largest mean score; of equal ones the last are kept.

    Args:
        score: of as many axes as ``shape``.
        shape: of one block; those at the upper borders may be smaller, and a side beyond the score's is the score's.
        keep: how many blocks stay.
        name: what error messages call the array.
        packed: whether the mask is packed.

    Raises:
        RecipeError: ``shape`` is no sequence of whole numbers.
        ShapeMismatchError: score and block differ in their number of axes.
        OutOfRangeError: a block's side is below 1, or keep is outside 0 to the number of blocks.
        InvalidTensorError: the score holds NaN, or a block both infinities.
    """
    score = as_array(score, name)
    shape = sides("the block", shape, least=1)
    if len(shape) != len(score.shape):
        raise ShapeMismatchError(f"{name} has {len(score.shape)} axes, the block {shape} has {len(shape)}")
    shape = tuple(min(side, max(extent, 1)) for side, extent in zip(shape, score.shape, strict=True))
    keep = count("keep", keep, math.prod(grid(score.shape, shape)))
    device = kernels.of(score)
    means = kernels.rounded_sums(score, "value", shape)
    if np.isnan(means).any():
        kernels.refuse_nan([Named(name, score)])
    np.divide(means, _block_sizes(score.shape, shape), out=means)
    kept = keep_largest([means], keep, [f"the block means of {name}"])[0]
    del means
    mask = _spread(kept, score.shape, shape)
    if packed:
        return device.from_host(kernels.of(mask).pack(mask), score)
    return device.from_host(mask.copy(order="C").reshape(score.shape), score)


def number(what: str, value: float) -> float:
    """``value`` as a float that can be compared with others.

    Raises:
        RecipeError: it is no number, or an array that has an axis.
        OutOfRangeError: it is NaN, or finite but too large for a float.
    """
    if not hasattr(value, "__float__") or isinstance(value, bool) or getattr(value, "ndim", False):
        raise RecipeError(f"{what} is {value!r}, a {type(value).__name__}: give a number")
    result = within_floats(what, value)
    if math.isnan(result):
        raise OutOfRangeError(f"{what} is NaN: nothing can be compared with it")
    return result


def group_axis(item: Named, n: int, m: int, axis: int) -> int:
    """The axis, counted from the front, along which n of each m consecutive elements stay.

    Raises:
        RecipeError, OutOfRangeError, ShapeMismatchError: as :func:`n_of_m`.
    """
    name, array = item
    n, m, axis = whole("n", n), whole("m", m), whole("the axis", axis)
    if not 0 <= n <= m or m < 1:
        raise OutOfRangeError(f"{n} of {m} cannot be kept: give 0 <= n <= m and m >= 1")
    dimensions = len(array.shape)
    if not -dimensions <= axis < dimensions:
        raise OutOfRangeError(f"{name} has {dimensions} axes, so there is no axis {axis}")
    if array.shape[axis] % m:
        raise ShapeMismatchError(f"axis {axis} of {name} has {array.shape[axis]} elements, no multiple of {m}")
    return axis % dimensions


def row_length(item: Named) -> int:
    """The number of elements of an index of axis 0.

    Raises:
        ShapeMismatchError: there is no axis.
    """
    if not item.array.shape:
        raise ShapeMismatchError(f"{item.name} is a single number: it has no rows")
    return math.prod(item.array.shape[1:])


def _spread(kept: npt.NDArray[np.bool_], extents: Sequence[int], shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Each block's value on all of its elements; where blocks fill the shape, a view that takes no memory."""
    if all(extent % side == 0 for extent, side in zip(extents, shape, strict=True)):
        apart = kept.reshape([n for count in kept.shape for n in (count, 1)])
        sides = [n for pair in zip(kept.shape, shape, strict=True) for n in pair]
        return np.broadcast_to(apart, sides)
    for axis, side in enumerate(shape):
        kept = np.repeat(kept, side, axis=axis)
    return kept[tuple(slice(size) for size in extents)]


def _block_sizes(shape: Sequence[int], block: Sequence[int]) -> npt.NDArray[np.float64]:
    """How many elements each block has: one number where all are equal."""
    if all(extent % side == 0 for extent, side in zip(shape, block, strict=True)):
        return np.array(float(math.prod(block)))
    sizes = np.ones(())
    for extent, side in zip(shape, block, strict=True):
        sizes = np.multiply.outer(sizes, np.minimum(side, extent - np.arange(0, extent, side)).astype(np.float64))
    return sizes
