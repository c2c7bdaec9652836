"""What a model costs: parameters, floating-point operations, bytes; dense, or after a removal plan.

Each of them is a :class:`Measure`: a function of the sizes of all axes. What counts as a floating-point operation, see
:mod:`secateur.structure.work`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from secateur.structure.bypassing import bypass
from secateur.structure.graph import CONSTANT, Graph
from secateur.structure.removal import STATISTICS, Plan, parameter_shapes
from secateur.structure.work import Axis, Term, work

OWNERS = {"kernel": "bias", "recurrent": "recurrent_bias", "projection": "", "table": ""}
"""The parts of an operation that have costs of their own, and the part that counts with each."""


@dataclass(frozen=True)
class Cost:
    """Args:
    parameters: number of trainable parameters.
    flops: floating-point operations of one example in inference: 2 for each multiply-add.
    bytes: storage of all parameters and running statistics.
    """

    parameters: int
    flops: int
    bytes: int


class Measure(Protocol):
    """One number for a model, which never grows when an axis shrinks."""

    def __call__(self, sizes: Mapping[Axis, int]) -> float:
        """The number, given the sizes of all axes of all parameters and tensors."""


@dataclass(frozen=True)
class Sum:
    """A sum of products of sizes, divided by the number of examples and rounded down."""

    terms: tuple[Term, ...]
    examples: int = 1

    def __call__(self, sizes: Mapping[Axis, int]) -> int:
        """As :class:`Measure`; exact, in whole numbers of any length."""
        total = sum(term.factor * math.prod([sizes[axis] for axis in term.axes]) for term in self.terms)
        return total // self.examples


def cost(graph: Graph, plan: Plan | None = None) -> Cost:
    """The cost of the whole model, before (``plan`` None) or after removal. Shared parameters count once."""
    sizes, left = sizes_of(graph, plan), graph if plan is None else bypass(graph, plan.branches)
    return Cost(parameters(left)(sizes), flops(left)(sizes), size(left)(sizes))


def layer_costs(graph: Graph, plan: Plan | None = None) -> dict[str, Cost]:
    """The cost of each kernel, recurrent kernel, projection and table, with its bias, by its name, in execution order.

    A kernel that is used twice has the operations of both uses. Other parameters, and products of two tensors, are in
    :func:`cost` only. What went with a residual branch costs nothing.
    """
    sizes, left = sizes_of(graph, plan), graph if plan is None else bypass(graph, plan.branches)
    operations: dict[str | None, list[Term]] = {}
    for term in (term for operation in left.operations for term in work(graph, operation)):
        operations.setdefault(term.weight, []).append(term)
    return {
        name: Cost(
            parameters(graph, names)(sizes),
            Sum(tuple(operations.get(name, ())), _examples(graph))(sizes),
            size(graph, names)(sizes),
        )
        for name, names in ((name, left.parameters.keys() & names) for name, names in _owned(graph).items())
    }


def other_costs(graph: Graph, plan: Plan | None = None) -> dict[str, Cost]:
    """The cost of the parameters that :func:`layer_costs` leaves out: scales, shifts, weights of unknown layers."""
    sizes, left = sizes_of(graph, plan), graph if plan is None else bypass(graph, plan.branches)
    owned = {name for names in _owned(graph).values() for name in names}
    return {
        name: Cost(parameters(graph, [name])(sizes), 0, size(graph, [name])(sizes))
        for name in left.parameters
        if name not in owned
    }


def _owned(graph: Graph) -> dict[str, set[str]]:
    """Each parameter that has costs of its own, and what counts with it."""
    owned: dict[str, set[str]] = {}
    for operation in graph.operations:
        for part, name in operation.parameters.items():
            if part in OWNERS:
                vector = operation.parameters.get(OWNERS[part])
                owned.setdefault(name, {name}).update([] if vector is None else [vector])
    return owned


def parameters(graph: Graph, names: Iterable[str] | None = None) -> Sum:
    """The number of trainable parameters, of these or of all."""
    chosen = graph.parameters if names is None else names
    return Sum(tuple(_elements(graph, name, 1) for name in chosen if graph.parameters[name].role not in STATISTICS))


def flops(graph: Graph) -> Sum:
    """The floating-point operations of one example."""
    terms = [term for operation in graph.operations for term in work(graph, operation)]
    return Sum(tuple(terms), _examples(graph))


def size(graph: Graph, names: Iterable[str] | None = None) -> Sum:
    """The bytes of parameters and running statistics, of these or of all."""
    chosen = graph.parameters if names is None else names
    stored = (name for name in chosen if graph.parameters[name].role != CONSTANT)
    return Sum(tuple(_elements(graph, name, graph.parameters[name].itemsize) for name in stored))


MEASURES: dict[str, Callable[[Graph], Sum]] = {"parameters": parameters, "flops": flops, "bytes": size}
"""The measure of each part of a :class:`Cost`."""


def sizes_of(graph: Graph, plan: Plan | None = None) -> dict[Axis, int]:
    """The size of every axis of every parameter and tensor, before (``plan`` None) or after removal."""
    tensors = enumerate(graph.tensors if plan is None else plan.shapes)
    shapes: list[tuple[str | int, tuple[int, ...]]] = [*parameter_shapes(graph, plan).items(), *tensors]
    return {(owner, axis): length for owner, shape in shapes for axis, length in enumerate(shape)}


def _elements(graph: Graph, name: str, factor: int) -> Term:
    return Term(factor, tuple((name, axis) for axis in range(len(graph.parameters[name].shape))), name)


def _examples(graph: Graph) -> int:
    """The number of examples that were traced: the first axis of the first input."""
    shape = graph.tensors[graph.inputs[0]] if graph.inputs else ()
    return max(shape[0], 1) if shape else 1
