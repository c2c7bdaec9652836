"""The CUDA kernels of masks; the conventions are those of ``cuda_loops``.

Masks are bytes, 1 where kept (given ones: not 0). A packed mask is a line of bytes in C order, and walks that read or
write one are in C order too; a thread writes whole bytes of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64

from secateur.kernels.cuda_compiled import cuda, device, kernel
from secateur.kernels.cuda_loops import pattern, place, real

VALUE, ABSOLUTE, SQUARE, PRODUCT = range(4)
"""What :func:`accumulate` adds."""


@kernel
def accumulate(
    size: int,
    shape: Any,
    total: Any,
    total_steps: Any,
    double: bool,
    x: Any,
    x_steps: Any,
    x_bfloat: bool,
    weight: Any,
    weight_steps: Any,
    weight_bfloat: bool,
    term: int,
    no_bit: int,
) -> None:
    """total += a term of x (and the weight), converted to the dtype of the total: float64 if ``double``, else float32.

    ``no_bit`` is 0. The product meets it as a bit pattern, so that no compiler joins it with the addition and leaves it
    unrounded.
    """
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        value = real(x[place(position, shape, x_steps)], x_bfloat)
        factor = real(weight[place(position, shape, weight_steps)], weight_bfloat)
        if term == SQUARE:
            factor = value
        if not double:
            value, factor = np.float64(np.float32(value)), np.float64(np.float32(factor))
        if term >= SQUARE:
            bits = pattern(value * factor, True) | np.uint64(no_bit)
            value = np.uint64(bits).view(np.float64)
            if not double:
                value = np.float64(np.float32(value))
        elif term == ABSOLUTE:
            value = abs(value)
        at = place(position, shape, total_steps)
        total[at] = real(total[at], False) + value


@kernel
def count_equal(
    start: int,
    stop: int,
    length: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    threshold: float,
    absolute: bool,
    counts: Any,
) -> None:
    """Block b: add to counts[b] the number of elements equal to the threshold in the b-th ``length`` positions."""
    first = start + cuda.blockIdx.x * length
    equal = np.int64(0)
    for position in range(first + cuda.threadIdx.x, min(first + length, stop), cuda.blockDim.x):
        value = real(x[place(position, shape, steps)], is_bfloat)
        if absolute:
            value = abs(value)
        if value == threshold:
            equal += 1
    if equal != 0:
        cuda.atomic.add(counts, cuda.blockIdx.x, equal)


@device
def is_above(value: float, threshold: float, from_here: bool, found: Any) -> Any:
    """Whether a value is above the threshold or, if those are kept from here on, equal; found[0] = 1 if it is NaN."""
    if value != value:
        found[0] = 1
    return value > threshold or (from_here and value == threshold)


@kernel
def mask_above(
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    threshold: float,
    first_kept: int,
    found: Any,
    mask: Any,
    mask_steps: Any,
) -> None:
    """mask = x > threshold, and where x equals it from position ``first_kept`` on; found[0] = 1 if one is NaN."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        value = real(x[place(position, shape, steps)], is_bfloat)
        kept = is_above(value, threshold, position >= first_kept, found)
        mask[place(position, shape, mask_steps)] = np.uint8(kept)


