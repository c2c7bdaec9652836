"""Lists of many small arrays, which the kernels look at together, against the same arrays one by one."""

from __future__ import annotations

import itertools
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import strategies
from secateur import masks
from secateur.arrays import PIECE, as_arrays
from secateur.errors import InvalidTensorError
from secateur.kernels import cpu, together

COUNT = 3000


def tiny_arrays(seed=0, dtype=np.float32):
    """Of 0 to 20 elements, with many ties; some of another layout, some large ones and other dtypes between them."""
    random = np.random.default_rng(seed)
    arrays = [np.round(random.normal(size=size), 1).astype(dtype) for size in random.integers(0, 21, COUNT)]
    arrays[5] = np.round(random.normal(size=(4, 6)), 1).astype(dtype).T
    arrays[6] = np.array(0.5, dtype)
    arrays[700] = np.round(random.normal(size=together.SMALL + 1), 1).astype(dtype)
    arrays[1500] = np.round(random.normal(size=9), 1).astype(ml_dtypes.bfloat16)
    return arrays


@pytest.mark.parametrize("dtype", strategies.FLOATS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_masks_of_thousands_of_small_arrays_are_those_of_a_stable_sort(dtype, share):
    scores = tiny_arrays(dtype=dtype)
    keep = int(share * sum(score.size for score in scores))
    found, packed = masks.keep_largest(scores, keep), masks.keep_largest(scores, keep, packed=True)
    for mask, bits, expected in zip(found, packed, naive.keep_largest(scores, keep), strict=True):
        assert mask.dtype == np.bool_ and mask.flags.c_contiguous and np.array_equal(mask, expected)
        assert bits.dtype == np.uint8 and bits.tolist() == naive.packed(expected)


@pytest.mark.parametrize("dtype", strategies.FLOATS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.77, 1.0])
def test_thousands_of_small_weights_are_zeroed_where_their_masks_are_false(dtype, share):
    weights = tiny_arrays(dtype=dtype)
    keep = int(share * sum(weight.size for weight in weights))
    kept = naive.keep_largest([np.abs(weight) for weight in weights], keep)
    expected = [naive.zeroed(weight, mask) for weight, mask in zip(weights, kept, strict=True)]
    assert masks.zero_smallest(weights, keep) is weights
    for weight, bits in zip(weights, expected, strict=True):
        assert np.array_equal(weight.view(bits.dtype), bits)


@pytest.mark.parametrize("keep", [0, 100])
def test_nan_among_thousands_is_named_by_array_and_position_before_anything_changes(keep):
    weights = tiny_arrays()
    weights[2000] = np.array([[1.0, 2.0], [np.nan, np.nan]], np.float32)
    before = [weight.copy() for weight in weights]
    for call in (masks.keep_largest, masks.zero_smallest):
        with pytest.raises(InvalidTensorError, match=r"array 2000 holds NaN at index \(1, 0\)"):
            call(weights, keep)
    assert all(np.array_equal(*pair, equal_nan=True) for pair in zip(weights, before, strict=True))


def test_each_mask_has_memory_of_its_own():
    """Else one mask that is kept would hold those of all its neighbours."""
    scores = [np.arange(3.0), np.arange(5.0)]
    for packed in (False, True):
        assert all(mask.flags.owndata for mask in masks.keep_largest(scores, 4, packed=packed))


def test_few_calls_serve_many_arrays():
    scores = [np.arange(16, dtype=np.float32) for _ in range(COUNT)]
    with mock.patch.object(cpu, "mask_above", wraps=cpu.mask_above) as called:
        masks.keep_largest(scores, COUNT)
    assert called.call_count == 1


@given(strategies.collections(), strategies.cuts)
def test_runs_are_the_list_cut_at_large_arrays_and_other_dtypes(arrays, cut):
    items = as_arrays(arrays)
    with strategies.cut(*cut):
        runs = list(together.runs(items))
        assert all(len(run) == 1 or together._size(run) <= together.PIECE for run in runs)
    assert [name for run in runs for name, _ in run] == [name for name, _ in items]
    assert all(len({array.dtype for _, array in run}) == 1 for run in runs)


@given(st.lists(st.integers(0, together.SMALL), max_size=200))
def test_a_run_is_no_larger_than_a_piece(sizes):
    items = as_arrays([np.broadcast_to(np.float32(1), size) for size in sizes])
    runs = list(together.runs(items))
    assert sum(map(len, runs)) == len(items)
    assert all(together._size(run) <= PIECE for run in runs)
    assert all(together._size(a) + together._size(b[:1]) > PIECE for a, b in itertools.pairwise(runs))
