"""What operations must be told anew when units go: sizes that are no shape of any parameter.

=========================  ============================================================================================
kind                       settings
=========================  ============================================================================================
convolution, standardize   ``groups``, how many of them stay
reshape, expand, fill      ``shape`` of the output
slice, take                ``start``, ``stop`` and ``step``; ``indices`` where what stays is no slice, and of a take
split                      ``sizes``
linear                     ``rows``
standardize                ``rescale``, the ratio of all to what stays, where it divides by the mean square: multiply
                           its scale by the ratio's root and its epsilon by the ratio, and nothing changes
=========================  ============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.structure.coupling import Coupling
from secateur.structure.graph import Graph, Operation, out_axis
from secateur.structure.rules.moving import picked

Flags = npt.NDArray[np.bool_]


def changes(
    graph: Graph, coupling: Coupling, gone: Flags, shapes: tuple[tuple[int, ...], ...]
) -> dict[int, dict[str, Any]]:
    """Operation index -> the settings that it needs anew; ``gone``: one flag a unit, and False for unit -1."""
    settings: dict[int, dict[str, Any]] = {}
    for index, units in coupling.groups.items():
        if gone[units].any():
            settings[index] = {"groups": int(units.size - gone[units].sum())}
    for index, operation in enumerate(graph.operations):
        change = _CHANGES.get(operation.kind)
        changed = {} if change is None else change(_Context(graph, coupling, gone, shapes), operation)
        if changed:
            settings[index] = {**settings.get(index, {}), **changed}
    return settings


@dataclass(frozen=True)
class _Context:
    graph: Graph
    coupling: Coupling
    gone: Flags
    shapes: tuple[tuple[int, ...], ...]

    def kept(self, tensor: int, axis: int) -> Flags:
        """Which indices of a tensor's axis stay."""
        axis %= len(self.graph.tensors[tensor])
        units = self.coupling.tensors.get((tensor, axis))
        size = self.graph.tensors[tensor][axis]
        return np.ones(size, np.bool_) if units is None else ~self.gone[units]


def _resized(context: _Context, operation: Operation) -> dict[str, Any]:
    output = operation.outputs[0]
    return {} if context.shapes[output] == context.graph.tensors[output] else {"shape": context.shapes[output]}


def _picked(context: _Context, operation: Operation) -> dict[str, Any]:
    """Of what stays, the new positions of what is picked; a slice as long as they are one."""
    kept = context.kept(operation.inputs[0], operation.settings["axis"])
    if kept.all():
        return {}
    chosen = picked(operation, kept.size)
    positions = (np.cumsum(kept) - 1)[chosen[kept[chosen]]]
    steps = np.unique(np.diff(positions))
    if operation.kind == "take" or steps.size > 1 or (steps <= 0).any():
        return {"indices": positions.tolist()}
    step = int(steps[0]) if steps.size else 1
    start = int(positions[0])
    return {"start": start, "stop": start + step * (positions.size - 1) + 1, "step": step}


def _divided(context: _Context, operation: Operation) -> dict[str, Any]:
    kept = context.kept(operation.inputs[0], operation.settings["axis"])
    ends = np.cumsum(operation.settings["sizes"])[:-1]
    return {} if kept.all() else {"sizes": [int(part.sum()) for part in np.split(kept, ends)]}


def _rows(context: _Context, operation: Operation) -> dict[str, Any]:
    name = operation.parameters["kernel"]
    units = context.coupling.units.get((name, out_axis(context.graph.parameters[name])))
    if "rows" not in operation.settings or units is None or not context.gone[units].any():
        return {}
    before = np.concatenate([[0], np.cumsum(~context.gone[units])])
    return {"rows": [int(before[end]) for end in operation.settings["rows"]]}


def _rescaled(context: _Context, operation: Operation) -> dict[str, Any]:
    """A mean square over what stays is this many times as large."""
    sizes = [
        math.prod(shapes[operation.inputs[0]][axis] for axis in operation.settings["axes"])
        for shapes in (context.graph.tensors, context.shapes)
    ]
    return {"rescale": sizes[0] / sizes[1]} if operation.settings.get("rms") and sizes[0] != sizes[1] else {}


_CHANGES: Mapping[str, Callable[[_Context, Operation], dict[str, Any]]] = {
    **dict.fromkeys(("reshape", "expand", "fill"), _resized),
    **dict.fromkeys(("slice", "take"), _picked),
    "split": _divided,
    "linear": _rows,
    "standardize": _rescaled,
}
