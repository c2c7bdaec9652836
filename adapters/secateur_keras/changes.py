"""What a plan means for the objects of a traced model: config entries, calls that give way, weights that are scaled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from secateur.errors import TraceError
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_keras.tracing import Trace


def instead(traced: Trace, plan: Plan) -> dict[int, Any]:
    """id of a call that adds a branch -> the symbolic tensor that takes its place."""
    nodes = [(traced.additions[branch.addition], branch.stays) for branch in plan.branches]
    return {id(node): node.input_tensors[stays] for node, stays in nodes}


def changed(traced: Trace, plan: Plan) -> dict[int, dict[str, Any]]:
    """id of a layer or operation -> what changes in its config."""
    dense = Plan({}, traced.graph.tensors, {}, 0)
    wanted: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    changes: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for edit in traced.edits:
        old, new, known = edit.config(dense), edit.config(plan), wanted[id(edit.origin)]
        if any(known.get(key, value) != value for key, value in new.items()):
            raise TraceError(
                f"{edit.origin.name} is used twice, and would need two sizes; use two of it, or exclude it"
            )
        known.update(new)
        changes[id(edit.origin)].update({key: value for key, value in new.items() if value != old[key]})
    return changes


def factors(graph: Graph, plan: Plan) -> dict[str, float]:
    """Parameters that are multiplied, so that a mean square over fewer features, or a product, has the same effect."""
    scales = {
        graph.operations[index].parameters["scale"]: math.sqrt(changed["rescale"])
        for index, changed in plan.settings.items()
        if "rescale" in changed
    }
    return scales | {name: factor for name, factor in _of_queries(graph, plan) if factor != 1.0}


def _of_queries(graph: Graph, plan: Plan) -> Iterator[tuple[str, float]]:
    """Of n features that N were, products are divided by the root of n, and no longer by that of N.

    In a model of 64 bits as well some layers and backends know these roots in 32 bits.
    """
    for operation in graph.operations:
        round_to = np.float32 if operation.settings.get("rounded") else np.float64
        for name in operation.settings.get("mended", ()):
            before, after = (shapes[operation.inputs[0]][-1] for shapes in (graph.tensors, plan.shapes))
            scales = [float(round_to(1 / math.sqrt(features))) for features in (before, after)]
            yield name, scales[0] / scales[1]
