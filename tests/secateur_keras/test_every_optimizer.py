"""Masks hold in whatever model the weights are, and by whatever optimizer and loop they are trained."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import keras_models
import secateur_keras as sk
from keras_training import Loop
from secateur import Recipe
from secateur.errors import HoldError
from secateur_keras import backends
from secateur_keras.masking import Hold, hold

LOSS = "sparse_categorical_crossentropy"
BACKEND = keras.backend.backend()
DATA = keras_models.classification()


def network() -> keras.Model:
    return keras_models.randomize(keras_models.mlp())


def held(model: keras.Model, seed: int = 0) -> tuple[Hold, dict[str, Any]]:
    masks = keras_models.random_masks(model, seed)
    return hold(model, masks), masks


def head_on(body: keras.Model) -> keras.Model:
    """A new classifier on the features of a model: it contains the model as a layer."""
    return keras.Sequential([keras.Input((4, 4)), body, layers.Dense(10, activation="softmax", name="new_head")])


def sharing(body: keras.Model) -> keras.Model:
    """A functional model of the layers, not of the model."""
    inputs = keras.Input((4, 4))
    features = body.get_layer("hidden")(layers.Flatten()(inputs))
    joined = layers.Concatenate()([body.get_layer("head")(features), features])
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="other")(joined))


def train(model: keras.Model) -> None:
    model.fit(*DATA, batch_size=16, verbose=0)


@pytest.mark.parametrize("other", [head_on, sharing])
@pytest.mark.parametrize("history", ["made after", "made before", "compiled before", "trained before"])
def test_masks_hold_in_every_model_that_has_the_layers(other: Callable[..., Any], history: str) -> None:
    body = network()
    outer = None if history == "made after" else other(body)
    if outer is not None and history != "made before":
        outer.compile(optimizers.Adam(0.01), LOSS)
        if history == "trained before":
            train(outer)
    kept, masks = held(body)
    if outer is None:
        outer = other(body)
    if not outer.compiled:
        outer.compile(optimizers.Adam(0.01), LOSS)
    for _ in range(2):
        train(outer)
        assert keras_models.leak(body, masks) == 0.0
    outer.compile(optimizers.SGD(0.1, momentum=0.9), LOSS)
    train(outer)
    assert keras_models.leak(body, masks) == 0.0
    kept.release()
    train(outer)
    assert keras_models.leak(body, masks) > 0.0


def test_masks_that_change_while_another_model_trains_hold_from_the_next_step() -> None:
    body = network()
    outer = head_on(body)
    outer.compile(optimizers.Adam(0.01), LOSS)
    leaks = []

    class Change(keras.callbacks.Callback):
        """Holds after the first batch, other masks after the second, none after the third."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 0:
                self.kept, self.masks = held(body)
            leaks.append(keras_models.leak(body, self.masks))
            if batch == 1:
                self.masks = keras_models.random_masks(body, 1)
                self.kept.update(self.masks)
            if batch == 2:
                self.kept.release()

    outer.fit(*keras_models.classification(64), batch_size=16, verbose=0, callbacks=[Change()])
    assert leaks[:3] == [0.0, 0.0, 0.0] < leaks[3:]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("built", [False, True])
def test_masks_hold_in_a_loop_of_ones_own(compiled: bool, built: bool) -> None:
    body = network()
    outer, optimizer = head_on(body), optimizers.Adam(0.01)
    if built:
        optimizer.build(outer.trainable_variables)
    kept, masks = held(body)
    loop = Loop(outer, optimizer, compiled)
    before = keras_models.snapshot(body)
    for _ in range(2):
        loop.run(*DATA, steps=1)
        assert keras_models.leak(body, masks) == 0.0
    assert any((old != new).any() for old, new in zip(before, keras_models.snapshot(body), strict=True))
    kept.update(later := keras_models.random_masks(body, 1))
    loop.run(*DATA)
    assert keras_models.leak(body, later) == 0.0
    kept.release()
    loop.run(*DATA)
    assert keras_models.leak(body, later) > 0.0


