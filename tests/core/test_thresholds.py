from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import strategies
from secateur import distributions, ranks, scores, thresholds
from secateur.errors import (
    EmptyInputError,
    InvalidTensorError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)

percents = st.one_of(st.sampled_from([0, 25, 50, 90, 100, 0.0, 33.3, 99.99]), st.floats(0.0, 100.0))


@given(strategies.collections(infinities=False), percents, strategies.cuts)
def test_percentile_has_numpys_value_and_dtype(arrays, q, cut):
    with strategies.cut(*cut):
        found = thresholds.percentile(arrays, q)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.percentile(naive.joined(arrays), q)
    if not np.isnan(expected):
        assert found == expected
    assert found.dtype == expected.dtype and found.shape == expected.shape


@given(strategies.collections(infinities=False), st.lists(percents, max_size=20), strategies.cuts)
def test_percentiles_of_several_q_have_numpys_values_and_dtype(arrays, q, cut):
    q = np.array(q)
    with strategies.cut(*cut):
        found = thresholds.percentile(arrays, q)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.percentile(naive.joined(arrays), q)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    known = ~np.isnan(expected)
    assert np.array_equal(found[known], expected[known])


@given(strategies.collections(), percents, strategies.cuts)
def test_percentile_is_never_nan_and_lies_between_neighbours(arrays, q, cut):
    with warnings.catch_warnings(), strategies.cut(*cut):
        warnings.simplefilter("error")
        found = float(thresholds.percentile(arrays, q))
    values = sorted(naive.numbers(arrays))
    place = (len(values) - 1) * (q / 100)
    assert values[int(place)] <= found <= values[min(int(place) + 1, len(values) - 1)]


def test_percentile_of_infinite_neighbours_is_the_nearer_one():
    assert thresholds.percentile(np.array([1.0, np.inf]), 10) == np.inf
    assert thresholds.percentile(np.array([1.0, np.inf, np.inf]), 0) == 1.0
    assert thresholds.percentile(np.array([np.inf, np.inf]), 50) == np.inf
    assert thresholds.percentile(np.array([-np.inf, np.inf]), 40) == -np.inf
    assert thresholds.percentile(np.array([-np.inf, np.inf]), 60) == np.inf


@given(strategies.collections(), st.data(), strategies.cuts)
def test_smallest_is_the_element_at_that_place_of_the_sorted_list(arrays, data, cut):
    values = sorted(naive.numbers(arrays))
    count = data.draw(st.integers(1, len(values)))
    with strategies.cut(*cut):
        found = thresholds.smallest(arrays, count)
    assert float(found) == values[count - 1]
    assert found.dtype == naive.common_dtype(arrays)


@given(strategies.collections(infinities=False), percents, strategies.cuts)
def test_percentile_of_magnitudes_is_that_of_a_copy_of_them(arrays, q, cut):
    with strategies.cut(*cut):
        found = thresholds.percentile(arrays, q, absolute=True)
        expected = thresholds.percentile([scores.magnitude(array) for array in arrays], q)
    assert found == expected and found.dtype == expected.dtype


@given(strategies.collections(infinities=False), st.data(), strategies.cuts)
def test_a_callable_that_gives_chunks_gives_the_same_thresholds(arrays, data, cut):
    count = data.draw(st.integers(1, sum(array.size for array in arrays)))
    q, absolute = data.draw(percents), data.draw(st.booleans())
    with strategies.cut(*cut):
        for threshold in (
            lambda given: thresholds.percentile(given, q, absolute=absolute),
            lambda given: thresholds.smallest(given, count, absolute=absolute),
            lambda given: thresholds.k_sigma(given, 0.5, absolute=absolute),
        ):
            of_list, of_stream = threshold(arrays), threshold(lambda: iter(arrays))
            assert of_stream == of_list and of_stream.dtype == of_list.dtype


