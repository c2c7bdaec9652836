"""Whether arrays can be written in place: into memory of their own, which no two elements share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import Named, dtype_of, is_cuda
from secateur.errors import ReadOnlyArrayError, ShapeMismatchError

Array = npt.NDArray[Any]

_WORK = 1 << 16
"""Steps of the search for a shared address, after which it is given up."""


def require_writable(item: Named) -> None:
    """Check that an array, as :func:`as_array` gives it, can be written in place.

    Raises:
        ReadOnlyArrayError: it cannot.
    """
    if is_cuda(item.array):
        writable = not item.array.__cuda_array_interface__["data"][1]
        strides = item.array.__cuda_array_interface__.get("strides") or ()
    else:
        writable = bool(item.array.flags.writeable)
        strides = item.array.strides
    if not writable:
        raise ReadOnlyArrayError(f"{item.name} cannot be written: give a writable array")
    if strides and _overlaps_itself(item.array.shape, strides, dtype_of(item.array).itemsize):
        raise ReadOnlyArrayError(
            f"{item.name} has elements that share their memory (expanded, broadcast, a sliding window): give a copy"
        )


def require_apart(items: Sequence[Named]) -> None:
    """Check that no two arrays of the host that are to be written in place share memory, as tied weights do.

    Raises:
        ShapeMismatchError: two do.
    """
    bounds = [
        (*np.lib.array_utils.byte_bounds(item.array), item)
        for item in items
        if not is_cuda(item.array) and item.array.size
    ]
    reaching: list[tuple[int, Named]] = []  # earlier arrays that end after the start of the next: few, but for slices
    for start, end, second in sorted(bounds, key=lambda each: each[:2]):
        reaching = [(other, first) for other, first in reaching if other > start]
        for _, first in reaching:
            if np.shares_memory(first.array, second.array):
                raise ShapeMismatchError(
                    f"{first.name} and {second.name} share memory (one weight, tied?): give it once, as it is "
                    "written once"
                )
        reaching.append((end, second))


def copied_if_shared(source: Any, target: Any) -> Any:
    """The source; a copy if it may share memory with a target on the host, and would be read while that is written."""
    return source if is_cuda(target) or not np.may_share_memory(source, target) else source.copy()


def _overlaps_itself(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Whether two elements of an array of that form share memory."""
    axes = sorted((abs(step), side) for side, step in zip(shape, strides, strict=True) if side != 1)
    span = itemsize
    for step, side in axes:
        if step < span:
            break
        span += (side - 1) * step
    else:
        return False
    if math.prod(shape) == 0:
        return False
    sides, steps = [side for _, side in axes], [step for step, _ in axes]
    # Only addresses are compared below, so that no memory is needed behind them.
    form = np.lib.stride_tricks.as_strided(np.empty(1, f"V{itemsize}"), sides, steps, writeable=False)
    return any(_meets_itself(form[(slice(1),) * axis]) for axis in range(form.ndim))


def _meets_itself(form: Array) -> bool:
    """Whether two elements share memory whose indices differ first on the first axis of more than one index."""
    axis = next(axis for axis, side in enumerate(form.shape) if side > 1)
    ahead = (slice(None),) * axis
    try:
        return np.shares_memory(form[(*ahead, slice(1))], form[(*ahead, slice(1, None))], max_work=_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:  # layouts that no library makes
        return True