def test_a_function_that_was_compiled_before_is_warned_about_unless_the_masks_reach_it(recwarn: Any) -> None:
    model, optimizer = network(), optimizers.Adam(0.01)
    loop = Loop(model, optimizer, compiled=True)
    loop.run(*DATA)
    if BACKEND == "torch":  # runs eagerly, so there is nothing to warn about
        _, masks = held(model)
    else:
        with pytest.warns(UserWarning, match="compile it again"):
            _, masks = held(model)
    if BACKEND != "jax":  # where the state has grown by the masks, so that JAX compiles again by itself
        loop = Loop(model, optimizer, compiled=True)
    loop.run(*DATA)
    assert keras_models.leak(model, masks) == 0.0
    recwarn.clear()
    _, later = held(model, 1)  # only other numbers, which compiled functions read
    loop.run(*DATA)
    assert keras_models.leak(model, later) == 0.0
    assert not [warning for warning in recwarn if "compile it again" in str(warning.message)]


def test_what_keras_itself_compiled_is_compiled_again_without_a_warning(recwarn: Any) -> None:
    model = network()
    model.compile(optimizers.Adam(0.01), LOSS)
    train(model)
    model.train_on_batch(*DATA)
    held(model)
    assert not [warning for warning in recwarn if "compile it again" in str(warning.message)]


def test_a_hold_outlives_what_prune_returned_and_keeps_no_model_alive() -> None:
    body = network()
    outer = head_on(body)
    outer.compile(optimizers.Adam(0.01), LOSS)
    masks = keras_models.random_masks(body)
    kept = hold(body, masks)
    names = {id(variable): mask.T for variable, mask in zip(body.weights[::2], masks.values(), strict=True)}
    gone = [weakref.ref(each) for each in (outer, outer.optimizer, body.get_layer("hidden").kernel, kept)]
    del kept
    gc.collect()
    train(outer)
    for variable in body.weights[::2]:
        np.testing.assert_array_equal(backends.array(variable)[~names[id(variable)]], 0.0)
    del body, outer, variable
    keras.utils.clear_session()
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


def test_a_hold_goes_on_in_the_layers_when_the_model_is_gone() -> None:
    body = network()
    outer = sharing(body)
    kept, masks = held(body)
    kernel = outer.get_layer("hidden").kernel
    del body
    keras.utils.clear_session()
    gc.collect()
    outer.compile(optimizers.Adam(0.01), LOSS)
    train(outer)
    np.testing.assert_array_equal(backends.array(kernel).T[~masks["hidden/kernel"]], 0.0)
    with pytest.raises(HoldError, match="no longer exists"):
        kept.update(masks)


@pytest.mark.parametrize("way", ["set_weights", "load_weights"])
def test_dense_weights_that_are_loaded_are_masked_again_by_the_next_step(way: str, tmp_path: Path) -> None:
    model = network()
    dense = model.get_weights()
    model.save_weights(tmp_path / "dense.weights.h5")
    model.compile(optimizers.Adam(0.01), LOSS)
    _, masks = held(model)
    train(model)
    if way == "set_weights":
        model.set_weights(dense)
    else:
        model.load_weights(tmp_path / "dense.weights.h5")
    assert keras_models.leak(model, masks) > 0.0
    model.train_on_batch(*DATA)
    backends.synchronise(model)
    assert keras_models.leak(model, masks) == 0.0


def test_averages_that_take_the_place_of_weights_are_masked_too() -> None:
    model = network()
    optimizer = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, LOSS)
    if BACKEND != "jax":  # Keras on JAX cannot fit twice with an average, pruning or not
        train(model)
    _, masks = held(model)
    leaks = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            backends.synchronise(model)
            leaks.append(keras_models.leak(model, masks))

    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    model.fit(*DATA, batch_size=16, epochs=3, verbose=0, callbacks=[swap, Look()])
    assert leaks == [0.0] * 3
    assert keras_models.leak(model, masks) == 0.0


