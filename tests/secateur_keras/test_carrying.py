"""A smaller model with the carried optimizer goes where the masked large model goes on what stays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import keras_models
import secateur_keras as sk
from secateur import Latency, Neurons, Recipe
from secateur.errors import HoldError, ModelTypeError, UnreachableTargetError
from secateur_keras.adapter import KerasAdapter

HALF = Recipe(0.5, granularity=Neurons(), scope="layer")


def convolutional() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, use_bias=False, name="first")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Flatten()(layers.DepthwiseConv2D(2, name="depthwise")(x))
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Dense(10, activation="tanh", name="wide")(x)))


def recurrent() -> keras.Model:
    return keras.Sequential([keras.Input((5, 4)), layers.LSTM(10, name="lstm"), layers.Dense(3, name="head")])


def subclassed() -> keras.Model:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inside = keras.Sequential([layers.Dense(12, activation="tanh"), layers.Dense(8, activation="tanh")])
            self.head = layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.head(self.inside(x))

    model = Own()
    model(np.zeros((2, 6), np.float32))
    return model


MODELS: dict[str, tuple[Callable[[], keras.Model], tuple[int, ...]]] = {
    "convolutional": (convolutional, (6, 6, 2)),
    "recurrent": (recurrent, (5, 4)),
    "subclassed": (subclassed, (6,)),
}
OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=10.0),
    "AdamW": lambda: optimizers.AdamW(optimizers.schedules.ExponentialDecay(0.01, 2, 0.5), epsilon=1e-3, amsgrad=True),
    "Nadam": lambda: optimizers.Nadam(0.01, epsilon=1e-3),
    "RMSprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True, epsilon=1e-3),
    "accumulated": lambda: optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=2),
    "averaged": lambda: optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01, epsilon=1e-3), 8.0, 2),
}


def made(name: str, optimizer: keras.optimizers.Optimizer) -> tuple[keras.Model, Any, Any]:
    make, shape = MODELS[name]
    model = keras_models.randomize(make())
    model.compile(optimizer, "mse")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(7, *shape)), generator.normal(size=(7, 3))
    return model, x.astype(np.float32), y.astype(np.float32)


def numbers(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in model.get_weights()]


def same(small: keras.Model, other: keras.Model) -> None:
    for found, expected in zip(numbers(small), numbers(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


CASES = [("convolutional", kind) for kind in OPTIMIZERS] + [("recurrent", "AdamW"), ("subclassed", "momentum")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_next_steps_are_those_of_the_masked_model(name: str, kind: str) -> None:
    model, x, y = made(name, OPTIMIZERS[kind]())
    pruned = sk.prune(model, HALF, example=x[:2])
    for _ in range(3):
        model.train_on_batch(x, y)
    small = pruned.compact()
    before = [np.array(variable) for variable in model.optimizer.variables]
    carried = pruned.carry_optimizer(model.optimizer, small)
    assert type(carried) is type(model.optimizer) and carried is not model.optimizer
    assert small.optimizer is carried
    assert small.count_params() < model.count_params()
    for old, new in zip(before, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
    for _ in range(3):
        small.train_on_batch(x, y)
        model.train_on_batch(x, y)
        same(small, pruned.compact())


def test_without_the_state_the_next_step_is_another_one() -> None:
    model, x, y = made("convolutional", OPTIMIZERS["momentum"]())
    pruned = sk.prune(model, HALF, example=x[:2])
    for _ in range(3):
        model.train_on_batch(x, y)
    small = pruned.compact()
    small.train_on_batch(x, y)
    model.train_on_batch(x, y)
    with pytest.raises(AssertionError):
        same(small, pruned.compact())


def test_counts_rates_and_scales_go_on() -> None:
    model, x, y = made("recurrent", OPTIMIZERS["scaled"]())
    pruned = sk.prune(model, HALF, example=x[:2])
    for _ in range(3):
        model.train_on_batch(x, y)
    model.optimizer.inner_optimizer.learning_rate = 0.25
    carried = pruned.carry_optimizer(model.optimizer, pruned.compact())
    assert float(carried.dynamic_scale) == float(model.optimizer.dynamic_scale) == 16.0
    assert int(carried.inner_optimizer.iterations) == 3
    assert float(carried.inner_optimizer.learning_rate) == 0.25


def test_an_optimizer_of_another_loop_is_carried_and_leaves_the_compilation_alone() -> None:
    model, x, _ = made("recurrent", OPTIMIZERS["momentum"]())
    own = optimizers.Adam(0.01)
    own.build(model.trainable_variables[:2])
    pruned = sk.prune(model, HALF, example=x[:2])
    small = pruned.compact()
    fresh = small.optimizer
    carried = pruned.carry_optimizer(own, small)
    assert small.optimizer is fresh
    assert [id(variable) for variable in carried._trainable_variables] == [
        id(variable) for variable in small.trainable_variables[:2]
    ]


def test_an_optimizer_that_has_not_begun_stays_so() -> None:
    model, x, y = made("recurrent", OPTIMIZERS["momentum"]())
    pruned = sk.prune(model, HALF, example=x[:2])
    small = pruned.compact()
    unused = optimizers.Adam(0.125)
    carried = pruned.carry_optimizer(unused, small)
    assert not carried.built and float(carried.learning_rate) == 0.125
    small.train_on_batch(x, y)


@pytest.mark.parametrize("kind", ["foreign", "masks", "other model", "factored", "none"])
def test_what_cannot_be_carried_is_refused(kind: str) -> None:
    model, x, y = made("convolutional", optimizers.Adafactor(0.01))
    pruned = sk.prune(model, HALF, example=x[:2])
    small = pruned.compact()
    optimizer: Any = optimizers.SGD(0.01)
    optimizer.build(model.trainable_variables)
    message = "what it returned"
    if kind == "foreign":
        optimizer = optimizers.SGD(0.01)
        optimizer.build(convolutional().trainable_variables)
        message = "no weights of"
    elif kind == "other model":
        small = model
    elif kind == "factored":
        model.train_on_batch(x, y)
        optimizer, message = model.optimizer, "cannot be cut as the weight was"
    elif kind == "none":
        optimizer, message = "sgd", "Optimizer itself"
        with pytest.raises(ModelTypeError, match="NoneType: give what compact"):
            pruned.carry_optimizer(model.optimizer, None)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruned = sk.prune(model, Recipe(0.8, granularity=Neurons(), scope="layer"), example=x[:2])
        message = "before anything more was pruned"
    before = [np.array(variable) for variable in small.weights]
    with pytest.raises(HoldError, match=message):
        pruned.carry_optimizer(optimizer, small)
    assert all(np.array_equal(old, np.array(new)) for old, new in zip(before, small.weights, strict=True))


def test_a_latency_is_met_on_a_real_clock_or_refused() -> None:
    """On a busy machine nothing can be said of the times but that there are some."""
    model, x, _ = made("convolutional", OPTIMIZERS["momentum"]())
    before = numbers(model)
    timer = KerasAdapter().timer(model, x)
    assert timer() > 0.0
    assert all(np.array_equal(old, new) for old, new in zip(before, numbers(model), strict=True))
    try:
        pruned = sk.prune(model, Recipe(Latency(0.05), granularity=Neurons()), example=x)
    except UnreachableTargetError as error:
        assert "microseconds" in str(error)
        return
    assert pruned.timing is not None and 0.0 < pruned.timing.small <= 0.95 * pruned.timing.dense
