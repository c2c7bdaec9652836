"""When each unit goes, if units go one after the other: an order, minus what must stay, plus what goes together.

A unit is passed over if its turn would take an axis below its minimum. Where the width of a layer must be a multiple,
a unit goes only when so many have had their turn that the width is one again. So each unit has one turn, whatever the
number of units that go in the end, and any two removals are nested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur.structure.coupling import Coupling, Units
from secateur.structure.graph import Graph, producing_axes

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Limit:
    """What an axis must keep.

    Args:
        units: the unit of every index of the axis, -1 where it stays.
        least: so many indices stay.
        multiple: the number of indices stays a multiple of this, as long as it is not the full one.
    """

    units: Units
    least: int = 1
    multiple: int = 1


def limits(graph: Graph, coupling: Coupling, minimum: int = 1, multiple: int = 1) -> list[Limit]:
    """What the axes of a model must keep: no axis is emptied, and no layer of the coupling loses all of its units.

    Args:
        graph: the traced model.
        coupling: its units.
        minimum: so many indices a layer stay, or all if it has fewer: along the axis of a weight that makes features.
        multiple: the width of each layer along that axis stays a multiple of this, or full.
    """
    widths = [
        Limit(units, min(minimum, units.size), multiple)
        for (name, axis), units in coupling.units.items()
        if axis in producing_axes(graph.parameters[name].role, graph.parameters[name].axes)
    ]
    layers = [Limit(np.flatnonzero(coupling.layers == layer)) for layer in range(len(coupling.layer_names))]
    axes = {units.tobytes(): units for units in (*coupling.units.values(), *coupling.tensors.values())}
    others = [Limit(units) for units in axes.values() if (units >= 0).all() and not _holds_one(units, coupling)]
    return list({limit.units.tobytes(): limit for limit in (*others, *layers, *widths)}.values())


def turns(coupling: Coupling, order: Units, limits: Sequence[Limit]) -> Units:
    """int64[count]: unit u is among the first n that go if its turn is below n; :data:`NEVER` if it stays.

    Args:
        coupling: the units.
        order: int64[count], all units, first those that go first.
        limits: what must stay.

    Near-linear in the number of all indices.
    """
    going = order[~_passed(coupling, order, limits)[order]]
    found = np.full(coupling.count, NEVER)
    found[going] = np.arange(going.size)
    rounded = [limit for limit in limits if limit.multiple > 1]
    for own, members in _clusters(coupling.count, going, rounded):
        whole = np.flatnonzero(_allowed(coupling.count, own, members)[1:])
        last = np.searchsorted(whole, np.arange(own.size))
        ends = np.append(found[own[whole]], NEVER)
        found[own] = ends[last]
    return found


def _holds_one(units: Units, coupling: Coupling) -> bool:
    """Whether all units of some layer are among these, so that the layer's own limit is enough."""
    present = np.bincount(coupling.layers[np.unique(units)], minlength=len(coupling.layer_names))
    return bool((present == np.bincount(coupling.layers, minlength=len(coupling.layer_names))).any())


def _passed(coupling: Coupling, order: Units, limits: Sequence[Limit]) -> npt.NDArray[np.bool_]:
    """bool[count]: which units stay because their turn would take an axis below its minimum.

    As long as nothing is passed over, an axis has lost the running sum of its indices. Only where that is too much can
    a unit have to stay, and only such units are looked at one by one.
    """
    passed = np.zeros(coupling.count, np.bool_)
    rank = np.empty(coupling.count, np.int64)
    rank[order] = np.arange(coupling.count)
    axis, turn, times = _counted(limits, rank)
    slack = np.array([limit.units.size - limit.least for limit in limits], np.int64)
    excess = _running(axis, times) - slack[axis]
    critical = np.isin(turn, turn[excess > 0])
    rows = np.flatnonzero(critical)[np.argsort(turn[critical], kind="stable")]
    spared = [0] * len(limits)
    for own in np.split(rows, np.flatnonzero(np.diff(turn[rows])) + 1):
        sides = list(zip(axis[own].tolist(), times[own].tolist(), excess[own].tolist(), strict=True))
        if any(over > spared[side] for side, _, over in sides):
            passed[order[turn[own[0]]]] = True
            for side, count, _ in sides:
                spared[side] += count
    return passed


def _counted(limits: Sequence[Limit], rank: Units) -> tuple[Units, Units, Units]:
    """How often each axis has each unit: number of the axis, rank of the unit, count; by axis, then by rank."""
    axis = np.repeat(np.arange(len(limits)), [limit.units.size for limit in limits])
    units = np.concatenate([np.zeros(0, np.int64), *(limit.units for limit in limits)])
    axis, turn = axis[units >= 0], rank[units[units >= 0]]
    keys, times = np.unique(axis * rank.size + turn, return_counts=True)
    return keys // max(rank.size, 1), keys % max(rank.size, 1), times


def _running(groups: Units, values: Units) -> Units:
    """Running sums within each group of neighbours."""
    total = np.cumsum(values)
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    before = total[first] - values[first]
    return total - np.repeat(before, np.diff(np.append(first, groups.size)))


def _clusters(count: int, going: Units, limits: Sequence[Limit]) -> Iterator[tuple[Units, list[Limit]]]:
    """Axes that share units, directly or through others: their units that go, in order, and what they must keep."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not limits or not going.size:
        return
    axis = np.repeat(np.arange(len(limits)), [limit.units.size for limit in limits])
    units = np.concatenate([limit.units for limit in limits])
    links = (units[units >= 0], count + axis[units >= 0])
    size = count + len(limits)
    labels = connected_components(coo_array((np.ones(links[0].size), links), shape=(size, size)), directed=False)[1]
    by_cluster = going[np.argsort(labels[going], kind="stable")]
    for own in np.split(by_cluster, np.flatnonzero(np.diff(labels[by_cluster])) + 1):
        among = labels[count:] == labels[own[0]]
        yield own, [limit for limit, inside in zip(limits, among, strict=True) if inside]


def _allowed(count: int, own: Units, limits: Sequence[Limit]) -> npt.NDArray[np.bool_]:
    """bool[len(own) + 1]: whether every axis is full or a multiple wide when the first so many of ``own`` are gone."""
    allowed = np.ones(own.size + 1, np.bool_)
    for limit in limits:
        times = np.bincount(limit.units[limit.units >= 0], minlength=count)
        gone = np.append(0, np.cumsum(times[own]))
        allowed &= (gone == 0) | ((limit.units.size - gone) % limit.multiple == 0)
    return allowed
