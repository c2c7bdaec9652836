"""CPU kernels on NumPy arrays of any layout; the twin of ``cuda``. What each function does: see ``kernels.Kernels``.

Each function cuts its arrays into pieces, brings a piece into a contiguous line (no copy where it lies so already)
and gives it to a compiled loop on the shared threads. Where the order of elements does not matter, arrays are walked as
they lie in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.arrays import Index, as_stored, partition, single_dtype
from secateur.kernels import formats, loops
from secateur.kernels.cpu_digests import digest
from secateur.kernels.cpu_groups import first_nan_product, mask_n_of_m, mask_per_row, zero_n_of_m, zero_per_row
from secateur.kernels.cpu_masks import (
    combine,
    count_kept,
    first_kept,
    has_nan,
    mask_above,
    pack,
    unpack,
    zero_at_most,
    zero_where_false,
)
from secateur.kernels.formats import Term
from secateur.kernels.lines import added, cuts
from secateur.kernels.lines import bits as _bits
from secateur.kernels.lines import line as _line
from secateur.kernels.lines import update as _update
from secateur.kernels.lines import values as _values
from secateur.kernels.sums import exact_sums, largest_magnitudes
from secateur.kernels.threads import mapped, thread_count

__all__ = [
    "absolute",
    "accumulate",
    "combine",
    "count_kept",
    "digest",
    "digit_counts",
    "exact_sums",
    "first_kept",
    "first_nan",
    "first_nan_product",
    "from_host",
    "largest_magnitudes",
    "mask_above",
    "mask_n_of_m",
    "mask_per_row",
    "pack",
    "product_absolute",
    "to_host",
    "unpack",
    "zero_at_most",
    "zero_n_of_m",
    "zero_per_row",
    "zero_where_false",
]

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]

_TERMS: dict[Term, Callable[..., None]] = {
    "value": loops.add,
    "absolute": loops.add_absolute,
    "square": loops.add_square,
    "product": loops.add_product,
}


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


def accumulate(total: Array, x: Array, kind: Term, weight: Array | None = None) -> None:
    """total += the term that ``kind`` names."""
    sources = [x] if weight is None else [x, weight]
    target, *stored = as_stored(total, *sources)
    loop = _TERMS[kind]
    widened = any(source.dtype.itemsize == 2 for source in sources)

    def work(index: Index) -> None:
        values = [_values(source[index]) for source in stored]
        _update(target[index], lambda out: loop(out, *values))

    mapped(work, list(partition(target.shape)) if widened else cuts(target))


def first_nan(x: Array) -> int:
    """Position of the first NaN in C order, or -1."""
    if not has_nan(x):
        return -1
    start = 0
    for index in partition(x.shape):
        values = _values(x[index])
        found = loops.first_nan(values)
        if found >= 0:
            return start + found
        start += values.size
    return -1


def digit_counts(x: Array, dtype: np.dtype[Any], prefixes: Sequence[int], level: int, absolute: bool = False) -> Counts:
    """Counts of one digit of the keys that begin with each prefix."""
    (stored,) = as_stored(x)
    wanted = np.array(prefixes, np.uint64)
    shift = np.uint64(formats.DIGIT_BITS * (formats.levels(dtype) - 1 - level))

    def work(indices: Sequence[Index]) -> Counts:
        counts = np.zeros((len(prefixes), formats.DIGITS), np.int64)
        for index in indices:
            loops.digit_counts(_bits(_values(stored[index], dtype)), absolute, wanted, shift, counts)
        return counts

    return added([np.zeros((len(prefixes), formats.DIGITS), np.int64), *mapped(work, _stripes(stored.shape))])


def to_host(x: Array) -> Array:
    """The array itself."""
    return x


def from_host(x: Array, like: Array) -> Array:
    """The array itself."""
    return x


def _stripes(shape: Sequence[int]) -> list[list[Index]]:
    """The pieces of an array dealt to the threads, so that each needs its large buffer of counts once."""
    indices = list(partition(shape))
    hands = min(thread_count(), len(indices))
    return [indices[i::hands] for i in range(hands)]
