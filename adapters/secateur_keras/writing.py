"""Numbers that Secateur writes into weights; gradients of a training step are never left where they could be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy.typing as npt

from secateur.errors import MissingDataError
from secateur_keras import backends
from secateur_keras.parameters import layouts

Array = npt.NDArray[Any]


def write(model: keras.Model, values: Mapping[str, Array]) -> None:
    """Write these numbers (canonical layout) into the weights and running statistics of those names, bit for bit."""
    backends.synchronise(model)
    for weight, form in layouts(model):
        if weight.name in values:
            weight.variable.assign(form.to_native(values[weight.name]))


def step_gradients(model: keras.Model) -> dict[str, Array]:
    """Raises MissingDataError: a compiled step gives its gradients to the optimizer alone."""
    raise MissingDataError(
        "Keras's training step keeps its gradients to itself: give the pruner data=, and loss= or none"
    )
