"""Masks that hold: exactly zero after every step, whatever trains the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import keras_models
from secateur.errors import HoldError, NoMatchError
from secateur_keras import backends
from secateur_keras.masking import Hold, apply, hold

LOSS = "sparse_categorical_crossentropy"
BACKEND = keras.backend.backend()

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0),
    "adam": lambda: optimizers.Adam(0.01),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "lion": lambda: optimizers.Lion(0.01, weight_decay=0.1),
    "average": lambda: optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_overwrite_frequency=3),
    "accumulation": lambda: optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.AdamW(0.01, weight_decay=0.1)),
    "several": lambda: optimizers.MultiOptimizer(
        optimizers.OptimizerMap(optimizers.Adam(0.01), {".*head/kernel": optimizers.SGD(0.1, momentum=0.9)})
    ),
}


def network() -> keras.Model:
    return keras_models.randomize(keras_models.mlp())


class ChangeMasks(keras.callbacks.Callback):
    """Other masks after the second batch; measures the leak after every batch."""

    def __init__(self, held: Hold, masks: dict[str, Any], later: dict[str, Any]) -> None:
        super().__init__()
        self.held, self.masks, self.later = held, masks, later
        self.leaks: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == 1:
            self.held.update(self.later)
            self.masks = self.later
        backends.synchronise(self.model)
        self.leaks.append(keras_models.leak(self.model, self.masks))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_leaks_while_masks_change_in_mid_training(name: str) -> None:
    model, data = network(), keras_models.classification(96)
    model.compile(OPTIMIZERS[name](), LOSS)
    if not (BACKEND == "jax" and name == "average"):  # Keras on JAX cannot fit twice with an average, pruning or not
        model.fit(*data, verbose=0)
    masks, later = keras_models.random_masks(model, 0), keras_models.random_masks(model, 1)
    callback = ChangeMasks(hold(model, masks), masks, later)
    assert keras_models.leak(model, masks) == 0.0
    before = keras_models.snapshot(model)
    model.fit(*data, batch_size=16, verbose=0, callbacks=[callback])
    assert callback.leaks == [0.0] * 6
    assert keras_models.leak(model, later) == 0.0
    moved = [np.abs(old - new).max() for old, new in zip(before, keras_models.snapshot(model), strict=True)]
    assert max(moved) > 0.0


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_nothing_leaks_however_the_step_is_run(options: dict[str, Any]) -> None:
    if BACKEND == "torch":
        options = {"run_eagerly": True}  # torch.compile needs a C++ compiler, and takes one step an execution
    model, data = network(), keras_models.classification(64)
    model.compile(optimizers.AdamW(0.01, weight_decay=0.1), LOSS, **options)
    masks, later = keras_models.random_masks(model, 0), keras_models.random_masks(model, 1)
    held = hold(model, masks)
    model.fit(*data, batch_size=16, verbose=0)
    assert keras_models.leak(model, masks) == 0.0
    held.update(later)
    model.fit(*data, batch_size=16, verbose=0)
    assert keras_models.leak(model, later) == 0.0


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_every_precision_trains_under_masks(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = keras_models.plain_cnn() if policy == "mixed_float16" else keras_models.mlp()
    finally:
        keras.config.set_dtype_policy("float32")
    shape, classes = ((8, 8, 2), 3) if policy == "mixed_float16" else ((4, 4), 10)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    masks = keras_models.random_masks(model)
    hold(model, masks)
    model.fit(*keras_models.classification(32, shape, classes), batch_size=16, verbose=0)
    assert keras_models.leak(model, masks) == 0.0


if BACKEND == "jax":  # only there do training loops of one's own use stateless steps

    def test_a_stateless_step_returns_masked_weights_and_changes_none() -> None:
        model, optimizer = network(), optimizers.SGD(0.1, momentum=0.9)
        masks = keras_models.random_masks(model)
        hold(model, masks, optimizer)
        optimizer.build(model.trainable_variables)
        before = keras_models.snapshot(model)
        steps = [keras.ops.ones(variable.shape) for variable in model.trainable_variables]
        states = [variable.value for variable in optimizer.variables]
        moved, _ = optimizer.stateless_apply(states, steps, [variable.value for variable in model.trainable_variables])
        for old, new in zip(before, keras_models.snapshot(model), strict=True):
            np.testing.assert_array_equal(old, new)
        kernel = keras.ops.convert_to_numpy(moved[0]).T
        np.testing.assert_array_equal(kernel[~masks["hidden/kernel"]], 0.0)
        assert np.abs(kernel[masks["hidden/kernel"]] - before[0].T[masks["hidden/kernel"]]).min() > 0.05


def test_whatever_optimizer_comes_later_holds_too() -> None:
    model, data = network(), keras_models.classification()
    masks = keras_models.random_masks(model)
    held = hold(model, masks)
    for optimizer in ("adam", "sgd"):
        model.compile(optimizer, LOSS)
        model.fit(*data, verbose=0)
        assert keras_models.leak(model, masks) == 0.0
    held.release()
    model.compile("sgd", LOSS)
    model.fit(*data, verbose=0)
    assert keras_models.leak(model, masks) > 0.0


def gradients(model: keras.Model, x: Any, y: Any) -> list[Any]:
    """As a training loop of one's own computes them."""
    loss = keras.losses.SparseCategoricalCrossentropy()

    def objective(values: Any) -> Any:
        states = [variable.value for variable in model.non_trainable_variables]
        return loss(y, model.stateless_call(values, states, x, training=True)[0])

    return list(backends.gradient(objective)([v.value for v in model.trainable_variables]))


