"""Pruning by magnitude, in place: threshold and zeros at once, no mask and no score in between.

All return what they were given (of an iterator, the list of its arrays), leave every bit of what stays, and check all
before they write: read-only arrays and such whose elements share memory (ReadOnlyArrayError), integers and other types
(UnsupportedDtypeError), and NaN, which cannot be ranked (InvalidTensorError, with the array's name and the first
position).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from secateur import kernels
from secateur.arrays import (
    Named,
    as_array,
    as_arrays,
    dtype_of,
    is_array,
    is_cuda,
    require_one_device,
    single_dtype,
)
from secateur.errors import InvalidTensorError, OutOfRangeError, ShapeMismatchError
from secateur.masks.making import group_axis, number, row_length
from secateur.masks.ties import count, largest
from secateur.memory import copied_if_shared, require_apart, require_writable


def zero_below(weight: Any, threshold: float, name: str = "the weight") -> Any:
    """Write +0.0 where |w| <= threshold: what ``keep_above(magnitude(weight), threshold)`` prunes.

    Raises:
        RecipeError: the threshold is no single number.
        OutOfRangeError: it is NaN, or finite but too large for a float.
    """
    threshold = number("the threshold", threshold)
    item = _target(weight, name)
    kernels.refuse_nan([item])
    kernels.of(item.array).zero_at_most(item.array, threshold)
    return weight


def zero_smallest(weights: Any, keep: int, names: Sequence[str] | None = None) -> Any:
    """Write +0.0 at all but the ``keep`` largest magnitudes; of equal ones the last stay, as in ``keep_largest``.

    Args:
        weights: an array, or a list of arrays that compete.
        keep: how many of all elements stay.
        names: what error messages call the arrays.

    Raises:
        OutOfRangeError: keep is below 0 or above the number of elements.
        ShapeMismatchError: two of the arrays share memory.
    """
    weights = list(weights) if isinstance(weights, Iterator) and not is_array(weights) else weights
    items = as_arrays(weights, ["the weight"] if is_array(weights) and names is None else names, writable=True)
    for item in items:
        require_writable(item)
    require_apart(items)
    keep = count("keep", keep, sum(math.prod(item.array.shape) for item in items))
    threshold, first_kept = largest(items, keep, absolute=True)
    kernels.zero_at_most(items, threshold, first_kept)
    return weights


def zero_n_of_m(weight: Any, n: int = 2, m: int = 4, axis: int = -1, name: str = "the weight") -> Any:
    """Write +0.0 at all but the n largest magnitudes of each m consecutive along ``axis``; ties: the later stay.

    Raises:
        OutOfRangeError: not 0 <= n <= m, m < 1, or no such axis.
        ShapeMismatchError: the axis cannot be cut into groups of m.
    """
    item = _target(weight, name)
    axis = group_axis(item, n, m, axis)
    kernels.refuse_nan([item])
    kernels.of(item.array).zero_n_of_m(item.array, n, m, axis)
    return weight


def zero_per_row(weight: Any, keep: int, scale: Any = None, name: str = "the weight") -> Any:
    """Write +0.0 at all but the ``keep`` largest |w| * scale of each row; of equal ones the last stay.

    With the Euclidean norm of each input as scale, this is Wanda (Sun et al. 2023).

    Args:
        weight: a row is an index of axis 0 (in the canonical view, what one neuron reads), all other axes flattened.
        keep: how many elements of each row stay.
        scale: float[elements of a row], finite and not negative, one number for each, on any device; None is 1 for all.
            The product is computed in float32, in float64 if either is.
        name: what error messages call the weight.

    Raises:
        OutOfRangeError: keep is outside 0 to the length of a row, or a scale is negative, infinite or NaN.
        ShapeMismatchError: the weight has no axis, or the scale is not one number for each element of a row.
        InvalidTensorError: also if an infinite weight has the scale 0.
    """
    item = _target(weight, name)
    columns = row_length(item)
    keep = count("keep", keep, columns)
    factors = _scale(scale, columns, item)
    device = kernels.of(item.array)
    factors = device.from_host(factors, item.array)
    if device.first_nan_product(item.array, factors) >= 0:
        kernels.refuse_nan([item])
        raise InvalidTensorError(f"{name} is infinite where its scale is 0, which cannot be ranked: give another scale")
    device.zero_per_row(item.array, keep, factors)
    return weight


def _target(weight: Any, name: str) -> Named:
    """The weight as an array that can be written."""
    item = Named(name, as_array(weight, name, writable=True))
    require_writable(item)
    return item


def _scale(scale: Any, columns: int, weight: Named) -> Any:
    """A line of float32 or float64 on the host, one number for each column."""
    dtype = np.result_type(np.float32, single_dtype(dtype_of(weight.array)))
    if scale is None:
        return np.ones(columns, dtype)
    factors = as_array(scale, "the scale")
    if tuple(factors.shape) != (columns,):
        raise ShapeMismatchError(
            f"the scale has shape {tuple(factors.shape)}, but a row of {weight.name} has {columns} elements"
        )
    if is_cuda(factors):
        require_one_device(weight, Named("the scale", factors))
    host = kernels.of(factors).to_host(factors)
    line = np.ascontiguousarray(host, np.result_type(dtype, single_dtype(host.dtype)))
    line = copied_if_shared(line, weight.array)
    wrong = np.flatnonzero(~((line >= 0) & (line < math.inf)))
    if wrong.size:
        raise OutOfRangeError(f"the scale at {wrong[0]} is {line[wrong[0]]}: give finite numbers from 0")
    return line
