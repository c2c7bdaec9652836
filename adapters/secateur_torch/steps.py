"""What a training step leaves behind."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from torch import nn

from secateur.errors import MissingDataError
from secateur_torch.arrays import array
from secateur_torch.parameters import weights

Array = npt.NDArray[Any]


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
