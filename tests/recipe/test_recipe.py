"""The recipe: defaults, checks, selection by pattern, and its JSON form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur import (
    Bytes,
    Cubic,
    Flops,
    Gradient,
    KSigma,
    Linear,
    Magnitude,
    Neurons,
    OneShot,
    Parameters,
    Percentile,
    Recipe,
    Sparsity,
    Taylor,
    Weights,
)
from secateur.errors import FileFormatError, NoMatchError, OutOfRangeError, RecipeError, SecateurError


@dataclass(frozen=True)
class Layer:
    name: str
    layer: str


LAYERS = [Layer("body.0.weight", "body.0"), Layer("body.2.weight", "body.2"), Layer("head.weight", "head")]

targets = st.one_of(
    st.builds(Sparsity, st.floats(0, 1, exclude_max=True)),
    st.builds(Percentile, st.floats(0, 100), st.sampled_from([None, "normal", "uniform", "exponential", "laplace"])),
    st.builds(KSigma, st.floats(-5, 5)),
)
schedules = st.one_of(
    st.just(OneShot()),
    st.builds(Linear, begin=st.integers(0, 5), end=st.integers(6, 50), every=st.integers(1, 4)),
    st.builds(Cubic, begin=st.integers(0, 5), end=st.integers(6, 50), every=st.integers(1, 4)),
)
others = {
    "score": st.sampled_from([Magnitude(), Gradient(), Taylor()]),
    "schedule": schedules,
    "include": st.lists(st.text(max_size=5), max_size=3),
    "exclude": st.lists(st.text(max_size=5), max_size=3),
}
norms = st.sampled_from([1, 2, "inf", "mean"])
costs = st.builds(
    lambda kind, fraction: kind(fraction),
    st.sampled_from([Parameters, Flops, Bytes]),
    st.floats(0, 1, exclude_max=True),
)
recipes = st.one_of(
    st.builds(
        Recipe,
        targets,
        granularity=st.one_of(st.just(Weights()), st.builds(Neurons, norms)),
        scope=st.sampled_from(["model", "layer"]),
        **others,
    ),
    st.builds(
        Recipe,
        st.one_of(targets, costs),
        granularity=st.builds(
            Neurons, norms, minimum=st.integers(1, 9), compensate=st.booleans(), multiple=st.sampled_from([1, 8, 16])
        ),
        **others,
    ),
)


def test_a_number_is_a_sparsity_of_all_weights_by_magnitude_at_once() -> None:
    assert Recipe(0.9) == Recipe(
        Sparsity(0.9), granularity=Weights(), score=Magnitude(), scope="model", schedule=OneShot(), include=["*"]
    )


@given(recipes)
def test_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe


@pytest.mark.parametrize("damage", ["missing", "extra", "kind", "list", "value", "field", "type", "word"])
def test_a_damaged_document_is_refused(damage: str) -> None:
    document = Recipe(0.5).to_dict()
    if damage == "missing":
        del document["target"]
    elif damage == "extra":
        document["colour"] = "green"
    elif damage == "list":
        document["target"]["kind"] = ["Sparsity"]
    elif damage == "kind":
        document["target"]["kind"] = "os.system"
    elif damage == "value":
        document["target"]["sparsity"] = 3.0
    elif damage == "word":
        document["target"]["sparsity"] = "half"
    elif damage == "field":
        document["target"]["colour"] = 1
    else:
        document["target"] = "Sparsity"
    with pytest.raises(FileFormatError):
        Recipe.from_dict(document)


@pytest.mark.parametrize("sparsity", [1.0, 1.5, -0.1, float("nan")])
def test_a_sparsity_of_one_or_more_is_refused(sparsity: float) -> None:
    with pytest.raises(OutOfRangeError, match="sparsity"):
        Recipe(sparsity)


@pytest.mark.parametrize("q", [-1, 100.5, float("nan")])
def test_a_percentile_outside_0_to_100_is_refused(q: float) -> None:
    with pytest.raises(OutOfRangeError, match="percentile"):
        Percentile(q)


@pytest.mark.parametrize(
    "options",
    [
        {"scope": "global"},
        {"granularity": Neurons},
        {"granularity": "neurons"},
        {"score": 3},
        {"schedule": Magnitude()},
        {"include": "fc*"},
        {"exclude": [1]},
        {"include": None},
        {"exclude": 3},
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        Recipe(0.5, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [True, "0.5", None])
def test_a_target_of_another_kind_is_refused(target: object) -> None:
    with pytest.raises(SecateurError):
        Recipe(target)  # type: ignore[arg-type]


NUMPY = [np.float16, np.float32, np.float64]


@given(st.sampled_from(NUMPY), st.floats(0, 0.875, width=16), st.integers(0, 9), st.integers(10, 99))
def test_numbers_of_numpy_are_numbers_of_python(kind: type, share: float, begin: int, end: int) -> None:
    given, steps = kind(share), (np.int64(begin), np.uint8(end), np.int16(3))
    recipe = Recipe(given, granularity=Neurons(np.int64(2)), schedule=Cubic(*steps, initial=given))
    assert recipe == Recipe(share, granularity=Neurons(2), schedule=Cubic(begin, end, 3, initial=share))
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe
    assert (Percentile(given), KSigma(given)) == (Percentile(share), KSigma(share))
    assert OneShot(np.int32(begin)) == OneShot(begin)


@pytest.mark.parametrize("slip", ["a", None, True, np.True_, 1j, [0.5], np.array([0.5, 0.5])])
@pytest.mark.parametrize(
    "make",
    [
        *(Sparsity, Percentile, KSigma, Neurons, Recipe, OneShot, Parameters, Flops, Bytes),
        *(lambda slip: Linear(slip, 9), lambda slip: Cubic(0, slip), lambda slip: Cubic(0, 9, every=slip)),
        lambda slip: Linear(0, 9, initial=slip),
    ],
)
def test_what_is_no_number_is_refused_in_words(make: Callable[[Any], object], slip: object) -> None:
    with pytest.raises(RecipeError, match=r"give a|use one of"):
        make(slip)


@pytest.mark.parametrize("make", [OneShot, lambda step: Linear(step, 9), lambda step: Cubic(0, 9, every=step)])
def test_a_step_is_a_whole_number(make: Callable[[Any], object]) -> None:
    with pytest.raises(RecipeError, match=r"1\.5.*whole number"):
        make(1.5)


def test_patterns_may_come_from_a_generator() -> None:
    assert Recipe(0.5, include=(name for name in ["head"])).include == ("head",)  # type: ignore[arg-type]


def test_unknown_norm_and_distribution_are_refused() -> None:
    with pytest.raises(RecipeError, match="norm"):
        Neurons(norm=3)
    with pytest.raises(RecipeError, match="distribution"):
        Percentile(50, distribution="cauchy")
    with pytest.raises(OutOfRangeError, match="finite"):
        KSigma(float("inf"))


def test_patterns_match_layer_or_parameter_names() -> None:
    assert Recipe(0.5).select(LAYERS) == LAYERS
    assert Recipe(0.5, include=["body*"]).select(LAYERS) == LAYERS[:2]
    assert Recipe(0.5, include=["head"]).select(LAYERS) == LAYERS[2:]
    assert Recipe(0.5, exclude=["head.weight"]).select(LAYERS) == LAYERS[:2]


@pytest.mark.parametrize(
    "options", [{"include": ["tail*"]}, {"exclude": ["tail*"]}, {"include": ["*"], "exclude": ["*"]}]
)
def test_a_pattern_that_matches_nothing_is_an_error(options: dict[str, list[str]]) -> None:
    with pytest.raises(NoMatchError):
        Recipe(0.5, **options).select(LAYERS)  # type: ignore[arg-type]
