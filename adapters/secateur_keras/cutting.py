"""The part of a weight, or of anything that has its shape, that a removal plan leaves."""

from __future__ import annotations

import math

import numpy as np

from secateur.layout import Shape
from secateur.structure.removal import Plan
from secateur_keras import backends
from secateur_keras.layouts import layout
from secateur_keras.naming import Weight
from secateur_keras.outside import is_loose


def cut(numbers: backends.Array, before: Weight, after: Weight, plan: Plan) -> backends.Array:
    """A new array of Keras's layout, with only what stays.

    Args:
        numbers: in the shape of the weight.
        before: the weight.
        after: what becomes of it.
        plan: what stays.
    """
    view = layout(before).to_canonical(numbers)
    for axis in range(view.ndim):
        if (before.name, axis) in plan.keep:
            view = np.compress(plan.keep[before.name, axis], view, axis=axis)
    return layout(after).to_native(view.reshape(_lying(before, view.shape))).copy()


def cut_shape(weight: Weight, plan: Plan) -> Shape:
    """The canonical shape of what :func:`cut` leaves."""
    shape = layout(weight).shape
    kept = {axis: int(keep.sum()) for (name, axis), keep in plan.keep.items() if name == weight.name}
    return _lying(weight, tuple(kept.get(axis, size) for axis, size in enumerate(shape)))


def _lying(weight: Weight, shape: Shape) -> Shape:
    return (1, math.prod(shape)) if is_loose(weight) else shape
