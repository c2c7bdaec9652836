"""The same network in both frameworks, from the same arrays, and ways to compare what was done to it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Pair:
    """A PyTorch and a Keras model that compute the same function, and an input for each."""

    torch_model: torch.nn.Module
    keras_model: keras.Model
    torch_example: torch.Tensor
    keras_example: Array


def values(generator: np.random.Generator, shape: tuple[int, ...], ties: bool) -> Array:
    """Random float32 weights; with ``ties`` of only five different magnitudes, zero among them."""
    if ties:
        return generator.integers(-2, 3, shape).astype(np.float32) / 4
    return generator.normal(size=shape).astype(np.float32) / np.sqrt(max(1, int(np.prod(shape[1:]))))


def dense_pair(widths: Sequence[int], seed: int = 0, ties: bool = False) -> Pair:
    """A multilayer perceptron with ReLU between its layers."""
    generator = np.random.default_rng(seed)
    torch_layers: list[torch.nn.Module] = []
    keras_layers: list[Any] = [keras.Input((widths[0],))]
    arrays = []
    last = len(widths) - 2
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        torch_layers += [torch.nn.Linear(fan_in, fan_out)] + ([torch.nn.ReLU()] if index < last else [])
        keras_layers.append(keras.layers.Dense(fan_out, activation="relu" if index < last else None))
        arrays.append((values(generator, (fan_out, fan_in), ties), values(generator, (fan_out,), ties)))
    pair = Pair(
        torch.nn.Sequential(*torch_layers),
        keras.Sequential(keras_layers),
        torch.tensor(generator.normal(size=(5, widths[0])).astype(np.float32)),
        np.zeros(0),
    )
    linears = [layer for layer in pair.torch_model if isinstance(layer, torch.nn.Linear)]
    for linear, layer, (kernel, bias) in zip(linears, pair.keras_model.layers, arrays, strict=True):
        linear.load_state_dict({"weight": torch.tensor(kernel), "bias": torch.tensor(bias)})
        layer.set_weights([kernel.T, bias])
    return Pair(pair.torch_model, pair.keras_model, pair.torch_example, pair.torch_example.numpy())


def convolutional_pair(channels: int, classes: int, seed: int = 0, ties: bool = False) -> Pair:
    """Convolution, batch normalisation, ReLU, pooling, a depthwise and a pointwise convolution, flatten, dense."""
    generator = np.random.default_rng(seed)
    torch_model = torch.nn.Sequential(
        torch.nn.Conv2d(2, channels, 3, padding=1),
        torch.nn.BatchNorm2d(channels, eps=1e-3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        torch.nn.Conv2d(channels, channels + 1, 1),
        torch.nn.Flatten(),
        torch.nn.Linear((channels + 1) * 9, classes),
    )
    keras_model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(channels, 3, padding="same"),
            keras.layers.BatchNormalization(epsilon=1e-3),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(2),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.Conv2D(channels + 1, 1),
            keras.layers.Permute((3, 1, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(classes),
        ]
    )
    for module, layer in zip(
        [module for module in torch_model if list(module.parameters())],
        [layer for layer in keras_model.layers if layer.weights],
        strict=True,
    ):
        _fill(module, layer, generator, ties)
    example = generator.normal(size=(3, 2, 6, 6)).astype(np.float32)
    return Pair(torch_model, keras_model, torch.tensor(example), np.ascontiguousarray(example.transpose(0, 2, 3, 1)))


def _fill(module: torch.nn.Module, layer: Any, generator: np.random.Generator, ties: bool) -> None:
    own = {
        name: values(generator, tuple(tensor.shape), ties)
        for name, tensor in module.state_dict().items()
        if tensor.ndim
    }
    if "running_var" in own:
        own["running_var"] = np.abs(own["running_var"]) + 1
    module.load_state_dict({name: torch.tensor(array) for name, array in own.items()}, strict=False)
    kernel = own["weight"]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        own["weight"] = kernel.transpose(2, 3, 0, 1)
    elif kernel.ndim == 4:
        own["weight"] = kernel.transpose(2, 3, 1, 0)
    elif kernel.ndim == 2:
        own["weight"] = kernel.T
    layer.set_weights([own[name] for name in ("weight", "bias", "running_mean", "running_var") if name in own])


def canonical_masks(pruned: Any) -> list[Array]:
    """The masks in canonical layout, in the order of the model's parameters, without their names."""
    masks = pruned.adapter.canonical(pruned.model, pruned.masks)
    return [masks[parameter.name] for parameter in pruned.parameters() if parameter.name in masks]
