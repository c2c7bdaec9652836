"""PyTorch's half of the demo: builds, trains and times its networks. Twin of ``secateur_keras.demo``.

The functions are described in :class:`secateur.demo.twin.Twin`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.demo.networks import CHANNELS, CLASSES, HIDDEN, NORM_EPSILON, NORM_MOMENTUM, Network
from secateur.demo.plan import WEIGHT_DECAY
from secateur.errors import DataNotFoundError
from secateur.recipe import Recipe
from secateur_torch.adapter import TorchAdapter
from secateur_torch.training import Pruner

Array = npt.NDArray[Any]

ADAPTER = TorchAdapter()
CHANNELS_LAST = False
LOSS = nn.CrossEntropyLoss()
_CHUNK = 2000


def versions() -> dict[str, str]:
    """See :meth:`secateur.demo.twin.Twin.versions`."""
    return {"torch": torch.__version__}


def build(network: Network) -> nn.Sequential:
    """See :meth:`secateur.demo.twin.Twin.build`; the model gives logits, as is usual in PyTorch."""
    return _perceptron(network) if network.name == "mlp" else _convolutional(network)


def assign(model: nn.Module, weights: Mapping[str, Array]) -> None:
    """See :meth:`secateur.demo.twin.Twin.assign`."""
    roles = {"kernel": "weight", "scale": "weight", "bias": "bias", "shift": "bias", "mean": "running_mean"}
    state = model.state_dict()
    for name, array in weights.items():
        layer, role = name.split(".")
        state[f"{layer}.{roles.get(role, 'running_var')}"] = torch.tensor(array)
    model.load_state_dict(state)


def _perceptron(network: Network) -> nn.Sequential:
    model = nn.Sequential()
    model.add_module("flatten", nn.Flatten())
    model.add_module("hidden", nn.Linear(math.prod(network.image), HIDDEN))
    model.add_module("relu", nn.ReLU())
    model.add_module("output", nn.Linear(HIDDEN, CLASSES))
    return model


def _convolutional(network: Network) -> nn.Sequential:
    model = nn.Sequential()
    for number, (before, after) in enumerate(zip((1, *CHANNELS), CHANNELS, strict=False), start=1):
        model.add_module(f"conv{number}", nn.Conv2d(before, after, 3, padding=1, bias=False))
        model.add_module(f"norm{number}", nn.BatchNorm2d(after, eps=NORM_EPSILON, momentum=1 - NORM_MOMENTUM))
        model.add_module(f"relu{number}", nn.ReLU())
        model.add_module(f"pool{number}", nn.MaxPool2d(2))
    model.add_module("flatten", nn.Flatten())
    model.add_module("output", nn.Linear(math.prod(network.pooled), CLASSES))
    return model


def inputs(images: Array) -> torch.Tensor:
    """See :meth:`secateur.demo.twin.Twin.inputs`: (n, 1, height, width)."""
    return torch.from_numpy(images[:, np.newaxis])


def optimizer(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """See :meth:`secateur.demo.twin.Twin.optimizer`."""
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.999), eps=1e-7, weight_decay=WEIGHT_DECAY)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """See :meth:`secateur.demo.twin.Twin.set_rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def pruner(
    model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, batches: list[tuple[Any, Array]]
) -> Pruner:
    """See :meth:`secateur.demo.twin.Twin.pruner`."""
    return Pruner(model, recipe, optimizer=optimizer, data=batches, loss=LOSS)


def session(pruner: Pruner) -> Pruner:
    """See :meth:`secateur.demo.twin.Twin.session`."""
    return pruner


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Array,
    labels: Array,
    batch: int,
    pruner: Pruner | None = None,
) -> None:
    """See :meth:`secateur.demo.twin.Twin.train_epoch`; a pruner follows the optimizer by itself."""
    model.train()
    for x, y in zip(inputs(images).split(batch), torch.from_numpy(labels).split(batch), strict=True):
        optimizer.zero_grad()
        LOSS(model(x), y).backward()
        optimizer.step()


def predict(model: nn.Module, images: Array) -> Array:
    """See :meth:`secateur.demo.twin.Twin.predict`."""
    model.eval()
    with torch.inference_mode():
        parts = [torch.softmax(model(x), dim=1) for x in inputs(images).split(_CHUNK)]
    return torch.cat(parts).numpy()


def forward(model: nn.Module, inputs: torch.Tensor) -> None:
    """See :meth:`secateur.demo.twin.Twin.forward`."""
    model.eval()
    with torch.inference_mode():
        model(inputs)


def file_size(model: nn.Module) -> int:
    """See :meth:`secateur.demo.twin.Twin.file_size`: ``torch.save`` of the state dict."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save(model.state_dict(), path)
        return path.stat().st_size


def download_mnist(path: Path) -> None:
    """See :meth:`secateur.demo.twin.Twin.download_mnist`: PyTorch alone has no data sets."""
    raise DataNotFoundError("PyTorch has no loader for MNIST of its own; Keras has: pip install 'secateur[keras]'")
