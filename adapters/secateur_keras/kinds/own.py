"""Weights as the user's own code uses them: those of a layer of his own, and those that no layer is called for."""

from __future__ import annotations

from collections.abc import Sequence

from secateur_keras.kinds.rules import frozen
from secateur_keras.naming import Weight
from secateur_keras.outside import is_table
from secateur_keras.recording import Step

FIXED = "the size of this axis does not follow the layer's input"


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
            fixed = [axis for axis, is_free in enumerate(own) if not is_free]
            tensor = frozen(step, tensor, fixed, f"add_weight of {variable.name!r}", FIXED)
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


def weight_alone(step: Step, weight: Weight) -> int:
    """A tensor that stands for a weight that an operation is given by itself; all entries of a table stay."""
    name = step.recorder.use(weight.variable)
    tensor = step.emit("weight", [], tuple(weight.variable.shape), {"weight": str(name)}, label=weight.name)
    if not is_table(weight):
        return tensor
    tensor = frozen(step, tensor, [0], weight.name, "its table is used whole, and its entries are found by number")
    step.within(weight.owner, (), ()).sizes(output_dim=(tensor, -1))
    return tensor