@given(strategies.collections(infinities=False, min_elements=1), percents)
def test_per_array_gives_each_array_its_own_threshold(arrays, q):
    arrays = [array for array in arrays if array.size]
    assert thresholds.percentile(arrays, q, per_array=True) == [thresholds.percentile(array, q) for array in arrays]
    assert thresholds.k_sigma(arrays, 1, per_array=True) == [thresholds.k_sigma(array, 1) for array in arrays]
    assert thresholds.smallest(arrays, 1, per_array=True) == [np.min(np.float64(array)) for array in arrays]


@given(strategies.collections(infinities=False), st.floats(-4.0, 4.0))
def test_k_sigma_of_magnitudes_comes_from_their_rounded_exact_mean_and_sigma(arrays, k):
    values = [abs(value) for value in naive.numbers(arrays)]
    assert thresholds.k_sigma(arrays, k, absolute=True) == naive.mean(values) + k * naive.std(values)


def test_a_fitted_percentile_is_the_quantile_of_the_fitted_distribution():
    weights = np.random.default_rng(0).normal(0.0, 2.0, 1000).astype(np.float32)
    normal = distributions.fit(weights, "normal")
    assert thresholds.fitted_percentile(weights, 84.0) == normal.quantile(0.84)
    assert thresholds.fitted_percentile([weights[:500], weights[500:]], 84.0) == normal.quantile(0.84)
    assert thresholds.fitted_percentile(weights, 50.0, absolute=True) == normal.magnitude_quantile(0.5)
    halves = thresholds.fitted_percentile([weights[:500], weights[500:]], 50.0, "uniform", per_array=True)
    assert halves == [distributions.fit(half, "uniform").quantile(0.5) for half in (weights[:500], weights[500:])]
    with pytest.raises(OutOfRangeError, match="outside 0 to 100"):
        thresholds.fitted_percentile(weights, 101.0)
    with pytest.raises(RecipeError, match="cauchy"):
        thresholds.fitted_percentile(weights, 50.0, "cauchy")


