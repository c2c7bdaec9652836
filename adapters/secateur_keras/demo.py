"""Keras's half of the demo: builds, trains and times its networks. Twin of ``secateur_torch.demo``.

The functions are described in :class:`secateur.demo.twin.Twin`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from secateur import pruner as pruner_core
from secateur.demo.networks import CHANNELS, CLASSES, HIDDEN, NORM_EPSILON, NORM_MOMENTUM, Network
from secateur.demo.plan import WEIGHT_DECAY
from secateur.errors import DataNotFoundError
from secateur.recipe import Recipe
from secateur_keras.adapter import KerasAdapter
from secateur_keras.training import Pruner

Array = npt.NDArray[Any]

ADAPTER = KerasAdapter()
CHANNELS_LAST = True
LOSS = keras.losses.SparseCategoricalCrossentropy()
_CHUNK = 2000

# A user's keras.json may say otherwise; both frameworks must train the same network.
keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")


def versions() -> dict[str, str]:
    """See :meth:`secateur.demo.twin.Twin.versions`."""
    backend = keras.backend.backend()
    return {"keras": keras.__version__, backend: import_module(backend).__version__}


def build(network: Network) -> keras.Sequential:
    """See :meth:`secateur.demo.twin.Twin.build`; the model gives probabilities, as is usual in Keras."""
    stack = _perceptron(network) if network.name == "mlp" else _convolutional(network)
    return keras.Sequential(stack, name=network.name)


def assign(model: keras.Model, weights: Mapping[str, Array]) -> None:
    """See :meth:`secateur.demo.twin.Twin.assign`."""
    attributes = {"kernel": "kernel", "bias": "bias", "scale": "gamma", "shift": "beta", "mean": "moving_mean"}
    for name, array in weights.items():
        layer, role = name.split(".")
        variable = getattr(model.get_layer(layer), attributes.get(role, "moving_variance"))
        variable.assign(np.transpose(array, (2, 3, 1, 0)) if array.ndim == 4 else array.T)


def _perceptron(network: Network) -> list[Any]:
    return [
        keras.Input((*network.image, 1)),
        layers.Flatten(name="flatten"),
        layers.Dense(HIDDEN, activation="relu", name="hidden"),
        layers.Dense(CLASSES, activation="softmax", name="output"),
    ]


def _convolutional(network: Network) -> list[Any]:
    stack: list[Any] = [keras.Input((*network.image, 1))]
    for number, channels in enumerate(CHANNELS, start=1):
        stack += [
            layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"conv{number}"),
            layers.BatchNormalization(epsilon=NORM_EPSILON, momentum=NORM_MOMENTUM, name=f"norm{number}"),
            layers.ReLU(name=f"relu{number}"),
            layers.MaxPooling2D(2, name=f"pool{number}"),
        ]
    return [*stack, layers.Flatten(name="flatten"), layers.Dense(CLASSES, activation="softmax", name="output")]


def inputs(images: Array) -> Array:
    """See :meth:`secateur.demo.twin.Twin.inputs`: (n, height, width, 1)."""
    return images[..., np.newaxis]


def optimizer(model: keras.Model, rate: float) -> keras.optimizers.Optimizer:
    """See :meth:`secateur.demo.twin.Twin.optimizer`; compiles the model with it."""
    adam = keras.optimizers.AdamW(learning_rate=rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=WEIGHT_DECAY)
    model.compile(optimizer=adam, loss=LOSS)
    return adam


def set_rate(optimizer: keras.optimizers.Optimizer, rate: float) -> None:
    """See :meth:`secateur.demo.twin.Twin.set_rate`."""
    optimizer.learning_rate = rate


def pruner(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, recipe: Recipe, batches: list[tuple[Any, Array]]
) -> Pruner:
    """See :meth:`secateur.demo.twin.Twin.pruner`; it finds the optimizer in the model."""
    return Pruner(recipe, data=batches, loss=LOSS)


def session(pruner: Pruner) -> pruner_core.Pruner:
    """See :meth:`secateur.demo.twin.Twin.session`."""
    return pruner.pruned


def train_epoch(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    images: Array,
    labels: Array,
    batch: int,
    pruner: Pruner | None = None,
) -> None:
    """See :meth:`secateur.demo.twin.Twin.train_epoch`; a pruner is a callback."""
    callbacks = [] if pruner is None else [pruner]
    model.fit(inputs(images), labels, batch_size=batch, shuffle=False, verbose=0, callbacks=callbacks)


def predict(model: keras.Model, images: Array) -> Array:
    """See :meth:`secateur.demo.twin.Twin.predict`."""
    x = inputs(images)
    return np.concatenate([model.predict_on_batch(x[start : start + _CHUNK]) for start in range(0, len(x), _CHUNK)])


def forward(model: keras.Model, inputs: Array) -> None:
    """See :meth:`secateur.demo.twin.Twin.forward`; the NumPy array that it returns is there only when all is done."""
    model.predict_on_batch(inputs)


def file_size(model: keras.Model) -> int:
    """See :meth:`secateur.demo.twin.Twin.file_size`: ``model.save`` of a copy that was never compiled.

    ``keras.models.clone_model`` would compile the copy too, and its file would hold the optimizer's state.
    """
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        copy.save(path)
        return path.stat().st_size


def download_mnist(path: Path) -> None:
    """See :meth:`secateur.demo.twin.Twin.download_mnist`: ``keras.datasets.mnist``."""
    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # urllib, ssl and Keras raise exceptions of many kinds
        raise DataNotFoundError(f"keras.datasets.mnist failed: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part.npz")
    np.savez_compressed(partial, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    partial.replace(path)
