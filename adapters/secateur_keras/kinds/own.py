"""Weights of a layer of the user's own, as its code uses them."""

from __future__ import annotations

from collections.abc import Sequence

from secateur_keras.kinds.rules import frozen
from secateur_keras.recording import Step


def own_weights_of(step: Step, follows: Sequence[Sequence[bool]]) -> dict[int, int]:
    """id of each weight of the step's layer -> a tensor that stands for it.

    Args:
        step: the call of the layer on one input.
        follows: for each weight, which axes are as long as the input's last axis, whatever that is. These lose what it
            loses, all others stay, so that the layer makes them as long by itself.
    """
    known = {}
    for variable, own in zip(step.operation.weights, follows, strict=True):
        name = step.recorder.use(variable)
        if name is not None:
            tensor = step.emit("weight", [], tuple(variable.shape), {"weight": name})
            tensor = frozen(step, tensor, [axis for axis, is_free in enumerate(own) if not is_free], "build")
            for axis in (axis for axis, is_free in enumerate(own) if is_free):
                tensor = _tied(step, tensor, axis)
            known[id(variable)] = tensor
    return known


def _tied(step: Step, weight: int, axis: int) -> int:
    """The weight, an axis of which meets the input's last axis: what is built has its size."""
    row, shape = step.inputs[0], step.shape(weight)
    for place, size in enumerate(step.shape(row)[:-1]):
        if size > 1:
            smaller = [1 if other == place else each for other, each in enumerate(step.shape(row))]
            row = step.emit("slice", [row], smaller, label="build", axis=place, start=0, stop=1, step=1)
    row = step.reshaped(row, [size if place == axis else 1 for place, size in enumerate(shape)])
    return step.emit("elementwise", [weight, row], shape, label="build", zero="any")
