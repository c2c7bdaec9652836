"""Keras's half: builds, trains and keeps the networks. Twin of ``torch_side``, function by function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

import secateur_keras as sk
from benchmarks.headline_board.jobs import BATCH, CAFFE, PERCEPTRON, SCORED, SNIP, TEACHER_WEIGHT, TEMPERATURE, Job
from secateur import Recipe
from secateur.demo.data import Examples
from secateur_keras.demo import download_mnist as download

Array = npt.NDArray[Any]

__all__ = ["about", "arrays", "download", "load", "predicted", "save", "train"]


def about() -> dict[str, str]:
    """What else the results should tell."""
    return {"backend": keras.backend.backend()}


def network(
    name: str, dropout: float = 0.0, input_dropout: float = 0.0, precision: str = "float32"
) -> keras.Sequential:
    """Without activation behind the convolutions, as Caffe has it, or with one, as in the code of SNIP.

    Kernels start as PyTorch's do, so that both frameworks train the same network.
    """
    common = {"dtype": precision, "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")}

    def dense(units: int, number: int) -> list[Any]:
        return [
            layers.Dense(units, activation="relu", name=f"dense{number}", **common),
            layers.Dropout(dropout, name=f"dropout{number}", dtype=precision),
        ]

    def convolution(channels: int, number: int) -> list[Any]:
        activation = {CAFFE: None, SNIP: "relu"}[name]
        return [
            layers.Conv2D(channels, 5, activation=activation, name=f"conv{number}", **common),
            layers.MaxPooling2D(2, name=f"pool{number}", dtype=precision),
        ]

    flatten, output = layers.Flatten(name="flatten"), layers.Dense(10, name="output", **(common | {"dtype": "float32"}))
    if name == PERCEPTRON:
        stack = [flatten, layers.Dropout(input_dropout, name="dropout0"), *dense(300, 1), *dense(100, 2), output]
    else:
        stack = [*convolution(20, 1), *convolution(50, 2), flatten, *dense(500, 3), output]
    return keras.Sequential([keras.Input((28, 28, 1)), *stack], name="network")


def train(
    job: Job, recipe: Recipe | None, rates: list[float], part: Examples, seed: int, teacher: keras.Model | None
) -> tuple[keras.Model, sk.Pruner | None]:
    """A network of the job, trained for an epoch a rate, and its pruner."""
    keras.utils.set_random_seed(seed)
    model = network(job.network, job.dropout, job.input_dropout, _precision(job.network))
    images, labels = part.images[..., np.newaxis], part.labels
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained = model if teacher is None else sk.distiller(model, teacher, TEACHER_WEIGHT, TEMPERATURE)
    trained.compile(keras.optimizers.Adam(rates[0], epsilon=1e-8), loss)
    scored = [(images[start : start + BATCH], labels[start : start + BATCH]) for start in range(0, SCORED, BATCH)]
    pruner = None if recipe is None else sk.Pruner(recipe, scored, loss)
    callbacks = [keras.callbacks.LearningRateScheduler(lambda epoch, _: rates[epoch])]
    callbacks += [] if pruner is None else [pruner]
    trained.fit(images, labels, batch_size=BATCH, epochs=len(rates), callbacks=callbacks, verbose=0)
    return model, pruner


def _precision(name: str) -> str:
    """Convolutions in mixed precision: weights and logits stay float32."""
    return "float32" if name == PERCEPTRON else "mixed_bfloat16"


def predicted(model: keras.Model, name: str, images: Array) -> Array:
    """Classes, int64[n], in full precision."""
    exact = network(name)
    exact.set_weights(model.get_weights())
    return exact.predict(images[..., np.newaxis], batch_size=2000, verbose=0).argmax(1)


def arrays(model: keras.Model) -> dict[str, Array]:
    """All of its arrays, under the names that masks have."""
    variables = {f"{layer.name}/{each.name}": each for layer in model.layers for each in layer.weights}
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def save(model: keras.Model, path: Path) -> None:
    """Keep a teacher."""
    with path.open("wb") as file:
        np.savez(file, *model.get_weights())


def load(name: str, path: Path) -> keras.Model:
    """A teacher that was kept."""
    model = network(name)
    with np.load(path) as kept:
        model.set_weights(list(kept.values()))
    return model
