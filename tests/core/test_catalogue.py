"""The formulas of the catalogue, against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import strategies
from secateur import masks, scores
from secateur.errors import (
    InvalidTensorError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)

GRID = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)


def doubles(array):
    return np.asarray(array, np.float64)


@given(strategies.arrays(infinities=False), st.integers(1, 8))
def test_a_power_is_repeated_multiplication_in_double_precision(weight, p):
    expected = np.ones(weight.shape)
    with np.errstate(over="ignore"):
        for _ in range(p):
            expected = expected * np.abs(doubles(weight))
        found = scores.power(weight, p)
    assert found.dtype == np.float64
    assert np.array_equal(found, expected)


@given(st.data())
def test_products_of_two_arrays(data):
    weight = data.draw(strategies.arrays(infinities=False))
    other = data.draw(strategies.arrays(shape=weight.shape, infinities=False))
    w, g = doubles(weight), doubles(other)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        assert np.array_equal(scores.movement(weight, other), -(w * g))
        assert np.array_equal(scores.grasp(weight, other), w * g)
        assert np.array_equal(scores.synflow(weight, other), np.abs(w * g))
        assert np.array_equal(scores.init_relative(weight, other), np.abs(w - g))
        assert np.array_equal(scores.init_relative(weight, other, increase=True), np.abs(w) - np.abs(g))


def test_fisher_is_half_of_the_squares_product():
    assert scores.fisher(GRID, np.full((2, 2), 4.0)).tolist() == [[2.0, 8.0], [18.0, 0.5]]


def test_sensitivities_of_a_model_sum_to_one():
    weights = [np.random.default_rng(seed).standard_normal((3, 4)) for seed in range(2)]
    gradients = [np.random.default_rng(seed).standard_normal((3, 4)) for seed in (5, 6)]
    found = scores.snip(weights, gradients)
    total = math.fsum(
        abs(w * g) for pair in zip(weights, gradients, strict=True) for w, g in zip(*map(np.ravel, pair), strict=True)
    )
    assert math.fsum(np.concatenate(found).ravel()) == pytest.approx(1.0, rel=1e-15)
    np.testing.assert_allclose(found[1], np.abs(weights[1] * gradients[1]) / total, rtol=1e-14)
    assert not np.any(scores.snip([GRID], [np.zeros((2, 2))])[0])
    with pytest.raises(ShapeMismatchError, match="1 weights but 2 gradients"):
        scores.snip([GRID], [GRID, GRID])


@given(strategies.arrays(infinities=False), strategies.cuts)
def test_lamp_is_the_share_of_what_is_not_smaller(weight, cut):
    with strategies.cut(*cut):
        found = scores.lamp(weight)
    expected = [float(value) for value in naive.lamp(weight)]
    assert found.shape == weight.shape
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-12, atol=1e-300)


@given(strategies.arrays(infinities=False), st.floats(0, 1))
def test_within_a_layer_lamp_prunes_what_magnitude_prunes(weight, share):
    keep = int(share * weight.size)
    by_lamp, by_size = (masks.keep_largest(score(weight), keep) for score in (scores.lamp, scores.magnitude))
    if not np.any(scores.lamp(weight)[weight != 0] == 0):  # squares so small that nothing is left of them
        assert np.array_equal(by_lamp, by_size)


def test_lamp_of_equal_weights_falls_with_the_number_of_those_behind():
    assert scores.lamp(np.full((2, 2), -3.0)).tolist() == [[1 / 4, 1 / 3], [1 / 2, 1.0]]
    assert scores.lamp(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert scores.lamp(np.array([1.0, math.inf, 1e300, -1e300])).tolist() == [0.0, math.inf, 0.5, 1.0]
    assert scores.lamp(np.zeros((0, 2))).shape == (0, 2)


def test_either_layout_of_a_kernel_gives_the_same_lamp():
    kernel = np.random.default_rng(3).integers(-3, 4, (40, 30)).astype(np.float32)
    stored = np.asfortranarray(kernel)
    assert np.array_equal(scores.lamp(stored), scores.lamp(kernel))
    assert np.array_equal(scores.geometric_median(stored), scores.geometric_median(kernel))


@given(strategies.arrays(shape=strategies.shapes(min_dims=1), dtype=np.float32, infinities=False))
def test_the_geometric_median_is_near_what_has_the_smallest_distances(weight):
    small = np.clip(weight, -1e6, 1e6)
    found = scores.geometric_median(small)
    np.testing.assert_allclose(found, naive.distances(small.astype(np.float64)), rtol=1e-12, atol=1e-12)
    assert np.array_equal(found, scores.geometric_median(np.moveaxis(small, 0, -1), axis=-1))


def test_distances_in_parts_are_the_same(monkeypatch):
    from secateur.scores import units

    weight = np.random.default_rng(0).standard_normal((17, 5))
    whole = scores.geometric_median(weight)
    monkeypatch.setattr(units, "BLOCK", 40)
    assert np.array_equal(scores.geometric_median(weight), whole)


def test_chance_is_philox_and_the_same_everywhere():
    found = scores.random((2, 3), seed=7, order=2)
    assert found.tolist() == [
        [(int(raw) >> 11) / 2**53 for raw in row] for row in np.random.Philox(key=[7, 2]).random_raw(6).reshape(2, 3)
    ]
    assert not np.array_equal(found, scores.random((2, 3), seed=7, order=3))
    assert 0 <= scores.random((10_000,)).min() < scores.random((10_000,)).max() < 1
    for seed in (-1, 1 << 64):
        with pytest.raises(OutOfRangeError, match="the seed is"):
            scores.random((2,), seed)
    with pytest.raises(RecipeError, match="the seed"):
        scores.random((2,), 0.5)


def test_signed_sums():
    score = np.array([[1.0, -3.0], [2.0, 2.5]])
    assert scores.reduce(score, signed=True).tolist() == [-2.0, 4.5]
    assert scores.reduce(score, axis=1, norm="mean", signed=True).tolist() == [1.5, -0.25]
    for norm in (2, math.inf):
        with pytest.raises(RecipeError, match="signed scores need norm 1"):
            scores.reduce(score, norm=norm, signed=True)
    with pytest.raises(InvalidTensorError, match="the sums of the score"):
        scores.reduce(np.array([[math.inf, -math.inf]]), signed=True)


def test_bad_input_is_refused_by_name():
    bad = np.array([[1.0, np.nan]], np.float32)
    for call in (scores.lamp, scores.geometric_median, lambda w, name: scores.power(w, 2, name)):
        with pytest.raises(InvalidTensorError, match=r"fc1 holds NaN at index \(0, 1\)"):
            call(bad, name="fc1")
        with pytest.raises(UnsupportedDtypeError):
            call(np.ones((2, 2), np.int64), name="fc1")
    for call in (scores.fisher, scores.movement, scores.grasp, scores.synflow, scores.init_relative):
        with pytest.raises(InvalidTensorError, match="the score of fc1"):
            call(bad, np.ones((1, 2)), name="fc1")
        with pytest.raises(ShapeMismatchError, match="fc1"):
            call(GRID, np.ones(2), name="fc1")
    for p in (0, 9):
        with pytest.raises(OutOfRangeError, match="p is"):
            scores.power(GRID, p)
    with pytest.raises(ShapeMismatchError, match="no filters"):
        scores.geometric_median(np.float32(1.0))
