"""Keras networks that are hard to make smaller: attention, recurrence, gates, tied weights, views and raw products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops


def _head(x: Any, width: int = 3) -> Any:
    return layers.Dense(width, name="head")(x)


def encoder() -> keras.Model:
    """A Transformer's encoder block; its values have another width than its keys."""
    inputs = keras.Input((6, 8))
    x = layers.Dense(8, name="stem")(inputs)
    y = layers.MultiHeadAttention(4, 3, value_dim=5, dropout=0.1, name="attention")(x, x)
    x = layers.LayerNormalization(name="first")(x + y)
    y = layers.Dense(8, name="down")(layers.Dense(16, activation="gelu", name="up")(x))
    x = layers.LayerNormalization(name="second")(x + y)
    return keras.Model(inputs, _head(layers.GlobalAveragePooling1D()(x)))


def decoder() -> keras.Model:
    """Causal and cross attention, mean squares, SwiGLU."""
    inputs, memory = keras.Input((6,), dtype="int32"), keras.Input((5, 7))
    x = layers.Embedding(11, 8, name="embedding")(inputs)
    y = layers.MultiHeadAttention(4, 3, name="self")(x, x, use_causal_mask=True)
    x = layers.RMSNormalization(name="first")(x + y)
    y = layers.MultiHeadAttention(2, 3, name="cross", use_bias=False)(x, memory)
    x = layers.RMSNormalization(name="second")(x + y)
    gate, up = layers.Dense(12, activation="silu", name="gate")(x), layers.Dense(12, name="up")(x)
    return keras.Model([inputs, memory], _head(x + layers.Dense(8, name="down")(gate * up)))


def grouped_queries() -> keras.Model:
    inputs = keras.Input((6, 8))
    x = layers.Dense(10, name="stem")(inputs)
    y = layers.GroupQueryAttention(4, 6, 3, name="attention")(x, x, use_causal_mask=True)
    return keras.Model(inputs, _head(layers.RMSNormalization(name="norm")(x + y)))


def with_scores() -> keras.Model:
    """Attention that returns its weights, over two axes, and with a mask that is computed."""
    inputs, mask = keras.Input((4, 3, 5)), keras.Input((4, 4))
    x = layers.Dense(6, name="stem")(inputs)
    x = layers.MultiHeadAttention(4, 2, name="both")(x, x) + layers.MultiHeadAttention(
        3, 2, attention_axes=(2,), name="rows"
    )(x, x)
    pooled = layers.Dense(6, name="pooled")(ops.mean(x, axis=2))
    scored, scores = layers.MultiHeadAttention(4, 2, name="scored")(pooled, pooled, return_attention_scores=True)
    y = layers.MultiHeadAttention(3, 2, name="masked")(scored, pooled, attention_mask=mask > 0.0)
    weights = layers.GlobalAveragePooling2D(data_format="channels_first")(scores)
    return keras.Model([inputs, mask], _head(ops.concatenate([layers.Flatten()(y), weights], axis=-1)))


def recurrent() -> keras.Model:
    inputs = keras.Input((4, 4))
    x = layers.LSTM(8, return_sequences=True, name="lstm")(inputs)
    x = layers.Bidirectional(layers.GRU(6, return_sequences=True), name="both")(x)
    x, h = layers.GRU(7, return_sequences=True, return_state=True, reset_after=False, name="gru")(x)
    starts = [layers.Dense(5, name="hidden")(h), layers.Dense(5, name="cell")(h)]
    last, *states = layers.LSTM(5, return_state=True, activation="sigmoid", name="last")(x, initial_state=starts)
    simple = layers.SimpleRNN(6, go_backwards=True, name="simple")(x)
    return keras.Model(inputs, _head(layers.Concatenate()([simple, last, *states])))


def both_directions() -> keras.Model:
    inputs = keras.Input((3, 4))
    merged = [
        layers.Bidirectional(layers.SimpleRNN(6), merge_mode=mode, name=mode)(inputs)
        for mode in ("sum", "mul", "ave", "concat")
    ]
    apart = layers.Bidirectional(layers.SimpleRNN(5), merge_mode=None, name="apart")(inputs)
    states = layers.Bidirectional(layers.LSTM(4, return_state=True), name="states")(inputs)
    backward = layers.GRU(4, go_backwards=True)
    mixed = layers.Bidirectional(layers.LSTM(4), backward_layer=backward, name="mixed")(inputs)
    return keras.Model(inputs, _head(layers.Concatenate()([*merged, *apart, *states, mixed])))


def cells() -> keras.Model:
    inputs = keras.Input((3, 4))
    x = layers.RNN([layers.LSTMCell(6), layers.GRUCell(5)], return_sequences=True, name="stacked")(inputs)
    return keras.Model(inputs, _head(layers.RNN(layers.SimpleRNNCell(7), name="single")(x)))