def test_a_callable_that_does_not_give_the_same_again_is_refused():
    calls = iter(range(2, 99))
    data = np.random.default_rng(0).random(200_000)
    with pytest.raises(ShapeMismatchError, match="the same arrays anew"):
        thresholds.percentile(lambda: [data[: 200_000 // next(calls)]], 90)
    with pytest.raises(UnsupportedDtypeError, match="gives a NoneType"):
        thresholds.percentile(lambda: None, 90)


def test_thresholds_of_a_callable_cannot_be_per_array():
    with pytest.raises(RecipeError, match="needs a list of arrays"):
        thresholds.percentile(lambda: [np.ones(3)], 50, per_array=True)


@given(strategies.collections(infinities=False), st.floats(-4.0, 4.0))
def test_k_sigma_comes_from_the_rounded_exact_mean_and_sigma(arrays, k):
    values = naive.numbers(arrays)
    found = thresholds.k_sigma(arrays, k)
    assert isinstance(found, np.float64)
    assert found == naive.mean(values) + k * naive.std(values)


def test_sigma_is_right_where_it_is_small_against_the_mean():
    weights = np.random.default_rng(0).normal(5.0, 0.02, 100_000).astype(np.float32)
    assert thresholds.k_sigma(weights, 1.0) - thresholds.k_sigma(weights, 0.0) == pytest.approx(
        np.std(weights.astype(np.longdouble)).astype(float), rel=1e-12
    )


@given(strategies.arrays(shape=strategies.shapes(min_dims=1, min_side=1)), percents, st.randoms(use_true_random=False))
def test_neither_splitting_nor_shuffling_changes_a_threshold(array, q, random):
    flat = array.reshape(-1)[random.sample(range(array.size), array.size)]
    middle = random.randint(0, array.size)
    parts = [flat[middle:], flat[:middle]]
    assert thresholds.percentile(parts, q) == thresholds.percentile(array, q)


def test_below_the_ninetieth_percentile_lie_ninety_percent():
    """The trap: removing what lies below the 90th percentile leaves 10 %, not 90 %."""
    score = np.random.default_rng(1).permutation(1000).astype(np.float32)
    assert np.count_nonzero(score > thresholds.percentile(score, 90)) == 100


def test_a_generator_and_mixed_dtypes_are_fine():
    arrays = [np.array([1.5], np.float16), np.array([], np.float64), np.array([[2.5]], np.float32)]
    assert thresholds.percentile((a for a in arrays), 50) == 2.0


@pytest.mark.parametrize("q", [-0.1, 100.5, float("nan"), [50, 101]])
def test_a_percentile_outside_0_to_100_is_refused(q):
    with pytest.raises(OutOfRangeError, match="outside 0 to 100"):
        thresholds.percentile(np.ones(3), q)


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_count_that_no_element_has_is_refused(count):
    with pytest.raises(OutOfRangeError, match="3 elements"):
        thresholds.smallest(np.ones(3), count)


def test_values_that_have_no_order_or_no_sigma_are_refused():
    bad = [np.ones(2, np.float32), np.array([[1.0, np.nan]], np.float32)]
    for call in (
        lambda: thresholds.percentile(bad, 50),
        lambda: thresholds.smallest(bad, 1),
        lambda: thresholds.k_sigma(bad, 1),
    ):
        with pytest.raises(InvalidTensorError, match=r"array 1 holds NaN at index \(0, 1\)"):
            call()
    with pytest.raises(InvalidTensorError, match="fc2 holds NaN"):
        thresholds.percentile(bad, 50, names=["fc1", "fc2"])
    with pytest.raises(InvalidTensorError, match="no sigma"):
        thresholds.k_sigma(np.array([1.0, np.inf]), 1.0)
    with pytest.raises(OutOfRangeError, match="finite"):
        thresholds.k_sigma(np.ones(2), float("nan"))
    for call in (lambda: thresholds.percentile([], 50), lambda: thresholds.k_sigma([np.ones(0)], 1)):
        with pytest.raises(EmptyInputError):
            call()


GRID = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: thresholds.percentile(GRID, "x"),
        lambda: thresholds.percentile(GRID, None),
        lambda: thresholds.percentile(GRID, [True]),
        lambda: thresholds.percentile(GRID, [[1], [2, 3]]),
        lambda: thresholds.smallest(GRID, 1.5),
        lambda: thresholds.k_sigma(GRID, None),
        lambda: thresholds.fitted_percentile(GRID, "x"),
    ],
)
def test_an_option_that_is_no_number_is_named(call):
    with pytest.raises(RecipeError, match=r" is .*: give a (whole )?number"):
        call()


def changing(*passes):
    """A callable that gives another array for each pass, the last one for all further ones."""
    waiting = [*passes]
    return lambda: [waiting.pop(0) if len(waiting) > 1 else waiting[0]]


SHORT, LONG = np.arange(100.0), np.arange(200.0)
ASKS = [
    lambda given: thresholds.percentile(given, 50),
    lambda given: thresholds.smallest(given, 7),
    lambda given: distributions.Normal(0.0, 1.0).ks_distance(given),
    lambda given: distributions.compare(given),
]


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("sorted_up_to", [0, ranks.SORTED])
def test_a_callable_that_changes_between_passes_is_noticed(monkeypatch, ask, sorted_up_to):
    monkeypatch.setattr(ranks, "SORTED", sorted_up_to)
    for passes in ([SHORT, LONG], [LONG, SHORT], [SHORT, SHORT, LONG], [SHORT, SHORT.astype(np.float32)]):
        with pytest.raises(ShapeMismatchError, match="the same arrays anew"):
            ask(changing(*passes))
    with pytest.raises(InvalidTensorError, match="NaN"):
        ask(changing(SHORT, np.where(SHORT == 3, np.nan, SHORT)))
    ask(changing(SHORT))


def test_a_percentile_is_any_real_number():
    values = np.arange(11.0)
    assert thresholds.percentile(values, Fraction(51, 2)) == np.percentile(values, 25.5)
    for q in (10**30, -(10**30), 10**400):
        for ask in (thresholds.percentile, thresholds.fitted_percentile):
            with pytest.raises(OutOfRangeError):
                ask(values, q)


def test_an_empty_array_of_several_is_named():
    with pytest.raises(EmptyInputError, match="fc2 has no element"):
        thresholds.percentile([np.ones(3), np.ones((0, 3))], 50, ["fc1", "fc2"], per_array=True)
