"""What is left of a graph when additions give way to one of their operands, and who the parameters belong to then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from secateur.structure.graph import Graph, Operation


@dataclass(frozen=True)
class Branch:
    """The ``f(x)`` of an addition ``x + f(x)``, which can go, so that ``x`` takes the addition's place.

    Args:
        addition: index of the operation that adds.
        stays: which of its two inputs is ``x``.
        parameters: all that nothing outside of the branch uses, running statistics included, in the graph's order. With
            these at zero (statistics aside) ``f(x)`` is exactly zero.
    """

    addition: int
    stays: int
    parameters: tuple[str, ...]


def bypass(graph: Graph, branches: Iterable[Branch]) -> Graph:
    """The graph without these branches, and without whatever nothing reads any more; tensors keep their numbers.

    What nothing had read before stays, unless it reads from what goes.
    """
    instead = _operands(graph, branches)
    if not instead:
        return graph
    before, after = _alive(graph, {}), _alive(graph, instead)
    lost: set[int] = set()
    kept: list[Operation] = []
    for index, operation in enumerate(graph.operations):
        inputs = tuple(_resolved(tensor, instead) for tensor in operation.inputs)
        if index in after or (index not in before and lost.isdisjoint(inputs)):
            kept.append(operation if inputs == operation.inputs else replace(operation, inputs=inputs))
        else:
            lost.update(operation.outputs)
    used = {name for operation in kept for name in operation.parameters.values()}
    parameters = {name: shape for name, shape in graph.parameters.items() if name in used}
    outputs = tuple(_resolved(tensor, instead) for tensor in graph.outputs)
    return replace(graph, operations=tuple(kept), outputs=outputs, parameters=parameters)


def _operands(graph: Graph, branches: Iterable[Branch]) -> dict[int, int]:
    """Sum -> the operand that takes its place."""
    additions = ((graph.operations[branch.addition], branch.stays) for branch in branches)
    return {addition.outputs[0]: addition.inputs[stays] for addition, stays in additions}


def _resolved(tensor: int, instead: Mapping[int, int]) -> int:
    while tensor in instead:
        tensor = instead[tensor]
    return tensor


def _alive(graph: Graph, instead: Mapping[int, int]) -> set[int]:
    """Operations that the outputs depend on, and those that give nothing and so are there for another reason."""
    read = {_resolved(tensor, instead) for tensor in graph.outputs}
    alive = set()
    for index in range(len(graph.operations) - 1, -1, -1):
        operation = graph.operations[index]
        if not operation.outputs or not read.isdisjoint(operation.outputs):
            alive.add(index)
            read.update(_resolved(tensor, instead) for tensor in operation.inputs)
    return alive
