"""One set of initial weights, and the order in which convolutions are flattened."""

from __future__ import annotations

import math

import numpy as np
import pytest

from secateur.demo.networks import NAMES, Network, channels_first, channels_last, initial_weights


@pytest.mark.parametrize("name", NAMES)
def test_weights_have_the_shapes_of_the_network_and_are_float32(name: str) -> None:
    network = Network(name, (8, 8))
    weights = initial_weights(network, 0)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    for layer, shape in network.kernels.items():
        assert weights[f"{layer}.kernel"].shape == shape
        assert (f"{layer}.bias" in weights) == (len(shape) == 2)
    assert {key.split(".")[0] for key in weights} == {*network.kernels, *network.norms}


def test_kernels_fill_glorots_interval_and_no_more() -> None:
    kernel = initial_weights(Network("mlp", (28, 28)), 0)["hidden.kernel"]
    limit = math.sqrt(6 / (784 + 128))
    assert 0.999 * limit < np.abs(kernel).max() <= np.float32(limit)
    assert abs(float(kernel.mean())) < 0.01 * limit


def test_the_seed_alone_decides_the_weights() -> None:
    network = Network("cnn", (8, 8))
    first, again, other = (initial_weights(network, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["conv1.kernel"], other["conv1.kernel"])


def test_channels_last_moves_each_input_of_the_output_layer_to_where_flatten_puts_it() -> None:
    network = Network("cnn", (12, 8))
    channels, height, width = network.pooled
    features = np.arange(channels * height * width, dtype=np.float32).reshape(channels, height, width)
    kernel = np.random.default_rng(0).integers(-9, 9, (10, features.size)).astype(np.float32)
    moved = channels_last(network, {"output.kernel": kernel})["output.kernel"]
    np.testing.assert_array_equal(moved @ features.transpose(1, 2, 0).ravel(), kernel @ features.ravel())
    np.testing.assert_array_equal(channels_first(network, {"output.kernel": moved})["output.kernel"], kernel)


def test_a_perceptron_reads_pixels_in_one_order_everywhere() -> None:
    network = Network("mlp", (8, 8))
    weights = initial_weights(network, 0)
    assert all(np.array_equal(channels_last(network, weights)[name], weights[name]) for name in weights)
