"""Random Keras models of the whole vocabulary: functional, nested, ``Sequential``, and with a ``call`` of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from hypothesis import strategies as st
from keras import layers, ops

Draw = Callable[[st.SearchStrategy[Any]], Any]
FORMS = ("functional", "subclassed", "nested", "sequential")


@dataclass(frozen=True)
class Piece:
    """A part of a forward pass, and the layers that it is made of."""

    layers: Sequence[keras.Layer]
    run: Callable[[Any], Any]


class Chain(keras.Model):
    """Pieces one after the other, in a ``call`` of its own."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self.pieces = [piece.run for piece in pieces]
        self.parts = [layer for piece in pieces for layer in piece.layers]

    def call(self, x: Any) -> Any:
        for run in self.pieces:
            x = run(x)
        return x


def model(draw: Draw) -> keras.Model:
    """Two to five pieces between an input and a head, of tensors that are small in every direction."""
    rank = draw(st.sampled_from((1, 2, 2, 3)))
    start = {1: (5,), 2: (4, 5), 3: (6, 6, 3)}[rank]
    form = draw(st.sampled_from(FORMS))
    shape, pieces = start, []
    for _ in range(draw(st.integers(2, 5))):
        table = SIMPLE if form == "sequential" else PIECES
        piece = draw(st.sampled_from(table[len(shape)]))(draw, shape)
        pieces.append(piece)
        shape = tuple(_run(piece, shape).shape[1:])
    pieces.append(_of(layers.Dense(3)))
    return _assembled(form, start, pieces)


def _assembled(form: str, start: tuple[int, ...], pieces: Sequence[Piece]) -> keras.Model:
    inputs = keras.Input(start)
    if form == "sequential":
        return keras.Sequential([inputs, *(layer for piece in pieces for layer in piece.layers)])
    if form == "subclassed":
        model = Chain(pieces)
        model(ops.zeros((1, *start)))
        return model
    x = inputs
    for number, piece in enumerate(pieces):
        x = _model_of(piece, x.shape[1:])(x) if form == "nested" and number % 2 else piece.run(x)
    return keras.Model(inputs, x)


def _model_of(piece: Piece, shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, piece.run(inputs))


def _run(piece: Piece, shape: tuple[int, ...]) -> Any:
    return piece.run(keras.Input(shape))


def _of(*made: keras.Layer) -> Piece:
    """Layers one after the other."""

    def run(x: Any) -> Any:
        for layer in made:
            x = layer(x)
        return x

    return Piece(made, run)


def _around(inner: Piece, width: int) -> Piece:
    """A residual connection around a piece."""
    back = layers.Dense(width)
    return Piece([*inner.layers, back], lambda x: x + back(inner.run(x)))


def _activation(draw: Draw) -> str:
    return draw(st.sampled_from(("relu", "gelu", "sigmoid", "linear", "hard_silu", "softplus")))


def _width(draw: Draw) -> int:
    return draw(st.sampled_from((4, 6, 8)))


def dense(draw: Draw, shape: tuple[int, ...]) -> Piece:
    return _of(layers.Dense(_width(draw), activation=_activation(draw)))


def norm(draw: Draw, shape: tuple[int, ...]) -> Piece:
    kinds = [layers.BatchNormalization, layers.LayerNormalization, layers.UnitNormalization]
    kinds += [layers.RMSNormalization] if hasattr(layers, "RMSNormalization") else []
    return _of(layers.Dense(_width(draw)), draw(st.sampled_from(kinds))())


def simple(draw: Draw, shape: tuple[int, ...]) -> Piece:
    made = st.sampled_from((layers.Dropout(0.2), layers.PReLU(), layers.LeakyReLU(), layers.Rescaling(2.0, 0.5)))
    return _of(draw(made))


def residual(draw: Draw, shape: tuple[int, ...]) -> Piece:
    table = PIECES[len(shape)]
    inner = draw(st.sampled_from(table[: table.index(residual)]))(draw, shape)
    if len(_run(inner, shape).shape) != len(shape) + 1 or _run(inner, shape).shape[1:-1] != shape[:-1]:
        inner = dense(draw, shape)
    return _around(inner, shape[-1])


def gated(draw: Draw, shape: tuple[int, ...]) -> Piece:
    both = layers.Dense(2 * _width(draw))

    def run(x: Any) -> Any:
        first, second = ops.split(both(x), 2, axis=-1)
        return ops.silu(first) * second

    return Piece([both], run)


def branched(draw: Draw, shape: tuple[int, ...]) -> Piece:
    left, right = layers.Dense(_width(draw), activation="relu"), layers.Dense(_width(draw))
    return Piece([left, right], lambda x: ops.concatenate([left(x), ops.tanh(right(x)), x], axis=-1))


