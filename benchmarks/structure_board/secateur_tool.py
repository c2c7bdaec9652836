"""Secateur, timed step by step, in either framework."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import secateur
from benchmarks.structure_board.outcomes import Outcome
from secateur import Neurons, Recipe
from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph

MANY = 8
"""So many reasons why something stays are kept."""


def recipe(target: str) -> Recipe:
    """Half of the units of each layer, or half of the model's parameters."""
    if target == "units":
        return Recipe(0.5, granularity=Neurons(), scope="layer")
    return Recipe(secateur.Parameters(0.5), granularity=Neurons())


def pruned(adapter: Any, model: Any, example: Any, target: str) -> Outcome:
    """Prune with an adapter's ``prune``. Tracing and solving are timed by themselves, and are part of the total too."""
    began = time.process_time()
    graph = adapter.graph(model, example) if adapter.__name__ == "secateur_torch" else adapter.graph(model)
    traced = time.process_time()
    coupling = couple(graph)
    solved = time.process_time()
    result = adapter.prune(model, recipe(target), example=example)
    chosen = time.process_time()
    small = result.compact()
    ended = time.process_time()
    seconds = {"trace": traced - began, "solve": solved - traced, "remove": ended - chosen, "total": ended - solved}
    return Outcome(small, result.model, seconds, result.form, result.max_error, reasons(graph, coupling))


def reasons(graph: Graph, coupling: Coupling) -> list[str]:
    """Why something stays, what holds back the most weights first; unknown operations before all."""
    unknown = [f"unknown: {operation.label}" for operation in graph.operations if operation.kind == "unknown"]
    held: Counter[str] = Counter()
    for frozen in coupling.frozen:
        held[f"{frozen.label}: {frozen.reason}"] += len(frozen.parameters)
    return [*dict.fromkeys(unknown), *(f"{reason} ({count} weights)" for reason, count in held.most_common())][:MANY]
