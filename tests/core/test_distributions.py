from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

import naive
import strategies
from secateur import distributions
from secateur.errors import EmptyInputError, InvalidTensorError, OutOfRangeError, RecipeError

RANDOM = np.random.default_rng(7)
MODELS = [
    (distributions.Normal(0.3, 0.7), scipy.stats.norm(0.3, 0.7)),
    (distributions.Uniform(-0.4, 1.1), scipy.stats.uniform(-0.4, 1.5)),
    (distributions.Exponential(0.2), scipy.stats.expon(scale=0.2)),
    (distributions.Laplace(-0.1, 0.5), scipy.stats.laplace(-0.1, 0.5)),
]
SAMPLES = {
    "normal": RANDOM.normal(0.01, 0.05, (100, 300)).astype(np.float32),
    "uniform": RANDOM.uniform(-0.1, 0.1, (100, 300)).astype(np.float32),
    "exponential": RANDOM.exponential(1e-4, (100, 300)).astype(np.float32),
    "laplace": RANDOM.laplace(0.0, 0.02, (100, 300)).astype(np.float32),
}
SPACE = np.linspace(-3.0, 3.0, 121)


@pytest.mark.parametrize(("model", "reference"), MODELS, ids=lambda value: getattr(value, "family", ""))
def test_functions_are_those_of_scipy(model, reference):
    assert np.allclose(model.cdf(SPACE), reference.cdf(SPACE), rtol=1e-13, atol=1e-300)
    assert np.allclose(model.pdf(SPACE), reference.pdf(SPACE), rtol=1e-13)
    shares = np.linspace(0.0, 1.0, 101)
    assert np.allclose(model.quantile(shares), reference.ppf(shares), rtol=1e-13)
    assert model.cdf(0.25) == pytest.approx(reference.cdf(0.25)) and np.ndim(model.quantile(0.5)) == 0


@pytest.mark.parametrize(("model", "reference"), MODELS, ids=lambda value: getattr(value, "family", ""))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_the_threshold_on_magnitudes_prunes_that_share(model, reference, share):
    threshold = model.magnitude_quantile(share)
    assert reference.cdf(threshold) - reference.cdf(-threshold) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("family", SAMPLES)
def test_the_family_that_made_the_data_fits_best(family):
    data = SAMPLES[family]
    for source in (data, distributions.summarize(data)):
        best, distance = distributions.compare(source)[0]
        assert best.family == family and distance < 0.02
    assert best == distributions.fit(data, family) == distributions.fit(distributions.summarize(data), family)


def test_parameters_are_the_moments():
    data = SAMPLES["normal"]
    summary = distributions.summarize(data)
    assert distributions.fit(data, "normal") == distributions.Normal(summary.mean, summary.std)
    assert distributions.fit(data, "uniform") == distributions.Uniform(summary.minimum, summary.maximum)
    assert distributions.fit(data, "laplace") == distributions.Laplace(summary.mean, summary.std / math.sqrt(2.0))
    assert distributions.fit(SAMPLES["exponential"], "exponential").scale == pytest.approx(1e-4, rel=0.02)


@given(strategies.collections(infinities=False), st.sampled_from(list(distributions.FAMILIES)))
def test_the_distance_to_arrays_is_exact_and_the_summary_brackets_it(arrays, family):
    summary = distributions.summarize(arrays)
    assume(summary.std > 0.0 and (family != "exponential" or summary.minimum >= 0.0))
    assume(1e-30 < summary.std < 1e30)
    model = distributions.fit(arrays, family)
    distance = model.ks_distance(arrays)
    assert distance == pytest.approx(naive.ks_distance(model.cdf, naive.numbers(arrays)), abs=1e-12)
    low, high = model.ks_bounds(summary)
    assert low - 1e-12 <= distance <= high + 1e-12
    assert model.ks_distance(summary) == low


@pytest.mark.parametrize("family", SAMPLES)
def test_the_bracket_is_narrow_for_numbers_around_zero(family):
    model = distributions.fit(SAMPLES[family], family)
    low, high = model.ks_bounds(distributions.summarize(SAMPLES[family]))
    assert low <= model.ks_distance(SAMPLES[family]) <= high <= low + 0.015


def test_the_distance_sees_a_pruned_tensor():
    pruned = np.where(np.abs(SAMPLES["normal"]) > 0.05, SAMPLES["normal"], 0.0).astype(np.float32)
    model = distributions.fit(pruned, "normal")
    share = np.count_nonzero(pruned == 0.0) / pruned.size
    for data in (pruned, distributions.summarize(pruned)):
        assert model.ks_distance(data) > share / 2 - 0.1


