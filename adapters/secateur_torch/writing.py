"""Numbers that Secateur writes into weights, and gradients that a training step has left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.errors import MissingDataError
from secateur_torch.arrays import array
from secateur_torch.parameters import weights

Array = npt.NDArray[Any]


def write(model: nn.Module, values: Mapping[str, Array]) -> None:
    """Write these numbers (canonical layout) into the weights and running statistics of those names, bit for bit."""
    with torch.no_grad():
        for weight in weights(model):
            if weight.name in values:
                weight.tensor.copy_(_tensor(weight.layout.to_native(values[weight.name])))


def step_gradients(model: nn.Module) -> dict[str, Array]:
    """Parameter name -> ``.grad`` as the last training step left it, in canonical layout; none for frozen weights.

    Raises:
        MissingDataError: no weight has any.
    """
    found = {
        weight.name: weight.layout.to_canonical(array(weight.tensor.grad))
        for weight in weights(model)
        if weight.tensor.grad is not None
    }
    if not found:
        raise MissingDataError(
            "no weight has a .grad after the optimizer's step: keep the gradients until then, or give the pruner data= "
            "and loss="
        )
    return found


def _tensor(numbers: Array) -> torch.Tensor:
    stored = np.array(numbers, order="C")
    if stored.dtype.name == "bfloat16":  # which PyTorch does not take from NumPy
        return torch.from_numpy(stored.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(stored)
