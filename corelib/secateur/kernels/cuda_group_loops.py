"""The CUDA kernels that keep so many of each group or row; the conventions are those of ``cuda_loops``.

Keys are ``formats``' keys, of float64 if ``double``, else of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64, uint64

from secateur.kernels.cuda_compiled import cuda, device, kernel
from secateur.kernels.cuda_loops import pattern, place, real
from secateur.kernels.loops import sort_key

_DIGIT_BITS = 8
_DIGITS = 1 << _DIGIT_BITS


@device
def better(x: Any, first: int, member: int, m: int, step: int, is_bfloat: bool, absolute: bool) -> Any:
    """How many of the group whose first element is there go before a member: the larger, and the later of the equal."""
    value = real(x[first + member * step], is_bfloat)
    if absolute:
        value = abs(value)
    count = 0
    for other in range(m):
        rival = real(x[first + other * step], is_bfloat)
        if absolute:
            rival = abs(rival)
        if rival > value or (rival == value and other > member):
            count += 1
    return count


@kernel
def mask_n_of_m(
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    n: int,
    m: int,
    step: int,
    mask: Any,
    mask_steps: Any,
    mask_step: int,
) -> None:
    """The walk is over the first elements of groups of m, ``step`` apart: True at a group's n largest."""
    for item in range(cuda.grid(1), size * m, cuda.gridsize(1)):
        group, member = item // m, item % m
        kept = better(x, place(group, shape, steps), member, m, step, is_bfloat, False) < n
        mask[place(group, shape, mask_steps) + member * mask_step] = np.uint8(kept)


