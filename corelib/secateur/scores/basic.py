"""Scores that are one pass of a kernel, on whatever device; what they are computed from, and their sums over units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import (
    Named,
    as_array,
    common_dtype,
    dtype_of,
    is_cuda,
    require_alike,
    single_dtype,
)
from secateur.errors import EmptyInputError, OutOfRangeError, RecipeError, UnsupportedDtypeError
from secateur.kernels.formats import Kind, Term
from secateur.memory import require_writable
from secateur.scalars import is_real, whole

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Norm = float | str
"""1, 2, ``math.inf`` or ``"inf"``, ``"mean"``."""


def magnitude(weight: Any, name: str = "the weight") -> Array:
    """|w|: small weights matter least (Han et al. 2015). Dtype and shape of ``weight``."""
    return _absolute(weight, name)


def gradient(mean_abs_gradient: Any, name: str = "the gradient") -> Array:
    """Mean |dL/dw| over batches: weights that the loss hardly feels matter least.

    The statistic is gathered beforehand, for example by :func:`accumulate`; its magnitude is taken once more, so a
    signed mean may be given as well.
    """
    return _absolute(mean_abs_gradient, name)


def accumulate(total: Any, gradient: Any, kind: Term = "absolute", weight: Any = None) -> Any:
    """Add one batch's term to a running total in place, and return it; over the number of batches it is the mean.

    The term is computed and rounded in the dtype of the total, then added. Batches are added in call order.

    Args:
        total: float32 or float64, at least as wide as ``gradient`` and ``weight``, of the same shape.
        gradient: dL/dw of one batch's mean loss.
        kind: the term: "absolute" |g|, "value" g, "square" g * g (Fisher information), "product" w * g (Taylor).
        weight: w; for "product" only.

    Raises:
        RecipeError: no such kind, or a weight is missing or not asked for.
        UnsupportedDtypeError: the total is narrower than the others, or than float32.
        ShapeMismatchError, DeviceMismatchError: they do not fit each other.
        ReadOnlyArrayError: the total cannot be written.
    """
    if kind not in get_args(Term):
        raise RecipeError(f"unknown kind {kind!r}: use one of {', '.join(get_args(Term))}")
    if (weight is not None) != (kind == "product"):
        raise RecipeError(f"kind {kind!r} {'needs a' if kind == 'product' else 'takes no'} weight")
    target = Named("the total", as_array(total, "the total", writable=True))
    sources = [Named("the gradient", as_array(gradient, "the gradient"))]
    if weight is not None:
        sources.append(Named("the weight", as_array(weight, "the weight")))
    for source in sources:
        require_alike(target, source)
    require_writable(target)
    wanted, dtype = np.result_type(np.float32, common_dtype(sources)), dtype_of(target.array)
    if np.result_type(wanted, single_dtype(dtype)) != dtype:
        raise UnsupportedDtypeError(f"the total has dtype {dtype}, but the sum needs {wanted}")
    arrays = [_apart(source.array, target.array) for source in sources]
    kernels.of(target.array).accumulate(target.array, arrays[0], kind, *arrays[1:])
    return total


def _apart(source: Any, target: Any) -> Any:
    """The source, copied if it overlaps a target on the host other than element by element."""
    if is_cuda(target) or not np.may_share_memory(source, target):
        return source
    same = source.__array_interface__["data"] == target.__array_interface__["data"] and source.strides == target.strides
    return source if same and source.dtype == target.dtype else source.copy()


def taylor(weight: Any, gradient: Any, name: str = "the weight times its gradient") -> Array:
    """|w * g|: first-order estimate of the change in loss when w is set to zero (Molchanov et al. 2017).

    Args:
        weight: any shape.
        gradient: mean dL/dw over batches, of the same shape.
        name: what error messages call the result.

    Returns:
        float64 if either is, else float32: the product of two 16-bit floats would often vanish in 16 bits.

    Raises:
        ShapeMismatchError: the shapes differ.
        DeviceMismatchError: one lies on a CUDA device, the other does not.
    """
    weight, gradient = as_array(weight, "the weight"), as_array(gradient, "the gradient")
    require_alike(Named("the weight", weight), Named("the gradient", gradient))
    return _checked(kernels.of(weight).product_absolute(weight, gradient), name)


def reduce(score: Any, axis: int = 0, norm: Norm = 1, name: str = "the score", signed: bool = False) -> Floats:
    """One score per index of ``axis``: of neurons, channels or heads, from the scores of their weights.

    Args:
        score: any shape of at least one axis. In the canonical view neurons are axis 0, in Keras's own layout of a
            kernel they are the *last* axis.
        axis: the axis that is kept; all others are summed over.
        norm: of the magnitudes: 1, their sum; 2, the root of the sum of squares; ``math.inf``, the largest;
            ``"mean"``, the rounded sum divided by the number.
        name: what error messages call the array.
        signed: whether scores below zero count as such, and not as their magnitudes; for norm 1 and ``"mean"``.

    Returns:
        float64[score.shape[axis]], in host memory. Sums are exact and rounded once, so layout and order do not matter.

    Raises:
        OutOfRangeError: no such axis.
        RecipeError: unknown norm, or one that knows no signs, or the axis is no whole number.
        EmptyInputError: the mean over no elements; the other norms are then 0.
    """
    score = as_array(score, name)
    axis = _axis(axis, len(score.shape), name)
    norm = _norm(norm)
    _require_magnitudes(norm, signed)
    if math.prod(score.shape) == 0:
        if norm == "mean" and score.shape[axis]:
            raise EmptyInputError(f"{name} has shape {tuple(score.shape)}: there is nothing to take the mean of")
        return np.zeros(score.shape[axis])
    block = tuple(1 if i == axis else size for i, size in enumerate(score.shape))
    if norm == math.inf:
        reduced = kernels.of(score).largest_magnitudes(score, block).reshape(-1)
    else:
        reduced = kernels.rounded_sums(score, _kind(norm, signed), block).reshape(-1)
    if np.isnan(reduced).any():  # of a NaN, or of infinities of both signs
        kernels.refuse_nan([Named(name, score), Named(f"the sums of {name}", reduced)])
    return reduced / math.prod(block) if norm == "mean" else reduced


def reduce_together(parts: Sequence[Any], norm: Norm = 1, name: str = "the score", signed: bool = False) -> Floats:
    """One score per index of axis 0 of several arrays, over all that any of them has there.

    The same numbers as :func:`reduce` gives of the arrays side by side, which need not be made.

    Args:
        parts: at least one NumPy array, all with elements, and with as many indices on axis 0.
        norm: as for :func:`reduce`.
        name: what error messages call the arrays.
        signed: as for :func:`reduce`.
    """
    norm = _norm(norm)
    _require_magnitudes(norm, signed)
    if norm == math.inf:
        return np.asarray(np.maximum.reduce([reduce(part, 0, norm, name) for part in parts]))
    arrays = [as_array(part.astype(np.result_type(*parts), copy=False), name) for part in parts]
    reduced = kernels.rounded_row_sums(arrays, _kind(norm, signed))
    if np.isnan(reduced).any():
        kernels.refuse_nan([*(Named(name, array) for array in arrays), Named(f"the sums of {name}", reduced)])
    return reduced / sum(math.prod(array.shape[1:]) for array in arrays) if norm == "mean" else reduced


def _kind(norm: Norm, signed: bool) -> Kind:
    return "value" if signed else "square" if norm == 2 else "absolute"


def _require_magnitudes(norm: Norm, signed: bool) -> None:
    if signed and norm not in (1, "mean"):
        raise RecipeError(f"the norm {norm!r} is one of magnitudes: signed scores need norm 1 or 'mean'")


def _absolute(value: Any, name: str) -> Array:
    array = as_array(value, name)
    return _checked(kernels.of(array).absolute(array), name)


def _checked(score: Array, name: str) -> Array:
    kernels.refuse_nan([Named(name, score)])
    return score


def _axis(axis: int, dimensions: int, name: str) -> int:
    axis = whole("the axis", axis)
    if not -dimensions <= axis < dimensions:
        raise OutOfRangeError(f"{name} has {dimensions} axes, so there is no axis {axis}")
    return axis % dimensions


def _norm(norm: Norm) -> Norm:
    single = isinstance(norm, str) or is_real(norm)
    if single and norm in ("inf", math.inf):
        return math.inf
    if not single or norm not in (1, 2, "mean"):
        raise RecipeError(f"unknown norm {norm!r}: use 1, 2, math.inf or 'mean'")
    return norm
