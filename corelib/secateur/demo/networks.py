"""The demo's networks as the core sees them: names, shapes and one set of initial weights for every framework.

Weights have common names, ``<layer>.<role>``, and lie in the canonical layout of :class:`secateur.adapter.Parameter`.
The one thing on which frameworks differ for good is the order in which a convolution's output is flattened; the common
order is channels first, and :func:`channels_last` and :func:`channels_first` translate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NAMES = ("mlp", "cnn")
CLASSES = 10
HIDDEN = 128
CHANNELS = (16, 32)
# The frameworks' own defaults differ (1e-5 and 1e-3, 0.1 and 0.99); both networks are built with these.
NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.9


@dataclass(frozen=True)
class Network:
    """One of the demo's networks for images of one size.

    ``mlp``: Flatten, Dense(128, relu), Dense(10, softmax). ``cnn``: twice convolution 3x3 without bias, batch
    normalisation, relu, max pooling 2x2, then Flatten, Dense(10, softmax).

    Args:
        name: ``mlp`` or ``cnn``.
        image: height and width of the grey images it reads.
    """

    name: str
    image: tuple[int, int]

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Channels, height and width of what the convolutional network flattens."""
        return CHANNELS[-1], self.image[0] // 4, self.image[1] // 4

    @property
    def kernels(self) -> dict[str, tuple[int, ...]]:
        """Layer -> canonical shape of its kernel, in execution order."""
        if self.name == "mlp":
            return {"hidden": (HIDDEN, math.prod(self.image)), "output": (CLASSES, HIDDEN)}
        return {
            "conv1": (CHANNELS[0], 1, 3, 3),
            "conv2": (CHANNELS[1], CHANNELS[0], 3, 3),
            "output": (CLASSES, math.prod(self.pooled)),
        }

    @property
    def norms(self) -> dict[str, int]:
        """Batch normalisation layer -> number of its channels."""
        return {} if self.name == "mlp" else {"norm1": CHANNELS[0], "norm2": CHANNELS[1]}

    @property
    def summary(self) -> str:
        """The network in one line, for people."""
        if self.name == "mlp":
            return f"{math.prod(self.image)}-{HIDDEN}-{CLASSES} perceptron"
        return f"convolutional network with {CHANNELS[0]} and {CHANNELS[1]} channels"


def initial_weights(network: Network, seed: int) -> dict[str, Array]:
    """Float32 weights of all layers: Glorot uniform kernels (Glorot and Bengio 2010), biases 0, normalisation 1."""
    generator = np.random.default_rng(seed)
    weights: dict[str, Array] = {}
    for layer, shape in network.kernels.items():
        outputs, inputs, *window_sizes = shape
        limit = math.sqrt(6.0 / (math.prod(window_sizes) * (outputs + inputs)))
        weights[f"{layer}.kernel"] = generator.uniform(-limit, limit, shape).astype(np.float32)
        if not window_sizes:
            weights[f"{layer}.bias"] = np.zeros(outputs, np.float32)
    for layer, channels in network.norms.items():
        for role, value in {"scale": 1, "shift": 0, "mean": 0, "variance": 1}.items():
            weights[f"{layer}.{role}"] = np.full(channels, value, np.float32)
    return weights


def channels_last(network: Network, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays by common name, with the inputs of the layer after Flatten put in (height, width, channel) order."""
    channels, height, width = network.pooled
    return _reordered(network, arrays, (channels, height, width), (0, 2, 3, 1))


def channels_first(network: Network, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The inverse of :func:`channels_last`."""
    channels, height, width = network.pooled
    return _reordered(network, arrays, (height, width, channels), (0, 3, 1, 2))


def _reordered(
    network: Network, arrays: Mapping[str, Array], inputs: tuple[int, int, int], order: tuple[int, ...]
) -> dict[str, Array]:
    result = dict(arrays)
    kernel = result.get("output.kernel")
    if network.name == "cnn" and kernel is not None:
        result["output.kernel"] = kernel.reshape(-1, *inputs).transpose(order).reshape(kernel.shape)
    return result
