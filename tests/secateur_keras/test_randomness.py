"""What builds models behind the user's back leaves the user's random numbers as they were."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_models
import secateur_keras as sk
from secateur import Neurons, Recipe
from secateur_keras.randomness import untouched_randomness

RECIPE = Recipe(0.5, granularity=Neurons(), scope="layer")


def states() -> tuple[Any, ...]:
    """What the next random numbers depend on: Python's, NumPy's and Keras's."""
    numpy = np.random.get_state()
    with untouched_randomness():
        keras_next = keras.ops.convert_to_numpy(keras.random.uniform((4,))).tolist()
    return random.getstate(), numpy[1].tolist(), numpy[2:], keras_next


@pytest.mark.parametrize("name", ["mlp", "plain_cnn", "raw_operations"])
def test_no_random_state_changes_however_a_model_is_pruned_made_smaller_and_read(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    model = keras_models.randomize(keras_models.NETWORKS[name]())
    keras.random.uniform((1,))
    before = states()
    pruned = sk.prune(model, RECIPE)
    pruned.save(tmp_path / "saved")
    pruned.compact()
    sk.load(tmp_path / "saved").compact()
    sk.load(tmp_path / "saved", model)
    assert states() == before


def test_a_layer_that_draws_from_every_generator_changes_none() -> None:
    @keras.saving.register_keras_serializable("secateur_tests")
    class Drawing(layers.Layer):
        def build(self, shape: Any) -> None:
            start = np.random.normal() + random.random() + keras.ops.convert_to_numpy(keras.random.normal(()))
            self.offset = self.add_weight(shape=(), initializer=keras.initializers.Constant(float(start)))

        def call(self, x: Any) -> Any:
            return x + self.offset

    model = keras.Sequential([keras.Input((4,)), layers.Dense(6), Drawing(), layers.Dense(2)])
    pruned = sk.prune(model, Recipe(0.5, scope="layer"))
    before = states()
    pruned.compact()
    assert states() == before


def test_a_generator_that_was_not_there_is_not_there_afterwards() -> None:
    keras.utils.clear_session()
    random.seed(0)
    expected = random.random()
    random.seed(0)
    with untouched_randomness():
        keras.random.uniform((1,))  # makes Keras's generator, from a seed of Python's
    assert random.random() == expected
    with untouched_randomness():
        pass
    keras.utils.set_random_seed(5)
    first = keras.ops.convert_to_numpy(keras.random.uniform((4,)))
    keras.utils.set_random_seed(5)
    with untouched_randomness():
        keras.random.uniform((4,))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.random.uniform((4,))), first)


def trained(compact_in_between: bool) -> list[Any]:
    """The weights of a head with dropout, made and trained after a pruning."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    body = keras_models.mlp()
    pruned = sk.prune(body, RECIPE)
    if compact_in_between:
        pruned.compact()
    model = keras.Sequential([keras.Input((4, 4)), body, layers.Dropout(0.5), layers.Dense(10, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(*keras_models.classification(32), batch_size=16, verbose=0)
    return list(model.get_weights())


def test_training_goes_the_same_way_with_and_without_a_compact_in_between() -> None:
    for without, between in zip(trained(False), trained(True), strict=True):
        np.testing.assert_array_equal(without, between)
