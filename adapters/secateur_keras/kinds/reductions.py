"""What makes fewer numbers of many along axes: sums, means, maxima, global pooling."""

from __future__ import annotations

from typing import Any

from secateur_keras.kinds.rules import Rule, channels, dimensions, of_layers, of_operations, reduces_zeros, several
from secateur_keras.recording import Outputs, Step


def global_pool(step: Step) -> Outputs:
    """One number a channel."""
    rank = len(step.shape(step.inputs[0]))
    axes = tuple(axis for axis in range(1, rank) if axis != channels(step))
    return (step.emit("reduce", step.inputs[:1], step.shapes[0], axes=axes, keepdims=step.operation.keepdims),)


def reduction(step: Step) -> Outputs:
    """Over ``axis``: one, several, or None for all."""
    return (_reduce(step, total=False),)


def total(step: Step) -> Outputs:
    """A sum, or whether any is true: what is zero adds nothing."""
    return (_reduce(step, total=True),)


def _reduce(step: Step, total: bool) -> int:
    tensor = step.inputs[0]
    axes = several(step.operation.axis, len(step.shape(tensor)))
    settings: dict[str, Any] = {"sum": True} if total else {} if reduces_zeros(step) else {"zero": False}
    keepdims = bool(getattr(step.operation, "keepdims", False))
    return step.emit("reduce", [tensor], step.shapes[0], axes=axes, keepdims=keepdims, **settings)


LAYERS: dict[Any, Rule] = of_layers(global_pool, *dimensions("GlobalMaxPooling"), *dimensions("GlobalAveragePooling"))

# No standard deviations and lengths: where all is zero, as it is along a removed unit, these roots have no slope.
OPERATIONS: dict[str, Rule] = {
    **of_operations(reduction, "Mean", "Max", "Min", "Amax", "Amin", "Prod", "Var", "All", "Argmax", "Argmin"),
    **of_operations(reduction, "Logsumexp", "Median", "Ptp", "Nanmean", "Nanmax", "Nanmin"),
    **of_operations(total, "Sum", "Nansum", "Any", "CountNonzero"),
}
