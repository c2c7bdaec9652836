"""How much masks prune, and what they have in common. All take one mask or a list of masks, of bool or packed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from secateur import kernels
from secateur.arrays import Named, as_mask, is_array, require_one_device
from secateur.errors import EmptyInputError, RecipeError, ShapeMismatchError, UnsupportedDtypeError
from secateur.masks.forms import is_packed, require_bits
from secateur.scalars import sides

Shape = Sequence[int] | Sequence[Sequence[int]]


def sparsity(mask: Any, shape: Shape | None = None) -> float:
    """The fraction of elements that are pruned.

    Args:
        mask: one, or several.
        shape: for packed masks, which do not tell it: that of the mask, or a list of those of the masks.

    Raises:
        EmptyInputError: there is no element.
        ShapeMismatchError: a packed mask comes without a shape, or does not fit it.
        RecipeError, OutOfRangeError: ``shape`` is no sequence, or list of sequences, of whole numbers from 0.
        UnsupportedDtypeError: what is given is no mask.
    """
    masks = _named(mask, "the mask")
    size = sum(_sizes(masks, shape, is_array(mask)))
    if size == 0:
        raise EmptyInputError("no mask with at least one element was given")
    return (size - sum(_counts(item, item)[0] for item in masks)) / size


def overlap(a: Any, b: Any, shape: Shape | None = None) -> float:
    """How far two masks, or lists of masks, agree on what to prune: intersection over union (Jaccard index).

    Two that prune nothing agree: 1.0.

    Args:
        a: one, or several.
        b: as many, of the same shapes and form.
        shape: for packed masks, as in :func:`sparsity`.

    Raises:
        ShapeMismatchError: they differ in shape, number or form; or as :func:`sparsity`.
        DeviceMismatchError: they lie on different devices.
    """
    pairs = _pairs(a, b)
    told: Any = tuple(shape) if isinstance(shape, Iterable) else shape  # an iterator is spent by the first look
    size = sum(_sizes([first for first, _ in pairs], told, is_array(a)))
    _sizes([second for _, second in pairs], told, is_array(b))
    counts = [_counts(first, second) for first, second in pairs]
    either = size - sum(in_both for _, _, in_both in counts)
    both = size - sum(in_a + in_b - in_both for in_a, in_b, in_both in counts)
    return both / either if either else 1.0


def hamming(a: Any, b: Any) -> int:
    """The number of elements in which two masks, or lists of masks, differ.

    Raises:
        ShapeMismatchError, DeviceMismatchError: as :func:`overlap`.
    """
    counts = [_counts(first, second) for first, second in _pairs(a, b)]
    return sum(in_a + in_b - 2 * in_both for in_a, in_b, in_both in counts)


def intersection(a: Any, b: Any) -> Any:
    """What both keep: new masks in the form of the given ones.

    Raises:
        ShapeMismatchError, DeviceMismatchError: as :func:`overlap`.
    """
    return _combined(a, b, union=False)


def union(a: Any, b: Any) -> Any:
    """What either keeps: new masks in the form of the given ones.

    Raises:
        ShapeMismatchError, DeviceMismatchError: as :func:`overlap`.
    """
    return _combined(a, b, union=True)


def _combined(a: Any, b: Any, union: bool) -> Any:
    masks = [kernels.of(first.array).combine(first.array, second.array, union) for first, second in _pairs(a, b)]
    return masks[0] if is_array(a) else masks


def _counts(first: Named, second: Named) -> tuple[int, int, int]:
    return kernels.of(first.array).count_kept(first.array, second.array)


def _named(masks: Any, name: str) -> list[Named]:
    if is_array(masks):
        return [Named(name, as_mask(masks, name, packed=True))]
    if isinstance(masks, str) or not isinstance(masks, Iterable):
        raise UnsupportedDtypeError(f"{name} is {masks!r}, a {type(masks).__name__}: give a mask, or a list of masks")
    labelled = ((f"{name} {i}", mask) for i, mask in enumerate(masks))
    return [Named(label, as_mask(mask, label, packed=True)) for label, mask in labelled]


def _pairs(a: Any, b: Any) -> list[tuple[Named, Named]]:
    """The masks that are compared with one another."""
    first, second = _named(a, "the first mask"), _named(b, "the second mask")
    if is_array(a) != is_array(b) or len(first) != len(second):
        raise ShapeMismatchError(f"{len(first)} masks cannot be compared with {len(second)}: give two, or two lists")
    for one, other in zip(first, second, strict=True):
        if is_packed(one.array) != is_packed(other.array):
            raise ShapeMismatchError(f"one of {one.name} and {other.name} is packed, the other is not: pack both")
        if tuple(one.array.shape) != tuple(other.array.shape):
            raise ShapeMismatchError(
                f"{one.name} has shape {tuple(one.array.shape)}, {other.name} {tuple(other.array.shape)}"
            )
        require_one_device(one, other)
    return list(zip(first, second, strict=True))


def _sizes(masks: Sequence[Named], shape: Any, single: bool) -> list[int]:
    """How many elements each mask has; packed ones are checked against their shapes."""
    if not (shape is None or single or isinstance(shape, Iterable)):
        raise RecipeError(f"shape is {shape!r}, a {type(shape).__name__}: give a list of the shapes of the masks")
    shapes = [None] * len(masks) if shape is None else [shape] if single else list(shape)
    if len(shapes) != len(masks):
        raise ShapeMismatchError(f"{len(masks)} masks but {len(shapes)} shapes")
    return [_size(item, given) for item, given in zip(masks, shapes, strict=True)]


def _size(mask: Named, shape: Any) -> int:
    wanted = None if shape is None else sides(f"the shape of {mask.name}", shape)
    if not is_packed(mask.array):
        own = tuple(mask.array.shape)
        if wanted not in (None, own):
            raise ShapeMismatchError(f"{mask.name} has shape {own}, not {wanted}")
        return math.prod(own)
    if wanted is None:
        raise ShapeMismatchError(f"{mask.name} is packed, so it does not tell its number of elements: give shape=")
    require_bits(mask, wanted)
    return math.prod(wanted)
