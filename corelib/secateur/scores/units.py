"""Scores of whole units, from the rows of weights that make them; one number a row, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_array
from secateur.errors import ShapeMismatchError
from secateur.scores.basic import reduce

Floats = npt.NDArray[np.float64]

BLOCK = 1 << 20
"""Distances that are held in memory at a time."""


def geometric_median(weight: Any, axis: int = 0, name: str = "the weight") -> Floats:
    """The sum of each filter's Euclidean distances to the others (He et al. 2019, FPGM).

    The filter of the smallest sum lies nearest to the geometric median of all, so that others can stand in for it.

    Args:
        weight: finite, of at least one axis.
        axis: that of the filters.
        name: what error messages call the weight.

    Returns:
        float64, one number an index of the axis. A distance is summed in float64 in C order of the filter; the sums of
        distances are exact and rounded once.
    """
    from scipy.spatial.distance import cdist

    array = as_array(weight, name)
    if not array.shape:
        raise ShapeMismatchError(f"{name} is a single number: it has no filters")
    kernels.refuse_nan([Named(name, array)])
    host = np.moveaxis(np.asarray(kernels.of(array).to_host(array)), axis, 0).astype(np.float64)
    if not host.size:
        return np.zeros(len(host))
    rows = np.ascontiguousarray(host.reshape(len(host), -1))
    step = max(1, BLOCK // len(rows))
    parts = [reduce(cdist(rows[start : start + step], rows)) for start in range(0, len(rows), step)]
    found: Floats = np.concatenate(parts)
    kernels.refuse_nan([Named(f"the distances of {name}", found)])
    return found
