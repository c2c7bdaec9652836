"""What kernels read, gathered from passes forward: against the tensors themselves, and without a trace in the model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_models
import secateur_keras as sk
from secateur.errors import InvalidTensorError, MissingDataError

BOTH = ["input_mean", "input_square"]
X = np.random.default_rng(0).normal(size=(40, 6, 6, 4)).astype(np.float32)


def near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def made(model: keras.Model, name: str, x: Any = X) -> Any:
    """What a layer of a functional model makes of the data."""
    return keras.ops.convert_to_numpy(keras.Model(model.inputs[0], model.get_layer(name).output)(x))


def test_convolutions_of_every_kind() -> None:
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(6, 3, groups=2, activation="relu", name="grouped")(inputs)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise")(x)
    x = layers.SeparableConv2D(5, 2, activation="relu", name="separable")(x)
    model = keras.Model(inputs, layers.Conv2DTranspose(4, 2, name="up")(x))
    found = sk.statistics(model, X, None, BOTH)
    mean, square = found["input_mean"], found["input_square"]
    channels = X.mean((0, 1, 2))
    near(mean["grouped/kernel"][:, :, 0, 0], [channels[:2]] * 3 + [channels[2:]] * 3)
    near(square["depthwise/kernel"][:, 0, 0, 0], np.repeat(np.square(made(model, "grouped")).mean((0, 1, 2)), 2))
    near(mean["separable/depthwise_kernel"][:, 0, 0, 0], made(model, "depthwise").mean((0, 1, 2)))
    near(mean["up/kernel"][0, :, 0, 0], made(model, "separable").mean((0, 1, 2)))
    layer = model.get_layer("separable")
    between = keras.ops.convert_to_numpy(keras.ops.depthwise_conv(made(model, "depthwise"), layer.depthwise_kernel))
    near(mean["separable/pointwise_kernel"][0, :, 0, 0], between.mean((0, 1, 2)))


def test_sequences() -> None:
    inputs = keras.Input((6, 4))
    x = layers.TimeDistributed(layers.Dense(3, activation="tanh", name="each"), name="steps")(inputs)
    x = layers.Bidirectional(layers.GRU(2, return_sequences=True, name="gru"), name="both")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    model = keras.Model(inputs, layers.LSTM(3, name="last")(x))
    x = X[:, :, 0]
    mean = sk.statistics(model, x, None, BOTH)["input_mean"]
    near(mean["steps/each/kernel"][0], x.mean((0, 1)))
    near(mean["both/forward_gru/gru_cell/kernel"][0, 0], made(model, "steps", x).mean((0, 1)))
    states = made(model, "both", x)
    near(mean["both/forward_gru/gru_cell/recurrent_kernel"][0, 0], states[:, :-1, :2].sum((0, 1)) / 240)
    near(mean["both/backward_gru/gru_cell/recurrent_kernel"][0, 0], states[:, 1:, 2:].sum((0, 1)) / 240)
    near(mean["attention/query/kernel"][0], states.mean((0, 1)))
    output = model.get_layer("attention")._output_dense
    kernel, bias = (keras.ops.convert_to_numpy(each) for each in (output.kernel, output.bias))
    read = mean["attention/attention_output/kernel"][0]
    near(read @ kernel.reshape(6, -1) + bias, made(model, "attention", x).mean((0, 1)))
    near(mean["last/lstm_cell/kernel"][0, 0], made(model, "attention", x).mean((0, 1)))
    assert mean["last/lstm_cell/recurrent_kernel"].shape == (1, 1, 3)
    assert not model.get_layer("last").return_sequences


class Own(keras.Model):
    """Subclassed, with an integer input that a dense layer reads as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(5, activation="relu"), layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


def test_subclassed_models_and_whole_numbers() -> None:
    x = np.arange(80).reshape(40, 2) % 7
    model = Own()
    model(x)
    mean = sk.statistics(model, [x[:30], x[30:]], None, BOTH)["input_mean"]
    near(mean["dense/kernel"] if "dense/kernel" in mean else next(iter(mean.values())), x.mean(0)[None])
    assert len(mean) == 2


def test_nothing_in_the_model_changes() -> None:
    model = keras_models.randomize(keras_models.plain_cnn())
    data = keras_models.classification(20, (8, 8, 2), 3)
    before = keras_models.snapshot(model)
    first = sk.statistics(model, data, keras.losses.SparseCategoricalCrossentropy(), ["mean_gradient", *BOTH])
    second = sk.statistics(model, data[0], None, BOTH)
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    for name, array in first["input_square"].items():
        np.testing.assert_array_equal(array, second["input_square"][name])
    assert not any({"call", "inner_loop"} & set(vars(layer)) for layer in model._flatten_layers())


def test_bad_data() -> None:
    model, x = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="fc")]), X[:, 0, 0].copy()
    with pytest.raises(MissingDataError, match=r"does not accept batch 0, inputs \(float32 \(32, 3\)\): give inputs"):
        sk.statistics(model, x[:, :3], None, BOTH)
    x[35, 2] = np.nan
    with pytest.raises(InvalidTensorError, match=r"what fc/kernel reads is nan at \(3, 2\) in batch 1"):
        sk.statistics(model, x, None, BOTH)
