"""Exact sums of few numbers, rounded once, many sums side by side: without limbs, but where they are needed.

Each sum is kept as two float64, and what both cannot hold is noticed: every addition leaves its rounding error (Knuth's
two-sum), which is added to the second, whose own error must be 0. Then the first plus the second, rounded once, is the
rounded sum. Numbers whose exponents lie too far apart for that, and what is not finite, go to limbs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled
from secateur.kernels.lanes import multiply_add
from secateur.kernels.limbs import add_numbers, carry, round_columns

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

MOST = 64
"""Of more numbers, blocks are looked at together, which is faster."""
_TILE = 256
# Magnitudes of float64 whose squares, and the errors of these, neither overflow nor vanish.
_LEAST, _GREATEST = 2.0**-480, 2.0**480


@compiled
def add_few(
    x: Array, bits: Array, first: int, last: int, square: bool, absolute: bool, base: int, width: int, result: Floats
) -> None:
    """result[k] = the sum of x[:, k, :], of magnitudes, or the root of that of squares, for k from ``first`` on.

    ``x``: contiguous float32 or float64[before, kept, after], ``bits``: its patterns; ``base`` and ``width`` are those
    of the limbs.
    """
    sums, errors, lost = np.empty(_TILE), np.empty(_TILE), np.empty(_TILE)
    for start in range(first, last, _TILE):
        size = min(_TILE, last - start)
        sums[:], errors[:], lost[:] = 0.0, 0.0, 0.0
        for before in range(x.shape[0]):
            for after in range(x.shape[2]):
                line = x[before, start : start + size, after]
                if square:
                    _add_squares(line, sums, errors, lost)
                else:
                    _add_values(line, absolute, sums, errors, lost)
        for i in range(size):
            if lost[i] == 0.0:
                total = sums[i] + errors[i]
                result[start + i] = math.sqrt(total) if square else total
            else:
                result[start + i] = _by_limbs(bits, start + i, square, absolute, base, width)


@compiled
def _add_values(line: Array, absolute: bool, sums: Floats, errors: Floats, lost: Floats) -> None:
    for i in range(line.size):
        number = np.float64(line[i])
        sums[i], errors[i], missed = _added(sums[i], errors[i], abs(number) if absolute else number)
        lost[i] += missed


@compiled
def _add_squares(line: Array, sums: Floats, errors: Floats, lost: Floats) -> None:
    for i in range(line.size):
        number = np.float64(line[i])
        product = number * number
        sums[i], errors[i], missed = _added(sums[i], errors[i], product)
        if line.itemsize == 8:
            sums[i], errors[i], missed_too = _added(sums[i], errors[i], multiply_add(number, number, -product))
            magnitude = abs(number)
            outside = magnitude != 0.0 and not (magnitude >= _LEAST and magnitude <= _GREATEST)
            missed += missed_too + np.float64(outside)
        lost[i] += missed


@compiled
def _added(total: float, error: float, number: float) -> tuple[Any, Any, Any]:
    """The sum as two float64 after one more number, and the magnitude of what they do not hold; NaN if not finite."""
    upper, lower = _two_sum(total, number)
    carried, missed = _two_sum(error, lower)
    return upper, carried, abs(missed)


@compiled
def _two_sum(a: float, b: float) -> tuple[Any, Any]:
    """The rounded sum, and its error."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


@compiled
def _by_limbs(bits: Array, k: int, square: bool, absolute: bool, base: int, width: int) -> float:
    limbs, counters, result = np.zeros((width, 1), np.int64), np.zeros((3, 1), np.int64), np.empty(1)
    for before in range(bits.shape[0]):
        add_numbers(bits[before, k], square, absolute, base, limbs[:, 0], counters[:, 0])
    carry(limbs)
    round_columns(limbs, counters, base, square, result)
    return float(result[0])