def views(draw: Draw, shape: tuple[int, ...]) -> Piece:
    before = layers.Dense(8)
    ways: list[Callable[[Any], Any]] = [
        lambda x: x[..., 1:7],
        lambda x: ops.flip(x, axis=-1),
        lambda x: ops.roll(x, 3, axis=-1),
        lambda x: ops.take(x, [0, 2, 3, 5, 6, 7], axis=-1),
        lambda x: ops.repeat(x, 2, axis=-1),
        lambda x: ops.concatenate([x[..., ::2], ops.exp(-ops.square(x[..., 1:]))], axis=-1),
        lambda x: x * ops.mean(x, axis=-1, keepdims=True),
        lambda x: ops.where(x > 0.0, x, 0.1 * x),
    ]
    way = draw(st.sampled_from(ways))
    return Piece([before], lambda x: way(before(x)))


def squeezed(draw: Draw, shape: tuple[int, ...]) -> Piece:
    first = layers.Dense(_width(draw), activation="relu")
    down, up = layers.Dense(3, activation="relu"), layers.Dense(first.units, activation="sigmoid")
    return Piece([first, down, up], lambda x: (y := first(x)) * up(down(y)))


def sequence_of(draw: Draw, shape: tuple[int, ...]) -> Piece:
    return _of(layers.Dense(8), *draw(st.sampled_from(((layers.RepeatVector(3),), (layers.Reshape((2, 4)),)))))


def recurrent(draw: Draw, shape: tuple[int, ...]) -> Piece:
    kind = draw(st.sampled_from((layers.LSTM, layers.GRU, layers.SimpleRNN)))
    layer = kind(_width(draw), return_sequences=draw(st.booleans()))
    if draw(st.booleans()):
        layer = layers.Bidirectional(layer, merge_mode=draw(st.sampled_from(("concat", "sum", "mul"))))
    return _of(layer)


def attention(draw: Draw, shape: tuple[int, ...]) -> Piece:
    grouped = draw(st.booleans())
    layer = layers.GroupQueryAttention(3, 4, 2) if grouped else layers.MultiHeadAttention(4, 3)
    before = layers.Dense(_width(draw))
    return Piece([before, layer], lambda x: (y := before(x)) + layer(y, y, use_causal_mask=True))


def written(draw: Draw, shape: tuple[int, ...]) -> Piece:
    query, key, value = (layers.Dense(6) for _ in range(3))

    def run(x: Any) -> Any:
        weights = ops.softmax(ops.einsum("btf,bsf->bts", query(x), key(x)), axis=-1)
        return ops.matmul(weights, value(x))

    return Piece([query, key, value], run)


def over_time(draw: Draw, shape: tuple[int, ...]) -> Piece:
    made: list[Sequence[keras.Layer]] = [
        [layers.Conv1D(_width(draw), 3, padding="same", activation=_activation(draw))],
        [layers.Conv1DTranspose(_width(draw), 2)],
        [layers.TimeDistributed(layers.Dense(_width(draw), activation="relu"))],
        [layers.EinsumDense("abc,cd->abd", output_shape=(shape[0], 6), bias_axes="d")],
        [layers.Dense(6), layers.Permute((2, 1)), layers.Dense(4)],
    ]
    return _of(*draw(st.sampled_from(made)))


def to_vector(draw: Draw, shape: tuple[int, ...]) -> Piece:
    pools = [layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D]
    if len(shape) == 3:
        pools = [layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D]
    return _of(draw(st.sampled_from((*pools, layers.Flatten)))())


def image(draw: Draw, shape: tuple[int, ...]) -> Piece:
    width = _width(draw)
    made: list[Sequence[keras.Layer]] = [
        [layers.Conv2D(width, 3, padding="same", activation=_activation(draw))],
        [layers.Conv2D(8, 1), layers.Conv2D(8, 3, padding="same", groups=2), layers.BatchNormalization()],
        [layers.Conv2D(width, 1), layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)],
        [layers.SeparableConv2D(width, 3, padding="same", activation="relu")],
        [layers.Conv2D(8, 1), layers.GroupNormalization(4)],
        [layers.Conv2DTranspose(width, 3, padding="same")],
        [layers.Conv2D(width, 1), layers.MaxPooling2D(2, padding="same"), layers.UpSampling2D(2)],
        [layers.Conv2D(width, 1), layers.ZeroPadding2D(1), layers.Conv2D(width, 3)],
    ]
    return _of(*draw(st.sampled_from(made)))


def shuffled(draw: Draw, shape: tuple[int, ...]) -> Piece:
    before, after = layers.Conv2D(8, 1), layers.Conv2D(8, 3, padding="same", groups=4)

    def run(x: Any) -> Any:
        split = ops.reshape(before(x), (-1, *shape[:2], 4, 2))
        return after(ops.reshape(ops.swapaxes(split, 3, 4), (-1, *shape[:2], 8)))

    return Piece([before, after], run)


SIMPLE: dict[int, tuple[Callable[[Draw, tuple[int, ...]], Piece], ...]] = {
    1: (dense, norm, simple, sequence_of),
    2: (dense, norm, recurrent, over_time, simple, to_vector),
    3: (image, norm, simple, image, to_vector),
}
PIECES = {
    1: (*SIMPLE[1], gated, views, squeezed, residual, branched),
    2: (*SIMPLE[2], attention, written, gated, views, residual, branched),
    3: (*SIMPLE[3], shuffled, residual, branched, views),
}