def test_a_training_loop_of_ones_own_holds_with_the_given_optimizer() -> None:
    model, (x, y) = network(), keras_models.classification()
    optimizer = optimizers.Adam(0.01)
    masks = keras_models.random_masks(model)
    held = hold(model, masks, optimizer)
    for _ in range(3):
        optimizer.apply(gradients(model, backends.tensors(x), backends.tensors(y)), model.trainable_variables)
        assert keras_models.leak(model, masks) == 0.0
    before = keras_models.snapshot(model)
    held.release()
    optimizer.apply(gradients(model, backends.tensors(x), backends.tensors(y)), model.trainable_variables)
    assert keras_models.leak(model, masks) > 0.0
    assert any((old != new).any() for old, new in zip(before, keras_models.snapshot(model), strict=True))


def test_regrown_weights_start_without_momentum() -> None:
    model, data = network(), keras_models.classification()
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, LOSS)
    masks = keras_models.random_masks(model)
    held = hold(model, masks)
    model.fit(*data, verbose=0)
    variable = model.get_layer("hidden").kernel
    slot = optimizer.momentums[optimizer._get_variable_index(variable)]
    dead = ~masks["hidden/kernel"].T
    assert np.abs(np.array(slot)[dead]).max() > 0.0
    kept = np.array(slot)[~dead]
    held.update({"hidden/kernel": np.ones_like(masks["hidden/kernel"])})
    np.testing.assert_array_equal(np.array(slot)[dead], 0.0)
    np.testing.assert_array_equal(np.array(slot)[~dead], kept)
    model.fit(*data, verbose=0)
    assert np.abs(np.array(variable)[dead]).max() > 0.0


@pytest.mark.parametrize("kind", [optimizers.Adagrad, optimizers.Ftrl])
def test_regrown_weights_start_with_the_sums_that_the_optimizer_starts_with(kind: Callable[..., Any]) -> None:
    model, data = network(), keras_models.classification()
    optimizer = kind(0.01, initial_accumulator_value=0.5)
    model.compile(optimizer, LOSS)
    masks = keras_models.random_masks(model)
    held = hold(model, masks)
    model.fit(*data, verbose=0)
    held.update({"hidden/kernel": np.ones_like(masks["hidden/kernel"])})
    slot = optimizer._accumulators[optimizer._get_variable_index(model.get_layer("hidden").kernel)]
    np.testing.assert_array_equal(np.array(slot)[~masks["hidden/kernel"].T], np.float32(0.5))


