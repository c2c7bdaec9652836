"""Distillation: the formula is that of PyTorch's twin, and a pruner in the distiller's fit prunes the student alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import secateur_keras as sk
from secateur import Cubic, Recipe
from secateur.errors import ModelTypeError, OutOfRangeError

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(64, 8)).astype("float32")
LABELS = RANDOM.integers(0, 4, 64)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network() -> keras.Model:
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(4)])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_the_loss_is_the_papers() -> None:
    model, teacher = network(), network()
    distiller = sk.distiller(model, teacher, weight=0.6, temperature=3.0)
    distiller.compile("sgd", LOSS)
    found = distiller.evaluate(INPUTS, LABELS, batch_size=64, verbose=0, return_dict=True)
    taught, learnt = (log_softmax(keras.ops.convert_to_numpy(each(INPUTS)) / 3.0) for each in (teacher, model))
    apart = (np.exp(taught) * (taught - learnt)).sum(axis=1).mean()
    expected = 0.4 * float(LOSS(LABELS, model(INPUTS))) + 0.6 * 9.0 * apart
    assert next(value for name, value in found.items() if "total" in name) == pytest.approx(expected, rel=1e-4)


def test_the_student_alone_is_pruned_and_the_teacher_is_the_model_as_it_was() -> None:
    model = network()
    dense = model.get_weights()
    distiller = sk.distiller(model, weight=0.9)
    distiller.compile("adam", LOSS)
    pruner = sk.Pruner(Recipe(0.5, schedule=Cubic(begin=0, end=6, every=2)))
    distiller.fit(INPUTS, LABELS, batch_size=16, epochs=2, callbacks=[pruner], verbose=0)
    assert pruner.finished and pruner.pruned.model is model
    assert len(pruner.masks) == 2
    kernels = [keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers]
    assert sum(int((kernel == 0).sum()) for kernel in kernels) == (8 * 16 + 16 * 4) // 2
    for before, after in zip(dense, distiller.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert pruner.compact() is not None


def test_probabilities_are_refused() -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="softmax")])
    with pytest.raises(ModelTypeError, match="from_logits=True"):
        sk.distiller(model)


def test_wrong_options_are_told() -> None:
    with pytest.raises(OutOfRangeError, match="temperature is -1"):
        sk.distiller(network(), temperature=-1)
