"""Weights come back, others go in their place, and the number of each layer stays what it was."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur import SET, Blocks, DynamicSurgery, Iterative, Neurons, Recipe, RigL
from secateur.errors import OutOfRangeError, RecipeError, UnreachableTargetError

exchanges = st.one_of(
    st.builds(SET, st.just(0), st.just(40), st.just(5), st.floats(0.01, 0.99), seed=st.integers(0, 99)),
    st.builds(RigL, st.just(0), st.just(40), st.just(5), st.floats(0.01, 0.99)),
)


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Scores with ties, what is kept, and how much each element deserves to come back."""
    random = np.random.default_rng(draw(st.integers(0, 99)))
    shapes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8)), min_size=1, max_size=3))
    names = [f"layer{number}" for number in range(len(shapes))]
    scores = {n: random.integers(0, 6, shape).astype(np.float32) for n, shape in zip(names, shapes, strict=True)}
    kept = {name: random.random(score.shape) < random.random() for name, score in scores.items()}
    growth = {name: random.integers(0, 6, score.shape).astype(np.float32) for name, score in scores.items()}
    return scores, kept, growth


@given(exchanges, layers(), st.integers(1, 40))
def test_as_many_come_back_as_go(regrowth: Any, given_layers: Any, step: int) -> None:
    scores, kept, growth = given_layers
    now = regrowth.exchange(step, scores, kept, growth)
    for name, flags in kept.items():
        live = int(flags.sum())
        count = min(math.floor(regrowth.share_at(step) * live + 0.5), flags.size - live)
        gone, back = flags & ~now[name], ~flags & now[name]
        assert gone.sum() == back.sum() == count
        assert scores[name][gone].max(initial=-1) <= scores[name][flags & now[name]].min(initial=9)
        if isinstance(regrowth, RigL):
            assert growth[name][back].min(initial=9) >= growth[name][~flags & ~back].max(initial=-1)
    again = regrowth.exchange(step, scores, kept, growth)
    assert all((again[name] == flags).all() for name, flags in now.items())


def test_random_numbers_follow_from_seed_step_and_layer_alone() -> None:
    scores = {name: np.ones((20, 30)) for name in "ab"}
    kept = {name: np.arange(600).reshape(20, 30) % 2 == 0 for name in "ab"}
    found = {
        (seed, step): SET(0, 9, 1, seed=seed).exchange(step, scores, kept, {}) for seed in (0, 1) for step in (1, 2)
    }
    masks = [mask[name].tobytes() for mask in found.values() for name in "ab"]
    assert len(set(masks)) == 8
    back = ~kept["a"] & found[0, 1]["a"]
    wanted = np.random.PCG64(np.random.SeedSequence([0, 1, 0])).random_raw(600) >> np.uint64(11)
    dead = np.flatnonzero(~kept["a"])
    assert set(np.flatnonzero(back)) == set(dead[np.argsort(wanted[dead])[-90:]])
    assert np.flatnonzero(back)[:4].tolist() == [3, 13, 33, 39], (
        "the stream has changed: old trainings would not resume"
    )


def test_the_share_of_rigl_falls_with_a_cosine() -> None:
    regrowth = RigL(begin=100, end=300, every=50, share=0.4)
    assert [regrowth.share_at(step) for step in (100, 200, 300)] == pytest.approx([0.4, 0.2, 0.0])
    assert SET(100, 300, 50, share=0.4).share_at(250) == 0.4
    assert RigL(1, 3, 1, unit="epoch").in_steps(50) == RigL(50, 150, 50)


def test_surgery_keeps_what_is_kept_and_moves_what_is_not() -> None:
    weight, gradient = np.array([1.0, 0.5, -0.2], np.float32), np.array([9.0, 2.0, 9.0], np.float32)
    kept = np.array([True, False, True])
    surgery = DynamicSurgery(0, 9, 1, rate=0.5)
    np.testing.assert_array_equal(surgery.moved(weight, gradient, kept), np.array([1.0, -0.5, -0.2], np.float32))
    assert surgery.moved(weight, gradient, kept).dtype == np.float32


def test_the_two_thresholds_of_surgery() -> None:
    """A kept weight goes below 0.9 of the threshold at which others stay, a pruned one returns above 1.1 of it."""
    surgery = DynamicSurgery(0, 9, 1, rate=0.5, margin=0.1)
    scores = {"a": np.array([0.91, 0.89, 1.09, 1.11])}
    ranked = surgery.ranked(scores, {"a": np.array([True, True, False, False])})["a"]
    assert (ranked > 1.0).tolist() == [True, False, False, True]


@given(exchanges)
def test_a_regrowth_is_part_of_a_recipe(regrowth: Any) -> None:
    for each in (regrowth, DynamicSurgery(0, 9, 1, rate=0.1, unit="epoch")):
        recipe = Recipe(0.5, granularity=Blocks((2, 2)), regrowth=each)
        assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe


def test_recipes_of_older_files_have_none() -> None:
    document = Recipe(0.5).to_dict()
    del document["regrowth"], document["allocation"]
    assert Recipe.from_dict(document) == Recipe(0.5)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: SET(5, 4, 1), OutOfRangeError, "ends before it begins"),
        (lambda: SET(0, 4, 1, share=1.0), OutOfRangeError, "share"),
        (lambda: SET(0, 4, 1, seed=-1), OutOfRangeError, "seed"),
        (lambda: RigL(0, 4, 1, share=0), OutOfRangeError, "share"),
        (lambda: RigL(0, 4, 1.5), RecipeError, "whole number"),
        (lambda: DynamicSurgery(0, 4, 1, rate=0), OutOfRangeError, "rate"),
        (lambda: DynamicSurgery(0, 4, 1, rate=1, margin=1), OutOfRangeError, "margin"),
        (lambda: Recipe(0.5, regrowth="rigl"), RecipeError, "regrowth is 'rigl'"),
        (lambda: Recipe(0.5, regrowth=RigL), RecipeError, "class RigL"),
        (lambda: Recipe(0.5, granularity=Neurons(), regrowth=SET(0, 4, 1)), RecipeError, "no gradient reaches it"),
        (lambda: Recipe(0.5, schedule=Iterative(2, 5, rewind=0), regrowth=SET(0, 4, 1)), RecipeError, "rewinding"),
        (
            lambda: SET(0, 4, 1, share=0.5).require_room({"a": np.arange(10) > 1}),
            UnreachableTargetError,
            "exchanges 4 of the 8 weights that are kept, but only 2",
        ),
    ],
)
def test_what_cannot_grow_back_is_refused_in_words(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("regrowth", [SET(begin=0, end=9, every=3), RigL(begin=0, end=9, every=3)])
def test_rows_that_compete_let_nothing_come_back_elsewhere(regrowth: Any) -> None:
    with pytest.raises(RecipeError, match="scope='row' forbids"):
        Recipe(0.5, scope="row", regrowth=regrowth)


def test_a_total_that_is_divided_over_layers_leaves_no_scope_of_rows() -> None:
    with pytest.raises(RecipeError, match="so does scope='row'"):
        Recipe(0.5, scope="row", allocation="uniform")
