from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import strategies
from secateur import scores
from secateur.errors import (
    EmptyInputError,
    InvalidTensorError,
    OutOfRangeError,
    ReadOnlyArrayError,
    RecipeError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)
from secateur.kernels import few, slabs

TERMS = {
    "absolute": lambda g, w: np.abs(g),
    "value": lambda g, w: g,
    "square": lambda g, w: g * g,
    "product": lambda g, w: w * g,
}
NORMS = [1, 2, math.inf, "inf", "mean"]


@given(strategies.arrays(), strategies.cuts)
def test_magnitude_and_gradient_are_the_absolute_value_in_the_same_dtype(weight, cut):
    with strategies.cut(*cut):
        for score in (scores.magnitude(weight), scores.gradient(weight)):
            assert score.dtype == weight.dtype and score.shape == weight.shape
            assert np.array_equal(score, np.abs(weight)) and not np.signbit(score).any()


@given(st.data(), strategies.cuts)
def test_taylor_is_the_product_in_single_precision_or_wider(data, cut):
    weight = data.draw(strategies.arrays(infinities=False))
    gradient = data.draw(strategies.arrays(shape=weight.shape, infinities=False))
    with strategies.cut(*cut):
        score = scores.taylor(weight, gradient)
    dtype = np.float64 if np.float64 in (weight.dtype, gradient.dtype) else np.float32
    assert score.dtype == dtype
    with np.errstate(over="ignore"):
        assert np.array_equal(score, np.abs(weight.astype(dtype) * gradient.astype(dtype)))


def test_taylor_of_sixteen_bit_floats_does_not_vanish():
    weight = np.full(2, 2.0**-14, np.float16)
    assert (scores.taylor(weight, weight) == 2.0**-28).all()


@given(st.data(), strategies.cuts)
def test_accumulated_gradients_are_the_sequential_sum(data, cut):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    narrow = strategies.dtypes.filter(lambda given: given.itemsize <= np.dtype(dtype).itemsize)
    arrays = narrow.flatmap(lambda given: strategies.arrays(shape=(3, 4), dtype=given, infinities=False))
    batches = data.draw(st.lists(arrays, max_size=4))
    kind = data.draw(st.sampled_from(list(TERMS)))
    weight = data.draw(arrays) if kind == "product" else None
    total = data.draw(strategies.laid_out(np.zeros((3, 4), dtype))).copy(order="K")
    expected = np.zeros((3, 4), dtype)
    with strategies.cut(*cut), np.errstate(over="ignore", invalid="ignore"):
        for batch in batches:
            assert scores.accumulate(total, batch, kind, weight) is total
            factor = None if weight is None else weight.astype(dtype)
            expected = expected + TERMS[kind](batch.astype(dtype), factor)
    assert np.array_equal(total, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accumulated_products_are_rounded_before_they_are_added(dtype):
    one = dtype(1 + np.finfo(dtype).eps)
    total = np.full(100, -(one * one), dtype)
    scores.accumulate(total, np.full(100, one), "square")
    assert (total == 0.0).all()  # with one rounding, eps**2


def test_accumulating_a_wrong_kind_is_refused():
    total, gradient = np.zeros(2), np.ones(2)
    for call, message in [
        (lambda: scores.accumulate(total, gradient, "cube"), "unknown kind 'cube': use one of value, absolute"),
        (lambda: scores.accumulate(total, gradient, True), "unknown kind True"),
        (lambda: scores.accumulate(total, gradient, "product"), "'product' needs a weight"),
        (lambda: scores.accumulate(total, gradient, "square", gradient), "'square' takes no weight"),
    ]:
        with pytest.raises(RecipeError, match=message):
            call()
    with pytest.raises(ShapeMismatchError, match="the weight"):
        scores.accumulate(total, gradient, "product", np.ones(3))
    with pytest.raises(UnsupportedDtypeError):
        scores.accumulate(np.zeros(2, np.float32), np.ones(2, np.float32), "product", gradient)
    assert not total.any()


def test_accumulating_needs_a_total_that_is_wide_enough_and_writable():
    for total, gradient in [(np.float16, np.float16), (np.float32, np.float64)]:
        with pytest.raises(UnsupportedDtypeError, match="the total has dtype"):
            scores.accumulate(np.zeros(2, total), np.zeros(2, gradient))
    with pytest.raises(ReadOnlyArrayError):
        scores.accumulate(np.broadcast_to(np.float32(0.0), (2,)), np.zeros(2, np.float32))
    with pytest.raises(ShapeMismatchError):
        scores.accumulate(np.zeros(2), np.zeros(3))


@given(strategies.arrays(shape=strategies.shapes(min_dims=1)), st.data(), st.sampled_from(NORMS), strategies.cuts)
def test_reduce_gives_the_rounded_exact_norm_of_each_index(score, data, norm, cut):
    axis = data.draw(st.integers(-score.ndim, score.ndim - 1))
    if norm == "mean" and score.size == 0 and score.shape[axis]:
        with pytest.raises(EmptyInputError):
            scores.reduce(score, axis, norm)
        return
    with strategies.cut(*cut):
        found = scores.reduce(score, axis, norm)
    assert found.dtype == np.float64
    assert found.tolist() == naive.reduce(score, axis, math.inf if norm == "inf" else norm)


def test_reduce_in_slabs_gives_the_same(monkeypatch):
    score = np.random.default_rng(0).standard_normal((50, 9, 17))
    whole = [scores.reduce(score, axis, norm) for axis in range(3) for norm in NORMS]
    monkeypatch.setattr(slabs, "SLAB_BYTES", 4000)
    parts = [scores.reduce(score, axis, norm) for axis in range(3) for norm in NORMS]
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


@given(st.data(), st.sampled_from(NORMS), strategies.cuts)
def test_reduce_together_gives_the_norm_over_all_arrays_side_by_side(data, norm, cut):
    rows, dtype = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([np.float32, np.float64]))
    shapes = data.draw(st.lists(st.lists(st.integers(1, 5), max_size=2), min_size=1, max_size=3))
    parts = [data.draw(strategies.arrays(dtype=dtype, shape=(rows, *shape))) for shape in shapes]
    with strategies.cut(*cut):
        found = scores.reduce_together(parts, norm)
    joined = np.concatenate([part.reshape(rows, -1) for part in parts], axis=1)
    assert found.dtype == np.float64
    assert found.tolist() == naive.reduce(joined, 0, math.inf if norm == "inf" else norm)