@kernel
def packed_n_of_m(
    size: int, shape: Any, x: Any, steps: Any, is_bfloat: bool, n: int, m: int, inner: int, step: int, packed: Any
) -> None:
    """The walk is over all elements, ``inner`` of them from a member of a group to the next: a packed mask."""
    for byte in range(cuda.grid(1), (size + 7) // 8, cuda.gridsize(1)):
        bits = 0
        for position in range(byte * 8, min(byte * 8 + 8, size)):
            member = position // inner % m
            first = place(position, shape, steps) - member * step
            if better(x, first, member, m, step, is_bfloat, False) < n:
                bits |= 1 << (position - byte * 8)
        packed[byte] = np.uint8(bits)


@kernel
def zero_n_of_m(
    size: int, shape: Any, x: Any, steps: Any, is_bfloat: bool, n: int, m: int, step: int, bits: Any
) -> None:
    """As :func:`mask_n_of_m`, of magnitudes: bits = 0 where it is False.

    Others may read what is written here before or after: an element that is zeroed was beaten by the n that stay, so it
    decides about no other.
    """
    for item in range(cuda.grid(1), size * m, cuda.gridsize(1)):
        group, member = item // m, item % m
        first = place(group, shape, steps)
        if better(x, first, member, m, step, is_bfloat, True) >= n:
            bits[first + member * step] = 0


@device
def row_key(element: Any, is_bfloat: bool, scale: Any, column: int, scaled: bool, double: bool) -> Any:
    """The key of an element, or of its magnitude times the scale of its column."""
    value = real(element, is_bfloat)
    if scaled:
        value = abs(value) * np.float64(scale[column])
    return np.uint64(sort_key(pattern(value, double), double))


@kernel
def select_rows(
    start: int,
    row_step: int,
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    scale: Any,
    scaled: bool,
    double: bool,
    keep: int,
    keys: Any,
    ties: Any,
) -> None:
    """Block r: keys[r] = the ``keep``-th largest key of row r; ties[r] = how many equal to it stay, 0 if all.

    The walk is over a row of ``size`` elements. A key is found digit by digit from the top, each time counting the
    digits of keys that begin as it does.
    """
    bins = cuda.shared.array(_DIGITS, int64)
    found = cuda.shared.array(2, uint64)
    row = cuda.blockIdx.x
    line = start + row * row_step
    if cuda.threadIdx.x == 0:
        found[0], found[1] = np.uint64(0), np.uint64(keep)
    for digit in range(8 if double else 4):
        shift = np.uint64((64 if double else 32) - _DIGIT_BITS * (digit + 1))
        for index in range(cuda.threadIdx.x, _DIGITS, cuda.blockDim.x):
            bins[index] = 0
        cuda.syncthreads()
        prefix = found[0]
        for column in range(cuda.threadIdx.x, size, cuda.blockDim.x):
            key = row_key(x[line + place(column, shape, steps)], is_bfloat, scale, column, scaled, double)
            if digit == 0 or key >> (shift + np.uint64(_DIGIT_BITS)) == prefix:
                cuda.atomic.add(bins, np.int64((key >> shift) & np.uint64(_DIGITS - 1)), 1)
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            descend(bins, found)
        cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        keys[row], ties[row] = found[0], still_tied(bins, found)


@device
def still_tied(bins: Any, found: Any) -> Any:
    """How many of those equal to the key found[0] are kept, 0 if all; ``bins`` are the counts of its last digit."""
    equal_to_keep = np.int64(found[1])
    if bins[np.int64(found[0] & np.uint64(_DIGITS - 1))] > equal_to_keep:
        return equal_to_keep
    return np.int64(0)


@kernel
def break_ties(
    start: int,
    row_step: int,
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    scale: Any,
    scaled: bool,
    double: bool,
    keys: Any,
    ties: Any,
    firsts: Any,
) -> None:
    """Block r: firsts[r] = the column from which on ties[r] elements have the key keys[r]; 0 where ties[r] is 0."""
    count = cuda.shared.array(1, int64)
    row = cuda.blockIdx.x
    line = start + row * row_step
    key, wanted = keys[row], ties[row]
    first, last = 0, size if wanted > 0 else 0
    while first < last:
        middle = (first + last) // 2
        if cuda.threadIdx.x == 0:
            count[0] = 0
        cuda.syncthreads()
        for column in range(middle + cuda.threadIdx.x, size, cuda.blockDim.x):
            if row_key(x[line + place(column, shape, steps)], is_bfloat, scale, column, scaled, double) == key:
                cuda.atomic.add(count, 0, 1)
        cuda.syncthreads()
        if count[0] > wanted:
            first = middle + 1
        else:
            last = middle
        cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        firsts[row] = first


@device
def descend(bins: Any, found: Any) -> None:
    """Append to the prefix found[0] the digit under which the found[1]-th largest key lies; found[1] among those."""
    digit, wanted = _DIGITS - 1, np.int64(found[1])
    while bins[digit] < wanted:
        wanted -= bins[digit]
        digit -= 1
    found[0] = (found[0] << np.uint64(_DIGIT_BITS)) | np.uint64(digit)
    found[1] = np.uint64(wanted)


@device
def row_keeps(
    x: Any, at: int, is_bfloat: bool, scale: Any, column: int, scaled: bool, double: bool, key: Any, first: int
) -> Any:
    """Whether an element is kept, given the row's key and the column from which on equal ones are."""
    own = row_key(x[at], is_bfloat, scale, column, scaled, double)
    return own > key or (own == key and column >= first)


@kernel
def mask_rows(
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    columns: int,
    scale: Any,
    double: bool,
    keys: Any,
    firsts: Any,
    mask: Any,
    mask_steps: Any,
) -> None:
    """mask = whether an element is kept; the walk, in C order, is over all rows."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        row, column = position // columns, position % columns
        at = place(position, shape, steps)
        kept = row_keeps(x, at, is_bfloat, scale, column, False, double, keys[row], firsts[row])
        mask[place(position, shape, mask_steps)] = np.uint8(kept)


@kernel
def packed_rows(
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    columns: int,
    scale: Any,
    double: bool,
    keys: Any,
    firsts: Any,
    packed: Any,
) -> None:
    """As :func:`mask_rows`, packed."""
    for byte in range(cuda.grid(1), (size + 7) // 8, cuda.gridsize(1)):
        bits = 0
        for position in range(byte * 8, min(byte * 8 + 8, size)):
            row, column = position // columns, position % columns
            at = place(position, shape, steps)
            if row_keeps(x, at, is_bfloat, scale, column, False, double, keys[row], firsts[row]):
                bits |= 1 << (position - byte * 8)
        packed[byte] = np.uint8(bits)


@kernel
def zero_rows(
    size: int,
    shape: Any,
    x: Any,
    steps: Any,
    is_bfloat: bool,
    columns: int,
    scale: Any,
    double: bool,
    keys: Any,
    firsts: Any,
    bits: Any,
) -> None:
    """bits = 0 where an element is not kept, by its magnitude times the scale of its column."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        row, column = position // columns, position % columns
        at = place(position, shape, steps)
        if not row_keeps(x, at, is_bfloat, scale, column, True, double, keys[row], firsts[row]):
            bits[at] = 0


@kernel
def first_nan_product(
    size: int, shape: Any, x: Any, steps: Any, is_bfloat: bool, columns: int, scale: Any, found: Any
) -> None:
    """found[0] = the smallest position whose element times its column's scale is NaN, if there is one before it."""
    for position in range(cuda.grid(1), size, cuda.gridsize(1)):
        value = real(x[place(position, shape, steps)], is_bfloat) * np.float64(scale[position % columns])
        if value != value:
            cuda.atomic.min(found, 0, position)
            break
