"""Sizes that a ``call`` of one's own does not depend on stay open in the smaller model; all others are told."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import secateur_keras as sk
from keras_models import mlp, randomize
from secateur import Neurons, Recipe
from secateur_keras.tracing import outputs

HALF = Recipe(0.5, granularity=Neurons(), scope="layer")


class Block(layers.Layer):
    """Layers of a layer of one's own, which may look at the length."""

    def __init__(self, looks: bool) -> None:
        super().__init__(name="block")
        self.looks = looks
        self.wide, self.narrow = layers.Dense(8, activation="relu", name="wide"), layers.Dense(6, name="narrow")

    def call(self, x: Any) -> Any:
        y = self.narrow(self.wide(x))
        return x + (y / 7 if self.looks and ops.shape(x)[1] == 7 else y)


class Model(keras.Model):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        stems = {
            **dict.fromkeys(("image", "flat image"), layers.Conv2D(6, 3, padding="same", name="stem")),
            "sequence": layers.SimpleRNN(6, return_sequences=True, name="stem"),
        }
        self.stem = stems.get(way, layers.Dense(6, name="stem"))
        self.block = Block(way == "inner")
        self.flat = layers.Flatten()
        self.head = layers.Dense(2, name="head")

    def call(self, x: Any) -> Any:
        x = self.block(self.stem(x))
        if self.way == "flat image":
            return self.head(self.flat(x))
        if self.way == "reshaped":
            x = ops.reshape(x, (-1, x.shape[1], 2, 3))[:, :, 0]
        if self.way == "branching":
            x = x * 2.0 if x.shape[1] == 7 else x
        return self.head(ops.mean(x, axis=tuple(range(1, len(x.shape) - 1))))


def built(way: str) -> tuple[keras.Model, Any]:
    shape = (4, 8, 6, 3) if "image" in way else (4, 7, 3)
    model, example = Model(way), np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model(example)
    return randomize(model), example


@pytest.mark.parametrize("way", ["image", "sequence"])
def test_other_sizes_than_the_examples_work_in_the_smaller_model_too(way: str) -> None:
    model, example = built(way)
    pruned = sk.prune(model, HALF, example=example)
    small = pruned.compact()
    assert small.input_shape == (*(None for _ in example.shape[:-1]), 3)
    assert pruned.form is not None and f"shape {small.input_shape}, None being any size" in pruned.form
    for size in (5, 12):
        other = np.random.default_rng(1).normal(size=(3, size, *example.shape[2:])).astype(np.float32)
        np.testing.assert_allclose(outputs(small, other)[0], outputs(model, other)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["flat image", "reshaped", "branching", "inner"])
def test_a_size_that_the_code_needs_is_the_examples_and_is_told(way: str) -> None:
    model, example = built(way)
    pruned = sk.prune(model, HALF, example=example)
    small = pruned.compact()
    assert small.input_shape == (None, *example.shape[1:])
    assert pruned.form is not None and f"example's shape alone, {small.input_shape}, with any batch" in pruned.form
    assert pruned.max_error is not None and pruned.max_error < 1e-5


def test_tokens_have_no_features_that_must_be_fixed() -> None:
    class Words(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = layers.Embedding(20, 8, name="words"), layers.Dense(3, name="head")

        def call(self, x: Any) -> Any:
            return self.head(ops.max(self.words(x), axis=1))

    model, tokens = Words(), np.arange(12).reshape(2, 6)
    model(tokens)
    small = sk.prune(randomize(model), HALF, example=tokens).compact()
    assert small.input_shape == (None, None)
    longer = np.arange(20).reshape(2, 10)
    np.testing.assert_allclose(outputs(small, longer)[0], outputs(model, longer)[0], rtol=1e-5, atol=1e-6)


def test_a_model_that_carries_its_graph_keeps_its_form() -> None:
    pruned = sk.prune(randomize(mlp()), HALF)
    small = pruned.compact()
    assert pruned.form == "a model of the same layers, made smaller"
    assert small.input_shape == pruned.model.input_shape