def test_of_several_holds_each_counts_until_it_is_released_and_leaves_no_trace() -> None:
    model = network()
    model.compile("adam", LOSS)
    model.fit(*keras_models.classification(), verbose=0)
    count, own = len(model.optimizer.variables), set(vars(model.optimizer))
    masks = [keras_models.random_masks(model, seed) for seed in (0, 1)]
    first, second = (hold(model, each) for each in masks)
    assert len(model.optimizer.variables) == count + 2
    model.fit(*keras_models.classification(), verbose=0)
    assert [keras_models.leak(model, each) for each in masks] == [0.0, 0.0]
    first.release()
    model.fit(*keras_models.classification(), verbose=0)
    assert keras_models.leak(model, masks[1]) == 0.0 < keras_models.leak(model, masks[0])
    second.release()
    assert len(model.optimizer.variables) == count
    assert set(vars(model.optimizer)) == own
    model.fit(*keras_models.classification(), verbose=0)
    assert keras_models.leak(model, masks[1]) > 0.0


@pytest.mark.parametrize("name", ["adam", "loss scale"])
def test_a_saved_model_is_plain_and_trains_on(name: str, tmp_path: Path) -> None:
    model, data = network(), keras_models.classification()
    model.compile(OPTIMIZERS[name](), LOSS)
    masks = keras_models.random_masks(model)
    hold(model, masks)
    model.fit(*data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert keras_models.leak(loaded, masks) == 0.0
    assert not any("mask" in variable.path for variable in loaded.optimizer.variables)
    slots = [np.array(variable) for variable in loaded.optimizer.variables]
    assert max(float(np.abs(slot).max()) for slot in slots if slot.ndim) > 0.0
    loaded.fit(*data, verbose=0)
    model.load_weights(tmp_path / "model.keras")
    model.fit(*data, verbose=0)
    assert keras_models.leak(model, masks) == 0.0


def test_applying_writes_exact_zeros_and_keeps_every_other_bit() -> None:
    model = network()
    kernel = model.get_layer("hidden").kernel
    odd = np.array(kernel)
    odd[0, :3], odd[1, :3] = [np.nan, np.inf, -0.0], [np.nan, np.inf, -0.0]
    kernel.assign(odd)
    mask = np.ones((16, 16), np.bool_)
    mask[:, 0] = False
    apply(model, {"hidden/kernel": mask})
    after = np.array(kernel)
    np.testing.assert_array_equal(after[0].view(np.uint32), np.zeros(16, np.uint32))
    np.testing.assert_array_equal(after[1:].view(np.uint32), odd[1:].view(np.uint32))


def test_masks_of_frozen_layers_are_applied_and_hold_once_they_train() -> None:
    model = network()
    model.get_layer("hidden").trainable = False
    model.compile("adam", LOSS)
    masks = keras_models.random_masks(model)
    hold(model, masks)
    assert keras_models.leak(model, masks) == 0.0
    model.get_layer("hidden").trainable = True
    model.compile(optimizers.SGD(0.1), LOSS)
    model.fit(*keras_models.classification(), verbose=0)
    assert keras_models.leak(model, masks) == 0.0


def test_wrong_optimizers_and_names_are_refused_before_anything_changes() -> None:
    model, other = network(), keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    before = keras_models.snapshot(model)
    optimizer = optimizers.Adam()
    optimizer.build(other.trainable_variables)
    with pytest.raises(HoldError, match="built for other variables"):
        hold(model, keras_models.random_masks(model), optimizer)
    with pytest.raises(HoldError, match="no Keras optimizer"):
        hold(model, keras_models.random_masks(model), "adam")
    with pytest.raises(NoMatchError):
        hold(model, {"nowhere": np.ones(3, np.bool_)})
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    model.compile("sgd", LOSS)
    count = len(model.optimizer.variables)
    model.fit(*keras_models.classification(), verbose=0)
    assert len(model.optimizer.variables) == count
