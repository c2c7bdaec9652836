"""The part of a weight, or of anything that has its shape, that a removal plan leaves."""

from __future__ import annotations

import numpy as np

from secateur.layout import Layout
from secateur.structure.removal import Plan
from secateur_keras import backends


def cut(numbers: backends.Array, name: str, before: Layout, after: Layout, plan: Plan) -> backends.Array:
    """A new array of Keras's layout, with only what stays.

    Args:
        numbers: in the shape of the weight.
        name: of the weight.
        before: its layout.
        after: that of the smaller one.
        plan: what stays.
    """
    view = before.to_canonical(numbers)
    for axis in range(view.ndim):
        if (name, axis) in plan.keep:
            view = np.compress(plan.keep[name, axis], view, axis=axis)
    return after.to_native(view).copy()