def test_the_state_of_an_optimizer_can_be_told_and_copied() -> None:
    model, other = network(), network()
    for each in (model, other):
        each.compile(optimizers.Adam(0.01), LOSS)
    train(other)
    held(model), held(model, 1), held(other)
    train(model)
    assert model.get_state_tree()["optimizer_variables"]
    other.optimizer.set_weights([np.array(variable) for variable in model.optimizer.variables])
    for ours, theirs in zip(model.optimizer._variables, other.optimizer._variables, strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))


def test_files_stay_plain_under_several_holds(tmp_path: Path) -> None:
    model = network()
    model.compile(optimizers.Adam(0.01), LOSS)
    held(model)
    train(model)
    held(model, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [v.shape for v in loaded.optimizer.variables] == [v.shape for v in model.optimizer._variables]
    for ours, theirs in zip(model.optimizer._variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))


class Pulled(optimizers.SGD):
    """An optimizer that goes on after Keras's step, and tells its variables itself."""

    def build(self, variables: Any) -> None:
        super().build(variables)
        self.anchors = self.add_optimizer_variables(variables, "anchor", initializer="ones")

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        super().apply(grads, trainable_variables)
        for variable, anchor in zip(self._trainable_variables, self.anchors, strict=True):
            variable.assign(variable * 0.9 + anchor * 0.1)

    @property
    def variables(self) -> Any:
        return list(self._variables)


class Shifted(optimizers.SGD):
    """An optimizer that goes on after Keras's step where TensorFlow and torch call it."""

    def apply_gradients(self, grads_and_vars: Any) -> None:
        super().apply_gradients(grads_and_vars)
        for variable in self._trainable_variables:
            variable.assign(variable + 0.01)


@pytest.mark.parametrize("kind", [Pulled, Shifted])
def test_an_optimizer_of_ones_own_that_goes_on_after_the_step_holds_too(kind: type[optimizers.SGD]) -> None:
    model = network()
    model.compile(kind(0.1), LOSS)
    kept, masks = held(model)
    train(model)
    kept.update(later := keras_models.random_masks(model, 1))
    train(model)
    assert keras_models.leak(model, later) == 0.0 < keras_models.leak(model, masks)
    model.train_on_batch(*DATA)  # without the end of fit, where weights are masked once more
    assert keras_models.leak(model, later) == 0.0


class Failing(optimizers.SGD):
    def update_step(self, *_: Any) -> None:
        raise ValueError("no step today")


def test_an_error_in_a_training_step_is_told_as_it_is() -> None:
    """On JAX variables are empty then, and Keras finishes all the same."""
    model = network()
    model.compile(Failing(0.1), LOSS)
    held(model)
    with pytest.raises(ValueError, match="no step today"):
        model.fit(*DATA, verbose=0)


def test_prune_takes_an_optimizer_and_refuses_one_of_other_variables() -> None:
    model, other = network(), network()
    right, wrong = optimizers.Adam(0.01), optimizers.Adam(0.01)
    right.build(model.trainable_variables)
    wrong.build(other.trainable_variables)
    before = keras_models.snapshot(model)
    with pytest.raises(HoldError, match="other variables"):
        sk.prune(model, Recipe(0.5), optimizer=wrong)
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    pruned = sk.prune(model, Recipe(0.5), optimizer=right)
    Loop(model, right, compiled=True).run(*DATA)
    assert keras_models.leak(model, pruned.adapter.canonical(model, pruned.masks)) == 0.0


