"""A removal that was planned on one graph, in the terms of another graph of the same weights."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from secateur.errors import TraceError
from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import Plan, plan
from secateur_torch import shortcuts


def trusting(graph: Graph) -> Graph:
    """The same graph, whose divisors may shrink: whether masked units divide by zero was settled before.

    ``functional.normalize`` is one operation for the tracer, and here a division.
    """

    def trusted(operation: Operation) -> Operation:
        is_divisor = operation.kind == "unknown" and operation.label == "div" and not operation.parameters
        if is_divisor and [graph.tensors[i] for i in operation.inputs] == [graph.tensors[i] for i in operation.outputs]:
            return replace(operation, kind="elementwise")
        return operation

    return replace(graph, operations=tuple(trusted(operation) for operation in graph.operations))


def within(graph: Graph, removal: Plan) -> Plan:
    """The same removal in the terms of another graph of the same weights. Raises TraceError if it does not allow it."""
    branches = shortcuts.within(graph, removal.branches)
    for exact, heads in itertools.product((True, False), repeat=2):
        coupling = couple(graph, heads=heads, exact=exact)
        found = plan(graph, coupling, _gone(coupling, removal))
        if _same_cuts(found, removal):
            return replace(found, branches=tuple(branches))
    raise TraceError("the graph that torch.export writes does not allow the same units to be removed")


def _gone(coupling: Coupling, removal: Plan) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Units of which nothing stays."""
    gone = np.zeros(coupling.count + 1, np.bool_)
    for key in coupling.units:
        if key in removal.keep:
            gone[coupling.units[key][~removal.keep[key]]] = True
    for key, units in coupling.units.items():
        gone[units[removal.keep.get(key, np.ones(units.size, np.bool_))]] = False
    return gone[:-1]


def _same_cuts(found: Plan, wanted: Plan) -> bool:
    return found.keep.keys() == wanted.keep.keys() and all(
        np.array_equal(kept, wanted.keep[key]) for key, kept in found.keep.items()
    )
