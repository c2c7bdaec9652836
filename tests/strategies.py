"""Hypothesis strategies: arrays with ties, zeros, infinities and extremes, of every dtype, shape and memory layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secateur import arrays as arrays_module
from secateur import ranks
from secateur.kernels import cpu, cpu_digests, cpu_groups, lines, sums, together

Array = npt.NDArray[Any]

FLOATS = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32), np.dtype(np.float64)]

dtypes = st.sampled_from(FLOATS)


def shapes(min_dims: int = 0, max_dims: int = 4, min_side: int = 0, max_side: int = 6) -> st.SearchStrategy[Any]:
    """Mostly of several elements; sides of 1, 0-d and zero-size shapes among them, where they are allowed."""
    dims = {"min_dims": max(min_dims, 1), "max_dims": max_dims, "max_side": max_side}
    least = [2, 2, 2, 2, 1, min_side]
    kinds = [hnp.array_shapes(**dims, min_side=min(max(side, min_side), max_side)) for side in least]
    return st.one_of(*kinds, *([st.just(())] if min_dims == 0 else []))


def elements(infinities: bool = True) -> st.SearchStrategy[float]:
    """float32 values: many ties and zeros of both signs, subnormals, extremes; and float16's own largest."""
    ties = st.sampled_from([0.0, -0.0, 1.0, 1.0, -1.0, 0.5, 2.0, 65504.0, 2.0**-24, 2.0**-149, 3.0e38, -3.0e38])
    wide = st.floats(width=32, allow_nan=False, allow_infinity=False)
    usual = st.floats(-4.0, 4.0, width=16)
    return st.one_of(ties, usual, wide, *([st.sampled_from([np.inf, -np.inf])] if infinities else []))


@st.composite
def laid_out(draw: st.DrawFn, array: Array) -> Array:
    """The same elements at the same indices, in another memory layout."""
    layout = draw(st.sampled_from(["C", "F", "permuted", "strided", "reversed", "read-only"]))
    if layout == "F":
        return np.array(array, order="F")
    if layout == "permuted":
        order = draw(st.permutations(range(array.ndim)))
        return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order)) if array.ndim else array
    if layout == "strided" and array.ndim:
        roomy = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 1), array.dtype)
        roomy[..., 1::2] = array
        return roomy[..., 1::2]
    if layout == "reversed" and array.ndim:
        flips = tuple(slice(None, None, draw(st.sampled_from([1, -1]))) for _ in array.shape)
        return np.ascontiguousarray(array[flips])[flips]
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


@st.composite
def arrays(
    draw: st.DrawFn, shape: Any = None, dtype: Any = None, infinities: bool = True, layouts: bool = True
) -> Array:
    """An array of floats without NaN; rounding to a narrower dtype may make more ties and infinities."""
    shape = draw(shapes() if shape is None else shape if isinstance(shape, st.SearchStrategy) else st.just(shape))
    dtype = draw(dtypes) if dtype is None else np.dtype(dtype)
    pool = draw(st.lists(elements(infinities), min_size=4, max_size=10))
    values = np.random.default_rng(draw(st.integers(0, 1 << 32))).choice(np.float32(pool), shape)
    if not infinities and dtype.name in ("float16", "bfloat16"):
        values = np.asarray(np.clip(values, -60000.0, 60000.0))
    with np.errstate(over="ignore"):
        array = values.astype(dtype)
    return draw(laid_out(array)) if layouts else array


def collections(min_elements: int = 1, **options: Any) -> st.SearchStrategy[list[Array]]:
    """Lists of arrays of mixed shapes and dtypes, empty ones among them, with some elements in all."""
    return st.lists(arrays(**options), min_size=1, max_size=4).filter(
        lambda xs: sum(x.size for x in xs) >= min_elements
    )


@contextmanager
def cut(piece: int | None, threads: int) -> Iterator[None]:
    """Kernels cut arrays into pieces of ``piece`` elements, sorting none (None: as always), on ``threads`` threads."""
    limit = piece or arrays_module.PIECE

    def partition(shape: Sequence[int], limit: int = limit) -> Iterator[arrays_module.Index]:
        return arrays_module.partition(shape, limit)

    settings = {"SECATEUR_THREADS": str(threads)}
    with (
        mock.patch.object(cpu, "partition", partition),
        mock.patch.object(cpu_groups, "PIECE", limit),
        mock.patch.multiple(cpu_groups, TILE=min(limit, cpu_groups.TILE), LARGEST=limit if piece else lines.LARGEST),
        mock.patch.multiple(lines, PIECE=limit, LARGEST=limit if piece else lines.LARGEST),
        mock.patch.object(sums, "PIECE", limit),
        mock.patch.multiple(together, PIECE=limit, SMALL=min(limit, together.SMALL)),
        mock.patch.multiple(cpu_digests, PIECE=limit, COUNTED_FROM=limit if piece else cpu_digests.COUNTED_FROM),
        mock.patch.object(ranks, "SORTED", ranks.SORTED if piece is None else 0),
        mock.patch.dict("os.environ", settings),
    ):
        yield


cuts = st.tuples(st.sampled_from([None, 1, 3, 8]), st.sampled_from([1, 2, 7]))
