"""Histograms lose no value, whatever the array; fitted curves are the core's models; maps keep the mask's mean."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secateur import distributions
from secateur.errors import InvalidTensorError
from secateur.report.measure import distribution, fitted_curves, histogram, kept_map, with_after

ARRAYS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20),
    elements=st.floats(-100, 100, width=16) | st.just(0.0),
)


@given(ARRAYS)
def test_every_value_is_counted_once(values: np.ndarray) -> None:
    counted = histogram(values)
    assert counted.total == values.size
    assert counted.zeros == np.count_nonzero(values == 0.0)


@given(ARRAYS, ARRAYS)
def test_after_is_counted_in_the_bins_of_before(before: np.ndarray, after: np.ndarray) -> None:
    first = histogram(before)
    second = histogram(after, like=first)
    assert second.edges == first.edges
    assert second.total == after.size


def test_counts_are_numpys() -> None:
    values = np.random.default_rng(0).normal(size=(50, 40))
    counted = histogram(values)
    expected, _ = np.histogram(values, np.array(counted.edges))
    assert counted.counts == tuple(expected)
    assert counted.below + counted.above == values.size - expected.sum()
    assert 0 < counted.below <= 2 and 0 < counted.above <= 2
    assert (counted.mean, counted.std) == pytest.approx((values.mean(), values.std()))
    assert (counted.minimum, counted.maximum) == (values.min(), values.max())


@pytest.mark.parametrize("value", [3.0, -3.0, 1e-30])
def test_a_constant_array_stands_in_one_bin(value: float) -> None:
    counted = histogram(np.full((4, 5), value))
    assert sorted(counted.counts)[-2:] == [0, 20]
    assert counted.edges[0] < value < counted.edges[-1]


def test_only_zeros() -> None:
    counted = histogram(np.zeros(7, np.float32))
    assert (counted.zeros, sum(counted.counts)) == (7, 0)


def test_bfloat16_is_counted_as_float32() -> None:
    values = np.random.default_rng(0).normal(size=300).astype(ml_dtypes.bfloat16)
    assert histogram(values) == histogram(values.astype(np.float32))


def test_infinities_fall_beyond_the_edges() -> None:
    counted = histogram(np.array([1.0, 2.0, 3.0, np.inf, -np.inf]))
    assert (counted.below, counted.above) >= (1, 1)
    assert np.isfinite(counted.edges).all()
    assert fitted_curves(np.array([1.0, np.inf]), counted, ("normal",)) == ()


def test_nan_is_refused() -> None:
    with pytest.raises(InvalidTensorError):
        histogram(np.array([1.0, np.nan]))


def test_curves_are_the_cores_models_in_the_order_asked_for() -> None:
    values = np.random.default_rng(3).normal(0.0, 2.0, 500)
    drawn = histogram(values)
    curves = fitted_curves(values, drawn, ("uniform", "normal"))
    assert [curve.family for curve in curves] == ["uniform", "normal"]
    for curve in curves:
        model = distributions.fit(values, curve.family)
        np.testing.assert_array_equal(curve.density, model.pdf(np.array(curve.x)))
        assert curve.ks_distance == model.ks_distance(values)


@pytest.mark.parametrize("values", [np.full(9, 2.0), np.zeros(3), np.zeros((0, 4))])
def test_what_cannot_be_fitted_has_no_curve(values: np.ndarray) -> None:
    assert distribution("w", values, families=("normal", "uniform", "exponential", "laplace")).fits == ()


def test_a_distribution_is_completed_without_touching_what_was_before() -> None:
    dense = np.random.default_rng(4).normal(size=(8, 8))
    before = distribution("w", dense, families=("normal",))
    after = with_after(before, dense * (np.abs(dense) > 0.5), (-0.5, 0.5))
    assert (after.before, after.fits, after.thresholds) == (before.before, before.fits, (-0.5, 0.5))
    assert after.after is not None
    assert after.after.zeros == np.count_nonzero(np.abs(dense) <= 0.5)
    assert with_after(before, None).after is None


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=12)), st.integers(1, 6))
def test_a_map_of_any_size_keeps_the_masks_mean(mask: np.ndarray, side: int) -> None:
    blocks = np.array(kept_map(mask, side))
    assert blocks.shape[0] <= side and blocks.shape[1] <= side
    assert (blocks >= 0).all() and (blocks <= 1).all()
    if mask.shape[0] <= side and mask[0].size <= side:
        np.testing.assert_array_equal(blocks, mask.reshape(len(mask), -1))
    assert (blocks == 1).all() == mask.all()
    assert (blocks == 0).all() == (not mask.any())


def test_vectors_and_empty_masks_have_no_map() -> None:
    assert kept_map(np.ones(5, np.bool_)) == kept_map(np.ones((0, 3), np.bool_)) == ()
