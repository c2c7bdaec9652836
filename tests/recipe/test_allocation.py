"""A total is divided over the layers, met to one weight, whatever the allocation."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import secateur_keras as sk
import secateur_torch as st_torch
from agreement.pairs import dense_pair
from secateur import (
    ERK,
    Cosine,
    Cubic,
    Exponential,
    KSigma,
    Linear,
    Neurons,
    OneCycle,
    Parameters,
    PerLayer,
    Recipe,
    Sensitivity,
    Uniform,
)
from secateur.errors import (
    NoMatchError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
    UnreachableTargetError,
)
from secateur.recipe.sharing import share_out

shapes = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    min_size=1,
)


@st.composite
def layers(draw: st.DrawFn) -> dict[str, np.ndarray]:
    random = np.random.default_rng(draw(st.integers(0, 9)))
    return {name: random.random(shape).astype(np.float32).round(1) for name, shape in draw(shapes).items()}


@st.composite
def scans(draw: st.DrawFn) -> Sensitivity:
    sparsities = (0.25, 0.5, 0.75, 1.0)
    losses = [draw(st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 9.0]), min_size=4, max_size=4)) for _ in "abcd"]
    return Sensitivity(list("abcd"), sparsities, losses, 1.0)


allocations = st.one_of(st.sampled_from(["uniform", "erk", "global"]), scans())


@given(layers(), st.floats(0, 0.99), allocations)
def test_the_total_is_met_to_one_weight_and_the_best_of_each_layer_stay(
    scores: dict[str, np.ndarray], sparsity: float, allocation: Any
) -> None:
    recipe = Recipe(sparsity, allocation=allocation)
    kept = recipe.allocate(scores, recipe.budgets(scores))
    size = sum(score.size for score in scores.values())
    assert sum(int((~flags).sum()) for flags in kept.values()) == math.floor(sparsity * size + 0.5)
    for name, score in scores.items():
        assert score[~kept[name]].max(initial=-np.inf) <= score[kept[name]].min(initial=np.inf)
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe


@given(shapes, st.floats(0, 1, exclude_min=True))
def test_erk_keeps_what_the_papers_loop_keeps(sizes: dict[str, tuple[int, ...]], density: float) -> None:
    count = sum(math.prod(shape) for shape in sizes.values())
    pruned = ERK().pruned(sizes, count - round(density * count))
    kept = [math.prod(shape) - gone for shape, gone in zip(sizes.values(), pruned, strict=True)]
    for keep, wanted in zip(kept, naive.erk(list(sizes.values()), round(density * count)), strict=True):
        assert abs(keep - wanted) < 1 + 1e-9
    assert sum(kept) == round(density * count)


def test_erk_of_lenet_keeps_the_small_last_layer_dense() -> None:
    pruned = ERK().pruned({"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}, 266_200 - 26_620)
    assert pruned == [300 * 784 - 18_714, 300 * 100 - 6_906, 0]


@given(shapes, st.floats(0, 1))
def test_uniform_is_the_same_share_everywhere(sizes: dict[str, tuple[int, ...]], share: float) -> None:
    count = sum(math.prod(shape) for shape in sizes.values())
    total = round(share * count)
    for gone, shape in zip(Uniform().pruned(sizes, total), sizes.values(), strict=True):
        assert abs(gone - total * math.prod(shape) / count) < 1


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6), st.floats(0, 1))
def test_shares_are_in_proportion_within_capacities(parties: list[tuple[int, int]], share: float) -> None:
    claims, capacities = zip(*parties, strict=True)
    total = round(share * sum(capacities))
    shares = share_out(total, claims, capacities)
    assert sum(shares) == total
    assert all(0 <= got <= most for got, most in zip(shares, capacities, strict=True))
    open_ones = [got / claim for got, claim, most in zip(shares, claims, capacities, strict=True) if got < most]
    for (one, claim), (other, claimed) in itertools.combinations(zip(open_ones, claims, strict=False), 2):
        assert abs(one - other) <= 1 / min(claims) + 1e-9, (claim, claimed)


@given(scans(), shapes, st.floats(0, 1))
def test_equal_increase_of_the_loss(scan: Sensitivity, sizes: dict[str, tuple[int, ...]], share: float) -> None:
    """No layer could go on losing weights at a smaller increase than another one has had to bear."""
    total = round(share * sum(math.prod(shape) for shape in sizes.values()))
    gone = dict(zip(sizes, scan.pruned(sizes, total), strict=True))
    assert sum(gone.values()) == total
    need, bear = {}, {}
    for name, shape in sizes.items():
        grown = np.maximum.accumulate([0.0, *(np.array(scan.losses[scan.layers.index(name)]) - scan.dense)])
        places = np.array([0.0, *scan.sparsities]) * math.prod(shape)
        bear[name] = np.interp(gone[name] - 0.5 - 1e-6, places, grown) if gone[name] else 0.0
        need[name] = np.interp(gone[name] + 0.5 + 1e-6, places, grown) if gone[name] < math.prod(shape) else math.inf
    assert max(bear.values()) <= min(need.values()) + 1e-9


@given(st.floats(0, 0.99), st.floats(0, 0.99))
def test_each_layer_has_its_own_sparsity(first: float, other: float) -> None:
    scores = {name: np.arange(1.0, 41.0) for name in ("body.0.weight", "body.1.weight", "head.weight")}
    owners = {name: name.removesuffix(".weight") for name in scores}
    recipe = Recipe({"body.0": first, "head.weight": 0.0, "*": other})
    assert recipe == Recipe(PerLayer({"body.0": first, "head.weight": 0.0, "*": other}))
    assert recipe.budgets(scores, owners) == [math.floor(40 * first + 0.5), math.floor(40 * other + 0.5), 0]
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe
    assert hash(recipe.target) == hash(PerLayer({"body.0": first, "head.weight": 0.0, "*": other}))


def test_what_no_pattern_names_stays_whole() -> None:
    assert Recipe({"a": 0.5}).budgets({"a": np.ones(4), "b": np.ones(4)}) == [2, 0]


SCAN = Sensitivity(["a"], [0.5], [[1.0]], 0.5)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Recipe({"a": 1.5}), OutOfRangeError, "1.5 of 'a'"),
        (lambda: Recipe({"a": "much"}), RecipeError, "sparsity of 'a'"),
        (lambda: Recipe({}), RecipeError, "give patterns"),
        (lambda: Recipe({3: 0.5}), RecipeError, "give patterns"),
        (lambda: Recipe(0.5, allocation="best"), RecipeError, "allocation is 'best'"),
        (lambda: Recipe(0.5, allocation=ERK), RecipeError, "class ERK"),
        (lambda: Recipe(0.5, allocation="erk", scope="layer"), RecipeError, "scope"),
        (lambda: Recipe({"a": 0.5}, allocation="erk"), RecipeError, "nothing to divide"),
        (lambda: Recipe(0.5, allocation="erk", granularity=Neurons()), RecipeError, "sides of kernels"),
        (lambda: Recipe(Parameters(0.5), allocation="uniform", granularity=Neurons()), RecipeError, "unit by unit"),
        (lambda: Recipe(0.5, allocation="uniform", granularity=Neurons(minimum=2)), RecipeError, "divides numbers"),
        (lambda: Sensitivity(["a"], [0.5, 0.5], [[1, 1]], 1), OutOfRangeError, "ascending"),
        (lambda: Sensitivity(["a"], [], [[]], 1), OutOfRangeError, "ascending"),
        (lambda: Sensitivity(["a"], [0.5], [[1, 2]], 1), ShapeMismatchError, "one row"),
        (lambda: Sensitivity(["a"], [0.5], [[math.nan]], 1), OutOfRangeError, "loss of a is not finite"),
        (lambda: Recipe(0.5, allocation=SCAN).budgets({"b": np.ones(4)}), NoMatchError, "sensitivity of b"),
        (lambda: Recipe(0.8, allocation=SCAN).budgets({"a": np.ones(4)}), UnreachableTargetError, "up to sparsity 0.5"),
        (lambda: Recipe({"x*": 0.5}).budgets({"a": np.ones(4)}), NoMatchError, r"'x\*'"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_words(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@given(layers(), allocations, st.integers(1, 6), st.sampled_from([Cubic, Cosine, OneCycle, Exponential, Linear]))
def test_masks_are_nested_on_the_way_and_exact_at_its_end(
    scores: dict[str, np.ndarray], allocation: Any, every: int, kind: Any
) -> None:
    recipe = Recipe(0.8, allocation=allocation, schedule=kind(0, 12, every))
    random = np.random.default_rng(every)
    budgets, size = recipe.budgets(scores), sum(score.size for score in scores.values())
    kept = {name: np.ones(score.shape, np.bool_) for name, score in scores.items()}
    for step in (step for step in range(13) if recipe.schedule.due(step)):
        moved = {name: score * random.uniform(0, 2, score.shape) for name, score in scores.items()}
        share = recipe.schedule.fraction(step, sum(budgets) / size)
        now = recipe.allocate(moved, [math.floor(share * count + 0.5) for count in budgets], kept)
        assert all((now[name] <= kept[name]).all() for name in scores)
        kept = now
    assert sum(int((~flags).sum()) for flags in kept.values()) == math.floor(0.8 * size + 0.5)


@pytest.mark.parametrize(
    "recipe", [Recipe(0.7, allocation="erk"), Recipe({"0": 0.5, "*": 0.9}), Recipe(0.7, allocation="uniform")]
)
def test_both_frameworks_divide_and_prune_alike(recipe: Recipe) -> None:
    pair = dense_pair((6, 12, 10, 3), ties=True)
    named = recipe
    if isinstance(recipe.target, PerLayer):
        first = next(iter(sk.prune(pair.keras_model, Recipe(0.1)).masks)).split("/")[0]
        named = Recipe({first: 0.5, "*": 0.9})
    ours = st_torch.prune(pair.torch_model, recipe, example=pair.torch_example)
    theirs = sk.prune(pair.keras_model, named)
    for mask, other in zip(ours.masks.values(), theirs.masks.values(), strict=True):
        np.testing.assert_array_equal(mask, other.T)
    if not isinstance(recipe.target, PerLayer):
        assert sum(int((~mask).sum()) for mask in ours.masks.values()) == math.floor(0.7 * 222 + 0.5)
    assert str(ours.summary())


def test_a_threshold_finds_the_total_and_the_allocation_divides_it() -> None:
    random = np.random.default_rng(0)
    scores = {"a": random.random((20, 30)), "b": 3 * random.random((10, 20))}
    whole, uniform = Recipe(KSigma(0.5)), Recipe(KSigma(0.5), allocation="uniform")
    assert sum(uniform.budgets(scores)) == whole.budgets(scores)[0]
    assert uniform.budgets(scores)[0] == pytest.approx(3 * uniform.budgets(scores)[1], abs=3)