def test_the_kolmogorov_smirnov_distance_is_that_of_scipy():
    data = SAMPLES["laplace"].astype(np.float64).ravel()
    model = distributions.fit(data, "normal")
    assert model.ks_distance(data) == pytest.approx(scipy.stats.ks_1samp(data, model.cdf).statistic, rel=1e-12)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(RecipeError, match="unknown distribution 'cauchy'"):
        distributions.fit(np.ones(3), "cauchy")
    for family in distributions.FAMILIES:
        with pytest.raises(OutOfRangeError, match="all 3 values are 1"):
            distributions.fit(np.ones(3), family)
        with pytest.raises(InvalidTensorError, match="infinite"):
            distributions.fit(np.array([1.0, np.inf]), family)
    with pytest.raises(OutOfRangeError, match="fit magnitudes"):
        distributions.fit(np.array([-1.0, 1.0]), "exponential")
    with pytest.raises(EmptyInputError):
        distributions.fit([], "normal")
    for family in ([], ["normal"], None, 3):
        with pytest.raises(RecipeError, match="unknown distribution"):
            distributions.fit(np.arange(3.0), family)
    for families in ("normal", None, 3):
        with pytest.raises(RecipeError, match=r"families is .*: give a list"):
            distributions.compare(np.arange(3.0), families)
    with pytest.raises(InvalidTensorError):
        distributions.Normal(0.0, 1.0).ks_distance(np.array([np.nan]))
    assert distributions.compare(np.ones(3)) == []
    assert {model.family for model, _ in distributions.compare(np.array([-1.0, 1.0]))} == {
        "normal",
        "uniform",
        "laplace",
    }


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan, 90])
def test_a_probability_outside_0_to_1_is_refused(share):
    for model, _ in MODELS:
        with pytest.raises(OutOfRangeError, match="probability"):
            model.quantile(share)
        with pytest.raises(OutOfRangeError, match="probability"):
            model.magnitude_quantile(share)


@pytest.mark.parametrize("family", distributions.FAMILIES)
def test_numbers_near_the_largest_float_give_the_same_model_as_smaller_ones(family):
    """Times a power of two, so that every bit but those of subnormal densities must be the same."""
    small, factor = np.array([-1.9, -1.5, -1.4, 0.2, 1.0, 1.9]), 2.0**1023
    small = np.abs(small) if family == "exponential" else small
    model, far = distributions.fit(small, family), distributions.fit(small * factor, family)
    space = np.linspace(-1.99, 1.99, 41)
    assert np.array_equal(far.cdf(space * factor), model.cdf(space))
    assert np.allclose(far.pdf(space * factor) * 2.0**1000 * 2.0**23, model.pdf(space), rtol=1e-12)
    shares = np.concatenate((np.linspace(0.0, 1.0, 41), [1e-300, 1e-9, 1.0 - 1e-9]))
    with np.errstate(over="ignore"):
        assert np.array_equal(far.quantile(shares), model.quantile(shares) * factor)
        for share in (0.0, 0.1, 0.5, 0.9, 1.0):
            expected = np.float64(model.magnitude_quantile(share)) * factor
            assert far.magnitude_quantile(share) == pytest.approx(expected, rel=1e-12)
    assert far.ks_distance(small * factor) == model.ks_distance(small)


def test_a_location_far_from_zero_brings_a_product_too_large_back_within_the_range():
    model = distributions.Laplace(-1.5e308, 1.2e308)
    assert model.quantile(0.9) == pytest.approx(4.313e307, rel=1e-3)
    assert model.cdf(1.7e308) == pytest.approx(1.0 - 0.5 * math.exp(-3.2 / 1.2))
    assert distributions.Normal(1.5e308, 1e307).magnitude_quantile(0.9) == pytest.approx(1.5e308 + 1.2816e307, rel=1e-4)


def test_numbers_that_float64_hardly_tells_apart():
    least = np.array([0.0, 5e-324])
    for family in ("normal", "exponential", "laplace"):
        with pytest.raises(OutOfRangeError, match=r"the values, 0\.0 to 5e-324, lie so close together"):
            distributions.fit(least, family)
    model = distributions.fit(least, "uniform")
    assert model.cdf(least).tolist() == [0.0, 1.0] and model.quantile([0.0, 1.0]).tolist() == least.tolist()
    assert distributions.fit(np.array([5e-324, 1e-323]), "exponential").scale == 1e-323


@pytest.mark.parametrize("wrong", ["x", ["x"], [[1.0], [2.0, 3.0]]])
def test_what_is_no_number_is_named(wrong):
    for model, _ in MODELS:
        for function in (model.cdf, model.pdf, model.quantile):
            with pytest.raises(RecipeError, match="is no number"):
                function(wrong)
        with pytest.raises(RecipeError, match="the probability is"):
            model.magnitude_quantile(wrong)