@kernel
def packed_above(
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    threshold: float,
    first_kept: int,
    found: Any,
    packed: Any,
) -> None:
    """As :func:`mask_above`, packed."""
    for byte in range(cuda.grid(1), (size + 7) // 8, cuda.gridsize(1)):
        bits = 0
        for position in range(byte * 8, min(byte * 8 + 8, size)):
            value = real(x[place(position, shape, steps)], is_bfloat)
            if is_above(value, threshold, position >= first_kept, found):
                bits |= 1 << (position - byte * 8)
        packed[byte] = np.uint8(bits)


@kernel
def zero_at_most(
    size: int, shape: Any, x: Any, steps: Any, is_bfloat: bool, threshold: float, first_kept: int, bits: Any
) -> None:
    """bits = 0 where |x| <= threshold, but not where it equals it from position ``first_kept`` on."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        at = place(position, shape, steps)
        value = abs(real(x[at], is_bfloat))
        if value < threshold or (value == threshold and position < first_kept):
            bits[at] = 0


@kernel
def zero_where_false(size: int, shape: Any, bits: Any, steps: Any, mask: Any, mask_steps: Any) -> None:
    """bits = 0 where the mask is False."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        if mask[place(position, shape, mask_steps)] == 0:
            bits[place(position, shape, steps)] = 0


@device
def bit(packed: Any, start: int, step: int, position: int) -> Any:
    """The bit of a position in a packed mask that begins at ``start`` of the memory, its bytes ``step`` apart."""
    return (np.int64(packed[start + position // 8 * step]) >> (position % 8)) & 1


@kernel
def zero_where_clear(
    size: int, shape: Any, bits: Any, steps: Any, packed: Any, packed_start: int, packed_step: int
) -> None:
    """bits = 0 where the packed mask is False."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        if bit(packed, packed_start, packed_step, position) == 0:
            bits[place(position, shape, steps)] = 0


@kernel
def pack(size: int, shape: Any, mask: Any, mask_steps: Any, packed: Any) -> None:
    """packed = mask."""
    for byte in range(cuda.grid(1), (size + 7) // 8, cuda.gridsize(1)):
        bits = 0
        for position in range(byte * 8, min(byte * 8 + 8, size)):
            if mask[place(position, shape, mask_steps)] != 0:
                bits |= 1 << (position - byte * 8)
        packed[byte] = np.uint8(bits)


@kernel
def unpack(size: int, shape: Any, mask: Any, mask_steps: Any, packed: Any, packed_start: int, packed_step: int) -> None:
    """mask = packed."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        mask[place(position, shape, mask_steps)] = np.uint8(bit(packed, packed_start, packed_step, position))


@device
def bits_of(byte: int, is_bool: bool) -> Any:
    """A byte of a packed mask, or 1 for any bool that is not 0."""
    if is_bool and byte != 0:
        return np.uint32(1)
    return np.uint32(byte)


@kernel
def combine(
    size: int,
    shape: Any,
    first: Any,
    first_steps: Any,
    second: Any,
    second_steps: Any,
    mask: Any,
    mask_steps: Any,
    union: bool,
    bools: bool,
) -> None:
    """mask = first | second, or first & second, of bytes, which are 1 where they are not 0 if they are ``bools``."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        one = bits_of(first[place(position, shape, first_steps)], bools)
        other = bits_of(second[place(position, shape, second_steps)], bools)
        mask[place(position, shape, mask_steps)] = np.uint8(one | other if union else one & other)


@kernel
def count_kept(
    size: int, shape: Any, first: Any, first_steps: Any, second: Any, second_steps: Any, counts: Any, bools: bool
) -> None:
    """Add to counts the number of bits that are set in the first, in the second, and in both; see :func:`combine`."""
    block_counts = cuda.shared.array(3, int64)
    if cuda.threadIdx.x == 0:
        block_counts[0], block_counts[1], block_counts[2] = 0, 0, 0
    cuda.syncthreads()
    in_first, in_second, in_both = np.int64(0), np.int64(0), np.int64(0)
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        one = bits_of(first[place(position, shape, first_steps)], bools)
        other = bits_of(second[place(position, shape, second_steps)], bools)
        in_first += np.int64(cuda.popc(one))
        in_second += np.int64(cuda.popc(other))
        in_both += np.int64(cuda.popc(one & other))
    cuda.atomic.add(block_counts, 0, in_first)
    cuda.atomic.add(block_counts, 1, in_second)
    cuda.atomic.add(block_counts, 2, in_both)
    cuda.syncthreads()
    for index in range(cuda.threadIdx.x, 3, cuda.blockDim.x):
        cuda.atomic.add(counts, index, block_counts[index])
