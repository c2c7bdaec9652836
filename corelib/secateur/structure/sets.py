"""Units that are alike, and what goes with one of them: a model's couplings in few words.

A residual stream of 256 channels are 256 units, but one :class:`UnitSet`: each of them has one row of the same kernels,
one column of the same others. So a network of ten thousand units has some dozens of sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from secateur.structure.coupling import Coupling, Units
from secateur.structure.graph import Graph, producing_axes

MAKES, READS, CARRIES = "makes", "reads", "carries"


@dataclass(frozen=True)
class Slice:
    """What one unit has of one axis of a parameter.

    Args:
        parameter: the parameter's name.
        axis: the name of its axis (``out``, ``in``, ``features``, ...); empty for a vector, which has but one.
        times: so many indices of the axis go with one unit: the rows of a head, the columns that read a flattened
            channel.
        use: ``makes`` (a kernel's output, an embedding's features), ``reads`` (a kernel's input), or ``carries``
            (biases, normalisations and whatever else lies between).
    """

    parameter: str
    axis: str
    times: int
    use: str


@dataclass(frozen=True, eq=False)
class UnitSet:
    """Units that have the same slices.

    Args:
        layer: the first kernel that makes them.
        what: ``neurons``, ``channels``, ``heads``, ``recurrent units`` or ``features`` (of an embedding).
        members: int64, the numbers of the units, ascending.
        slices: what goes with each of them, in execution order.
    """

    layer: str
    what: str
    members: Units
    slices: tuple[Slice, ...]


def unit_sets(graph: Graph, coupling: Coupling) -> tuple[UnitSet, ...]:
    """All units, in sets of the largest kind; by their first unit. Near-linear in the number of indices of all axes."""
    classes = _classes(coupling)
    first = np.unique(classes, return_index=True)[1]
    kinds = _kinds(graph)
    slices: dict[int, list[Slice]] = {int(unit): [] for unit in first}
    for (name, axis), units in coupling.units.items():
        for unit, times in _counted(units, first):
            slices[unit].append(_slice(graph, coupling, name, axis, times))
    order = np.argsort(classes, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1) if order.size else []
    found = (
        UnitSet(
            layer := coupling.layer_names[coupling.layers[own[0]]],
            "heads" if coupling.heads[own[0]] else kinds[layer],
            own,
            tuple(slices[int(own[0])]),
        )
        for own in members
    )
    return tuple(sorted(found, key=lambda each: int(each.members[0])))


def _classes(coupling: Coupling) -> Units:
    """A number for each unit: the same for units that every axis has equally often, and for no others."""
    classes = coupling.layers * 2 + coupling.heads
    for units in {id(each): each for each in coupling.units.values()}.values():
        present, times = np.unique(units[units >= 0], return_counts=True)
        pairs = classes[present] * (times.max(initial=0) + 1) + times
        classes[present] = np.unique(pairs, return_inverse=True)[1] + classes.max(initial=0) + 1
    return np.unique(classes, return_inverse=True)[1].astype(np.int64)


def _counted(units: Units, wanted: Units) -> Iterator[tuple[int, int]]:
    """How often those of the wanted units occur that occur."""
    present, times = np.unique(units[np.isin(units, wanted)], return_counts=True)
    yield from zip(present.tolist(), times.tolist(), strict=True)


def _slice(graph: Graph, coupling: Coupling, name: str, axis: int, times: int) -> Slice:
    parameter = graph.parameters[name]
    if axis in producing_axes(parameter.role, parameter.axes):
        use = MAKES
    else:
        use = READS if (name, axis) in coupling.readers else CARRIES
    return Slice(name, parameter.axes[axis] if len(parameter.shape) > 1 else "", times, use)


_WORDS = {"convolution": "channels", "recurrent": "recurrent units", "embedding": "features"}


def _kinds(graph: Graph) -> dict[str, str]:
    """What the features of each parameter are called, by the operation that uses it first."""
    kinds: dict[str, str] = {}
    for operation in graph.operations:
        for name in operation.parameters.values():
            role = graph.parameters[name].role
            kinds.setdefault(name, _WORDS.get(operation.kind, "features" if role == "embedding" else "neurons"))
    return kinds