def test_reduce_together_takes_several_types_and_slabs_and_refuses_nan(monkeypatch):
    generator = np.random.default_rng(0)
    parts = [generator.standard_normal((40, 7)).astype(dtype) for dtype in (np.float16, np.float32, np.float64)]
    joined = np.concatenate(parts, axis=1)
    monkeypatch.setattr(slabs, "SLAB_BYTES", 4000)
    for norm in NORMS:
        assert np.array_equal(scores.reduce_together(parts, norm), scores.reduce(joined, 0, norm))
    parts[1][3, 2] = np.nan
    for norm in NORMS:
        with pytest.raises(InvalidTensorError, match=r"the score holds NaN at index \(3, 2\)"):
            scores.reduce_together(parts[1:], norm)


def test_reduce_of_a_keras_kernel_along_axis_1_would_score_its_inputs():
    """The trap: Keras stores (inputs, neurons), the canonical view is (neurons, inputs)."""
    kernel = np.array([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]], np.float32)
    neurons = [3.0, 30.0, 300.0]
    assert scores.reduce(kernel.T).tolist() == neurons
    assert scores.reduce(kernel, axis=-1).tolist() == neurons
    assert np.sum(np.abs(kernel), axis=1).tolist() == [111.0, 222.0] == scores.reduce(kernel, axis=0).tolist()


def test_either_layout_of_a_kernel_gives_the_same_bits():
    kernel = (np.random.default_rng(3).standard_normal((200, 64)) * 10.0 ** (np.arange(64) % 30)).astype(np.float32)
    stored_by_torch = np.ascontiguousarray(kernel.T)
    assert np.array_equal(scores.reduce(stored_by_torch), scores.reduce(kernel.T))


def test_euclidean_norm_neither_overflows_nor_vanishes():
    huge, tiny = 2.0**700, 2.0**-700
    pairs = np.array([[3.0 * huge, 4.0 * huge], [3.0 * tiny, 4.0 * tiny]])
    assert scores.reduce(pairs, norm=2).tolist() == [5.0 * huge, 5.0 * tiny]


