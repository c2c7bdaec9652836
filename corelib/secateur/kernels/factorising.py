"""Loops over square matrices: triangular factors, their inverses, and elimination by them.

Every number has products subtracted from it one after the other, in an order that its place alone decides, so that no
blocking, layout or thread can change a bit. On the host only: there are no more of these than a model has layers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled

Floats = npt.NDArray[np.float64]

BLOCK = 32


@compiled
def upper_factor(matrix: Floats) -> bool:
    """R, upper triangular, with R R^T the matrix, in its place; False if the matrix is not positive definite.

    Only the upper triangle of the symmetric matrix is read; the lower one is set to zero.
    """
    size = len(matrix)
    panel = np.empty((BLOCK, size))
    for stop in range(size, 0, -BLOCK):
        start = max(0, stop - BLOCK)
        for column in range(stop - 1, start - 1, -1):
            pivot = matrix[column, column]
            if not (pivot > 0.0 and pivot < math.inf):
                return False
            root = math.sqrt(pivot)
            matrix[column, column] = root
            for row in range(column):
                matrix[row, column] /= root
            for row in range(column):
                for other in range(max(row, start), column):
                    matrix[row, other] -= matrix[row, column] * matrix[other, column]
        for row in range(start):
            for column in range(start, stop):
                panel[column - start, row] = matrix[row, column]
        for row in range(start):
            for column in range(stop - 1, start - 1, -1):
                factor = matrix[row, column]
                line = panel[column - start]
                for other in range(row, start):
                    matrix[row, other] -= factor * line[other]
    for row in range(size):
        for column in range(row):
            matrix[row, column] = 0.0
    return True


@compiled
def inverse(factor: Floats) -> Any:
    """The inverse of an upper triangular matrix, upper triangular too."""
    size = len(factor)
    found = np.zeros((size, size))
    for row in range(size - 1, -1, -1):
        found[row, row] = 1.0
        for other in range(size - 1, row, -1):
            scale = factor[row, other]
            for column in range(other, size):
                found[row, column] -= scale * found[other, column]
        for column in range(row, size):
            found[row, column] /= factor[row, row]
    return found


@compiled
def eliminate(rows: Floats, kept: npt.NDArray[np.bool_], factor: Floats, first: int, last: int) -> None:
    """Make what is not kept zero, column after column, and take its part from the columns behind, by rows of a factor.

    Of each number w that goes, w / factor[column, column] times that row of the factor is subtracted. Only columns from
    ``first`` to before ``last`` are made zero; all behind change.
    """
    count, size = rows.shape
    for start in range(0, count, BLOCK):
        for column in range(first, last):
            for row in range(start, min(start + BLOCK, count)):
                if not kept[row, column]:
                    error = rows[row, column] / factor[column, column]
                    rows[row, column] = 0.0
                    for other in range(column + 1, size):
                        rows[row, other] -= error * factor[column, other]
