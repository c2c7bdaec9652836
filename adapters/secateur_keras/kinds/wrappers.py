"""Layers that call another layer."""

from __future__ import annotations

from typing import Any

from keras import layers

from secateur_keras.kinds.rules import Rule
from secateur_keras.recording import Number, Outputs, Step


def time_distributed(step: Step) -> Outputs:
    """Steps in time are so many more examples."""
    tensor = step.inputs[0]
    (batch, length, *rest), shape = step.shape(tensor), step.shapes[0]
    flat = step.reshaped(tensor, (batch * length, *rest))
    inside = step.within(step.operation.layer, [Number(flat)], [(batch * length, *shape[2:])])
    (result,) = step.describe(inside)
    return (step.reshaped(result, shape),)


LAYERS: dict[Any, Rule] = {layers.TimeDistributed: time_distributed}

OPERATIONS: dict[str, Rule] = {}
