"""Runs a :class:`Graph` in NumPy, dense or after a removal plan: the oracle of the structure tests.

Slow and obvious. What the graph leaves open (which activation, which pooling, which cell) stands in settings that only
this executor reads: ``function``, ``cell``, ``reverse``, ``value``. After a removal every parameter is cut as the plan
says, settings come from the plan, and each tensor must have the shape that the plan foretells.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secateur.structure.graph import Graph, Operation, ParameterShape
from secateur.structure.removal import Plan
from structure.tensor_kinds import TENSOR_KINDS
from structure.weight_kinds import WEIGHT_KINDS, Array

KINDS = {**TENSOR_KINDS, **WEIGHT_KINDS}
GIVEN_A_SHAPE = ("reshape", "expand", "fill")


def run(
    graph: Graph, parameters: Mapping[str, Array], given: Mapping[int, Array], plan: Plan | None = None
) -> dict[int, Array]:
    """Every tensor of the graph; ``given`` holds its inputs and constants, ``parameters`` the dense arrays."""
    parameters = parameters if plan is None else cut(parameters, plan)
    tensors = dict(given)
    branches = {} if plan is None else {branch.addition: branch.stays for branch in plan.branches}
    needed = _needed(graph, branches)
    for index, operation in enumerate(graph.operations):
        if index not in needed:
            continue
        if index in branches:
            tensors[operation.outputs[0]] = tensors[operation.inputs[branches[index]]]
            continue
        settings = dict(operation.settings)
        if operation.kind in GIVEN_A_SHAPE:
            settings["shape"] = graph.tensors[operation.outputs[0]]
        settings.update({} if plan is None else plan.settings.get(index, {}))
        inputs = [tensors[tensor] for tensor in operation.inputs]
        results = KINDS[operation.kind](inputs, _own(graph, operation, parameters), settings)
        for tensor, array in zip(operation.outputs, results, strict=True):
            assert array.shape == (graph.tensors if plan is None else plan.shapes)[tensor], (index, operation)
            tensors[tensor] = array
    return tensors


def _needed(graph: Graph, branches: Mapping[int, int]) -> set[int]:
    """All operations; where branches go, those that the outputs are computed from without them."""
    if not branches:
        return set(range(len(graph.operations)))
    makers = {tensor: index for index, operation in enumerate(graph.operations) for tensor in operation.outputs}
    needed: set[int] = set()
    pending = [makers[tensor] for tensor in graph.outputs if tensor in makers]
    while pending:
        index = pending.pop()
        if index not in needed:
            needed.add(index)
            inputs = graph.operations[index].inputs
            read = inputs if index not in branches else (inputs[branches[index]],)
            pending += [makers[tensor] for tensor in read if tensor in makers]
    return needed


def cut(parameters: Mapping[str, Array], plan: Plan) -> dict[str, Array]:
    """The parameters without what the plan removes."""
    gone = {name for branch in plan.branches for name in branch.parameters}
    small = {name: array for name, array in parameters.items() if name not in gone}
    for (name, axis), keep in plan.keep.items():
        small[name] = np.compress(keep, small[name], axis=axis)
    return small


def _own(graph: Graph, operation: Operation, parameters: Mapping[str, Array]) -> dict[str, Array]:
    own = {part: parameters[name] for part, name in operation.parameters.items()}
    if operation.kind == "linear":
        own["kernel"] = _oriented(own["kernel"], graph.parameters[operation.parameters["kernel"]])
    return own


def _oriented(kernel: Array, described: ParameterShape) -> Array:
    """(out, in), wherever these axes are; a table (entries, features) as it lies."""
    return kernel.T if described.axes[0] == "in" else kernel


def random_parameters(graph: Graph, seed: int) -> dict[str, Array]:
    """Float64 parameters of order one; variances positive."""
    generator = np.random.default_rng(seed)
    values = {}
    for name, parameter in graph.parameters.items():
        fan_in = max(int(np.prod(parameter.shape[1:])), 1)
        draw = generator.standard_normal(parameter.shape) / np.sqrt(fan_in)
        values[name] = np.abs(draw) + 0.1 if parameter.role == "variance" else draw
    return values


def random_tensors(graph: Graph, seed: int) -> dict[int, Array]:
    """Float64 values of the graph's inputs and constants."""
    generator = np.random.default_rng(seed)
    written = {tensor for operation in graph.operations for tensor in operation.outputs}
    return {
        tensor: generator.standard_normal(shape) for tensor, shape in enumerate(graph.tensors) if tensor not in written
    }
