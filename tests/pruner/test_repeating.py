"""A recipe is repeated with seeds and subsets on real data, reproducibly, and the user's random numbers stay theirs."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import secateur_keras as sk
import secateur_torch as st
from secateur import Cubic, Recipe
from secateur.errors import EmptyInputError, ModelTypeError, NoMatchError, OutOfRangeError, RecipeError
from secateur.stability import Stability, draw

DIGITS = load_digits()
INPUTS = (DIGITS.images / 16.0).reshape(-1, 64).astype(np.float32)
LABELS = DIGITS.target
RECIPE = Recipe(0.8, schedule=Cubic(begin=0, end=40, every=10))


def train_in_torch(recipe: Recipe, seed: int, rows: Any) -> tuple[Any, Any]:
    """The pruner and the accuracy on digits that are in no subset."""
    model = torch.nn.Sequential(torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    pruner = st.Pruner(model, recipe, optimizer)
    rows = torch.arange(1400) if rows is None else torch.tensor(rows)
    for _ in range(4):
        for batch in rows[torch.randperm(len(rows))].split(100):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(torch.tensor(INPUTS)[batch]), torch.tensor(LABELS)[batch])
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        right = model(torch.tensor(INPUTS[1400:])).argmax(1) == torch.tensor(LABELS[1400:])
    return pruner, right.float().mean()


def test_digits_in_pytorch_agree_beyond_chance_and_a_second_time_to_the_bit() -> None:
    subsets = draw(1400, 2, share=0.7)
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    found = st.stability(train_in_torch, RECIPE, seeds=[3, 4], subsets=subsets)
    after = random.random(), np.random.random(), torch.rand(1).item()
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    assert after == (random.random(), np.random.random(), torch.rand(1).item())
    assert (found.seeds, found.subsets) == ((3, 4, 3, 4), (0, 0, 1, 1))
    assert [layer.name for layer in found.layers] == ["0.weight", "2.weight"]
    assert all(kept == round(0.2 * 1776) for kept in found.total.kept)
    assert found.over_subsets is not None and found.over_seeds is not None
    assert found.over_subsets > found.over_seeds > found.total.chance
    assert min(found.scores) > 0.5
    assert st.stability(train_in_torch, RECIPE, seeds=[3, 4], subsets=subsets) == found


def keras_network() -> Any:
    """Layers without names, which Keras numbers anew in each run."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    return model


def train_in_keras(recipe: Recipe, seed: int, rows: Any) -> tuple[Any, Any]:
    model, pruner = keras_network(), sk.Pruner(recipe)
    rows = np.arange(80) if rows is None else rows
    model.fit(INPUTS[rows], LABELS[rows], batch_size=10, epochs=1, verbose=0, callbacks=[pruner])
    outputs = keras.ops.convert_to_numpy(model(INPUTS[1400:]))
    return pruner, (outputs.argmax(axis=1) == LABELS[1400:]).mean()


def test_digits_in_keras_whatever_numbers_layers_have() -> None:
    keras.utils.set_random_seed(1)
    recipe = Recipe(0.8, schedule=Cubic(begin=0, end=8, every=4))
    found = sk.stability(train_in_keras, recipe, seeds=[0, 0, 1])
    after = random.random(), keras.ops.convert_to_numpy(keras.random.normal((2,)))
    keras.utils.set_random_seed(1)
    assert after[0] == random.random()
    np.testing.assert_array_equal(after[1], keras.ops.convert_to_numpy(keras.random.normal((2,))))
    assert len(found.layers) == 2 and found.over_subsets is None
    same, *others = found.total.overlaps
    assert same == 1.0 > max(others) and found.scores[0] == found.scores[1]


def test_pruned_at_once_both_frameworks_say_the_same() -> None:
    weights = [np.random.default_rng(seed).normal(size=(10, 64)).astype(np.float32) for seed in range(3)]

    def in_torch(recipe: Recipe, seed: int, rows: Any) -> tuple[Any, float]:
        model = torch.nn.Linear(64, 10)
        with torch.no_grad():
            model.weight.copy_(torch.tensor(weights[seed]))
        return st.prune(model, recipe), seed / 4

    def in_keras(recipe: Recipe, seed: int, rows: Any) -> tuple[Any, float]:
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        model.layers[0].kernel.assign(weights[seed].T)
        return sk.prune(model, recipe), seed / 4

    ours, theirs = st.stability(in_torch, Recipe(0.7)), sk.stability(in_keras, Recipe(0.7))
    assert (ours.total, ours.scores, ours.seeds) == (theirs.total, theirs.scores, theirs.seeds)
    assert isinstance(ours, Stability) and ours.scores == (0.0, 0.25, 0.5)


def test_a_run_that_ends_too_early_is_told() -> None:
    def short(recipe: Recipe, seed: int, rows: Any) -> tuple[Any, float]:
        model = torch.nn.Linear(4, 4)
        return st.Pruner(model, recipe, torch.optim.SGD(model.parameters(), 0.1)), 1.0

    with pytest.warns(UserWarning, match=r"not at its end when training ended \(seed \d, subset 0\)"):
        st.stability(short, RECIPE, seeds=[0, 1])


def once(recipe: Recipe, seed: int, rows: Any) -> tuple[Any, float]:
    return st.prune(torch.nn.Linear(4, 4 + (seed == 9)), recipe), 1.0


def renamed(recipe: Recipe, seed: int, rows: Any) -> tuple[Any, float]:
    model = torch.nn.Sequential(*[torch.nn.Identity()] * seed, torch.nn.Linear(4, 4))
    return st.prune(model, recipe), 1.0


@pytest.mark.parametrize(
    ("train", "options", "error", "words"),
    [
        (once, {"recipe": 0.5}, RecipeError, "give a Recipe"),
        (once, {"seeds": [1]}, OutOfRangeError, "give two seeds"),
        (once, {"seeds": [0, -1]}, OutOfRangeError, "seed -1"),
        (once, {"seeds": [0, 0.5]}, RecipeError, "a seed is 0.5"),
        (once, {"subsets": []}, EmptyInputError, "no subset"),
        (once, {"subsets": [[0, 1], []]}, EmptyInputError, "subset 1"),
        (once, {"subsets": [[True, False]]}, RecipeError, "flatnonzero"),
        (once, {"subsets": [[0, -2]]}, OutOfRangeError, "row -2"),
        (lambda *_: torch.nn.Linear(4, 4), {}, RecipeError, r"seed 0, subset 0.*pruned model and its score"),
        (lambda *_: (torch.nn.Linear(4, 4), 1.0), {}, ModelTypeError, "gives a Linear"),
        (lambda *told: (once(*told)[0], "good"), {}, RecipeError, "the score"),
        (renamed, {}, NoMatchError, r"0\.weight, 1\.weight"),
    ],
)
def test_what_cannot_be_repeated_is_refused(train: Any, options: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        st.stability(train, **{"recipe": Recipe(0.5), **options})
