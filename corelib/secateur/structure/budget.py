"""The fewest units that bring a measure of the model down to a limit.

A measure never grows when units go, and units go in nested removals (:mod:`secateur.structure.turns`); so the fewest
are found by bisection, with the exact measure at each step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from secateur.structure.cost import sizes_of
from secateur.structure.coupling import Coupling, Units
from secateur.structure.graph import Graph
from secateur.structure.turns import NEVER
from secateur.structure.work import Axis

Flags = npt.NDArray[np.bool_]


class Sizes:
    """The sizes of all axes of a model, for one removal after the other: what a plan would say, without the plan."""

    def __init__(self, graph: Graph, coupling: Coupling) -> None:
        self.dense = sizes_of(graph)
        self._axes: dict[Axis, int] = {}
        distinct: dict[bytes, int] = {}
        arrays: list[Units] = []
        for axis, units in _unit_axes(coupling):
            place = distinct.setdefault(units.tobytes(), len(arrays))
            self._axes[axis] = place
            arrays += [units] if place == len(arrays) else []
        self._units = np.concatenate([np.zeros(0, np.int64), *arrays])
        self._starts = np.cumsum([0, *(units.size for units in arrays)])[:-1]
        self._full = np.array([units.size for units in arrays], np.int64)

    def after(self, gone: Flags) -> dict[Axis, int]:
        """The sizes when the units marked True (bool[count]) are gone."""
        if not self._axes:
            return self.dense
        lost = np.add.reduceat(np.append(gone, False)[self._units], self._starts, dtype=np.int64)
        left = (self._full - lost).tolist()
        return self.dense | {axis: left[place] for axis, place in self._axes.items()}


def _unit_axes(coupling: Coupling) -> Iterable[tuple[Axis, Units]]:
    yield from coupling.units.items()
    yield from coupling.tensors.items()


def fewest(turns: Units, value: Callable[[Flags], float], limit: float, start: int = 0) -> int | None:
    """The smallest n, from ``start`` on, such that ``value`` is at most ``limit`` when the first n have gone.

    Args:
        turns: as :func:`secateur.structure.turns.turns` gives them.
        value: a function of the units that are gone, which never grows when more go.
        limit: what it may be.
        start: so many go in any case.

    Returns:
        None if the limit is not reached with all of them.
    """
    end = last(turns)
    start = min(start, end)
    found = bisect_left(range(start, end + 1), True, key=lambda count: value(turns < count) <= limit) + start
    return None if found > end else found


def last(turns: Units) -> int:
    """The number of turns after which nothing more can go."""
    reached = turns[turns < NEVER]
    return int(reached.max()) + 1 if reached.size else 0
