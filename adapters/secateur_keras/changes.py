"""What a plan means for the objects of a traced model: config entries, calls that give way, weights that are scaled."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

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
    """Parameters that are multiplied, so that a mean square over fewer features has the same effect."""
    return {
        graph.operations[index].parameters["scale"]: math.sqrt(changed["rescale"])
        for index, changed in plan.settings.items()
        if "rescale" in changed
    }
