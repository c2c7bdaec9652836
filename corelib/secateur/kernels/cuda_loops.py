"""The CUDA kernels: each thread takes every so many-th position of a walk (``cuda_memory.Walk``).

An array is given by its memory, the walk's steps along it, and, where it holds numbers, whether these are bit patterns
of bfloat16. Numbers are computed with as float64, which holds those of every dtype; rounding a product or sum of two
float32 from there is the same as computing in float32. What a block counts it gathers in shared memory, so that few
threads contend for the result. The arithmetic on bit patterns is the CPU's own. Signed and unsigned integers are never
mixed, for Numba would compute in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64, uint32, uint64

from secateur.kernels.cuda_compiled import cuda, device, kernel
from secateur.kernels.formats import DIGIT_BITS, DIGITS, HISTOGRAM_BINS
from secateur.kernels.loops import histogram_bin, magnitude_bits, sort_key

_DIGIT_BITS = np.uint64(DIGIT_BITS)
_DIGIT_MASK = np.uint64(DIGITS - 1)
_LARGEST_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)


@device
def place(position: int, shape: Any, steps: Any) -> Any:
    """Where on the line of memory a position of the walk is."""
    at = steps[0]
    for axis in range(len(shape) - 1, 0, -1):
        rest = position // shape[axis]
        at += (position - rest * shape[axis]) * steps[axis + 1]
        position = rest
    return at + position * steps[1]


@device
def real(element: Any, is_bfloat: bool) -> Any:
    """An element of the memory as float64."""
    if is_bfloat:
        return np.float64(np.uint32(np.uint32(element) << np.uint32(16)).view(np.float32))
    return np.float64(element)


@device
def pattern(value: Any, double: bool) -> Any:
    """The bits of a float64, or of the float32 of the same value, as uint64."""
    if double:
        return np.float64(value).view(np.uint64)
    return np.uint64(np.float32(value).view(np.uint32))


@kernel
def copy_bits(size: int, shape: Any, source: Any, source_steps: Any, kept: int, target: Any, target_steps: Any) -> None:
    """target = source & kept, on bit patterns of one width."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        bits = np.uint64(source[place(position, shape, source_steps)])
        target[place(position, shape, target_steps)] = bits & np.uint64(kept)


@kernel
def product_absolute(
    size: int,
    shape: Any,
    a: Any,
    a_steps: Any,
    a_bfloat: bool,
    b: Any,
    b_steps: Any,
    b_bfloat: bool,
    result: Any,
    result_steps: Any,
) -> None:
    """result = |a * b|."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        first = real(a[place(position, shape, a_steps)], a_bfloat)
        second = real(b[place(position, shape, b_steps)], b_bfloat)
        result[place(position, shape, result_steps)] = abs(first * second)


@kernel
def first_nan(size: int, shape: Any, x: Any, steps: Any, is_bfloat: bool, found: Any) -> None:
    """found[0] = the smallest position of a NaN, if there is one before found[0]."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        value = real(x[place(position, shape, steps)], is_bfloat)
        if value != value:
            cuda.atomic.min(found, 0, position)
            break


@kernel
def extremes(size: int, shape: Any, x: Any, steps: Any, is_bfloat: bool, keys: Any, zeros: Any) -> None:
    """Keys of float64: keys[0] of the smallest and keys[1] of the largest element; zeros[0] += number of zeros."""
    block_keys = cuda.shared.array(2, uint64)
    block_zeros = cuda.shared.array(1, int64)
    if cuda.threadIdx.x == 0:
        block_keys[0], block_keys[1], block_zeros[0] = _LARGEST_KEY, np.uint64(0), 0
    cuda.syncthreads()
    smallest, largest, count = _LARGEST_KEY, np.uint64(0), np.int64(0)
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        value = real(x[place(position, shape, steps)], is_bfloat)
        key = np.uint64(sort_key(pattern(value, True), True))
        smallest, largest = min(smallest, key), max(largest, key)
        if value == 0.0:
            count += 1
    cuda.atomic.min(block_keys, 0, smallest)
    cuda.atomic.max(block_keys, 1, largest)
    cuda.atomic.add(block_zeros, 0, count)
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        cuda.atomic.min(keys, 0, block_keys[0])
        cuda.atomic.max(keys, 1, block_keys[1])
        cuda.atomic.add(zeros, 0, block_zeros[0])


@kernel
def histogram(size: int, shape: Any, x: Any, steps: Any, is_bfloat: bool, double: bool, counts: Any) -> None:
    """Add to the counts of the fixed logarithmic grid; ``double`` if the elements are float64."""
    block_counts = cuda.shared.array(HISTOGRAM_BINS, uint32)
    for index in range(cuda.threadIdx.x, HISTOGRAM_BINS, cuda.blockDim.x):
        block_counts[index] = 0
    cuda.syncthreads()
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        bits = pattern(real(x[place(position, shape, steps)], is_bfloat), double)
        cuda.atomic.add(block_counts, histogram_bin(bits, double), np.uint32(1))
    cuda.syncthreads()
    for index in range(cuda.threadIdx.x, HISTOGRAM_BINS, cuda.blockDim.x):
        if block_counts[index] != 0:
            cuda.atomic.add(counts, index, np.int64(block_counts[index]))


@kernel
def digit_counts(
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    double: bool,
    absolute: bool,
    prefixes: Any,
    shift: int,
    counts: Any,
) -> None:
    """Add to counts[row * DIGITS + digit] the digits from bit ``shift`` up of keys whose higher bits are prefixes[row].

    Keys are of float64 if ``double``, else of float32; of magnitudes if ``absolute``. Runs of one digit, as in zeros
    and sorted data, are added at once: 65,536 counts are too many for shared memory.
    """
    last, run = np.int64(0), np.int64(0)
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        bits = pattern(real(x[place(position, shape, steps)], is_bfloat), double)
        if absolute:
            bits &= np.uint64(magnitude_bits(double))
        digits = np.uint64(sort_key(bits, double)) >> np.uint64(shift)
        for row in range(prefixes.size):
            if prefixes[row] == digits >> _DIGIT_BITS:
                cell = np.int64(row) * DIGITS + np.int64(digits & _DIGIT_MASK)
                if cell != last and run != 0:
                    cuda.atomic.add(counts, last, run)
                    run = np.int64(0)
                last = cell
                run += 1
                break
    if run != 0:
        cuda.atomic.add(counts, last, run)
