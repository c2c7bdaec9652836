"""What the demo asks of a framework: ``secateur_torch.demo`` and ``secateur_keras.demo`` offer the same functions.

Everything else in the demo is written once, against this. Models and optimizers are the framework's own objects; images
are float32 of shape (n, height, width), labels int64 of shape (n,), weights are named and laid out as in
:mod:`secateur.demo.networks` (with flattened inputs in the framework's own order).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

import numpy.typing as npt

from secateur.adapter import Adapter
from secateur.demo.networks import Network
from secateur.errors import MissingDependencyError
from secateur.pruner import Pruner as Session
from secateur.recipe import Recipe

Array = npt.NDArray[Any]

GROUP = "secateur.adapters"


class Twin(Protocol):
    """One framework's half of the demo."""

    ADAPTER: Adapter
    CHANNELS_LAST: bool
    LOSS: Any

    def versions(self) -> dict[str, str]:
        """Name -> version of the framework and of its backend."""

    def build(self, network: Network) -> Any:
        """The network, written as a user of the framework writes it; its layers have the common names."""

    def assign(self, model: Any, weights: Mapping[str, Array]) -> None:
        """Give the model these weights and running statistics."""

    def inputs(self, images: Array) -> Any:
        """Images as the model takes them."""

    def optimizer(self, model: Any, rate: float) -> Any:
        """A new AdamW (beta 0.9 and 0.999, epsilon 1e-7, ``plan.WEIGHT_DECAY``) that will train the model."""

    def set_rate(self, optimizer: Any, rate: float) -> None:
        """Change its learning rate."""

    def pruner(self, model: Any, optimizer: Any, recipe: Recipe, batches: list[tuple[Any, Array]]) -> Any:
        """The adapter's pruner for a recipe with a schedule, to be handed to :meth:`train_epoch`."""

    def session(self, pruner: Any) -> Session:
        """What the adapter's pruner knows: thresholds, statistics, masks."""

    def train_epoch(
        self, model: Any, optimizer: Any, images: Array, labels: Array, batch: int, pruner: Any | None = None
    ) -> None:
        """One pass over the examples in the order given, minimising the cross-entropy."""

    def predict(self, model: Any, images: Array) -> Array:
        """Class probabilities, float32 of shape (n, classes), in inference mode."""

    def forward(self, model: Any, inputs: Any) -> None:
        """One forward pass in inference mode, finished when it returns: what the latency is measured of."""

    def file_size(self, model: Any) -> int:
        """Bytes of the file in which the framework itself saves the model, without an optimizer's state."""

    def download_mnist(self, path: Path) -> None:
        """Write ``mnist.npz`` by the framework's own loader. Raises DataNotFoundError."""


def installed() -> dict[str, str]:
    """Framework -> module of its adapter, as the distributions that are installed declare them."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def load(framework: str) -> Twin:
    """Import a framework's half of the demo, and with it the framework.

    Raises:
        MissingDependencyError: the adapter or its framework is not installed.
    """
    modules = installed()
    if framework not in modules:
        known = ", ".join(sorted(modules)) or "none; is secateur installed (pip install secateur)?"
        raise MissingDependencyError(f"no adapter for {framework!r} is installed; there are: {known}")
    return cast(Twin, import_module(f"{modules[framework]}.demo"))
