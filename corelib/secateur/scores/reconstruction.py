"""Pruning that mends what it breaks: second-order scores of a layer's outputs, and the weights that then fit best.

The outputs of a row of weights w are X w; without some weights the squared error of the outputs is least where the
others are changed by the inverse of H = X^T X (optimal brain surgeon, Hassibi and Stork 1993). All rows of a layer, in
convolutions with groups those of a group, share H. It is factorised by loops of its own, of one order, so that no
thread or library can change a bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_array
from secateur.errors import InvalidTensorError, OutOfRangeError, ShapeMismatchError
from secateur.scalars import real, whole
from secateur.scores.basic import reduce

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

GROWTH = 10.0
TRIES = 12


def surgeon(weight: Any, gram: Any, damping: float = 0.01, name: str = "the weight") -> Floats:
    """w^2 / [H^-1]_jj / 2: the error of the outputs without a weight, all others adjusted (Hassibi 1993).

    Args:
        weight: of last axes that are summed over, in C order; other axes, at least the first, are rows.
        gram: H = X^T X, or the mean over positions, float[n, n], n the number of weights of a row; of convolutions with
            groups float[groups, n, n], for as many groups of rows, one after the other.
        damping: what is added to the diagonal of H, in parts of its mean; ten times more as often as H is not positive.
        name: what error messages call the weight.

    Returns:
        float64, of the shape of ``weight``.

    Raises:
        ShapeMismatchError: the weight's rows are not as long as ``gram``, or no multiple of its groups.
        InvalidTensorError: either holds NaN, or ``gram`` is none of real numbers and cannot be factorised.
        OutOfRangeError: the damping is negative.
    """
    groups, factors = _grouped(weight, gram, damping, name)
    variances = np.stack([reduce(factor, axis=1, norm=2) for factor in factors])[:, None]
    found: Floats = (groups * groups / (variances * variances) * 0.5).reshape(np.shape(weight))
    kernels.refuse_nan([Named(f"the score of {name}", found)])
    return found


def reconstruct(weight: Any, mask: Any, gram: Any, damping: float = 0.01, name: str = "the weight") -> Floats:
    """The weights under a mask that change the outputs least, column after column (SparseGPT, Frantar 2023).

    Each pruned weight is made up for by those to its right in the row, as far as they stay or are pruned later.

    Args:
        weight: as for :func:`surgeon`, as are the others, and what is raised.
        mask: of the shape of ``weight``; True = kept.
        gram: as there.
        damping: as there.
        name: as there.

    Returns:
        float64, of the shape of ``weight``, exactly 0.0 where the mask is False.
    """
    from secateur.kernels import factorising

    groups, factors = _grouped(weight, gram, damping, name)
    kept = _mask(weight, mask, name).reshape(groups.shape)
    for rows, stays, factor in zip(groups, kept, factors, strict=True):
        factorising.eliminate(rows, stays, factor, 0, len(factor))
    groups[~kept] = 0.0
    kernels.refuse_nan([Named(f"the adjusted weights of {name}", groups)])
    return groups.reshape(np.shape(weight))


def choose(
    weight: Any,
    mask: Any,
    gram: Any,
    damping: float = 0.01,
    block: int = 128,
    by_row: bool = False,
    before: Any | None = None,
    name: str = "the weight",
) -> Flags:
    """Which weights stay, block of columns after block of columns (SparseGPT, Frantar 2023).

    Before a block is looked at, what went in the blocks before it has been made up for. Within it those go whose loss
    ``w^2 / [H^-1]_jj`` is least, H without the columns before j. Each block loses its share of the number, to one; of
    ties the earlier position goes.

    Args:
        weight: as for :func:`surgeon`, as are the others, and what is raised.
        mask: of the shape of ``weight``: as many weights go as it has False.
        gram: as there.
        damping: as there.
        block: how many columns are chosen at a time, 1 or more.
        by_row: whether each row loses as many as ``mask`` has False in it; else the rows of a block compete.
        before: an earlier result; what it pruned stays pruned.
        name: as there.

    Returns:
        bool, of the shape of ``weight``; True = kept.

    Raises:
        OutOfRangeError: ``block`` is less than 1, or ``before`` has pruned more than ``mask`` asks for.
    """
    from secateur.kernels import factorising

    block = require_block(block)
    groups, factors = _grouped(weight, gram, damping, name)
    size = groups.shape[-1]
    asked = _mask(weight, mask, name).reshape(-1, size)
    kept = np.ones(asked.shape, np.bool_) if before is None else _mask(weight, before, name).reshape(-1, size).copy()
    shape = (len(kept), 1, size) if by_row else (1, len(kept), size)
    quotas = _Quotas(asked.reshape(shape), kept.reshape(shape))
    stays = kept.reshape(groups.shape)
    for first in range(0, size, block):
        last = min(first + block, size)
        loss = np.stack(
            [
                rows[:, first:last] / np.diagonal(factor)[first:last]
                for rows, factor in zip(groups, factors, strict=True)
            ]
        )
        _drop(loss.reshape(*shape[:2], -1) ** 2, kept.reshape(shape)[..., first:last], quotas.of(first, last))
        for rows, flags, factor in zip(groups, stays, factors, strict=True):
            factorising.eliminate(rows, flags, factor, first, last)
    return kept.reshape(np.shape(weight))


def require_block(block: int) -> int:
    """A number of columns. Raises RecipeError, OutOfRangeError."""
    block = whole("the block", block)
    if block < 1:
        raise OutOfRangeError(f"the block is {block}: give 1 column or more, such as 128")
    return block


class _Quotas:
    """How many go in each block of columns, of each part of a weight that competes: its share, to one.

    Args:
        asked: bool[parts, rows, columns], with as many False in each part as go.
        kept: of the same shape: what is kept before. Raises OutOfRangeError if it has more False in a part.
    """

    def __init__(self, asked: Flags, kept: Flags) -> None:
        self._rows: int = asked.shape[1]
        self._columns: int = asked.shape[2]
        self._total = np.count_nonzero(~asked, axis=(1, 2))
        self._gone = np.count_nonzero(~kept, axis=1)
        self._so_far = np.zeros(len(asked), np.int64)
        if (self._gone.sum(axis=1) > self._total).any():
            raise OutOfRangeError("more is pruned already than is to be pruned in all: ask for as much at least")

    def of(self, first: int, last: int) -> Counts:
        """Of the next block, one number a part: no fewer than have gone in it, and room is left for those behind."""
        behind = self._rows * (self._columns - last)
        share = (2 * self._total * last + self._columns) // (2 * self._columns) - self._so_far
        most = self._total - self._so_far - self._gone[:, last:].sum(axis=1)
        least = np.maximum(self._gone[:, first:last].sum(axis=1), self._total - self._so_far - behind)
        found: Counts = np.clip(share, least, np.minimum(most, self._rows * (last - first)))
        self._so_far = self._so_far + found
        return found


def _drop(loss: Floats, kept: Flags, counts: Counts) -> None:
    """Set so many of each part to False, those of the least loss; what is False already counts first."""
    flat = np.where(kept, loss.reshape(kept.shape), -1.0).reshape(len(kept), -1)
    ranks = np.argsort(np.argsort(flat, axis=1, kind="stable"), axis=1)
    kept &= (ranks >= counts[:, None]).reshape(kept.shape)


def _mask(weight: Any, mask: Any, name: str) -> Flags:
    kept = np.asarray(mask, np.bool_)
    if kept.shape != np.shape(weight):
        raise ShapeMismatchError(f"the mask of {name} has shape {kept.shape}, expected {np.shape(weight)}")
    return np.ascontiguousarray(kept)


def _grouped(weight: Any, gram: Any, damping: float, name: str) -> tuple[Floats, list[Floats]]:
    """Weights as float64[groups, rows, n], new, and a factor of each group's inverse Hessian. Raises as surgeon."""
    arrays = [as_array(weight, name), as_array(gram, f"the Gram matrix of {name}")]
    kernels.refuse_nan([Named(name, arrays[0]), Named(f"the Gram matrix of {name}", arrays[1])])
    host, given = (np.array(kernels.of(each).to_host(each), np.float64, order="C") for each in arrays)
    hessians = given[None] if given.ndim == 2 else given
    size = given.shape[-1] if given.ndim else 0
    ends = [math.prod(host.shape[axis:]) for axis in range(1, host.ndim)]
    fits = hessians.ndim == 3 and hessians.shape[1:] == (size, size) and size in ends
    if not fits or not len(hessians) or host.shape[0] % len(hessians):
        raise ShapeMismatchError(
            f"{name} has shape {host.shape}, but its Gram matrix {given.shape}: rows must be as long as that, and as "
            "many in each group"
        )
    groups = host.reshape(len(hessians), -1, size) if host.size else host.reshape(len(hessians), 0, size)
    return groups, [_inverse_factor(hessian, damping, name) for hessian in hessians]


def _inverse_factor(hessian: Floats, damping: float, name: str) -> Floats:
    """U, upper triangular, with U^T U the inverse of H + d I; d is the first of growing ones for which there is one."""
    from secateur.kernels import factorising

    damping = real("the damping", damping)
    if not damping >= 0:
        raise OutOfRangeError(f"the damping is {damping}: give 0 or more")
    diagonal = np.diagonal(hessian)
    mean = math.fsum(diagonal) / max(1, len(diagonal)) or 1.0
    for attempt in range(TRIES):
        added = damping if attempt == 0 else max(damping, 1e-8) * GROWTH**attempt
        factor = hessian + np.diag(np.full(len(diagonal), added * mean))
        if factorising.upper_factor(factor):
            found: Floats = factorising.inverse(factor)
            return found
    raise InvalidTensorError(f"the Gram matrix of {name} cannot be factorised: it is not one of mean products")
