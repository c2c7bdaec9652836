"""The recipes of the demo: what the subset covers, and that words and recipes say the same."""

from __future__ import annotations

import itertools

import pytest

from secateur.demo import plan
from secateur.demo.plan import Choice
from secateur.errors import OutOfRangeError, RecipeError
from secateur.recipe import Gradient, KSigma, Magnitude, Neurons, Percentile, Weights
from secateur.schedules import Cubic, OneShot


def test_all_is_the_whole_product() -> None:
    choices = plan.choices("mlp", everything=True)
    assert len(choices) == len(set(choices)) == 16


@pytest.mark.parametrize(("model", "words"), [("mlp", 3), ("cnn", 2)])
def test_the_subset_has_every_combination_of_so_many_words(model: str, words: int) -> None:
    chosen = [choice.words for choice in plan.choices(model, everything=False)]
    fields = range(4) if model == "mlp" else range(3)
    for some in itertools.combinations(fields, words):
        assert len({tuple(choice[field] for field in some) for choice in chosen}) == 2**words


def test_the_subset_has_what_the_readme_promises() -> None:
    chosen = [choice.words for choice in plan.choices("mlp", everything=False)]
    assert ("weights", "magnitude", "percentile", "gradual") in chosen
    assert ("neurons", "magnitude", "percentile", "static") in chosen


@pytest.mark.parametrize("choice", plan.choices("mlp", everything=True), ids=lambda choice: choice.label)
def test_a_recipe_is_what_its_words_say(choice: Choice) -> None:
    recipe = choice.recipe(100)
    assert isinstance(recipe.granularity, Weights if choice.granularity == "weights" else Neurons)
    assert isinstance(recipe.score, Magnitude if choice.score == "magnitude" else Gradient)
    assert isinstance(recipe.target, Percentile if choice.target == "percentile" else KSigma)
    assert isinstance(recipe.schedule, OneShot if choice.schedule == "static" else Cubic)
    value = recipe.target.q if isinstance(recipe.target, Percentile) else recipe.target.k
    assert choice.amount == f"{choice.target} {value:g}"
    assert choice.amount in choice.label


@pytest.mark.parametrize("steps", [1, 2, plan.UPDATES, 7, 36, 1000])
def test_a_gradual_recipe_ends_at_its_last_step(steps: int) -> None:
    schedule = Choice("weights", "magnitude", "percentile", "gradual").recipe(steps).schedule
    due = [step for step in range(steps + 1) if schedule.due(step)]
    assert due[-1] == steps
    assert schedule.fraction(steps) == 1.0
    assert len(due) <= plan.UPDATES + 1


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(RecipeError, match="filters"):
        Choice("filters", "magnitude", "percentile", "static")


def test_epochs_scale_in_proportion_and_never_vanish() -> None:
    training = plan.TRAININGS["digits", "mlp"]
    half = training.scaled(training.dense // 2)
    assert (half.dense, half.gradual, half.finetune) == tuple(
        number // 2 for number in (training.dense, training.gradual, training.finetune)
    )
    assert min(training.scaled(1).gradual, training.scaled(1).finetune) == 1
    assert training.scaled(None) is training
    with pytest.raises(OutOfRangeError, match="--epochs 0"):
        training.scaled(0)