def masked() -> keras.Model:
    """Keras passes masks on through layers, and computes them with operations of the graph."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 8, mask_zero=True, name="embedding")(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="both")(x)
    x = layers.Concatenate()([x, layers.Dense(4, name="side")(x)])
    return keras.Model(inputs, _head(layers.GRU(5, name="gru")(layers.Dense(6, name="mix")(x))))


def distributed() -> keras.Model:
    """A model and a layer for each step in time."""
    inputs = keras.Input((5, 6, 6, 2))
    steps = [keras.Input((6, 6, 2)), layers.Conv2D(6, 3, name="conv"), layers.ReLU(), layers.GlobalAveragePooling2D()]
    x = layers.TimeDistributed(keras.Sequential(steps, name="images"), name="each")(inputs)
    x = layers.TimeDistributed(layers.Dense(7, activation="relu"), name="dense")(x)
    return keras.Model(inputs, _head(layers.LSTM(4, name="lstm")(x)))


def unet() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    wide = layers.Conv2D(6, 3, padding="same", activation="relu", name="wide")(inputs)
    deep = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="deep")(wide)
    back = layers.Conv2DTranspose(6, 2, strides=2, name="back")(deep)
    x = layers.Conv2D(8, 3, padding="same", name="join")(layers.Concatenate()([wide, back]))
    x = layers.Conv2D(6, 1, name="mix")(layers.GroupNormalization(4, name="groups")(x))
    x = layers.GroupNormalization(-1, name="instances")(x)
    return keras.Model(inputs, layers.Conv2DTranspose(3, 1, name="head")(x))


def gated() -> keras.Model:
    """Halves of one layer: written out, and as ``glu``."""
    inputs = keras.Input((6,))
    first, second = ops.split(layers.Dense(12, name="both")(inputs), 2, axis=-1)
    x = ops.glu(layers.Dense(10, name="halves")(ops.silu(first) * second))
    return keras.Model(inputs, _head(x))


def shuffled() -> keras.Model:
    """ShuffleNet's unit of raw operations."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(12, 1, name="conv")(inputs)
    x = layers.Conv2D(12, 3, padding="same", groups=3, name="grouped")(x)
    x = ops.transpose(ops.reshape(x, (-1, 4, 4, 3, 4)), (0, 1, 2, 4, 3))
    x = layers.Conv2D(12, 3, padding="same", groups=3, name="again")(ops.reshape(x, (-1, 4, 4, 12)))
    return keras.Model(inputs, _head(layers.Flatten()(x)))


def tied() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    words = layers.ReversibleEmbedding(11, 8, name="words")
    x = words(inputs)
    x = x + layers.Dense(8, name="down")(layers.Dense(12, activation="relu", name="up")(x))
    return keras.Model(inputs, words(x, reverse=True))


def untied() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    words = layers.ReversibleEmbedding(11, 8, tie_weights=False, logit_soft_cap=2.0, name="words")
    return keras.Model(inputs, words(layers.Dense(8, name="mid")(words(inputs)), reverse=True))


def picked() -> keras.Model:
    """Every way to pick, join and repeat indices of an axis."""
    inputs = keras.Input((6,))
    x = layers.Dense(12, name="a")(inputs)
    some, late, turned, one = x[:, 1:9:2], x[:, -7:], ops.flip(x, axis=-1), x[..., 4]
    taken, rolled = ops.take(x, [0, 3, 5, 8, 9, 1, 11], axis=-1), ops.roll(x, 3, axis=-1)
    padded = ops.pad(layers.Dense(4, name="b")(some), ((0, 0), (1, 2)))
    joined = [layers.Dense(7, name="c")(late) + padded, taken, layers.Dense(12, name="d")(turned) * rolled]
    x = ops.concatenate([*joined, one[:, None]], axis=-1)
    first, second = ops.unstack(ops.stack([x, x], axis=1), axis=1)
    x = ops.tile(layers.Dense(5, name="e")(ops.repeat(first, 2, axis=-1)), (1, 3))
    return keras.Model(inputs, _head(ops.concatenate([x, second], axis=-1)))


def products() -> keras.Model:
    """Attention written out, dot products, lengths."""
    inputs = keras.Input((5, 4))
    query, key, value = (layers.Dense(width, name=name)(inputs) for name, width in (("q", 6), ("k", 6), ("v", 7)))
    weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))), axis=-1)
    x = ops.einsum("bts,bsf->btf", weights, value)
    dots = layers.Dot(axes=2)([layers.Dense(6, name="l")(x), layers.Dense(6, name="r")(inputs)])
    angles = layers.Dot(axes=2, normalize=True)([layers.Dense(6, name="l2")(x), layers.Dense(6, name="r2")(inputs)])
    attended = layers.Attention(use_scale=True)([query, value, key])
    added = layers.AdditiveAttention(name="added")([query, value, key])
    unit = layers.UnitNormalization()(layers.Dense(6, name="unit")(x))
    return keras.Model(inputs, _head(ops.concatenate([x, dots, angles, attended, added, unit], axis=-1)))


