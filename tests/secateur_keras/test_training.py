"""Pruning while ``model.fit`` runs, and what users do around it, on every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_models
import secateur_keras as sk
from secateur import Cubic, Gradient, Neurons, Percentile, Recipe
from secateur.errors import EmptyLayerError, HoldError, MissingDataError, ModelTypeError, NoMatchError, OutOfRangeError
from secateur_keras import backends

LOSS = "sparse_categorical_crossentropy"


def compiled(model: keras.Model) -> keras.Model:
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    return model


class Watch(keras.callbacks.Callback):
    """The sparsity after each batch."""

    def __init__(self, pruner: sk.Pruner) -> None:
        super().__init__()
        self.pruner = pruner
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(round(self.pruner.sparsity, 3))


def test_the_callback_follows_the_schedule_and_a_second_fit_goes_on() -> None:
    model, data = compiled(keras_models.mlp()), keras_models.classification(96)
    pruner = sk.Pruner(Recipe(0.5, schedule=Cubic(begin=0, end=8, every=2)))
    watch = Watch(pruner)
    model.fit(*data, batch_size=16, verbose=0, callbacks=[pruner, watch])
    assert watch.seen == sorted(watch.seen)
    assert 0.0 == watch.seen[0] < watch.seen[1] < watch.seen[-1] < 0.5
    assert (pruner.step, pruner.finished) == (6, False)
    model.fit(*data, batch_size=16, verbose=0, callbacks=[pruner])
    assert (pruner.step, pruner.finished, pruner.sparsity) == (12, True, pytest.approx(0.5, abs=0.002))
    masks = pruner.pruned.adapter.canonical(model, pruner.masks)
    assert keras_models.leak(model, masks) == 0.0


def test_neurons_go_by_gradient_in_training_and_the_result_is_smaller(tmp_path: Path) -> None:
    model, data = compiled(keras_models.mlp()), keras_models.classification(64)
    recipe = Recipe(Percentile(50), granularity=Neurons(), score=Gradient(), schedule=Cubic(begin=0, end=4, every=2))
    pruner = sk.Pruner(recipe, data=data)
    model.fit(*data, batch_size=16, epochs=2, verbose=0, callbacks=[pruner])
    small = pruner.compact()
    assert small.get_layer("hidden").units == 8
    small.fit(*data, verbose=0)
    pruner.save(tmp_path / "saved")
    restored = sk.load(tmp_path / "saved")
    for name, mask in pruner.masks.items():
        np.testing.assert_array_equal(restored.masks[name], mask)
    assert restored.compact().get_layer("hidden").units == 8
    pruner.release()
    assert not any("mask" in variable.path for variable in model.optimizer.variables)


def test_weights_that_early_stopping_brings_back_are_masked() -> None:
    model, data = compiled(keras_models.mlp()), keras_models.classification(64)
    # The first epoch, in which nothing is pruned, stays the best.
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=3, restore_best_weights=True)
    pruner = sk.Pruner(Recipe(0.5, schedule=Cubic(begin=4, end=8, every=1)))
    model.fit(*data, batch_size=16, epochs=3, verbose=0, callbacks=[stop, pruner])
    assert stop.best_epoch == 0
    assert pruner.finished
    assert keras_models.leak(model, pruner.pruned.adapter.canonical(model, pruner.masks)) == 0.0


def test_pruned_before_compiling_stays_pruned() -> None:
    model = keras_models.randomize(keras_models.mlp())
    pruned = sk.prune(model, Recipe(0.8))
    compiled(model).fit(*keras_models.classification(), verbose=0)
    assert keras_models.leak(model, pruned.adapter.canonical(model, pruned.masks)) == 0.0
    assert pruned.sparsity == pytest.approx(0.8, abs=0.002)


def test_a_released_pruner_masks_nothing_at_the_end_of_a_training() -> None:
    model, data = compiled(keras_models.mlp()), keras_models.classification(32)
    pruner = sk.Pruner(Recipe(0.5))
    model.fit(*data, batch_size=16, verbose=0, callbacks=[pruner])
    pruner.release()
    model.fit(*data, batch_size=16, verbose=0, callbacks=[pruner])
    masks = pruner.pruned.adapter.canonical(model, pruner.masks)
    assert keras_models.leak(model, masks) > 0.0


def of_unknown_length() -> Any:
    import tensorflow

    images, labels = keras_models.classification(64)
    return tensorflow.data.Dataset.from_tensor_slices((images, labels)).batch(16).filter(lambda x, y: True)


def generated(count: int) -> Any:
    for _ in range(count):
        yield keras_models.classification(16)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras's torch backend runs one step an execution")
@pytest.mark.parametrize("source", ["arrays", "dataset", "generator"])
@pytest.mark.parametrize("accumulate", [None, 2])
def test_steps_are_batches_whatever_an_execution_holds(source: str, accumulate: int | None) -> None:
    model = keras_models.mlp()
    optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=accumulate)
    model.compile(optimizer, LOSS, steps_per_execution=3)
    pruner = sk.Pruner(Recipe(0.5, schedule=Cubic(begin=0, end=20, every=1)))
    data: Any = keras_models.classification(64)
    for expected in (8, 16):
        if source == "arrays":
            model.fit(*data, batch_size=16, epochs=2, verbose=0, callbacks=[pruner])
        elif source == "dataset":
            model.fit(of_unknown_length(), epochs=2, verbose=0, callbacks=[pruner])
        else:
            for _ in range(2):
                model.fit(generated(4), verbose=0, callbacks=[pruner])
        assert pruner.step == expected
    assert int(backends.array(optimizer._iterations)) == 16


def test_a_callback_belongs_to_one_model() -> None:
    pruner = sk.Pruner(Recipe(0.5))
    with pytest.raises(HoldError, match=r"model\.fit"):
        _ = pruner.masks
    data = keras_models.classification(16)
    compiled(keras_models.mlp()).fit(*data, verbose=0, callbacks=[pruner])
    with pytest.raises(HoldError, match="another model"):
        compiled(keras_models.mlp()).fit(*data, verbose=0, callbacks=[pruner])


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (lambda model: sk.prune(model, Recipe(1.0)), OutOfRangeError),
        (lambda model: sk.prune(model, Recipe(Percentile(101))), OutOfRangeError),
        (lambda model: sk.prune(model, Recipe(0.5, include=["nowhere*"])), NoMatchError),
        (lambda model: sk.prune(model, Recipe(0.99, granularity=Neurons())), EmptyLayerError),
        (lambda model: sk.prune(model, Recipe(0.5, score=Gradient())), MissingDataError),
        (lambda model: sk.prune(model, Recipe(0.5, score=Gradient()), data=np.zeros((3, 4, 4))), MissingDataError),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(attempt: Any, error: type[Exception]) -> None:
    model = compiled(keras_models.randomize(keras_models.mlp()))
    before = keras_models.snapshot(model)
    with pytest.raises(error):
        attempt(model)
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    model.fit(*keras_models.classification(), verbose=0)
    assert not any("mask" in variable.path for variable in model.optimizer.variables)


@pytest.mark.parametrize("wrong", [None, {}, [], "layer", 3])
def test_what_is_no_model_is_refused_in_words(wrong: Any) -> None:
    if wrong == "layer":
        wrong = keras.layers.Dense(3)
        wrong.build((None, 4))
    for attempt in (lambda: sk.prune(wrong, Recipe(0.5)), lambda: sk.graph(wrong), lambda: sk.parameters(wrong)):
        with pytest.raises(ModelTypeError, match=r"is no keras\.Model"):
            attempt()


@pytest.mark.parametrize("loss", ["foo", 3, ["mse"]])
def test_a_loss_that_is_none_is_refused_in_words(loss: Any) -> None:
    with pytest.raises(MissingDataError, match="loss="):
        sk.prune(keras_models.mlp(), Recipe(0.5, score=Gradient()), data=keras_models.classification(), loss=loss)
