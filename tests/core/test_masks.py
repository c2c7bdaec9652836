from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import naive
import strategies
from secateur import masks, thresholds
from secateur.errors import (
    InvalidTensorError,
    OutOfRangeError,
    ReadOnlyArrayError,
    RecipeError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)
from secateur.kernels import few, slabs


@given(strategies.collections(min_elements=0), st.data(), strategies.cuts)
def test_keep_largest_keeps_exactly_so_many_and_prunes_the_earlier_of_equals(arrays, data, cut):
    keep = data.draw(st.integers(0, sum(array.size for array in arrays)))
    with strategies.cut(*cut):
        found, packed = masks.keep_largest(arrays, keep), masks.keep_largest(arrays, keep, packed=True)
    assert [bits.tolist() for bits in packed] == [naive.packed(mask) for mask in found]
    assert sum(int(mask.sum()) for mask in found) == keep
    for mask, expected in zip(found, naive.keep_largest(arrays, keep), strict=True):
        assert mask.dtype == np.bool_ and np.array_equal(mask, expected)


@given(strategies.arrays(), st.data())
def test_one_array_gives_one_mask_and_masks_are_nested(score, data):
    low, high = sorted(data.draw(st.tuples(*[st.integers(0, score.size)] * 2)))
    fewer, more = masks.keep_largest(score, low), masks.keep_largest(score, high)
    assert isinstance(fewer, np.ndarray) and fewer.shape == score.shape
    assert not (fewer & ~more).any()
    if low and low < score.size:
        assert score[fewer].astype(float).min() >= score[~fewer].astype(float).max()


def test_a_constant_tensor_at_half_keeps_exactly_half():
    """The trap: score > threshold keeps none of 100 equal weights."""
    constant = np.full((10, 10), 0.3, np.float32)
    assert masks.keep_above(constant, thresholds.percentile(constant, 50)).sum() == 0
    kept = masks.keep_largest(constant, 50)
    assert kept.sum() == 50 and not kept.ravel()[:50].any()


def test_ties_are_broken_over_arrays_in_list_order():
    kept = masks.keep_largest([np.zeros(3), -np.zeros(2), np.full(1, 5.0)], 3)
    assert [mask.tolist() for mask in kept] == [[False] * 3, [True, True], [True]]


def test_infinite_scores_go_last_and_first():
    score = np.array([1.0, np.inf, -np.inf, np.inf])
    assert masks.keep_largest(score, 2).tolist() == [False, True, False, True]
    assert masks.keep_largest(score, 3).tolist() == [True, True, False, True]


@given(strategies.arrays(), st.floats(allow_nan=False), strategies.cuts)
def test_keep_above_compares_real_numbers(score, threshold, cut):
    with strategies.cut(*cut):
        found, packed = masks.keep_above(score, threshold), masks.keep_above(score, threshold, packed=True)
    assert packed.tolist() == naive.packed(found)
    assert np.array_equal(found, score.astype(np.float64) > threshold)


def test_keep_above_does_not_round_the_threshold():
    assert masks.keep_above(np.array([np.float32(0.1)]), 0.1).all()  # float32(0.1) is a little more than 0.1


COUNTS = [(0, 4), (1, 2), (2, 4), (3, 5), (6, 7), (8, 16), (3, 3), (5, 17), (20, 40)]


