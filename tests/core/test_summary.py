from __future__ import annotations

import functools
import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import strategies
from secateur import distributions
from secateur.errors import EmptyInputError, InvalidTensorError, OutOfRangeError, RecipeError


@given(strategies.collections(infinities=False), strategies.cuts)
def test_every_figure_is_exact(arrays, cut):
    with strategies.cut(*cut):
        summary = distributions.summarize(arrays)
    values = naive.numbers(arrays)
    assert (summary.count, summary.zeros) == (len(values), values.count(0.0))
    assert (summary.minimum, summary.maximum) == (min(values), max(values))
    assert summary.mean == naive.mean(values)
    assert summary.mean_absolute == naive.mean([abs(value) for value in values])
    assert summary.std == naive.std(values)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_no_float64_overflows_or_vanishes(values):
    summary = distributions.summarize(np.array(values))
    assert summary.mean == naive.mean(values) and summary.std == naive.std(values)


@given(strategies.arrays(shape=strategies.shapes(min_dims=1, min_side=1)), st.randoms(use_true_random=False))
def test_any_split_in_any_order_merges_to_the_summary_of_all(array, random):
    flat = array.reshape(-1)[random.sample(range(array.size), array.size)]
    cuts = sorted(random.sample(range(1, array.size), min(3, array.size - 1)))
    parts = [distributions.summarize(part) for part in np.split(flat, cuts)]
    random.shuffle(parts)
    merged = functools.reduce(operator.add, parts)
    assert merged == distributions.summarize(array)
    assert hash(merged) == hash(distributions.summarize(array))


@given(*[strategies.collections()] * 3)
def test_merging_is_commutative_and_associative(a, b, c):
    x, y, z = (distributions.summarize(arrays) for arrays in (a, b, c))
    assert x + y == y + x == distributions.summarize([*a, *b])
    assert (x + y) + z == x + (y + z)


@given(strategies.collections())
def test_histograms_hold_every_number(arrays):
    summary = distributions.summarize(arrays)
    values = np.array(naive.numbers(arrays))
    counts, edges = summary.magnitude_histogram()
    assert counts.sum() == values.size and len(edges) == len(counts) + 1 and (np.diff(edges) > 0).all()
    finite = np.abs(values[np.isfinite(values)])
    expected = np.histogram(finite, edges)[0]
    expected[-1] += values.size - finite.size
    assert np.array_equal(counts, expected)
    edges, below = summary.cumulative()
    assert below[0] == 0 and below[-1] == values.size and (np.diff(below) >= 0).all()
    for edge, count in list(zip(edges, below, strict=True))[1:-1]:
        assert count == (np.count_nonzero(values <= edge) if edge < 0 else np.count_nonzero(values < edge))


def test_the_plotted_histogram_is_close_to_the_counted_one():
    values = np.random.default_rng(0).normal(0.0, 0.05, 100_000).astype(np.float32)
    counts, edges = distributions.summarize(values).histogram(bins=50)
    assert edges[0] == values.min() and edges[-1] == values.max()
    assert counts.sum() == pytest.approx(values.size)
    assert np.abs(counts - np.histogram(values, edges)[0]).max() < 0.01 * values.size


def test_histograms_of_one_value_and_of_infinities_can_be_drawn():
    counts, edges = distributions.summarize(np.full(7, 3.0)).histogram()
    assert counts.tolist() == [7.0] and edges.tolist() == [2.5, 3.5]
    counts, edges = distributions.summarize(np.array([np.inf, 1.0, 2.0, -np.inf])).histogram(4)
    assert np.isfinite(edges).all() and np.isfinite(counts).all()


def test_histograms_of_nothing_finite_or_of_no_bins_are_refused():
    with pytest.raises(InvalidTensorError, match="all 2 numbers are infinite"):
        distributions.summarize(np.array([np.inf, np.inf])).histogram(4)
    with pytest.raises(OutOfRangeError, match="0 bins"):
        distributions.summarize(np.ones(2)).histogram(0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_arrays_that_are_spread_out(dtype):
    base = np.random.default_rng(0).normal(size=400_000).astype(dtype)
    for view in (base[::2], base[::-1], base.reshape(-1, 2)[:, 1], base.reshape(-1, 400)[::-1, ::-1]):
        assert distributions.summarize(view) == distributions.summarize(view.copy(order="C"))


def test_infinities_are_told_apart():
    one = distributions.summarize(np.array([1.0, np.inf]))
    both = distributions.summarize(np.array([-np.inf, np.inf]))
    assert one.mean == math.inf and math.isnan(both.mean) and math.isnan(one.std)
    assert one.mean_absolute == both.mean_absolute == math.inf
    assert distributions.summarize(-np.array([1.0, np.inf])).mean == -math.inf
    assert one.infinities == (1, 0) and both.infinities == (1, 1)


def test_nan_and_emptiness_are_refused():
    with pytest.raises(InvalidTensorError, match=r"gradient holds NaN at index \(1,\)"):
        distributions.summarize([np.array([0.0, np.nan])], names=["gradient"])
    for nothing in ([], np.ones((0, 3)), [np.ones(0)]):
        with pytest.raises(EmptyInputError):
            distributions.summarize(nothing)
    assert distributions.summarize([np.ones(0), np.ones(2)]).count == 2


def test_the_sum_of_summaries():
    one, two = (distributions.summarize(np.arange(size, dtype=np.float64)) for size in (3.0, 5.0))
    assert sum([one, two]) == one + two
    with pytest.raises(TypeError):
        one + 1


BIGGEST, TINIEST = np.finfo(np.float64).max, 5e-324


@pytest.mark.parametrize(
    "values",
    [[-BIGGEST, BIGGEST], [BIGGEST], [-BIGGEST], [0.0, TINIEST], [TINIEST], [1e-310, 2e-310], [1e300], [-1e308, 1.0]],
)
def test_a_histogram_at_the_ends_of_float64(values):
    counts, edges = distributions.summarize(np.array(values)).histogram(8)
    assert np.isfinite(edges).all() and np.isfinite(counts).all()
    assert edges[0] <= min(values) and edges[-1] >= max(values) and edges[0] < edges[-1]
    assert (np.diff(edges) >= 0).all() and counts.sum() == pytest.approx(len(values))


@pytest.mark.parametrize("bins", [2.5, "8", True, np.array([1, 2])])
def test_bins_are_a_whole_number(bins):
    with pytest.raises(RecipeError, match="whole number"):
        distributions.summarize(np.ones(3)).histogram(bins)
