"""Pruning in place by magnitude: the same as a mask from scores, applied."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import naive
import strategies
from secateur import masks, scores
from secateur.errors import (
    InvalidTensorError,
    OutOfRangeError,
    ReadOnlyArrayError,
    RecipeError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)


def writable(array):
    """The same array in the same layout, of its own memory."""
    return array.copy(order="K")


def holds(target, weight, mask):
    return np.array_equal(target.view(f"u{target.itemsize}"), naive.zeroed(weight, mask))


@given(strategies.arrays(), st.data(), strategies.cuts)
def test_below_a_threshold(weight, data, cut):
    values = naive.numbers([weight])
    threshold = data.draw(st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, *values, *map(abs, values)]))
    target = writable(weight)
    with strategies.cut(*cut):
        assert masks.zero_below(target, threshold) is target
    assert holds(target, weight, np.abs(weight.astype(np.float64)) > threshold)
    assert holds(target, weight, masks.keep_above(scores.magnitude(weight), threshold))


@given(strategies.collections(min_elements=0), st.data(), strategies.cuts)
def test_all_but_the_largest_of_many_arrays(weights, data, cut):
    keep = data.draw(st.integers(0, sum(weight.size for weight in weights)))
    targets = [writable(weight) for weight in weights]
    with strategies.cut(*cut):
        assert masks.zero_smallest(targets, keep) is targets
    expected = naive.keep_largest([np.abs(weight) for weight in weights], keep)
    assert all(map(holds, targets, weights, expected))


@given(strategies.arrays(), st.data(), strategies.cuts)
def test_all_but_the_largest_of_one_array(weight, data, cut):
    keep, target = data.draw(st.integers(0, weight.size)), writable(weight)
    with strategies.cut(*cut):
        assert masks.zero_smallest(target, keep) is target
    assert holds(target, weight, naive.keep_largest([np.abs(weight)], keep)[0])


COUNTS = [(0, 4), (1, 2), (2, 4), (3, 5), (6, 7), (8, 16), (3, 3), (5, 17), (20, 40)]


@given(st.data(), st.sampled_from(COUNTS), strategies.cuts)
def test_n_of_m_along_any_axis(data, counts, cut):
    n, m = counts
    shape = list(data.draw(strategies.shapes(min_dims=1, max_dims=3, max_side=3)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] *= m
    weight = data.draw(strategies.arrays(shape=tuple(shape)))
    target = writable(weight)
    with strategies.cut(*cut):
        assert masks.zero_n_of_m(target, n, m, axis) is target
    assert holds(target, weight, naive.n_of_m(np.abs(weight), n, m, axis))


@pytest.mark.parametrize("dtype", strategies.FLOATS)
@pytest.mark.parametrize("shape", [(8, 40), (4, 3, 3, 4), (100, 4), (4, 75)])
@pytest.mark.parametrize("axis", [0, -1])
def test_two_of_four_in_whole_registers_and_their_rests(dtype, shape, axis):
    weight = np.round(np.random.default_rng(0).standard_normal(shape) * 2).astype(dtype)
    weight = weight.repeat(4, -1) if shape[axis] % 4 else weight
    target = weight.copy()
    masks.zero_n_of_m(target, axis=axis)
    expected = naive.n_of_m(np.abs(weight), 2, 4, axis)
    assert holds(target, weight, expected)
    assert np.array_equal(masks.n_of_m(np.abs(weight), axis=axis), expected)


SCALES = st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.0, 1e-30, 1e30])


@given(strategies.arrays(shape=strategies.shapes(min_dims=1), infinities=False), st.data(), strategies.cuts)
def test_rows_by_magnitude_times_the_scale_of_the_column(weight, data, cut):
    columns = math.prod(weight.shape[1:])
    keep, target = data.draw(st.integers(0, columns)), writable(weight)
    scale = data.draw(st.none() | st.lists(SCALES, min_size=columns, max_size=columns))
    if scale is not None:
        scale = np.array(scale).astype(data.draw(strategies.dtypes.filter(lambda dtype: dtype.name != "float16")))
    with strategies.cut(*cut):
        assert masks.zero_per_row(target, keep, scale) is target
    score = naive.scaled(weight, np.ones(columns, np.float32) if scale is None else scale)
    assert holds(target, weight, naive.keep_per_row(score, keep))


@pytest.mark.parametrize("dtype", strategies.FLOATS)
def test_half_of_long_rows(dtype):
    random = np.random.default_rng(1)
    weight, scale = random.standard_normal((40, 1000)).astype(dtype), random.random(1000, np.float32)
    for layout in (weight, np.asfortranarray(weight), weight[::-1, ::-1]):
        target = layout.copy(order="K")
        masks.zero_per_row(target, 500, scale)
        assert holds(target, layout, naive.keep_per_row(naive.scaled(layout, scale), 500))


def test_torch_parameters_are_pruned_in_place():
    for dtype in (torch.float32, torch.bfloat16):
        parameter = torch.nn.Parameter(torch.tensor([[4.0, -3.0, 2.0, 1.0], [0.5, -8.0, 0.25, 6.0]], dtype=dtype))
        assert masks.zero_n_of_m(parameter) is parameter
        assert masks.zero_smallest([parameter], 3)[0] is parameter
        assert masks.zero_per_row(parameter, 1, torch.tensor([1.0, 1.0, 1.0, 2.0])) is parameter
        assert masks.zero_below(parameter, 2) is parameter
        assert parameter.detach().tolist() == [[4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 6.0]]


def test_nan_is_refused_by_name_and_position_before_anything_changes():
    bad = np.ones((2, 4), np.float32)
    bad[1, 2] = np.nan
    first = np.ones(3, np.float32)
    for call in (
        lambda: masks.zero_below(bad, 2.0, name="fc1"),
        lambda: masks.zero_smallest([first, bad], 1, names=["conv", "fc1"]),
        lambda: masks.zero_smallest([first, bad], 0, names=["conv", "fc1"]),
        lambda: masks.zero_n_of_m(bad, name="fc1"),
        lambda: masks.zero_per_row(bad, 1, name="fc1"),
    ):
        with pytest.raises(InvalidTensorError, match=r"fc1 holds NaN at index \(1, 2\)"):
            call()
    assert np.nansum(bad) == 7.0 and first.sum() == 3.0
    with pytest.raises(InvalidTensorError, match="fc1 is infinite where its scale is 0"):
        masks.zero_per_row(np.array([[1.0, np.inf]]), 1, np.array([1.0, 0.0]), name="fc1")


def test_what_cannot_be_written_is_refused_before_anything_changes():
    first, frozen = np.ones(4, np.float32), np.ones(4, np.float32)
    frozen.flags.writeable = False
    for call in (
        lambda: masks.zero_below(frozen, 2.0),
        lambda: masks.zero_smallest([first, frozen], 1),
        lambda: masks.zero_smallest(1.0, 0),
        lambda: masks.zero_n_of_m(frozen),
        lambda: masks.zero_per_row(frozen, 0),
    ):
        with pytest.raises(ReadOnlyArrayError):
            call()
    assert first.sum() == 4.0
    with pytest.raises(UnsupportedDtypeError):
        masks.zero_below(np.ones(3, np.int32), 1.0)


def test_arguments_out_of_range_are_refused():
    weight = np.ones((4, 6), np.float32)
    for call, error, message in [
        (lambda: masks.zero_below(weight, math.nan), OutOfRangeError, "threshold is NaN"),
        (lambda: masks.zero_smallest(weight, 25), OutOfRangeError, "keep is 25, but there are 24"),
        (lambda: masks.zero_n_of_m(weight, 3, 2), OutOfRangeError, "3 of 2"),
        (lambda: masks.zero_n_of_m(weight), ShapeMismatchError, "the weight has 6 elements, no multiple of 4"),
        (lambda: masks.zero_per_row(weight, 7), OutOfRangeError, "keep is 7, but there are 6"),
        (lambda: masks.zero_per_row(np.ones(()), 0), ShapeMismatchError, "it has no rows"),
        (lambda: masks.zero_per_row(weight, 1, np.ones(5)), ShapeMismatchError, r"shape \(5,\), but a row .* 6"),
        (lambda: masks.zero_per_row(weight, 1, np.full(6, -1.0)), OutOfRangeError, "scale at 0 is -1"),
        (lambda: masks.zero_per_row(weight, 1, np.full(6, np.inf)), OutOfRangeError, "scale at 0 is inf"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert weight.sum() == 24.0


def test_memory_that_would_be_written_twice_is_refused():
    weight = np.arange(1.0, 9.0)
    with pytest.raises(ShapeMismatchError, match="array 0 and array 1 share memory"):
        masks.zero_smallest([weight, weight[::-1]], 8)
    with pytest.raises(ReadOnlyArrayError, match="share their memory"):
        masks.zero_below(np.lib.stride_tricks.as_strided(weight, (8, 2), (8, 0)), 3.0)
    assert weight.tolist() == list(range(1, 9))
    masks.zero_smallest([weight[::2], weight[1::2]], 3)
    assert weight.tolist() == [0, 0, 0, 0, 0, 6, 7, 8]


@given(strategies.arrays(shape=strategies.shapes(min_dims=2, max_dims=2, min_side=1), infinities=False), st.data())
def test_a_scale_that_is_a_view_of_the_weight_is_read_before_it_is_written(weight, data):
    weight = np.abs(weight.astype(np.float32, copy=True, order="C"))
    row, keep = data.draw(st.integers(-len(weight), len(weight) - 1)), data.draw(st.integers(0, weight.shape[1]))
    expected = masks.zero_per_row(weight.copy(), keep, scale=weight[row].copy())
    with strategies.cut(1, 2):
        assert np.array_equal(masks.zero_per_row(weight, keep, scale=weight[row]), expected)


def test_tied_memory_is_found_behind_arrays_that_lie_between():
    base = np.ones(8, np.float32)
    for weights in ([base[0::2], base[1:2], base[4:5]], [base, base[:1], base[1:2], base[7:]]):
        with pytest.raises(ShapeMismatchError, match="share memory"):
            masks.zero_smallest(weights, 1)
    assert (base == 1).all()
    apart = [base[0::2], base[1:2], base[5::2], base[3:4]]
    assert masks.zero_smallest(apart, 0) is apart and not base.any()


@given(st.data())
def test_elements_that_share_memory_are_refused_and_no_others(data):
    """Against all the addresses of any strides."""
    shape = data.draw(strategies.shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    strides = data.draw(st.lists(st.integers(-9, 9), min_size=len(shape), max_size=len(shape)))
    memory = np.ones(200, np.float32)  # 3 axes of 4 elements, 9 apart, reach 81 to either side
    view = np.lib.stride_tricks.as_strided(memory[100:], shape, [4 * step for step in strides])
    places = np.zeros(1, np.int64)
    for side, step in zip(shape, strides, strict=True):
        places = np.add.outer(places, step * np.arange(side)).reshape(-1)
    if len(set(places.tolist())) < places.size:
        with pytest.raises(ReadOnlyArrayError, match="share their memory"):
            masks.zero_below(view, 1.0)
        assert memory.all()
    else:
        assert masks.zero_below(view, 1.0) is view
        assert np.count_nonzero(memory == 0) == places.size


def test_sliding_windows_are_refused():
    memory = np.ones(10, np.float32)
    with pytest.raises(ReadOnlyArrayError, match="sliding window"):
        masks.apply(np.lib.stride_tricks.sliding_window_view(memory, 3, writeable=True), np.zeros((8, 3), np.bool_))
    with pytest.raises(ReadOnlyArrayError, match="sliding window"):
        masks.zero_below(torch.ones(10).unfold(0, 3, 1), 1.0)
    assert memory.all()
    blocks = torch.ones(9).unfold(0, 3, 3)
    assert masks.zero_below(blocks, 1.0) is blocks and not blocks.any()


def test_what_an_iterator_gave_is_returned():
    (found,) = masks.zero_smallest(iter([np.array([3.0, 1.0, 2.0])]), 1)
    assert found.tolist() == [3.0, 0.0, 0.0]
    with pytest.raises(UnsupportedDtypeError, match="call it"):
        masks.zero_smallest(lambda: [np.ones(3)], 1)


@pytest.mark.parametrize("threshold", [np.ones(2), np.ones(1), "1", None, True, 1j])
def test_a_threshold_is_one_number(threshold):
    for prune in (masks.zero_below, masks.keep_above):
        with pytest.raises(RecipeError, match="give a number"):
            prune(np.ones(2), threshold)


@pytest.mark.parametrize("threshold", [10**400, -(10**400)])
def test_a_threshold_fits_into_a_float(threshold):
    for prune in (masks.zero_below, masks.keep_above):
        with pytest.raises(OutOfRangeError, match="largest float64"):
            prune(np.ones(2), threshold)
