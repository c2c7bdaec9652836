"""The two forms of a mask, bool and packed: what is taken for one, and how one becomes the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_mask, dtype_of, require_one_device
from secateur.errors import ShapeMismatchError
from secateur.scalars import sides

Mask = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]


def pack(mask: Any) -> Any:
    """The mask in C order, eight elements a byte, the first in the lowest bit: uint8[ceil(size / 8)], on its device.

    Raises:
        UnsupportedDtypeError: its elements are not bool.
    """
    array = as_mask(mask)
    return kernels.of(array).pack(array)


def unpack(bits: Any, shape: Sequence[int]) -> Any:
    """The inverse of :func:`pack`.

    Raises:
        ShapeMismatchError: ``bits`` is not uint8[ceil(size / 8)] for that shape.
        UnsupportedDtypeError: its elements are not uint8.
        RecipeError, OutOfRangeError: ``shape`` is no sequence of whole numbers from 0.
    """
    packed, shape = as_mask(bits, packed=True), sides("the shape", shape)
    if not is_packed(packed):
        raise ShapeMismatchError(f"a packed mask is of uint8, not {dtype_of(packed)}")
    require_bits(Named("the mask", packed), shape)
    return kernels.of(packed).unpack(packed, shape)


def is_packed(mask: Any) -> bool:
    """Whether a mask, as :func:`secateur.arrays.as_mask` gives it, is packed."""
    return dtype_of(mask) == np.uint8


def require_bits(mask: Named, shape: Sequence[int]) -> None:
    """Check that a packed mask is one of that shape.

    Raises:
        ShapeMismatchError: it has not as many bytes, or bits are set beyond its elements.
    """
    size = math.prod(shape)
    length = -(-size // 8)
    if tuple(mask.array.shape) != (length,):
        raise ShapeMismatchError(
            f"{mask.name} is uint8{tuple(mask.array.shape)}, but a mask of shape {tuple(shape)} is packed into "
            f"uint8[{length}]; a mask that is not packed is of bool"
        )
    if size % 8 and int(kernels.of(mask.array).to_host(mask.array[-1:])[0]) >> size % 8:
        raise ShapeMismatchError(
            f"{mask.name} has bits beyond its {size} elements: it is not a packed mask of shape {tuple(shape)}"
        )


def require_mask_of(mask: Named, weight: Named) -> None:
    """Check that a mask, bool or packed, fits a weight.

    Raises:
        ShapeMismatchError: it has another shape, or another number of bytes.
        DeviceMismatchError: one lies on a CUDA device, the other does not.
    """
    if is_packed(mask.array):
        require_bits(mask, weight.array.shape)
    elif tuple(mask.array.shape) != tuple(weight.array.shape):
        raise ShapeMismatchError(
            f"{weight.name} has shape {tuple(weight.array.shape)}, {mask.name} {tuple(mask.array.shape)}"
        )
    require_one_device(weight, mask)