def equations() -> keras.Model:
    """``EinsumDense`` as matrices of one axis and several, in place of another axis, and with a kernel a step."""
    inputs = keras.Input((5, 4))
    x = layers.EinsumDense("abc,cde->abde", output_shape=(5, 3, 4), bias_axes="de", name="split")(inputs)
    x = layers.EinsumDense("abde,dec->abc", output_shape=(5, 6), bias_axes="c", activation="relu", name="merge")(x)
    x = layers.EinsumDense("abc,bd->adc", output_shape=(8, 6), bias_axes="dc", name="time")(x)
    x = layers.EinsumDense("abc,bcd->abd", output_shape=(8, 5), name="each")(x)
    x = layers.EinsumDense("...x,xy->...y", output_shape=7, bias_axes="y", name="open")(x)
    return keras.Model(inputs, _head(x))


def raw_attention() -> keras.Model:
    inputs = keras.Input((5, 8))
    x = layers.Dense(12, name="stem")(inputs)
    query, key, value = (ops.reshape(layers.Dense(12, name=name)(x), (-1, 5, 4, 3)) for name in "qkv")
    x = ops.reshape(ops.dot_product_attention(query, key, value, is_causal=True), (-1, 5, 12))
    return keras.Model(inputs, _head(x))


def divided() -> keras.Model:
    """A length by hand, whose root and division stay whole."""
    inputs = keras.Input((5,))
    x = layers.RMSNormalization(name="norm")(layers.Dense(8, name="a")(inputs))
    x = layers.Dense(9, name="b")(x)
    return keras.Model(inputs, _head(x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1.0)))


def pixels() -> keras.Model:
    inputs = keras.Input((4, 4, 2))
    x = ops.nn.depth_to_space(layers.Conv2D(12, 3, padding="same", name="a")(inputs), 2)
    x = ops.nn.space_to_depth(layers.Conv2D(5, 1, name="b")(x), 2)
    return keras.Model(inputs, layers.Conv2D(2, 1, name="head")(x))


def repeated() -> keras.Model:
    inputs = keras.Input((5,))
    x = layers.RepeatVector(3)(layers.Dense(8, name="a")(inputs))
    x = layers.LSTM(6, return_sequences=True, name="lstm")(x)
    return keras.Model(inputs, _head(x + layers.Dense(6, name="b")(inputs)[:, None, :]))


class Translator(keras.Model):
    """A model with a ``call`` of its own, made of a layer of its own."""

    def __init__(self) -> None:
        super().__init__(name="translator")
        self.stem = layers.Dense(8, name="stem")
        self.block = Attending(8)
        self.head = layers.Dense(3, name="head")

    def call(self, x: Any) -> Any:
        return self.head(self.block(self.stem(x))[:, 0])


class Attending(layers.Layer):
    """Attention and a gate, with a residual connection around both."""

    def __init__(self, width: int) -> None:
        super().__init__(name="block")
        self.attention = layers.MultiHeadAttention(4, 3, name="attention")
        self.norm = layers.RMSNormalization(name="norm")
        self.up, self.down = layers.Dense(2 * width, name="up"), layers.Dense(width, name="down")

    def call(self, x: Any) -> Any:
        x = self.norm(x + self.attention(x, x))
        left, right = ops.split(self.up(x), 2, axis=-1)
        return x + self.down(left * ops.sigmoid(right))


def translator() -> keras.Model:
    model = Translator()
    model(ops.zeros((1, 5, 4)))
    return model


class Affine(layers.Layer):
    """A scale and a shift as users write them, sized by the input; and numbers for each step in time."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")
        self.offset = self.add_weight(shape=(shape[-1],), initializer="zeros", name="offset")
        self.places = self.add_weight(shape=tuple(shape[1:]), initializer="zeros", name="places")

    def call(self, x: Any) -> Any:
        return x * self.gain + self.offset + self.places


class Mixing(layers.Layer):
    """A square matrix of the user's own."""

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight(shape=(shape[-1], shape[-1]), initializer="orthogonal", name="matrix")

    def call(self, x: Any) -> Any:
        return ops.tanh(ops.matmul(x, self.matrix))


def own_weights() -> keras.Model:
    inputs = keras.Input((3, 5))
    x = Affine(name="affine")(layers.Dense(8, activation="relu", name="a")(inputs))
    x = Mixing(name="mixing")(layers.Dense(7, name="b")(x))
    return keras.Model(inputs, _head(x))


HARD: dict[str, Callable[[], keras.Model]] = {
    builder.__name__: builder
    for builder in (
        encoder,
        decoder,
        grouped_queries,
        with_scores,
        recurrent,
        both_directions,
        cells,
        masked,
        distributed,
        unet,
        gated,
        shuffled,
        *((tied, untied) if hasattr(layers, "ReversibleEmbedding") else ()),
        picked,
        products,
        equations,
        raw_attention,
        divided,
        pixels,
        repeated,
        translator,
        own_weights,
    )
}
