"""A mask put on a weight."""

from __future__ import annotations

from typing import Any

from secateur import kernels
from secateur.arrays import Named, as_array, as_mask
from secateur.masks.forms import require_mask_of
from secateur.memory import copied_if_shared, require_writable


def apply(weight: Any, mask: Any, name: str = "the weight") -> Any:
    """Write +0.0 into ``weight`` where the mask is False, in place, and return ``weight``.

    What is pruned becomes zero even where it was infinite or NaN; all other bits stay.

    Args:
        weight: of any layout.
        mask: of bool, of the same shape, or packed.
        name: what error messages call the weight.

    Raises:
        ShapeMismatchError: the shapes differ, or the packed mask is one of another shape.
        ReadOnlyArrayError: the weight cannot be written.
        DeviceMismatchError: one lies on a CUDA device, the other does not.
        UnsupportedDtypeError: the weight's elements are no floats, or the mask's neither bool nor uint8.
    """
    target, kept = as_array(weight, name, writable=True), as_mask(mask, packed=True)
    require_mask_of(Named("the mask", kept), Named(name, target))
    require_writable(Named(name, target))
    kernels.of(target).zero_where_false(target, copied_if_shared(kept, target))
    return weight
