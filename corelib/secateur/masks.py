"""Masks: bool arrays, True where kept, False where pruned; making, applying, packing and comparing them.

Scores and weights are NumPy arrays of float16, bfloat16, float32 or float64, CPU arrays of any library that speaks
DLPack, or CUDA arrays; masks are NumPy arrays, or arrays on the same CUDA device. The tie rule holds everywhere: of
equal scores the earlier position (C order, arrays in list order) is pruned first.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_array, as_arrays, as_mask, is_array, require_alike, require_writable
from secateur.errors import EmptyInputError, OutOfRangeError, ShapeMismatchError
from secateur.kernels.formats import Kind
from secateur.thresholds import order_statistics

Mask = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]

_SUM: Kind = "value"


def keep_above(score: Any, threshold: float, name: str = "the score") -> Mask:
    """True where score > threshold, compared as real numbers: the threshold is not rounded to the score's dtype.

    Raises:
        OutOfRangeError: the threshold is NaN.
        InvalidTensorError: the score holds NaN.
    """
    if math.isnan(threshold):
        raise OutOfRangeError("the threshold is NaN: nothing can be compared with it")
    score = as_array(score, name)
    kernels.refuse_nan([Named(name, score)])
    mask: Mask = kernels.of(score).mask_above(score, float(threshold))
    return mask


@overload
def keep_largest(scores: npt.NDArray[Any], keep: int, names: Sequence[str] | None = None) -> Mask: ...
@overload
def keep_largest(scores: Sequence[Any], keep: int, names: Sequence[str] | None = None) -> list[Mask]: ...
def keep_largest(scores: Any, keep: int, names: Sequence[str] | None = None) -> Mask | list[Mask]:
    """Exactly ``keep`` True, at the largest of all scores; of equal ones the last are kept.

    Args:
        scores: an array, which gives a mask, or a list of arrays that compete, which gives a list of masks.
        keep: how many of all elements stay.
        names: what error messages call the arrays.

    Raises:
        OutOfRangeError: keep is below 0 or above the number of elements.
        InvalidTensorError: a score is NaN.
    """
    items = as_arrays(scores, names)
    size = sum(math.prod(item.array.shape) for item in items)
    keep = _count("keep", keep, size)
    masks = _keep_largest(items, keep, size)
    return masks[0] if is_array(scores) else masks


def n_of_m(score: Any, n: int = 2, m: int = 4, axis: int = -1, name: str = "the score") -> Mask:
    """True at the n largest of each m consecutive elements along ``axis`` (Mishra et al. 2021); ties: the later.

    Raises:
        OutOfRangeError: not 0 <= n <= m, m < 1, or no such axis.
        ShapeMismatchError: the axis cannot be cut into groups of m.
        InvalidTensorError: the score holds NaN.
    """
    score = as_array(score, name)
    if not 0 <= operator.index(n) <= operator.index(m) or m < 1:
        raise OutOfRangeError(f"{n} of {m} cannot be kept: give 0 <= n <= m and m >= 1")
    dimensions = len(score.shape)
    if not -dimensions <= axis < dimensions:
        raise OutOfRangeError(f"{name} has {dimensions} axes, so there is no axis {axis}")
    if score.shape[axis] % m:
        raise ShapeMismatchError(f"axis {axis} of {name} has {score.shape[axis]} elements, no multiple of {m}")
    kernels.refuse_nan([Named(name, score)])
    mask: Mask = kernels.of(score).mask_n_of_m(score, n, m, axis % dimensions)
    return mask


def blocks(score: Any, shape: Sequence[int] = (16, 16), *, keep: int, name: str = "the score") -> Mask:
    """True on exactly ``keep`` blocks: those of the largest mean score; of equal ones the last are kept.

    Args:
        score: of as many axes as ``shape``.
        shape: of one block; those at the upper borders may be smaller.
        keep: how many blocks stay.
        name: what error messages call the array.

    Raises:
        ShapeMismatchError: score and block differ in their number of axes.
        OutOfRangeError: a block's side is below 1, or keep is outside 0 to the number of blocks.
        InvalidTensorError: the score holds NaN, or a block both infinities.
    """
    score = as_array(score, name)
    if len(shape) != len(score.shape):
        raise ShapeMismatchError(f"{name} has {len(score.shape)} axes, the block {tuple(shape)} has {len(shape)}")
    if min(shape, default=1) < 1:
        raise OutOfRangeError(f"the block {tuple(shape)} is empty: give sides from 1")
    device = kernels.of(score)
    sums = device.exact_sums(score, _SUM, shape)
    if sums.counters[-1].any():
        kernels.refuse_nan([Named(name, score)])
    means = kernels.round_sums(sums) / _block_sizes(score.shape, shape)
    kept = _keep_largest([Named(f"the block means of {name}", means)], _count("keep", keep, means.size), means.size)[0]
    for axis, side in enumerate(shape):
        kept = np.repeat(kept, side, axis=axis)
    mask: Mask = device.from_host(kept[tuple(slice(size) for size in score.shape)].copy(order="C"), score)
    return mask


def apply(weight: Any, mask: Any, name: str = "the weight") -> Any:
    """Write +0.0 into ``weight`` where the mask is False, in place, and return ``weight``.

    What is pruned becomes zero even where it was infinite or NaN; all other bits stay.

    Raises:
        ShapeMismatchError: the shapes differ.
        ReadOnlyArrayError: the weight cannot be written.
        DeviceMismatchError: one lies on a CUDA device, the other does not.
        UnsupportedDtypeError: the weight's elements are no floats, or the mask's no bools.
    """
    target, kept = as_array(weight, name, writable=True), as_mask(mask)
    require_alike(Named(name, target), Named("the mask", kept))
    require_writable(weight, Named(name, target))
    kernels.of(target).zero_where_false(target, kept)
    return weight


def pack(mask: Any) -> Bits:
    """The mask in C order, eight elements a byte, the first in the lowest bit: uint8[ceil(size / 8)]."""
    return np.packbits(_host(mask), axis=None, bitorder="little")


def unpack(bits: npt.ArrayLike, shape: Sequence[int]) -> Mask:
    """The inverse of :func:`pack`.

    Raises:
        ShapeMismatchError: ``bits`` is not uint8[ceil(size / 8)] for that shape.
    """
    packed = np.asarray(bits)
    size = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (-(-size // 8),):
        raise ShapeMismatchError(
            f"a mask of shape {tuple(shape)} is packed into uint8[{-(-size // 8)}], not {packed.dtype}{packed.shape}"
        )
    return np.unpackbits(packed, count=size, bitorder="little").view(np.bool_).reshape(tuple(shape))


def sparsity(mask: Any) -> float:
    """The fraction of elements that are pruned, of a mask or a list of masks.

    Raises:
        EmptyInputError: there is no element.
    """
    masks = _hosts(mask)
    size = sum(item.size for item in masks)
    if size == 0:
        raise EmptyInputError("no mask with at least one element was given")
    return (size - sum(int(np.count_nonzero(item)) for item in masks)) / size


def overlap(a: Any, b: Any) -> float:
    """How far two masks, or lists of masks, agree on what to prune: intersection over union (Jaccard index).

    Two that prune nothing agree: 1.0.

    Raises:
        ShapeMismatchError: they differ in shape or number.
    """
    first, second = _hosts(a), _hosts(b)
    if [item.shape for item in first] != [item.shape for item in second]:
        raise ShapeMismatchError(
            f"masks of shapes {[item.shape for item in first]} and {[item.shape for item in second]} cannot be compared"
        )
    either = sum(item.size - int(np.count_nonzero(x & y)) for item, x, y in zip(first, first, second, strict=True))
    both = sum(item.size - int(np.count_nonzero(x | y)) for item, x, y in zip(first, first, second, strict=True))
    return both / either if either else 1.0


def _keep_largest(items: Sequence[Named], keep: int, size: int) -> list[Mask]:
    """Above the threshold, all; of those equal to it, the last ones, over all arrays."""
    threshold, equal_to_keep = math.inf, 0
    if keep:
        found = order_statistics(items, [size - keep])[0]
        threshold, equal_to_keep = found.value, keep - (size - found.below - found.equal)
    else:
        kernels.refuse_nan(items)
    masks: list[Mask] = []
    for _, array in reversed(items):
        device = kernels.of(array)
        equal_here = min(equal_to_keep, device.count_above_equal(array, threshold)[1]) if equal_to_keep else 0
        masks.append(device.mask_above(array, threshold, equal_here))
        equal_to_keep -= equal_here
    return masks[::-1]


def _count(what: str, value: int, size: int) -> int:
    if not 0 <= operator.index(value) <= size:
        raise OutOfRangeError(f"{what} is {value}, but there are {size}: give 0 to {size}")
    return operator.index(value)


def _block_sizes(shape: Sequence[int], block: Sequence[int]) -> npt.NDArray[np.float64]:
    """How many elements each block has."""
    sizes = np.ones(())
    for extent, side in zip(shape, block, strict=True):
        sizes = np.multiply.outer(sizes, np.minimum(side, extent - np.arange(0, extent, side)).astype(np.float64))
    return sizes


def _host(mask: Any) -> Mask:
    array = as_mask(mask)
    result: Mask = kernels.of(array).to_host(array)
    return result


def _hosts(masks: Any) -> list[Mask]:
    return [_host(masks)] if is_array(masks) else [_host(item) for item in masks]
