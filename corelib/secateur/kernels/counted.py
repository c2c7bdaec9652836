"""The compiled pass behind a summary of 16-bit floats: patterns are counted, and all else follows from the counts.

There are 65,536 patterns, so that whatever is asked of the numbers is asked of each pattern once and multiplied by its
count: extremes, exact sums and the histogram.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled
from secateur.kernels.formats import DIGITS
from secateur.kernels.limbs import add_integer, unpacked
from secateur.kernels.loops import histogram_bin

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Sums = tuple[Counts, Counts, Counts]

_TURNS = 16
_LINE = 8  # counts to a line of the cache
CELLS = DIGITS + _TURNS * _LINE
"""A count of each pattern, and behind them those of +0.0, one on each of several lines of the cache."""
# Bits at the end of a float32's mantissa that are 0 in every number widened from 16 bits.
_NEVER_USED = 13


@compiled
def count(patterns: Array, counts: Counts) -> None:
    """Count uint16 patterns in int64[CELLS].

    Pruned weights are mostly zeros, and to add to a count that was just written is slow, so zeros take turns.
    """
    whole = patterns.size // _TURNS * _TURNS
    for start in range(0, whole, _TURNS):
        for turn in range(_TURNS):
            pattern = np.int64(patterns[start + turn])
            counts[pattern if pattern != 0 else DIGITS + turn * _LINE] += 1
    for i in range(whole, patterns.size):
        counts[patterns[i]] += 1


@compiled
def digest(
    values: Array, patterns: Array, bases: Counts, limbs: Sums, counters: Counts, bins: Counts, counts: Counts
) -> Any:
    """(smallest, largest, zeros) of all numbers counted: ``values[i]``, float32 of the uint32 ``patterns[i]``, for i.

    Adds to the rest as :func:`secateur.kernels.digests.digest` does.
    """
    counts[0] += counts[DIGITS:].sum()
    smallest, largest, zeros = np.inf, -np.inf, np.int64(0)
    of, gathered = np.int64(0), np.zeros(3, np.int64)
    for i in range(DIGITS):
        times = counts[i]
        if times == 0:
            continue
        value = np.float64(values[i])
        smallest, largest = min(smallest, value), max(largest, value)
        zeros += times if value == 0.0 else 0
        bins[histogram_bin(np.uint64(patterns[i]), False)] += times
        mantissa, exponent, negative, finite = unpacked(np.uint64(patterns[i]), False)
        if not finite:
            for column in range(3):
                counters[2 if mantissa != 0 else 1 if negative and column == 0 else 0, column] += times
            continue
        if exponent != of:
            _settle(gathered, of, bases, limbs)
            of = exponent
        short = np.int64(mantissa >> np.uint64(_NEVER_USED))
        gathered[0] += (-short if negative else short) * times
        gathered[1] += short * times
        gathered[2] += short * short * times
    _settle(gathered, of, bases, limbs)
    return smallest, largest, zeros


@compiled
def _settle(gathered: Counts, exponent: Any, bases: Counts, limbs: Sums) -> None:
    """Move the sums of mantissas of one exponent, and of their squares, to the limbs.

    Of at most 11 bits each, no 2**40 numbers overflow.
    """
    add_integer(gathered[0], exponent + _NEVER_USED - bases[0], limbs[0][:, 0])
    add_integer(gathered[1], exponent + _NEVER_USED - bases[1], limbs[1][:, 0])
    add_integer(gathered[2], 2 * (exponent + _NEVER_USED) - bases[2], limbs[2][:, 0])
    gathered[:] = 0
