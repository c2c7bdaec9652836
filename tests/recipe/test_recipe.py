"""The recipe: defaults, checks, selection by pattern, and its JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur import (
    Cubic,
    Gradient,
    KSigma,
    Linear,
    Magnitude,
    Neurons,
    OneShot,
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
recipes = st.builds(
    Recipe,
    targets,
    granularity=st.one_of(st.just(Weights()), st.builds(Neurons, st.sampled_from([1, 2, "inf", "mean"]))),
    score=st.sampled_from([Magnitude(), Gradient(), Taylor()]),
    scope=st.sampled_from(["model", "layer"]),
    schedule=schedules,
    include=st.lists(st.text(max_size=5), max_size=3),
    exclude=st.lists(st.text(max_size=5), max_size=3),
)


def test_a_number_is_a_sparsity_of_all_weights_by_magnitude_at_once() -> None:
    assert Recipe(0.9) == Recipe(
        Sparsity(0.9), granularity=Weights(), score=Magnitude(), scope="model", schedule=OneShot(), include=["*"]
    )


@given(recipes)
def test_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe


@pytest.mark.parametrize("damage", ["missing", "extra", "kind", "value", "field", "type"])
def test_a_damaged_document_is_refused(damage: str) -> None:
    document = Recipe(0.5).to_dict()
    if damage == "missing":
        del document["target"]
    elif damage == "extra":
        document["colour"] = "green"
    elif damage == "kind":
        document["target"]["kind"] = "os.system"
    elif damage == "value":
        document["target"]["sparsity"] = 3.0
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
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        Recipe(0.5, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [True, "0.5", None])
def test_a_target_of_another_kind_is_refused(target: object) -> None:
    with pytest.raises(SecateurError):
        Recipe(target)  # type: ignore[arg-type]


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
