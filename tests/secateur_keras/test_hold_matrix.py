"""Every optimizer of Keras in every way to train: masked weights are exactly zero after each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import hold_table
import keras_models
from keras_training import BACKEND, DATA, LOSS, MODES, NOT_OFFERED, OPTIMIZERS, made, network
from secateur_keras.masking import hold

CELLS = [(name, mode) for name in OPTIMIZERS for mode in MODES]


@pytest.mark.parametrize(("name", "mode"), CELLS)
def test_nothing_leaks(name: str, mode: str) -> None:
    if reason := NOT_OFFERED.get(BACKEND, {}).get(mode):
        hold_table.record("keras", BACKEND, name, mode, None)
        pytest.skip(f"Keras on {BACKEND} {reason}")
    training = MODES[mode](OPTIMIZERS[name])
    first, second = (keras_models.random_masks(training.model, seed) for seed in (0, 1))
    held, leaks = hold(training.model, first), list[float]()
    for masks in (first, second):
        held.update(masks)
        before = keras_models.snapshot(training.model)
        leaks += [leak(model, masks) for model in training.steps(4)]
        after = keras_models.snapshot(training.model)
        assert any((old != new).any() for old, new in zip(before, after, strict=True))
    assert leaks == [0.0] * len(leaks)
    hold_table.record("keras", BACKEND, name, mode, leaks)


def leak(model: keras.Model, masks: dict[str, Any]) -> float:
    """The largest stored magnitude of a masked weight; NaN is none, and is not zero."""
    views = {parameter.name: parameter.view for parameter in keras_models.parameters(model)}
    dead = np.concatenate([views[name][~mask].astype(np.float64) for name, mask in masks.items()])
    return float(np.abs(dead).max())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_release_leaves_the_optimizer_as_it_was(name: str) -> None:
    training = MODES["run_eagerly"](OPTIMIZERS[name])
    list(training.steps(1))
    untouched = set(vars(training.optimizer)), [variable.path for variable in training.optimizer.variables]
    masks = keras_models.random_masks(training.model)
    held = hold(training.model, masks)
    assert [leak(model, masks) for model in training.steps(2)] == [0.0, 0.0]
    held.release()
    assert (set(vars(training.optimizer)), [v.path for v in training.optimizer.variables]) == untouched
    list(training.steps(2))
    assert leak(training.model, masks) > 0.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_saved_in_mid_training_read_and_pruned_again_it_goes_on(name: str, tmp_path: Path) -> None:
    training = MODES["run_eagerly"](OPTIMIZERS[name])
    masks = keras_models.random_masks(training.model)
    hold(training.model, masks)
    list(training.steps(2))
    training.model.save(tmp_path / "model.keras")
    training.model = keras.models.load_model(tmp_path / "model.keras")
    assert leak(training.model, masks) == 0.0
    hold(training.model, masks)
    leaks = [leak(model, masks) for model in training.steps(2)]
    assert leaks == [0.0, 0.0]
    hold_table.record("keras", BACKEND, name, "save, load, hold again", leaks)


@pytest.mark.skipif(BACKEND != "jax", reason="a limit of Keras on JAX")
@pytest.mark.parametrize("pruned", [False, True])
def test_keras_on_jax_cannot_fit_twice_with_an_average_pruned_or_not(pruned: bool) -> None:
    """Tests that skip this case rest on it: once Keras can, they must be widened."""
    model = network()
    model.compile(made(keras.optimizers.SGD, use_ema=True), LOSS)
    if pruned:
        hold(model, keras_models.random_masks(model))
    model.fit(*DATA, verbose=0)
    with pytest.raises((ValueError, TypeError)) as caught:  # the second is raised as Keras cleans up after the first
        model.fit(*DATA, verbose=0)
    assert any("donate the same buffer twice" in str(each) for each in (caught.value, caught.value.__context__))
