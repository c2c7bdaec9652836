"""How many units go until a forward pass is fast enough: models are really made smaller, and timed.

Times do not add up over layers, and fall in steps along the widths, so nothing is predicted that can be measured. A few
models from dense to smallest, each timed beside the dense one, give a falling curve (isotonic regression of what was
measured); where the curve meets the limit the next model is made and measured thoroughly, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Adapter
from secateur.errors import ExampleError, VerificationError
from secateur.structure.coupling import Coupling
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan, plan
from secateur.timing import undisturbed
from secateur.verification import BAKED

Flags = npt.NDArray[np.bool_]

MODELS = 12
"""So many smaller models are made at most for one target."""

CLOSE = 0.02
"""A model that takes less than the limit by up to this fraction of it is not made larger again."""

_GRID, _ENOUGH, _SAME = 5, 5.0, 1.02
_ROUNDS = {False: (3, 6), True: (5, 25)}
"""At least and at most so many rounds, when looking and when deciding."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one forward pass: of two models in turn, the lower quartile of each.

    Args:
        dense: of the model as it is.
        small: of the model without what was pruned.
    """

    dense: float
    small: float


class Stopwatch:
    """Times smaller models beside the dense one, on one example."""

    def __init__(self, adapter: Adapter, model: Any, example: Any, graph: Graph, coupling: Coupling) -> None:
        self._adapter, self._model, self._example = adapter, model, example
        self._graph, self._coupling = graph, coupling

    def race(self, removals: Sequence[Flags]) -> Race:
        """A search among these removals (bool[count] each, units that are gone), which grow."""
        return Race(self._timer, removals)

    def _timer(self, gone: Flags) -> Callable[[], float]:
        removed = plan(self._graph, self._coupling, gone)
        return self._adapter.timer(self._smaller(removed) if gone.any() else self._model, self._example)

    def _smaller(self, removed: Plan) -> Any:
        """The first form that runs as planned. Its numbers are not compared: the weights that go are not masked yet."""
        expected = [output.shape for output in self._adapter.outputs(self._model, self._example)]
        refused = ""
        for candidate in self._adapter.compact(self._model, self._graph, removed, self._example):
            if candidate.misfit:
                refused = f" ({candidate.misfit})"
                continue
            try:
                if [output.shape for output in self._adapter.outputs(candidate.model, self._example)] == expected:
                    return candidate.model
            except ExampleError as error:
                refused = f" ({error})"
        raise VerificationError(f"no smaller model runs whose time could be measured. {BAKED}{refused}")


class Race:
    """One search: the models that were made for it, and what was measured of them."""

    def __init__(self, timer: Callable[[Flags], Callable[[], float]], removals: Sequence[Flags]) -> None:
        self._timer, self._removals = timer, removals
        self._timers: dict[int, Callable[[], float]] = {}
        self._dense = timer(np.zeros_like(removals[0]))
        self.timings: dict[int, Timing] = {}

    def time(self, index: int, thorough: bool) -> Timing:
        """The dense model and the one without removal ``index``, a few passes each in turn, round after round.

        Until a quarter of either's times is as short as the shortest: on a quiet machine soon, on a busy one after some
        seconds.
        """
        if index not in self._timers:
            gone = self._removals[index]
            self._timers[index] = self._timer(gone) if gone.any() else self._dense
        dense: list[float] = []
        small: list[float] = []
        least, most = _ROUNDS[thorough]
        while len(small) < least or (len(small) < most and not _settled(dense, small)):
            dense.append(self._dense())
            small.append(dense[-1] if self._timers[index] is self._dense else self._timers[index]())
        self.timings[index] = Timing(undisturbed(dense), undisturbed(small))
        return self.timings[index]

    def smallest(self, limit: Callable[[float], float]) -> int | None:
        """The smallest removal that was found to be within the limit, thoroughly measured; None if none is.

        Args:
            limit: seconds of the dense model -> seconds that the smaller one may take.
        """

        def load(index: int, thorough: bool) -> float:
            timing = self.time(index, thorough)
            return timing.small / limit(timing.dense)

        return search(len(self._removals) - 1, load)


def _settled(dense: Sequence[float], small: Sequence[float]) -> bool:
    """Whether more rounds would tell little, or take too long."""
    short = [undisturbed(times) <= _SAME * min(times) for times in (dense, small)]
    return all(short) or sum(dense) + sum(small) > _ENOUGH


def search(last: int, load: Callable[[int, bool], float]) -> int | None:
    """The smallest index, of those that are looked at, whose load is at most 1; None if there is none.

    Args:
        last: the largest index.
        load: an index and whether to measure thoroughly -> a load, which falls along the indices but for noise. At
            most :data:`MODELS` different indices are asked for, besides 0.
    """
    loads, sure = {0: load(0, False)}, dict[int, float]()
    if loads[0] <= 1.0:
        return 0
    for index in _spread(last):
        loads[index] = load(index, False)
    while (wanted := _next(last, loads, sure)) is not None:
        loads[wanted] = sure[wanted] = load(wanted, True)
    return min((index for index, found in sure.items() if found <= 1.0), default=None)


def _spread(last: int) -> list[int]:
    """Indices from dense to the last, evenly."""
    return [int(index) for index in np.unique(np.linspace(0, last, _GRID + 1).round()) if index > 0]


def _next(last: int, loads: dict[int, float], sure: dict[int, float]) -> int | None:
    """The index to measure thoroughly next; None if it is found, or not to be found."""
    missed = max((index for index, found in sure.items() if found > 1.0), default=0)
    best = min((index for index, found in sure.items() if found <= 1.0), default=None)
    if best is None and missed == last:
        return min((index for index, found in loads.items() if found <= 1.0 and index not in sure), default=None)
    if best is None:
        upper = min((index for index, found in loads.items() if index > missed and found <= 1.0), default=last)
        wanted = max(_crossing(loads, last), (missed + upper + 1) // 2 if sure else 1)
    else:
        missed = max((index for index, found in sure.items() if found > 1.0 and index < best), default=0)
        if best - missed <= 1 or sure[best] >= 1.0 - CLOSE:
            return None
        margin = (best - missed) // 8 + 1
        wanted = min(max(_crossing(loads, last), missed + margin), max(best - margin, missed + 1))
    if wanted in loads or len(loads) <= MODELS:
        return wanted
    return None if best is not None else min(index for index in loads if index > missed)


def _crossing(loads: dict[int, float], last: int) -> int:
    """Where the falling curve through what was measured comes down to 1; the last index if it does not.

    It begins above 1, as the load of index 0 is, and what is pooled with that is higher still.
    """
    from scipy.optimize import isotonic_regression

    indices = sorted(loads)
    fitted = isotonic_regression([loads[index] for index in indices], increasing=False).x
    below = int(np.searchsorted(-fitted, -1.0))
    if below == len(indices):
        return last
    left, right = float(fitted[below - 1]), float(fitted[below])
    return indices[below - 1] + math.ceil((indices[below] - indices[below - 1]) * (left - 1.0) / (left - right))