@pytest.mark.parametrize("copied", [copy.deepcopy, keras.models.clone_model])
def test_copies_are_plain_keras_models_until_the_saved_masks_are_loaded_into_them(
    copied: Callable[..., Any], tmp_path: Path
) -> None:
    model = network()
    pruned = sk.prune(model, Recipe(0.5))
    pruned.save(tmp_path / "saved")
    masks = dict(pruned.adapter.canonical(model, pruned.masks))
    other = copied(model)
    other.compile(optimizers.Adam(0.01), LOSS)
    train(other)
    assert keras_models.leak(other, masks) > 0.0 == keras_models.leak(model, masks)
    sk.load(tmp_path / "saved", other)
    train(other)
    assert keras_models.leak(other, masks) == 0.0


BEFORE_THE_IMPORT = """
import keras, numpy as np
x, y = np.random.default_rng(0).normal(size=(32, 4)).astype("float32"), np.arange(32) % 3
body = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu", name="hidden")])
outer = keras.Sequential([keras.Input((4,)), body, keras.layers.Dense(3, activation="softmax")])
outer.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
outer.fit(x, y, verbose=0)

import secateur_keras as sk
from secateur import Recipe
pruned = sk.prune(body, Recipe(0.5))
outer.fit(x, y, epochs=3, verbose=0)
kernel = keras.ops.convert_to_numpy(body.get_layer("hidden").kernel)
assert np.count_nonzero(kernel) == 16, np.count_nonzero(kernel)
assert not kernel[~pruned.masks["hidden/kernel"]].any()
"""


def test_what_was_trained_before_the_import_holds_too() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", BEFORE_THE_IMPORT], check=True, env=environment)


if BACKEND == "tensorflow":

    class TwoOptimizers(keras.Model):
        """A step of its own with an optimizer besides the one that it is compiled with, as adversarial models have."""

        def __init__(self, body: keras.Model) -> None:
            super().__init__()
            self.body, self.second = body, optimizers.Adam(0.01)

        def call(self, x: Any) -> Any:
            return self.body(x)

        def train_step(self, data: Any) -> Any:
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(data[1], self(data[0])))
            variables = self.body.trainable_variables
            self.second.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return {"loss": loss}

    def test_masks_hold_in_a_step_with_an_optimizer_that_the_model_was_not_compiled_with() -> None:
        body = network()
        outer = TwoOptimizers(body)
        outer.compile()
        train(outer)
        kept, masks = held(body)
        train(outer)
        assert keras_models.leak(body, masks) == 0.0
        kept.release()
        train(outer)
        assert keras_models.leak(body, masks) > 0.0

    @pytest.mark.parametrize("way", ["fit", "own loop", "own loop, not built"])
    def test_masks_hold_under_a_distribution_strategy(way: str) -> None:
        import tensorflow as tf

        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope():
            body = network()
            outer = head_on(body)
            outer.compile(optimizers.AdamW(0.01), LOSS)
            if way == "own loop":
                outer.optimizer.build(outer.trainable_variables)
        if way == "fit":
            train(outer)
        kept, masks = held(body)
        if way == "fit":
            train(outer)
        else:
            step = tf.function(lambda *batch: strategy.run(outer.train_step, args=(batch,)))
            step(*map(tf.constant, DATA))
            kept.update(masks := keras_models.random_masks(body, 1))
            step(*map(tf.constant, DATA))
        assert keras_models.leak(body, masks) == 0.0


@pytest.mark.skipif(BACKEND != "torch", reason="torch.optim trains the weights of Keras's torch backend")
@pytest.mark.parametrize("compiled", [False, True])
def test_masks_hold_under_optimizers_of_torch_itself(compiled: bool) -> None:
    import torch

    model = network()
    before = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    kept, masks = held(model)
    images, labels = torch.tensor(DATA[0]), torch.tensor(DATA[1], dtype=torch.long)
    for optimizer in (before, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)):
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(2):
            optimizer.zero_grad()
            torch.nn.functional.nll_loss(model(images).log(), labels).backward()
            step()
            assert keras_models.leak(model, masks) == 0.0
    kept.release()
    step()
    assert keras_models.leak(model, masks) > 0.0
