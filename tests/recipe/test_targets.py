"""Targets resolve to a number to keep, and allocation keeps exactly that many of the largest."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secateur import KSigma, Percentile, Recipe, Sparsity
from secateur.recipe.allocation import allocate, budgets

scores = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    hnp.arrays(
        np.float32,
        hnp.array_shapes(max_dims=2, max_side=8),
        elements=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 4, width=32)),
    ),
    min_size=1,
)
scopes = st.sampled_from(["model", "layer"])


@given(scores, st.floats(0, 1, exclude_max=True), scopes)
def test_sparsity_prunes_the_exact_share_whatever_the_ties(layers, sparsity, scope) -> None:  # type: ignore[no-untyped-def]
    recipe = Recipe(Sparsity(sparsity), scope=scope)
    kept = recipe.allocate(layers, recipe.budgets(layers))
    groups = [list(layers)] if scope == "model" else [[name] for name in layers]
    for group in groups:
        size = sum(layers[name].size for name in group)
        assert sum(int((~kept[name]).sum()) for name in group) == math.floor(sparsity * size + 0.5)
        pruned = np.concatenate([layers[name][~kept[name]] for name in group])
        stay = np.concatenate([layers[name][kept[name]] for name in group])
        assert pruned.max(initial=-np.inf) <= stay.min(initial=np.inf)


@given(scores, st.one_of(st.builds(Percentile, st.floats(0, 100)), st.builds(KSigma, st.floats(-3, 3))), scopes)
def test_thresholds_prune_what_is_at_or_below_them(layers, target, scope) -> None:  # type: ignore[no-untyped-def]
    kept = allocate(layers, budgets(layers, target, scope), scope)
    for name, score in layers.items():
        threshold = target.threshold(list(layers.values()) if scope == "model" else [score])
        np.testing.assert_array_equal(kept[name], score.astype(np.float64) > threshold)


@given(scores, st.lists(st.floats(0, 1), min_size=2, max_size=5).map(sorted), scopes, st.randoms())
def test_what_is_pruned_stays_pruned(layers, fractions, scope, random) -> None:  # type: ignore[no-untyped-def]
    recipe = Recipe(0.9, scope=scope)
    final = recipe.budgets(layers)
    kept = None
    for fraction in fractions:
        moved = {name: score * np.float32(random.uniform(0, 2)) for name, score in layers.items()}
        now = recipe.allocate(moved, [math.floor(fraction * count + 0.5) for count in final], kept)
        if kept is not None:
            assert all((now[name] <= kept[name]).all() for name in layers)
        kept = now


@pytest.mark.parametrize(("family", "draw"), [("normal", "normal"), ("uniform", "uniform"), ("laplace", "laplace")])
@pytest.mark.parametrize("q", [20.0, 50.0, 90.0])
def test_a_fitted_model_of_the_right_family_prunes_the_share_asked_for(family: str, draw: str, q: float) -> None:
    generator = np.random.default_rng(0)
    weights = generator.uniform(-2, 2, 40_000) if draw == "uniform" else getattr(generator, draw)(size=40_000)
    score = np.abs(weights)
    assert 1 - Percentile(q, distribution=family).keep([score]) / score.size == pytest.approx(q / 100, abs=0.01)


def test_an_exponential_model_of_gradients() -> None:
    score = np.random.default_rng(0).exponential(3.0, 40_000)
    assert Percentile(50, distribution="exponential").threshold([score]) == pytest.approx(math.log(2) * score.mean())


def test_the_constant_tensor_of_every_bug_report() -> None:
    constant = {"a": np.full(100, 0.1, np.float32)}
    recipe = Recipe(0.5)
    kept = recipe.allocate(constant, recipe.budgets(constant))["a"]
    assert kept.sum() == 50
    np.testing.assert_array_equal(kept, np.arange(100) >= 50)
