"""The CUDA kernels that reduce blocks of an array: exact sums in limbs, and largest magnitudes.

A launch has ``parts`` thread blocks for each block of the array, numbered one after another. The outer walk is over the
first elements of the array's blocks, the inner one over the elements of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64

from secateur.kernels.cuda_compiled import LANES, cuda, device, kernel
from secateur.kernels.cuda_loops import pattern, place, real
from secateur.kernels.formats import COUNTERS
from secateur.kernels.limbs import pieces, unpacked

_32 = np.uint64(32)
_ONE = np.uint64(1)
_LOW = np.uint64(0xFFFFFFFF)
LARGEST_PART = 1 << 29
"""Elements that a thread block can add before a limb, which gets less than 3 * 2**32 of each, might overflow."""


@kernel
def add_sums(
    parts: int,
    outer_shape: Any,
    outer_steps: Any,
    result_steps: Any,
    size: int,
    shape: Any,
    steps: Any,
    x: Any,
    is_bfloat: bool,
    double: bool,
    square: bool,
    absolute: bool,
    base: int,
    width: int,
    sums: Any,
) -> None:
    """Add to sums[row * width ...] the exact sum of each block: limbs that are not carried, and the three counters.

    Each lane of a warp has limbs of its own in shared memory (``width`` times LANES int64), so that threads which hold
    numbers of like exponents, as they mostly do, do not wait for each other.
    """
    cells = cuda.shared.array(0, int64)
    for cell in range(cuda.threadIdx.x, width * LANES, cuda.blockDim.x):
        cells[cell] = 0
    cuda.syncthreads()
    row, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
    start = place(row, outer_shape, outer_steps)
    for position in range(part * cuda.blockDim.x + cuda.threadIdx.x, size, parts * cuda.blockDim.x):
        bits = pattern(real(x[start + place(position, shape, steps)], is_bfloat), double)
        add_number(bits, double, square, absolute, base, width, cells)
    cuda.syncthreads()
    first = place(row, outer_shape, result_steps) * width
    for limb in range(cuda.threadIdx.x, width, cuda.blockDim.x):
        merge_limb(cells, limb, width, sums, first)


@device
def add_number(bits: Any, double: bool, square: bool, absolute: bool, base: int, width: int, cells: Any) -> None:
    """Add the number of that bit pattern, or its square or magnitude, to the limbs of the thread's lane."""
    mantissa, exponent, negative, finite = unpacked(bits, double)
    mantissa = np.uint64(mantissa)
    negative = negative and not (absolute or square)
    if not finite:
        counter = 2 if mantissa != 0 else 1 if negative else 0
        cuda.atomic.add(cells, (width - COUNTERS + counter) * LANES + cuda.threadIdx.x % LANES, np.int64(1))
    elif square:
        low, high, position = mantissa & _LOW, mantissa >> _32, 2 * exponent - base
        add_shifted(cells, low * low, position, False)
        if high != 0:
            add_shifted(cells, (low * high) << _ONE, position + 32, False)
            add_shifted(cells, high * high, position + 64, False)
    else:
        add_shifted(cells, mantissa, exponent - base, negative)


@device
def add_shifted(cells: Any, value: Any, position: Any, negative: bool) -> None:
    """Add value * 2**position to three limbs of the thread's lane."""
    index, first, second, third = pieces(value, position)
    if negative:
        first, second, third = -first, -second, -third
    cell = index * LANES + cuda.threadIdx.x % LANES
    cuda.atomic.add(cells, cell, np.int64(first))
    if second != 0:
        cuda.atomic.add(cells, cell + LANES, np.int64(second))
    if third != 0:
        cuda.atomic.add(cells, cell + 2 * LANES, np.int64(third))


@device
def merge_limb(cells: Any, limb: int, width: int, sums: Any, first: int) -> None:
    """Add one limb of all lanes to the result, and what exceeds 32 bits to the limb after it, if there is one."""
    total = np.int64(0)
    for lane in range(LANES):
        total += np.int64(cells[limb * LANES + lane])
    if total != 0 and limb < width - COUNTERS - 1:
        cuda.atomic.add(sums, first + limb, total & 0xFFFFFFFF)
        cuda.atomic.add(sums, first + limb + 1, total >> 32)
    elif total != 0:
        cuda.atomic.add(sums, first + limb, total)


@kernel
def largest_magnitudes(
    parts: int,
    outer_shape: Any,
    outer_steps: Any,
    result_steps: Any,
    size: int,
    shape: Any,
    steps: Any,
    x: Any,
    is_bfloat: bool,
    patterns: Any,
) -> None:
    """patterns[row] = the bits, as int64, of the largest |x| of each block as float64, if larger: they sort as it.

    NaN's are larger than all others.
    """
    block_pattern = cuda.shared.array(1, int64)
    if cuda.threadIdx.x == 0:
        block_pattern[0] = 0
    cuda.syncthreads()
    row, part = cuda.blockIdx.x // parts, cuda.blockIdx.x % parts
    start = place(row, outer_shape, outer_steps)
    largest = np.int64(0)
    for position in range(part * cuda.blockDim.x + cuda.threadIdx.x, size, parts * cuda.blockDim.x):
        magnitude = abs(real(x[start + place(position, shape, steps)], is_bfloat))
        largest = max(largest, np.int64(pattern(magnitude, True)))
    cuda.atomic.max(block_pattern, 0, largest)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        cuda.atomic.max(patterns, place(row, outer_shape, result_steps), block_pattern[0])
