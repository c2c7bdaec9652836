"""What a training step leaves behind: nothing, in Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy.typing as npt

from secateur.errors import MissingDataError

Array = npt.NDArray[Any]


def step_gradients(model: keras.Model) -> dict[str, Array]:
    """Raises MissingDataError: a compiled step gives its gradients to the optimizer alone."""
    raise MissingDataError(
        "Keras's training step keeps its gradients to itself: give the pruner data=, and loss= or none"
    )
