"""Small Keras networks of every shape that the adapter should understand, and ways to look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from secateur_keras.parameters import parameters

Array = npt.NDArray[Any]


def mlp(units: int = 16, activation: str = "relu") -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4, 4)),
            layers.Flatten(),
            layers.Dense(units, activation=activation, name="hidden"),
            layers.Dense(10, activation="softmax", name="head"),
        ]
    )


def plain_cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(6, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Dropout(0.2),
            layers.Conv2D(4, 3, activation="sigmoid", name="conv2"),
            layers.Flatten(),
            layers.Dense(6, activation="gelu", name="dense"),
            layers.Dense(3, name="head"),
        ]
    )


def residual() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    trunk = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    branch = layers.Conv2D(5, 1, activation="relu", name="reduce")(trunk)
    branch = layers.Conv2D(8, 3, padding="same", name="expand")(branch)
    trunk = layers.Activation("relu")(layers.Add()([branch, trunk]))
    trunk = layers.Average()([trunk, layers.Conv2D(8, 1, name="side")(trunk)])
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(trunk)))


def concatenated() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    left = layers.Conv2D(4, 3, padding="same", activation="tanh", name="left")(inputs)
    right = layers.Conv2D(6, 5, padding="same", name="right")(inputs)
    joined = layers.BatchNormalization(name="norm")(layers.Concatenate()([left, right]))
    joined = layers.UpSampling2D()(layers.Conv2D(4, 1, name="mix")(joined))
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(joined)))


def separable() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu", name="depthwise")(x)
    x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, activation="relu", name="separable")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalMaxPooling2D()(x)))


def squeeze_and_excite() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply()([x, gate])
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x)))


def reshaped() -> keras.Model:
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(6, 1, name="conv")(inputs)
    x = layers.Reshape((16, 6))(x)
    x = layers.Dense(8, activation="relu", name="each")(x)
    x = layers.Permute((2, 1))(x)
    x = layers.Reshape((-1,))(layers.PReLU()(x))
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def channels_first() -> keras.Model:
    """No convolution, which TensorFlow has only on GPUs in this format."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Permute((3, 1, 2))(layers.Conv2D(6, 1, name="conv")(inputs))
    x = layers.BatchNormalization(axis=1, name="norm")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten(data_format="channels_first")(x)))


def nested() -> keras.Model:
    """A functional model inside a Sequential inside a functional model; the innermost is used twice."""
    inner_inputs = keras.Input((6,))
    inner = layers.Dense(4, activation="relu", name="dense")(inner_inputs)
    inner = keras.Model(inner_inputs, layers.Dense(6, name="back")(inner) + inner_inputs, name="inner")
    middle = keras.Sequential([keras.Input((6,)), inner, layers.Dense(8, name="dense"), layers.ReLU()], name="middle")
    inputs = keras.Input((5,))
    x = layers.Dense(6, activation="tanh", name="dense")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(middle(inner(x))))


def shared_layer() -> keras.Model:
    left, right = keras.Input((5,), name="left"), keras.Input((5,), name="right")
    encoder = layers.Dense(8, activation="relu", name="encoder")
    joined = layers.Subtract()([encoder(left), encoder(right)])
    return keras.Model([left, right], layers.Dense(2, name="head")(joined))


def raw_operations() -> keras.Model:
    inputs = keras.Input((4, 4, 2))
    x = keras.ops.relu(layers.Conv2D(6, 3, padding="same", name="conv")(inputs))
    x = keras.ops.transpose(x * 2.0 - 1.0, (0, 3, 1, 2))
    x = keras.ops.concatenate([x, keras.ops.tanh(x)], axis=1)
    x = keras.ops.mean(keras.ops.reshape(x, (-1, 12, 16)), axis=-1, keepdims=True)
    x = keras.ops.squeeze(keras.ops.swapaxes(x, 1, 2), axis=1)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def one_dimensional() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((12, 3)),
            layers.Conv1D(6, 3, padding="causal", activation="relu", name="conv"),
            layers.DepthwiseConv1D(3, name="depthwise"),
            layers.AveragePooling1D(2),
            layers.SeparableConv1D(4, 2, name="separable"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(2, name="head"),
        ]
    )


class Subclassed(keras.Model):
    """Layers with one name, a branch of Python, arithmetic, and dropout that needs to know the mode."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.blocks = [layers.Dense(width, name="block") for width in (8, 6)]
        self.dropout = layers.Dropout(0.5)
        self.head = layers.Dense(3, name="head")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = inputs
        for block in self.blocks:
            x = self.dropout(keras.ops.relu(block(x)), training=training)
        return self.head(x) / 2.0


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 5), np.float32))
    return model


class Block(layers.Layer):
    """A residual block as users write it: a layer made of layers."""

    def __init__(self, width: int, rate: float = 0.3, name: str = "block") -> None:
        super().__init__(name=name)
        self.inside = [layers.Dense(2 * width, activation="relu", name="wide"), layers.Dense(width, name="narrow")]
        self.dropout = layers.Dropout(rate)

    def call(self, x: Any, training: bool | None = None) -> Any:
        y = x
        for layer in self.inside:
            y = layer(y)
        return self.dropout(y, training=training) + x


class Tower(keras.Model):
    """A model made of blocks, without a graph of its own."""

    def __init__(self) -> None:
        super().__init__(name="tower")
        self.blocks = [Block(6), Block(6)]

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def blocks() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, name="stem"),
            Block(6),
            layers.ReLU(),
            Tower(),
            layers.Dense(3, name="head"),
        ]
    )


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    builder.__name__: builder
    for builder in (
        mlp,
        plain_cnn,
        residual,
        concatenated,
        separable,
        squeeze_and_excite,
        reshaped,
        channels_first,
        nested,
        shared_layer,
        raw_operations,
        one_dimensional,
        subclassed,
        blocks,
    )
}


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights of order one, biases and running statistics included, so that nothing hides behind zeros."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        drawn = generator.normal(size=shape) / np.sqrt(max(1, int(np.prod(shape[:-1]))))
        if variable.name == "moving_variance":
            drawn = np.abs(drawn) + 0.5
        variable.assign(drawn.astype(np.float32))
    return model


def snapshot(model: keras.Model) -> list[Array]:
    """Copies of everything that a model remembers: weights, seeds, statistics, metrics."""
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.variables]


def random_masks(model: keras.Model, seed: int = 0, density: float = 0.5) -> dict[str, Array]:
    """A random mask for each kernel."""
    generator = np.random.default_rng(seed)
    return {
        parameter.name: generator.random(parameter.view.shape) < density
        for parameter in parameters(model)
        if parameter.role == "kernel"
    }


def leak(model: keras.Model, masks: dict[str, Array]) -> float:
    """The largest magnitude where a mask is False."""
    views = {parameter.name: parameter.view for parameter in parameters(model)}
    return max(float(np.abs(views[name][~mask], dtype=np.float32).max(initial=0.0)) for name, mask in masks.items())


def classification(count: int = 48, shape: tuple[int, ...] = (4, 4), classes: int = 10) -> tuple[Array, Array]:
    """Random inputs and labels."""
    generator = np.random.default_rng(1)
    return generator.normal(size=(count, *shape)).astype(np.float32), generator.integers(0, classes, count)
