"""The only door to the kernels: :func:`of` gives the module for the device on which an array lies.

The modules ``cpu`` and ``cuda`` are twins: each is a :class:`Kernels`, whose methods document both. Inputs are arrays
that :mod:`secateur.arrays` let pass, of any shape and layout, 0-d and zero-size included, and free of NaN unless said
otherwise; results that count or sum come back as host numbers in the formats of :mod:`secateur.kernels.formats`, the
same for any device, layout and number of threads; results that are arrays stay on the device. Numba is imported by the
first call, never before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur.arrays import Named, is_cuda
from secateur.errors import InvalidTensorError
from secateur.kernels.formats import LIMB_BITS, UNIT, Digest, ExactSums, Kind, Term

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Kernels(Protocol):
    """What the kernel module of a device offers. ``Any`` stands for that device's arrays."""

    def absolute(self, x: Any) -> Any:
        """|x|, elementwise, a new array of the same dtype and shape. NaN stays NaN."""

    def product_absolute(self, a: Any, b: Any) -> Any:
        """|a * b|, elementwise, of equal shapes; float64 if either is, else float32 (exact for 16-bit factors)."""

    def accumulate(self, total: Any, x: Any, kind: Term, weight: Any = None) -> None:
        """Add x, |x|, x * x or x * weight to ``total`` (float32 or float64), of equal shape, in place.

        x and weight are converted to the dtype of ``total``; the term is rounded to it, then added.
        """

    def first_nan(self, x: Any) -> int:
        """Position in C order of the first NaN, or -1."""

    def first_nan_product(self, x: Any, scale: Any) -> int:
        """Position in C order of the first NaN in x * scale, or -1; for x and scale see :meth:`zero_per_row`."""

    def digest(self, x: Any) -> Digest:
        """All that a summary needs of at least one element, in one pass. NaN is allowed, and counted."""

    def digit_counts(
        self, x: Any, dtype: np.dtype[Any], prefixes: Sequence[int], level: int, absolute: bool = False
    ) -> Counts:
        """Count digit number ``level`` (0 = top) of the keys that begin with each prefix: int64[len(prefixes), DIGITS].

        The keys are those of ``dtype``, float32 or float64, which holds all values of x exactly, and of x or of |x|. A
        prefix is the integer formed by the ``level`` digits before; at level 0 the only prefix is 0. Prefixes are
        distinct.
        """

    def first_kept(self, x: Any, threshold: float, last_equal: int, absolute: bool = False) -> tuple[int, int]:
        """Position in C order where the last ``last_equal`` elements equal to the threshold begin, and their number.

        If fewer equal it (as real numbers, -0.0 equals 0.0), these, from position 0; if none, (size, 0). With
        ``absolute`` |x| is compared.
        """

    def mask_above(self, x: Any, threshold: float, first_kept: int | None = None, packed: bool = False) -> Any:
        """True above the threshold, and where elements equal it from position ``first_kept`` on; None if one is NaN.

        Masks are C-contiguous bool of the shape of x or, packed, uint8[ceil(size / 8)] in C order, lowest bit first.
        """

    def mask_n_of_m(self, x: Any, n: int, m: int, axis: int, packed: bool = False) -> Any:
        """True at the n largest of each m consecutive along an axis; of equal ones, at the later.

        0 <= axis < x.ndim; the size of that axis is a multiple of m; 0 <= n <= m.
        """

    def mask_per_row(self, x: Any, keep: int, packed: bool = False) -> Any:
        """True at the ``keep`` largest of x[i], for each i; of equal ones, at the later in C order.

        0 <= keep <= elements of x[i]; x has at least one axis.
        """

    def zero_at_most(self, x: Any, threshold: float, first_kept: int | None = None) -> None:
        """Write +0.0 into x where |x| <= threshold, but not where it equals it from position ``first_kept`` on."""

    def zero_n_of_m(self, x: Any, n: int, m: int, axis: int) -> None:
        """Write +0.0 into x where :meth:`mask_n_of_m` of |x| is False, in place."""

    def zero_per_row(self, x: Any, keep: int, scale: Any) -> None:
        """Write +0.0 into x at all but the ``keep`` largest |x[i]| * scale, for each i; of equal ones the later stay.

        ``scale`` is a line of float32, or float64, one number for each element of x[i], and so are the products.
        """

    def zero_where_false(self, x: Any, mask: Any) -> None:
        """Write +0.0 into x where the mask, bool of equal shape or packed, is False, in place; NaN is allowed."""

    def pack(self, mask: Any) -> Any:
        """The bool mask, packed."""

    def unpack(self, bits: Any, shape: tuple[int, ...]) -> Any:
        """The packed mask as C-contiguous bool of that shape."""

    def combine(self, a: Any, b: Any, union: bool) -> Any:
        """Kept by either mask, or by both: two of bool of one shape, or two packed ones; as they are."""

    def count_kept(self, a: Any, b: Any) -> tuple[int, int, int]:
        """How many elements are kept by a, by b, and by both: two masks as in :meth:`combine`."""

    def exact_sums(self, x: Any, kind: Kind, block: Sequence[int]) -> ExactSums:
        """Exact sums of x, |x| or x**2 over each block of that shape. NaN is allowed, and counted.

        The results' grid is ceil(shape / block); blocks at the upper borders are smaller. ``block`` has a positive
        entry for each axis; the whole shape gives one total, a 1 on one axis and the whole of the others one sum for
        each index.
        """

    def largest_magnitudes(self, x: Any, block: Sequence[int]) -> Floats:
        """The largest |x| of each block, float64[*grid]; blocks as in :meth:`exact_sums`; 0.0 of an empty block.

        NaN is allowed, and is the largest of its block.
        """

    def to_host(self, x: Any) -> npt.NDArray[Any]:
        """The array in the host's memory, as NumPy array (itself if it is there)."""

    def from_host(self, x: npt.NDArray[Any], like: Any) -> Any:
        """A host array (bool masks) on the device of ``like`` (itself on the CPU)."""


