"""CPU kernels on NumPy arrays of any layout; the twin of ``cuda``. What each function does: see ``kernels.Kernels``.

Each function cuts its arrays into pieces, brings a piece into a contiguous line (no copy where it lies so already)
and gives it to a compiled loop on the shared threads. Where the order of elements does not matter, arrays are walked as
they lie in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import PIECE, Index, as_stored, partition, single_dtype
from secateur.kernels import formats, loops
from secateur.kernels.lines import bits as _bits
from secateur.kernels.lines import line as _line
from secateur.kernels.lines import values as _values
from secateur.kernels.sums import digest as digest
from secateur.kernels.sums import exact_sums as exact_sums
from secateur.kernels.sums import largest_magnitudes as largest_magnitudes
from secateur.kernels.threads import mapped, thread_count

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def absolute(x: Array) -> Array:
    """|x| by clearing the sign bit."""
    result = np.empty_like(x)
    source, target = as_stored(_bits(x), _bits(result))
    magnitude_bits = source.dtype.type(np.iinfo(source.dtype).max >> 1)

    def work(index: Index) -> None:
        _update(target[index], lambda out: loops.clear_bits(_line(source[index]), magnitude_bits, out))

    mapped(work, list(partition(source.shape)))
    return result


def product_absolute(a: Array, b: Array) -> Array:
    """|a * b| in float32, or float64 if either factor is."""
    dtype = np.result_type(np.float32, single_dtype(a.dtype), single_dtype(b.dtype))
    result = np.empty_like(a, dtype=dtype)
    first, second, target = as_stored(a, b, result)

    def work(index: Index) -> None:
        x, y = _values(first[index], dtype), _values(second[index], dtype)
        _update(target[index], lambda out: loops.product_absolute(x, y, out))

    mapped(work, list(partition(first.shape)))
    return result


def accumulate(total: Array, x: Array, absolute: bool) -> None:
    """total += x, or |x|."""
    target, source = as_stored(total, x)

    def work(index: Index) -> None:
        values = _values(source[index], total.dtype)
        _update(target[index], lambda out: loops.add(out, values, absolute))

    mapped(work, list(partition(target.shape)))


def first_nan(x: Array) -> int:
    """Position of the first NaN in C order, or -1."""
    (stored,) = as_stored(x)
    if all(
        at < 0 for at in mapped(lambda index: loops.first_nan(_values(stored[index])), list(partition(stored.shape)))
    ):
        return -1
    start = 0
    for index in partition(x.shape):
        values = _values(x[index])
        found = loops.first_nan(values)
        if found >= 0:
            return start + found
        start += values.size
    return -1


def digit_counts(x: Array, dtype: np.dtype[Any], prefixes: Sequence[int], level: int) -> Counts:
    """Counts of one digit of the keys that begin with each prefix."""
    (stored,) = as_stored(x)
    wanted = np.array(prefixes, np.uint64)
    shift = np.uint64(formats.DIGIT_BITS * (formats.levels(dtype) - 1 - level))

    def work(indices: Sequence[Index]) -> Counts:
        counts = np.zeros((len(prefixes), formats.DIGITS), np.int64)
        for index in indices:
            loops.digit_counts(_bits(_values(stored[index], dtype)), wanted, shift, counts)
        return counts

    return _added(mapped(work, _stripes(stored.shape)), (len(prefixes), formats.DIGITS))


def count_above_equal(x: Array, threshold: float) -> tuple[int, int]:
    """How many elements are above the threshold, and how many equal it."""
    (stored,) = as_stored(x)
    parts = mapped(
        lambda index: loops.count_above_equal(_values(stored[index]), threshold), list(partition(stored.shape))
    )
    return int(sum(part[0] for part in parts)), int(sum(part[1] for part in parts))


def mask_above(x: Array, threshold: float, last_equal: int = 0) -> Mask:
    """True above the threshold, and at the last ``last_equal`` elements that equal it."""
    mask = np.empty(x.shape, np.bool_)
    indices = list(partition(x.shape))
    equal = [x[index].size for index in indices]
    if last_equal > 0:
        equal = mapped(lambda index: loops.count_above_equal(_values(x[index]), threshold)[1], indices)
    pruned = sum(equal) - last_equal
    before = itertools.accumulate(equal, initial=0)

    def work(part: tuple[Index, int]) -> None:
        index, pruned_here = part
        loops.mask_above(_values(x[index]), threshold, pruned_here, mask[index].reshape(-1))

    mapped(work, [(index, pruned - earlier) for index, earlier in zip(indices, before, strict=False)])
    return mask


def mask_n_of_m(x: Array, n: int, m: int, axis: int) -> Mask:
    """True at the n largest of each m consecutive along an axis."""
    mask = np.empty(x.shape, np.bool_)
    grouped = (*x.shape[:axis], x.shape[axis] // m, m, *x.shape[axis + 1 :])
    groups = np.moveaxis(x.reshape(grouped), axis + 1, -1)
    target = np.moveaxis(mask.reshape(grouped), axis + 1, -1)

    def work(index: Index) -> None:
        values = _values(groups[index]).reshape(-1, m)
        _update(target[index], lambda out: loops.mask_n_of_m(values, n, out.reshape(-1, m)))

    mapped(work, list(partition(groups.shape, max(PIECE, m))))
    return mask


def zero_where_false(x: Array, mask: Mask) -> None:
    """+0.0 where the mask is False."""
    target, kept = as_stored(_bits(x), mask)

    def work(index: Index) -> None:
        _update(target[index], lambda out: loops.zero_where_false(out, _line(kept[index])))

    mapped(work, list(partition(target.shape)))


def to_host(x: Array) -> Array:
    """The array itself."""
    return x


def from_host(x: Array, like: Array) -> Array:
    """The array itself."""
    return x


def _update(view: Array, change: Callable[[Array], None]) -> None:
    """Run ``change`` on the elements of ``view`` as a contiguous line, in place or by way of a copy."""
    if view.flags.c_contiguous:
        change(view.reshape(-1))
    else:
        line = view.copy(order="C")
        change(line.reshape(-1))
        view[...] = line


def _stripes(shape: Sequence[int]) -> list[list[Index]]:
    """The pieces of an array dealt to the threads, so that each needs its large buffer of counts once."""
    indices = list(partition(shape))
    hands = min(thread_count(), len(indices))
    return [indices[i::hands] for i in range(hands)]


def _added(parts: Sequence[Counts], shape: tuple[int, ...]) -> Counts:
    total = np.zeros(shape, np.int64)
    for part in parts:
        total += part
    return total
