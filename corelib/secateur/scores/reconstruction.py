"""Pruning that mends what it breaks: second-order scores of a layer's outputs, and the weights that then fit best.

The outputs of a row of weights w are X w; without some weights the squared error of the outputs is least where the
others are changed by the inverse of H = X^T X (optimal brain surgeon, Hassibi and Stork 1993). All rows share H. It is
factorised by loops of its own, of one order, so that no thread or library can change a bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_array
from secateur.errors import InvalidTensorError, OutOfRangeError, ShapeMismatchError
from secateur.scalars import real
from secateur.scores.basic import reduce

Floats = npt.NDArray[np.float64]

GROWTH = 10.0
TRIES = 12


def surgeon(weight: Any, gram: Any, damping: float = 0.01, name: str = "the weight") -> Floats:
    """w^2 / [H^-1]_jj / 2: the error of the outputs without a weight, all others adjusted (Hassibi 1993).

    Args:
        weight: of last axes that are summed over, in C order; other axes, at least the first, are rows.
        gram: H = X^T X, or the mean over positions, float[n, n], n the number of weights of a row.
        damping: what is added to the diagonal of H, in parts of its mean; ten times more as often as H is not positive.
        name: what error messages call the weight.

    Returns:
        float64, of the shape of ``weight``.

    Raises:
        ShapeMismatchError: the weight's rows are not as long as ``gram``.
        InvalidTensorError: either holds NaN, or ``gram`` is none of real numbers and cannot be factorised.
        OutOfRangeError: the damping is negative.
    """
    rows, hessian = _rows(weight, gram, name)
    variance = reduce(_inverse_factor(hessian, damping, name), axis=1, norm=2)
    found: Floats = (rows * rows / (variance * variance) * 0.5).reshape(np.shape(weight))
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

    rows, hessian = _rows(weight, gram, name)
    kept = np.asarray(mask, np.bool_)
    if kept.shape != np.shape(weight):
        raise ShapeMismatchError(f"the mask of {name} has shape {kept.shape}, expected {np.shape(weight)}")
    kept = np.ascontiguousarray(kept.reshape(rows.shape))
    factorising.eliminate(rows, kept, _inverse_factor(hessian, damping, name))
    rows[~kept] = 0.0
    kernels.refuse_nan([Named(f"the adjusted weights of {name}", rows)])
    return rows.reshape(np.shape(weight))


def _rows(weight: Any, gram: Any, name: str) -> tuple[Floats, Floats]:
    """Weights as rows, and H, both new on the host. Raises as :func:`surgeon`."""
    arrays = [as_array(weight, name), as_array(gram, f"the Gram matrix of {name}")]
    kernels.refuse_nan([Named(name, arrays[0]), Named(f"the Gram matrix of {name}", arrays[1])])
    host, hessian = (np.array(kernels.of(each).to_host(each), np.float64, order="C") for each in arrays)
    size = len(hessian) if hessian.ndim else 0
    ends = [math.prod(host.shape[axis:]) for axis in range(1, host.ndim)]
    if hessian.shape != (size, size) or size not in ends:
        raise ShapeMismatchError(
            f"{name} has shape {host.shape}, but its Gram matrix {hessian.shape}: rows must be as long as that"
        )
    return host.reshape(-1, max(size, 1)), hessian


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
