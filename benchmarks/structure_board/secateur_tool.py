"""Secateur, timed step by step, in either framework."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import secateur
from benchmarks.structure_board.outcomes import Outcome
from secateur import Neurons, Recipe, pruner
from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph

Clock = Callable[[], float]

MANY = 8
"""So many reasons why something stays are kept."""


def recipe(target: str) -> Recipe:
    """Half of the units of each layer, or half of the model's parameters."""
    if target == "units":
        return Recipe(0.5, granularity=Neurons(), scope="layer")
    return Recipe(secateur.Parameters(0.5), granularity=Neurons())


class Timed:
    """An adapter, and how long it took for tracing and for running what is compared, of which nothing else tells."""

    STEPS: Mapping[str, str] = {"graph": "trace", "outputs": "verify", "made_up": "verify"}

    def __init__(self, adapter: Any, clock: Clock) -> None:
        self._adapter, self._clock = adapter, clock
        self.seconds = {"trace": 0.0, "verify": 0.0}

    def __getattr__(self, name: str) -> Any:
        """The adapter's own; timed if it is one of the steps."""
        attribute = getattr(self._adapter, name)
        return partial(self._timed, self.STEPS[name], attribute) if name in self.STEPS else attribute

    def _timed(self, step: str, function: Callable[..., Any], *arguments: Any) -> Any:
        began = self._clock()
        try:
            return function(*arguments)
        finally:
            self.seconds[step] += self._clock() - began


def pruned(adapter: Any, model: Any, example: Any, target: str, clock: Clock = time.process_time) -> Outcome:
    """Prune with an adapter, as its package's ``prune`` does. Solving is timed once more by itself, afterwards.

    What is neither tracing, solving, removing nor verifying is choosing: scores, masks, and zeros in the weights.
    """
    timed = Timed(adapter, clock)
    began = clock()
    result = pruner.prune(timed, model, recipe(target), example=example)
    chosen = clock()
    small = result.compact()
    ended = clock()
    graph = result.outcome(None).graph
    solving = clock()
    coupling = couple(graph)
    solve = clock() - solving
    trace, verify = timed.seconds["trace"], timed.seconds["verify"]
    seconds = {
        "trace": trace,
        "solve": solve,
        "choose": max(0.0, chosen - began - trace - solve),
        "remove": ended - chosen - verify,
        "verify": verify,
        "total": ended - began,
    }
    return Outcome(small, result.model, seconds, result.form, result.max_error, reasons(graph, coupling))


def reasons(graph: Graph, coupling: Coupling) -> list[str]:
    """Why something stays, what holds back the most weights first; unknown operations before all."""
    unknown = [f"unknown: {operation.label}" for operation in graph.operations if operation.kind == "unknown"]
    held: Counter[str] = Counter()
    for frozen in coupling.frozen:
        held[f"{frozen.label}: {frozen.reason}"] += len(frozen.parameters)
    return [*dict.fromkeys(unknown), *(f"{reason} ({count} weights)" for reason, count in held.most_common())][:MANY]
