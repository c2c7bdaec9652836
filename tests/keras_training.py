"""Every optimizer that Keras has, found by looking, in every way to train a tiny model on every backend."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, optimizers

import keras_models
from secateur_keras import backends

BACKEND = keras.backend.backend()
LOSS = "sparse_categorical_crossentropy"
DATA = keras_models.classification(16, (4,), 3)
EXECUTION = 2

WRAPPING = ("LossScaleOptimizer", "MultiOptimizer")
"""Optimizers that leave the steps to others."""

REVIVING: dict[str, Any] = {"weight_decay": 0.1, "momentum": 0.9, "nesterov": True, "amsgrad": True, "centered": True}
"""Settings that bring masked weights back to life, for the optimizers that have them."""


def found() -> dict[str, type[optimizers.Optimizer]]:
    """The optimizers of Keras by name, without those that need another."""
    kinds = {name: kind for name, kind in vars(optimizers).items() if inspect.isclass(kind)}
    return {
        name: kind
        for name, kind in sorted(kinds.items())
        if issubclass(kind, optimizers.Optimizer) and kind is not optimizers.Optimizer and name not in WRAPPING
    }


OPTIMIZERS = found()


def made(kind: type[optimizers.Optimizer], **options: Any) -> optimizers.Optimizer:
    known = inspect.signature(kind).parameters
    settings = {name: value for name, value in REVIVING.items() if name in known}
    return kind(learning_rate=0.05, **settings | options)


def network() -> keras.Model:
    layered = [layers.Dense(5, activation="relu", name="hidden"), layers.Dense(3, activation="softmax", name="head")]
    return keras_models.randomize(keras.Sequential([keras.Input((4,)), *layered]))


class Training:
    """A training that goes on step by step: of one model and optimizer, which Keras steps by ``train_on_batch``.

    Args:
        kind: of the optimizer.
        options: for the optimizer.
        compiling: for ``model.compile``.
    """

    def __init__(
        self,
        kind: type[optimizers.Optimizer],
        options: Mapping[str, Any] | None = None,
        compiling: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = network()
        self.optimizer = self.wrapped(made(kind, **(options or {})))
        self.model.compile(self.optimizer, LOSS, **(compiling or {}))

    def wrapped(self, optimizer: optimizers.Optimizer) -> optimizers.Optimizer:
        return optimizer

    def steps(self, count: int) -> Iterator[keras.Model]:
        """The model after each step that can be seen."""
        for step in range(count):
            self.step(step)
            backends.synchronise(self.model)
            yield self.model

    def step(self, step: int) -> None:
        self.model.train_on_batch(*DATA)


class LossScaling(Training):
    """With a step that is skipped, because gradients are not finite."""

    def wrapped(self, optimizer: optimizers.Optimizer) -> optimizers.Optimizer:
        return optimizers.LossScaleOptimizer(optimizer)

    def step(self, step: int) -> None:
        x, y = DATA
        self.model.train_on_batch(x * np.float32(np.inf) if step == 1 else x, y)


class Several(Training):
    """Another optimizer for one of the kernels."""

    def wrapped(self, optimizer: optimizers.Optimizer) -> optimizers.Optimizer:
        other = optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1)
        return optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizer, {".*head/kernel": other}))


class Fitting(Training):
    """``fit`` with several steps an execution, of which the last can be seen."""

    def steps(self, count: int) -> Iterator[keras.Model]:
        for _ in range(count // EXECUTION):
            self.model.fit(*DATA, batch_size=len(DATA[0]) // EXECUTION, verbose=0)
            yield self.model


class OwnLoop(Training):
    """A loop of one's own, compiled."""

    def __init__(self, kind: type[optimizers.Optimizer]) -> None:
        super().__init__(kind)
        self.optimizer.build(self.model.trainable_variables)
        self.loop: Loop | None = None

    def step(self, step: int) -> None:
        self.loop = self.loop or Loop(self.model, self.optimizer, compiled=True)
        self.loop.run(*DATA, steps=1)


Mode = Callable[[type[optimizers.Optimizer]], Training]
PLAIN = {"jit_compile": False} if BACKEND == "tensorflow" else {}
"""Where TensorFlow's own graphs do, its second compiler would double the time of these tests."""

AVERAGE = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}

MODES: dict[str, Mode] = {
    "compiled as Keras chooses, clipping": partial(Training, options={"global_clipnorm": 0.5}),
    "jit_compile=False": partial(Training, compiling={"jit_compile": False}),
    "run_eagerly": partial(Training, compiling={"run_eagerly": True}),
    "steps_per_execution": partial(Fitting, compiling={"steps_per_execution": EXECUTION, **PLAIN}),
    "gradient accumulation": partial(Training, options={"gradient_accumulation_steps": 3}, compiling=PLAIN),
    "use_ema": partial(Training, options=AVERAGE, compiling=PLAIN),
    "LossScaleOptimizer": partial(LossScaling, compiling=PLAIN),
    "MultiOptimizer": partial(Several, compiling=PLAIN),
    "own loop": OwnLoop,
}

NOT_OFFERED = {"torch": {"steps_per_execution": "takes one step an execution"}}


class Loop:
    """A training loop of one's own, as Keras's guides write it for each backend."""

    def __init__(self, model: keras.Model, optimizer: Any, compiled: bool) -> None:
        self.model, self.optimizer = model, optimizer
        self.loss = keras.losses.SparseCategoricalCrossentropy()
        prepare = {"tensorflow": self._tensorflow, "jax": self._jax, "torch": self._torch}
        self.step = prepare[BACKEND](compiled)

    def _tensorflow(self, compiled: bool) -> Callable[..., Any]:
        import tensorflow as tf

        def step(x: Any, y: Any) -> None:
            with tf.GradientTape() as tape:
                loss = self.loss(y, self.model(x, training=True))
            variables = self.model.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

        function = tf.function(step) if compiled else step
        return lambda x, y: function(tf.constant(x), tf.constant(y))

    def _torch(self, compiled: bool) -> Callable[..., Any]:
        import torch

        def step(x: Any, y: Any) -> None:
            self.model.zero_grad()
            self.loss(y, self.model(x, training=True)).backward()
            variables = self.model.trainable_weights
            with torch.no_grad():
                self.optimizer.apply([variable.value.grad for variable in variables], variables)

        return lambda x, y: step(torch.tensor(x), torch.tensor(y))

    def _jax(self, compiled: bool) -> Callable[..., Any]:
        import jax

        if not self.optimizer.built:
            self.optimizer.build(self.model.trainable_variables)

        def objective(weights: Any, rest: Any, x: Any, y: Any) -> Any:
            predictions, rest = self.model.stateless_call(weights, rest, x, training=True)
            return self.loss(y, predictions), rest

        def step(state: Any, x: Any, y: Any) -> Any:
            weights, rest, slots = state
            (_, rest), found = jax.value_and_grad(objective, has_aux=True)(weights, rest, x, y)
            weights, slots = self.optimizer.stateless_apply(slots, found, weights)
            return weights, rest, slots

        function = jax.jit(step) if compiled else step

        def run(x: Any, y: Any) -> None:
            parts = self.model.trainable_variables, self.model.non_trainable_variables, self.optimizer.variables
            after = function(tuple([variable.value for variable in part] for part in parts), x, y)
            for variables, values in zip(parts, after, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)

        return run

    def run(self, x: Any, y: Any, steps: int = 2) -> None:
        for _ in range(steps):
            self.step(x, y)
