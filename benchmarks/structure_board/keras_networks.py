"""Hand-written Keras networks: recurrence, attention, views, branches and a class of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from benchmarks.structure_board.cases import Case

TOKENS, WIDTH = 50, 32


def perceptron() -> keras.Model:
    return keras.Sequential(
        [keras.Input((16,)), layers.Dense(64, "relu"), layers.Dense(48, "tanh"), layers.Dense(10, name="head")]
    )


def recurrent(layer: Callable[[], layers.Layer]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        inputs = keras.Input((6, 8))
        x = layers.Dense(24, name="stem")(inputs)
        return keras.Model(inputs, layers.Dense(10, name="head")(layer()(x)))

    return build


def stacked() -> keras.Model:
    inputs = keras.Input((6, 8))
    x = layers.LSTM(32, return_sequences=True)(inputs)
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GRU(24)(x)))


def encoder() -> keras.Model:
    inputs = keras.Input((6, 8))
    x = layers.Dense(WIDTH, name="stem")(inputs)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 8)(y, y)
        y = layers.Dense(128, "gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(WIDTH)(y)
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling1D()(x)))


def decoder() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(TOKENS, WIDTH)(inputs)
    y = layers.RMSNormalization()(x)
    x = x + layers.GroupQueryAttention(8, 4, 2)(y, y, use_causal_mask=True)
    y = layers.RMSNormalization()(x)
    x = x + layers.Dense(WIDTH)(layers.Dense(64, "silu")(y) * layers.Dense(64)(y))
    return keras.Model(inputs, layers.Dense(TOKENS, name="head")(layers.RMSNormalization()(x)))


def tied() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    embedding = layers.ReversibleEmbedding(TOKENS, WIDTH)
    x = embedding(inputs)
    x = x + layers.Dense(WIDTH)(layers.Dense(64, "relu")(x))
    return keras.Model(inputs, embedding(x, reverse=True))


def einsum_attention() -> keras.Model:
    inputs = keras.Input((6, WIDTH))
    query, key, value = (layers.EinsumDense("btd,dhe->bthe", (None, 4, 8))(inputs) for _ in range(3))
    weights = ops.softmax(ops.einsum("bthe,bshe->bhts", query, key) / 3.0)
    x = ops.einsum("bhts,bshe->bthe", weights, value)
    return keras.Model(inputs, layers.Dense(10, name="head")(ops.reshape(x, (-1, 6, 32))))


def unet() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    first = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    second = layers.Conv2D(32, 3, padding="same", activation="relu")(layers.MaxPooling2D()(first))
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(layers.MaxPooling2D()(second))
    for width, skip in ((32, second), (16, first)):
        x = layers.Concatenate()([layers.Conv2DTranspose(width, 2, strides=2)(x), skip])
        x = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", activation="relu")(x))
    return keras.Model(inputs, layers.Conv2D(4, 1, name="head")(x))


def separable() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.SeparableConv2D(32, 3, padding="same", activation="relu")(inputs)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(48, 1, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def squeeze_and_excite() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    scale = layers.Dense(32, "sigmoid")(layers.Dense(8, "relu")(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    x = layers.Conv2D(48, 1, activation="relu")(x * scale)
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


def shuffled() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same", groups=1)(inputs)
    x = layers.Conv2D(32, 3, padding="same", groups=4)(x)
    x = ops.transpose(ops.reshape(x, (-1, 8, 8, 4, 8)), (0, 1, 2, 4, 3))
    x = layers.Conv2D(32, 3, padding="same", groups=4)(ops.reshape(x, (-1, 8, 8, 32)))
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.Flatten()(x)))


@keras.saving.register_keras_serializable("secateur_benchmarks")
class Subclassed(keras.Model):
    """A residual block and a head, in a class of one's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.stem, self.inner = layers.Dense(32, "relu"), layers.Dense(64, "relu")
        self.outer, self.head = layers.Dense(32), layers.Dense(10)

    def call(self, inputs: Any) -> Any:
        x = self.stem(inputs)
        return self.head(x + self.outer(self.inner(x)))


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 16), "float32"))
    return model


def cases() -> list[Case]:
    """The networks of this module."""
    numbers = np.random.default_rng(0)

    def real(*shape: int) -> Any:
        return numbers.normal(size=(2, *shape)).astype("float32")

    tokens = numbers.integers(0, TOKENS, (2, 6)).astype("int32")
    listed = {
        "perceptron": (perceptron, real(16)),
        "LSTM": (recurrent(lambda: layers.LSTM(32)), real(6, 8)),
        "GRU": (recurrent(lambda: layers.GRU(32)), real(6, 8)),
        "Bidirectional": (recurrent(lambda: layers.Bidirectional(layers.LSTM(32))), real(6, 8)),
        "LSTM, then GRU": (stacked, real(6, 8)),
        "Transformer encoder": (encoder, real(6, 8)),
        "grouped queries, SwiGLU": (decoder, tokens),
        "tied embeddings": (tied, tokens),
        "einsum attention": (einsum_attention, real(6, WIDTH)),
        "U-Net": (unet, real(16, 16, 3)),
        "separable": (separable, real(16, 16, 3)),
        "squeeze and excite": (squeeze_and_excite, real(16, 16, 3)),
        "groups, shuffled": (shuffled, real(8, 8, 3)),
        "subclassed": (subclassed, real(16)),
    }
    return [Case(name, "written here", _built(make, example)) for name, (make, example) in listed.items()]


def _built(make: Callable[[], keras.Model], example: Any) -> Callable[[], tuple[keras.Model, Any]]:
    return lambda: (make(), example)