@given(st.data(), st.sampled_from(COUNTS), strategies.cuts)
def test_n_of_m_keeps_the_n_largest_of_each_group(data, counts, cut):
    n, m = counts
    shape = list(data.draw(strategies.shapes(min_dims=1, max_dims=3, max_side=3)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] *= m
    score = data.draw(strategies.arrays(shape=tuple(shape)))
    with strategies.cut(*cut):
        found, packed = masks.n_of_m(score, n, m, axis), masks.n_of_m(score, n, m, axis, packed=True)
    assert found.flags.c_contiguous and np.array_equal(found, naive.n_of_m(score, n, m, axis))
    assert packed.dtype == np.uint8 and packed.tolist() == naive.packed(found)


def test_two_of_four_is_the_default():
    assert masks.n_of_m(np.array([[3.0, 1.0, 1.0, 1.0]])).tolist() == [[True, False, False, True]]


@given(strategies.arrays(shape=strategies.shapes(max_dims=3, max_side=9), infinities=False), st.data(), strategies.cuts)
def test_blocks_keep_exactly_so_many_of_the_largest_mean(score, data, cut):
    shape = tuple(data.draw(st.integers(1, 4)) for _ in score.shape)
    count = math.prod(-(-extent // side) for extent, side in zip(score.shape, shape, strict=True))
    keep = data.draw(st.integers(0, count))
    with strategies.cut(*cut):
        found, packed = (masks.blocks(score, shape, keep=keep, packed=form) for form in (False, True))
    assert packed.tolist() == naive.packed(found)
    assert found.flags.c_contiguous and np.array_equal(found, naive.blocks(score, shape, keep))


@given(strategies.arrays(shape=strategies.shapes(min_dims=1)), st.data(), strategies.cuts)
def test_rows_keep_exactly_so_many_each(score, data, cut):
    keep = data.draw(st.integers(0, math.prod(score.shape[1:])))
    with strategies.cut(*cut):
        found, packed = masks.keep_per_row(score, keep), masks.keep_per_row(score, keep, packed=True)
    assert found.flags.c_contiguous and np.array_equal(found, naive.keep_per_row(score, keep))
    assert packed.tolist() == naive.packed(found)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=40), st.data())
def test_rows_of_all_float64_are_cut_exactly(values, data):
    score = np.array([values, values[::-1]])
    keep = data.draw(st.integers(0, len(values)))
    assert np.array_equal(masks.keep_per_row(score, keep), naive.keep_per_row(score, keep))


@pytest.mark.parametrize("keep", [1, 700, 1024, 2047])
def test_long_rows_of_every_kind_are_cut_exactly(keep):
    """Where the threshold of one row is a bad guess for the next one: other scales, ties, sorted, few values, signs."""
    random = np.random.default_rng(0)
    normal = random.standard_normal(2048)
    rows = [normal, normal * 1e-30, normal * 1e30, np.zeros(2048), np.sort(normal), np.round(normal), -abs(normal)]
    rows += [np.where(normal > 0.1, normal, 0), np.exp(20 * normal), np.full(2048, 3.0), np.append(normal[1:], np.inf)]
    score = np.array(rows, np.float32)
    assert np.array_equal(masks.keep_per_row(score, keep), naive.keep_per_row(score, keep))


@given(strategies.arrays(layouts=False), st.data(), strategies.cuts)
def test_apply_writes_zeros_in_place_and_touches_no_other_bit(weight, data, cut):
    mask = data.draw(hnp.arrays(np.bool_, weight.shape))
    target = data.draw(strategies.laid_out(weight)).copy(order="K")
    form = data.draw(strategies.laid_out(masks.pack(mask))) if data.draw(st.booleans()) else mask
    with strategies.cut(*cut):
        assert masks.apply(target, form) is target
    unsigned = f"u{weight.itemsize}"
    assert np.array_equal(target.view(unsigned), np.where(mask, weight.view(unsigned), 0))


def test_apply_clears_what_is_no_number_and_keeps_what_is_kept():
    weight = np.array([np.inf, np.nan, -0.0, np.nan, -1.0])
    masks.apply(weight, np.array([False, False, True, True, False]))
    assert weight.tolist()[:2] == [0.0, 0.0] and np.signbit(weight).tolist() == [False, False, True, False, False]
    assert np.isnan(weight[3])


def test_apply_writes_through_views_and_into_torch_parameters():
    matrix = np.ones((4, 6), np.float32)
    masks.apply(matrix[::2, ::-3], np.zeros((2, 2), bool))
    assert matrix.sum() == 20.0
    for dtype in (torch.float32, torch.bfloat16):
        parameter = torch.nn.Parameter(torch.ones(2, 3, dtype=dtype))
        mask = torch.tensor([[True, False, True], [False, True, True]])
        assert masks.apply(parameter, mask) is parameter
        assert torch.equal(parameter.detach().bool(), mask)


def test_apply_refuses_before_it_writes():
    weight = np.ones((2, 3), np.float32)
    for bad, error in [(np.zeros((3, 2), bool), ShapeMismatchError), (np.zeros((2, 3)), UnsupportedDtypeError)]:
        with pytest.raises(error):
            masks.apply(weight, bad)
    assert weight.sum() == 6.0
    frozen = weight.copy()
    frozen.flags.writeable = False
    for target in (frozen, np.float32(1.0), 1.0):
        with pytest.raises(ReadOnlyArrayError):
            masks.apply(target, np.zeros(np.shape(target), bool))
    with pytest.raises(UnsupportedDtypeError):
        masks.apply(np.ones(2, np.int32), np.zeros(2, bool))


def test_arguments_out_of_range_are_refused():
    score = np.ones((4, 6), np.float32)
    for call, message in [
        (lambda: masks.keep_largest(score, 25), "keep is 25, but there are 24"),
        (lambda: masks.keep_largest([score], -1), "keep is -1"),
        (lambda: masks.keep_above(score, math.nan), "threshold is NaN"),
        (lambda: masks.keep_per_row(score, 7), "keep is 7, but there are 6"),
        (lambda: masks.n_of_m(score, 3, 2), "3 of 2"),
        (lambda: masks.n_of_m(score, 0, 0), "0 of 0"),
        (lambda: masks.n_of_m(score, 1, 2, axis=2), "no axis 2"),
        (lambda: masks.blocks(score, (2, 2), keep=7), "keep is 7, but there are 6"),
        (lambda: masks.blocks(score, (0, 2), keep=1), "sides from 1"),
    ]:
        with pytest.raises(OutOfRangeError, match=message):
            call()
    with pytest.raises(ShapeMismatchError, match="no multiple of 4"):
        masks.n_of_m(score)
    with pytest.raises(ShapeMismatchError, match="2 axes"):
        masks.blocks(score, (2,), keep=1)


def test_nan_is_refused_by_name_and_position():
    bad = np.zeros((2, 4), np.float32)
    bad[1, 2] = np.nan
    for call in (
        lambda: masks.keep_largest([bad], 0, names=["fc1"]),
        lambda: masks.keep_largest([np.zeros(2), bad], 3, names=["conv", "fc1"]),
        lambda: masks.keep_above(bad, 0.0, name="fc1"),
        lambda: masks.n_of_m(bad, name="fc1"),
        lambda: masks.keep_per_row(bad, 1, name="fc1"),
        lambda: masks.blocks(bad, (1, 2), keep=1, name="fc1"),
    ):
        with pytest.raises(InvalidTensorError, match=r"fc1 holds NaN at index \(1, 2\)"):
            call()


GRID = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: masks.keep_largest(GRID, 1.5),
        lambda: masks.keep_per_row(GRID, "1"),
        lambda: masks.keep_above(GRID, None),
        lambda: masks.n_of_m(GRID, 1.0, 2),
        lambda: masks.n_of_m(GRID, 1, 2, "a"),
        lambda: masks.blocks(GRID, ("a", 2), keep=1),
        lambda: masks.zero_below(GRID.copy(), "x"),
    ],
)
def test_an_option_that_is_no_number_is_named(call):
    with pytest.raises(RecipeError, match=r" is .*: give a (whole )?number"):
        call()


def test_blocks_beyond_the_score_are_as_large_as_it():
    score = np.arange(12.0).reshape(3, 4)
    assert masks.blocks(score, (2**40, 2), keep=1).tolist() == [[False, False, True, True]] * 3
    assert masks.blocks(score, (2**40, 2**40), keep=1).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 70)])
def test_blocks_are_summed_in_slabs(monkeypatch, shape):
    score = np.random.default_rng(0).standard_normal((20, 150))
    whole = masks.blocks(score, shape, keep=7)
    monkeypatch.setattr(slabs, "SLAB_BYTES", 4000)
    monkeypatch.setattr(few, "MOST", 0)
    assert np.array_equal(masks.blocks(score, shape, keep=7), whole)