def of(array: object) -> Kernels:
    """The kernels for the device on which ``array`` lies."""
    if is_cuda(array):
        from secateur.kernels import cuda

        return cuda
    from secateur.kernels import cpu

    return cpu


def digest_together(arrays: Sequence[npt.NDArray[Any]]) -> Digest:
    """As :meth:`Kernels.digest`, of all elements of arrays of the host, of which all are float64 or none."""
    from secateur.kernels import cpu_digests

    return cpu_digests.digest_together(arrays)


def sample(arrays: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any], absolute: bool, count: int) -> npt.NDArray[Any]:
    """About ``count`` numbers (or magnitudes), of ``dtype``, from places spread over arrays of the host."""
    from secateur.kernels import ordering

    return ordering.sample(arrays, dtype, absolute, count)


def split(
    arrays: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any], low: float, high: float, absolute: bool, collect: bool
) -> Any:
    """Where the numbers of arrays of the host lie: see :func:`secateur.kernels.ordering.split`."""
    from secateur.kernels import ordering

    return ordering.split(arrays, dtype, low, high, absolute, collect)


def first_kept(items: Sequence[Named], threshold: float, last_equal: int, absolute: bool = False) -> int:
    """Where the last ``last_equal`` elements equal to the threshold begin, in all arrays of a list end to end."""
    from secateur.kernels import together

    return together.first_kept(items, threshold, last_equal, absolute)


def masks_above(items: Sequence[Named], threshold: float, first_kept: int, packed: bool = False) -> list[Any]:
    """The mask of each array: True above the threshold, and where elements equal it from a position in all on.

    The position is that in all arrays of the list end to end, in C order. None of the elements is NaN.
    """
    from secateur.kernels import together

    return together.masks_above(items, threshold, first_kept, packed)


def zero_at_most(items: Sequence[Named], threshold: float, first_kept: int) -> None:
    """Write +0.0 where |x| <= threshold, but not where it equals it from a position in all arrays on."""
    from secateur.kernels import together

    together.zero_at_most(items, threshold, first_kept)


def refuse_nan(arrays: Iterable[Named]) -> None:
    """Check that numbers can be ranked.

    Raises:
        InvalidTensorError: names the first array that holds NaN, and the first position in C order.
    """
    from secateur.kernels import together

    for run in together.runs(arrays):
        joined = together.joined(run)
        position = of(joined).first_nan(joined)
        for name, array in run if position >= 0 else []:
            size = math.prod(array.shape)
            if position < size:
                index = tuple(int(at) for at in np.unravel_index(position, array.shape))
                raise InvalidTensorError(
                    f"{name} holds NaN at index {index}, which cannot be ranked: find where it comes from"
                )
            position -= size


def round_sums(sums: ExactSums, root: bool = False) -> Floats:
    """Exact sums rounded once to float64[*grid] (half to even); with ``root`` then the square root.

    The square root is taken of the sum rounded to 53 bits with no limit of the exponent, so it neither overflows nor
    loses digits where the sum itself would.
    """
    from secateur.kernels import limbs

    grid = sums.limbs.shape[1:]
    columns = sums.limbs.reshape(len(sums.limbs), -1), sums.counters.reshape(len(sums.counters), -1)
    result = np.empty(columns[0].shape[1])
    limbs.round_columns(*columns, sums.base, root, result)
    return result.reshape(grid)


def rounded_sums(x: Any, kind: Kind, block: Sequence[int]) -> Floats:
    """The exact sum of each block, or the root of that of squares, rounded once: float64[*grid], blocks as above.

    The same as :func:`round_sums` of :meth:`Kernels.exact_sums`, in less memory. NaN where an element is NaN.
    """
    from secateur.kernels import slabs

    return slabs.rounded_sums(x, kind, block)


def rounded_row_sums(parts: Sequence[Any], kind: Kind) -> Floats:
    """The exact sum of each index of axis 0, over several arrays with as many: rounded once, float64[rows].

    The same as :func:`rounded_sums` of what they would be side by side, which need not be made.
    """
    from secateur.kernels import slabs

    return slabs.rounded_row_sums(parts, kind)


def exact_integer(sums: ExactSums, kind: Kind) -> int:
    """The one exact sum as a Python integer in units of 2**UNIT[kind], infinities left out."""
    limbs = sums.limbs.reshape(-1)
    lower = int.from_bytes(limbs[:-1].astype("<u4").tobytes(), "little")
    return ((int(limbs[-1]) << LIMB_BITS * (limbs.size - 1)) + lower) << (sums.base - UNIT[kind])
