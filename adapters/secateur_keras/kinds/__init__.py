"""What each Keras layer and operation does, in the vocabulary of :mod:`secateur.structure.graph`.

Each module knows one family. A rule takes a :class:`secateur_keras.recording.Step` and returns its output tensors, or
None if it finds that it does not know this case; it also notes which entries of configs are sizes. What no rule knows
is written down as ``unknown``. A subclass with its own ``call`` is not the layer that it derives from.
"""

from __future__ import annotations

from typing import Any

import keras

from secateur_keras.kinds import (
    activations,
    arithmetic,
    attention,
    contractions,
    convolutions,
    normalizations,
    recurrence,
    reductions,
    selections,
    shapes,
    wrappers,
)
from secateur_keras.kinds.rules import Rule
from secateur_keras.recording import Outputs, Step

FAMILIES = (
    activations,
    arithmetic,
    attention,
    contractions,
    convolutions,
    normalizations,
    recurrence,
    reductions,
    selections,
    shapes,
    wrappers,
)

LAYERS: dict[Any, Rule] = {layer: rule for family in FAMILIES for layer, rule in family.LAYERS.items()}
OPERATIONS: dict[str, Rule] = {name: rule for family in FAMILIES for name, rule in family.OPERATIONS.items()}


def describe(step: Step) -> Outputs:
    """Write the step down by the rule for its operation, else as unknown."""
    rule = None if step.variables else _rule(step.operation)
    before = step.recorder.position
    outputs = None if rule is None else rule(step)
    if outputs is None:
        step.recorder.rewind(before)  # a rule may find out late: nothing of what it wrote stays
        return unknown(step)
    return outputs


def unknown(step: Step) -> Outputs:
    """Freezes all that it touches, its own weights included."""
    own = getattr(step.operation, "weights", [])
    names = [name for variable in [*own, *step.variables] if (name := step.recorder.use(variable))]
    return step.emit_all(
        "unknown", step.inputs, step.shapes, {f"part{index}": name for index, name in enumerate(names)}
    )


def _rule(operation: Any) -> Rule | None:
    if not isinstance(operation, keras.Layer):
        known = type(operation).__module__.startswith(("keras.src.ops.", "keras.src.activations."))
        return OPERATIONS.get(type(operation).__name__) if known else None
    kind: Any = next((kind for kind in type(operation).__mro__ if kind in LAYERS), None)
    return LAYERS[kind] if kind is not None and type(operation).call is kind.call else None
