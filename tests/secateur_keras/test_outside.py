"""Weights that code uses outside of layers, or reads apart from inputs: they shrink, and the smaller model has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import secateur_keras as sk
from keras_models import randomize, snapshot
from secateur import Neurons, Recipe
from secateur.errors import TraceError
from secateur_keras.surgery import counterparts

HALF = Recipe(0.5, granularity=Neurons(), scope="layer")
X = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)


class Using(keras.Model):
    """A feed-forward network with a weight beside its layers, used in one way or another."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.wide = layers.Dense(8, activation="relu", name="wide")
        self.narrow = layers.Dense(4, name="narrow")
        self.places = layers.Embedding(9, 4, name="places")
        self.head = layers.Dense(2, name="head")
        self.gain = self.add_weight(shape=(4,), name="gain", initializer="ones", constraint=self.constraint)
        self.matrix = self.add_weight(shape=(4, 6), name="matrix", initializer="ones", trainable=False)
        self.places.build()
        self.head.build((None, None, 4))

    @property
    def constraint(self) -> Any:
        return {"bounded": "max_norm", "positive": "non_neg"}.get(self.way)

    def call(self, x: Any) -> Any:
        y = self.narrow(self.wide(x))
        if self.way in ("right", "bounded", "positive"):
            y = y * self.gain
        elif self.way == "left":
            y = self.gain * y
        elif self.way == "matrix":
            y = ops.matmul(ops.matmul(y, self.matrix), np.ones((6, 4), np.float32))
        elif self.way == "constant":
            y = y + self.places(ops.arange(5))
        elif self.way == "sliced":
            y = y + self.places.embeddings[:5]
        elif self.way == "table":
            y = ops.einsum("btv,vf->btf", ops.einsum("btf,vf->btv", y, self.places.embeddings), self.places.embeddings)
        elif self.way == "kernel":
            return ops.matmul(y, self.head.kernel)
        return self.head(y)


WAYS = {
    "right": {"gain": (1, 2)},
    "left": {"gain": (1, 2)},
    "positive": {"gain": (1, 2)},
    "matrix": {"matrix": (1, 12)},
    "constant": {"places/embeddings": (9, 2)},
    "sliced": {"places/embeddings": (9, 2)},
    "table": {"places/embeddings": (9, 2)},
}


def using(way: str) -> keras.Model:
    model = Using(way)
    model(X)
    return randomize(model)


def run(model: keras.Model) -> Any:
    return ops.convert_to_numpy(model(X, training=False))


@pytest.mark.parametrize("way", WAYS)
def test_masked_equals_removed_and_the_result_is_an_ordinary_model(way: str, tmp_path: Path) -> None:
    model = using(way)
    before = snapshot(model)
    pruned = sk.prune(model, HALF, example=X)
    masked = snapshot(model)
    assert any(not np.array_equal(old, new) for old, new in zip(before, masked, strict=True))
    small = pruned.compact()
    assert pruned.max_error is not None and pruned.max_error < 1e-5
    for old, new in zip(masked, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    found = {name: tuple(counterparts(small)[name].variable.shape) for name in WAYS[way]}
    assert found == WAYS[way]
    assert [weight.trainable for weight in small.weights].count(False) == (1 if way == "matrix" else 0)
    small.compile("sgd", "mse")
    small.fit(X, np.ones((3, 5, 2), np.float32), verbose=0)
    small.save(tmp_path / "small.keras")
    np.testing.assert_allclose(run(keras.models.load_model(tmp_path / "small.keras")), run(small), atol=1e-6)
    if way in ("right", "table"):
        assert sk.prune(small, HALF, example=X).compact().count_params() < small.count_params()


def test_momenta_of_such_a_weight_are_carried_over() -> None:
    model = using("right")
    optimizer = keras.optimizers.Adam(0.1)
    model.compile(optimizer, "mse")
    pruned = sk.prune(model, HALF, example=X)
    model.fit(X, np.ones((3, 5, 2), np.float32), verbose=0, epochs=2)
    small = pruned.compact()
    pruned.carry_optimizer(optimizer, small)
    kept = pruned.plan().keep["gain", 0]
    after = counterparts(small)["gain"].variable
    np.testing.assert_array_equal(np.array(after)[0], np.array(model.gain)[kept])
    (old,) = (slot for slot in optimizer.variables if "gain_momentum" in slot.path)
    (new,) = (slot for slot in small.optimizer.variables if "momentum" in slot.path and tuple(slot.shape) == (1, 2))
    np.testing.assert_array_equal(np.array(new)[0], np.array(old)[kept])


@pytest.mark.parametrize("way", ["kernel", "bounded"])
def test_what_no_layer_could_hold_is_refused_by_prune_already(way: str) -> None:
    model = using(way)
    before = snapshot(model)
    with pytest.raises(TraceError, match=r"(head/kernel|gain) outside of a layer"):
        sk.prune(model, HALF, example=X)
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


class Places(layers.Layer):
    """Mixed features and learned places."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.places = layers.Embedding(5, 6, name="places")
        self.mix = layers.Dense(6, name="mix")

    def call(self, x: Any) -> Any:
        return self.mix(x) + self.places(ops.arange(x.shape[1]))


def test_a_layer_of_ones_own_that_looks_up_constants_is_taken_apart() -> None:
    model = keras.Sequential([keras.Input((5, 3)), Places(), layers.Dense(12, activation="relu"), layers.Dense(2)])
    pruned = sk.prune(randomize(model), HALF)
    small = pruned.compact()
    assert pruned.max_error is not None and pruned.max_error < 1e-5
    assert [tuple(weight.shape) for weight in small.weights if "embeddings" in weight.path] == [(5, 3)]


def test_keras_is_as_it_was_after_a_model_was_read() -> None:
    kept = [vars(keras.Layer)["__call__"], *(getattr(keras.Variable, name) for name in ("__mul__", "__getitem__"))]
    sk.graph(using("left"), X)
    sk.graph(using("constant"), X)
    now = [vars(keras.Layer)["__call__"], *(getattr(keras.Variable, name) for name in ("__mul__", "__getitem__"))]
    assert all(old is new for old, new in zip(kept, now, strict=True))