def test_bad_input_is_refused_by_name():
    bad = np.array([[1.0, 2.0], [np.nan, 3.0]], np.float32)
    for call in (scores.magnitude, scores.gradient, scores.reduce):
        with pytest.raises(InvalidTensorError, match=r"fc1 holds NaN at index \(1, 0\)"):
            call(bad, name="fc1")
    with pytest.raises(InvalidTensorError, match=r"index \(0,\)"):
        scores.taylor(np.array([np.inf]), np.array([0.0]))
    with pytest.raises(ShapeMismatchError, match=r"\(2,\).*\(3,\)"):
        scores.taylor(np.ones(2), np.ones(3))
    with pytest.raises(OutOfRangeError, match="no axis 2"):
        scores.reduce(np.ones((2, 2)), axis=2)
    with pytest.raises(OutOfRangeError, match="no axis 0"):
        scores.reduce(np.float32(1.0))
    with pytest.raises(RecipeError, match="unknown norm 3"):
        scores.reduce(np.ones((2, 2)), norm=3)
    with pytest.raises(UnsupportedDtypeError):
        scores.magnitude(np.ones(3, np.int64))


GRID = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: scores.reduce(GRID, "a"),
        lambda: scores.reduce(GRID, 0.5),
    ],
)
def test_an_option_that_is_no_number_is_named(call):
    with pytest.raises(RecipeError, match=r" is .*: give a (whole )?number"):
        call()


def test_a_total_that_overlaps_its_term_is_added_to_as_if_apart():
    x = np.arange(8.0)
    scores.accumulate(x[1:], x[:-1], "value")
    assert x.tolist() == [0, 1, 3, 5, 7, 9, 11, 13]
    scores.accumulate(x, x, "value")
    assert x.tolist() == [0, 2, 6, 10, 14, 18, 22, 26]


@pytest.mark.parametrize("norm", [np.array([1, 2]), np.array(1), True, [1], None, "largest"])
def test_a_norm_is_one_of_four(norm):
    with pytest.raises(RecipeError, match="unknown norm"):
        scores.reduce(np.ones((2, 2)), norm=norm)


def wide(data, shape, dtype):
    """Numbers of any exponents, or of few, so that sums of two float64 do and do not hold them."""
    octaves = data.draw(st.sampled_from([0, 20, 60, 1000 if dtype == np.float64 else 120]))
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    return np.ldexp(random.standard_normal(shape), random.integers(-octaves, octaves + 1, shape)).astype(dtype)


@given(st.data(), st.sampled_from([np.float32, np.float64]), st.sampled_from(NORMS))
def test_few_numbers_have_the_same_sums_as_many(data, dtype, norm):
    """An index of few numbers is summed in another way than the same with zeros behind it."""
    count, size = data.draw(st.integers(1, 300)), data.draw(st.integers(1, few.MOST))
    score = wide(data, (count, size), dtype)
    padded = np.pad(score, ((0, 0), (0, few.MOST + 1)))
    if norm == "mean":
        assert np.array_equal(scores.reduce(score, norm=norm), scores.reduce(padded, norm=1) / size)
    else:
        assert np.array_equal(scores.reduce(score, norm=norm), scores.reduce(padded, norm=norm))
    assert np.array_equal(scores.reduce(score, norm=norm), scores.reduce(score.T.copy(), axis=1, norm=norm))


@given(st.integers(0, 99), st.sampled_from([1, "mean"]))
def test_reduce_together_keeps_signs_where_asked(seed, norm):
    random = np.random.default_rng(seed)
    parts = [random.normal(size=(3, size)) for size in random.integers(1, 6, 3)]
    joined = np.concatenate(parts, axis=1)
    signed = scores.reduce_together(parts, norm, signed=True)
    assert np.array_equal(signed, scores.reduce(joined, 0, norm, signed=True))
    assert np.array_equal(scores.reduce_together(parts, norm), scores.reduce(joined, 0, norm))


def test_reduce_together_refuses_signs_in_norms_of_magnitudes():
    for norm in (2, math.inf):
        with pytest.raises(RecipeError, match="signed scores need norm 1 or 'mean'"):
            scores.reduce_together([np.ones((2, 3))], norm, signed=True)
