"""A recipe told in words."""

from __future__ import annotations

import pytest

from secateur.recipe import SET, Bytes, Flops, Gradient, KSigma, Neurons, Parameters, Percentile, Recipe, Taylor
from secateur.report.words import reason, recipe_words
from secateur.schedules import Cubic, Iterative


def test_every_part_of_a_recipe_is_told() -> None:
    recipe = Recipe(
        Percentile(50), Neurons(norm=2), Gradient(), scope="layer", schedule=Cubic(0, 10), exclude=["head*", "stem"]
    )
    assert recipe_words(recipe) == {
        "granularity": "neurons",
        "score": "mean |gradient|",
        "target": "percentile 50",
        "scope": "within each layer",
        "schedule": "Cubic: begin 0, end 10 (steps)",
        "exclude": "head*, stem",
    }


@pytest.mark.parametrize(
    ("recipe", "threshold", "expected"),
    [
        (Recipe(0.9), 0.3, "|weight| is 0.3 or less: the lowest 90 % over the whole model"),
        (
            Recipe(Percentile(75, "normal"), score=Taylor()),
            None,
            "|weight × gradient| is lowest: percentile 75 of the fitted normal distribution over the whole model",
        ),
        (
            Recipe(KSigma(-0.5), Neurons(norm=1), scope="layer"),
            2.0,
            "the sum of |weight| over all weights into the neuron is 2 or less: mean − 0.5 σ within each layer",
        ),
        (
            Recipe(Parameters(0.25), Neurons()),
            2.0,
            "the mean |weight| over all weights into the neuron is 2 or less: "
            "the lowest, until 25 % of the parameters are gone over the whole model",
        ),
    ],
)
def test_the_reason_for_a_removal(recipe: Recipe, threshold: float | None, expected: str) -> None:
    assert reason(recipe, threshold) == expected


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (Neurons(), "neurons"),
        (Neurons(minimum=4), "neurons, at least 4 a layer"),
        (Neurons(minimum=4, multiple=8), "neurons, at least 4 a layer, a multiple of 8"),
    ],
)
def test_costs_and_what_layers_keep(units: Neurons, expected: str) -> None:
    facts = recipe_words(Recipe(Flops(0.5), units))
    assert facts["granularity"] == expected
    assert facts["target"] == "the lowest, until 50 % of the floating-point operations are gone"
    assert recipe_words(Recipe(Bytes(0.5), units))["target"] == "the lowest, until 50 % of the bytes are gone"


def test_allocations_and_dictionaries_are_told() -> None:
    told = recipe_words(Recipe(0.9, allocation="erk", schedule=Iterative(3, 100, rewind=0)))
    assert told["allocation"] == "Erdős–Rényi kernels"
    assert told["schedule"] == "Iterative: rounds 3, every 100, rewind 0 (steps)"
    assert recipe_words(Recipe({"conv*": 0.5, "*": 0.9}))["target"] == "the lowest 50 % of conv*, 90 % of *"
    assert "the same sparsity in every layer" in reason(Recipe(0.9, allocation="uniform"), 0.5)
    assert recipe_words(Recipe(0.9, regrowth=SET(0, 9, 1)))["regrowth"] == "SET: begin 0, end 9, every 1 (steps)"
