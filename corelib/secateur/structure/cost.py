"""What a model costs: parameters, floating-point operations, bytes; dense, or after a removal plan.

Only contractions (linear, convolution) count as floating-point operations, at two for each multiply-add; activations,
normalisations and pooling are a few per cent and left out, as is usual.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import STATISTICS, Plan, parameter_shapes


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


def cost(graph: Graph, plan: Plan | None = None) -> Cost:
    """The cost of the whole model, before (``plan`` None) or after removal. Shared parameters count once."""
    shapes = parameter_shapes(graph, plan)
    flops = sum(_flops(graph, operation, plan, shapes) for operation in graph.operations)
    return _cost(graph, shapes, graph.parameters, flops)


def layer_costs(graph: Graph, plan: Plan | None = None) -> dict[str, Cost]:
    """The cost of each kernel with its bias, by the kernel's name, in execution order.

    A kernel that is used twice has the operations of both uses. Other parameters are in :func:`cost` only.
    """
    shapes = parameter_shapes(graph, plan)
    flops: dict[str, int] = {}
    owned: dict[str, list[str]] = {}
    for operation in graph.operations:
        kernel = operation.parameters.get("kernel")
        if kernel is not None:
            flops[kernel] = flops.get(kernel, 0) + _flops(graph, operation, plan, shapes)
            owned.setdefault(kernel, [kernel])
            owned[kernel] += [name for part, name in operation.parameters.items() if part == "bias"]
    return {kernel: _cost(graph, shapes, dict.fromkeys(names), flops[kernel]) for kernel, names in owned.items()}


def _cost(graph: Graph, shapes: dict[str, tuple[int, ...]], names: Iterable[str], flops: int) -> Cost:
    """The storage of parameters ``names``, and one example's share of ``flops``."""
    parameters, size = 0, 0
    for name in names:
        count = math.prod(shapes[name])
        size += count * graph.parameters[name].itemsize
        parameters += 0 if graph.parameters[name].role in STATISTICS else count
    return Cost(parameters=parameters, flops=flops // _batch(graph), bytes=size)


def _flops(graph: Graph, operation: Operation, plan: Plan | None, shapes: dict[str, tuple[int, ...]]) -> int:
    """Two for each multiply-add: every output element contracts one ``out`` slice of the kernel."""
    if operation.kind not in ("linear", "convolution") or not operation.in_inference:
        return 0
    tensors = graph.tensors if plan is None else plan.shapes
    return 2 * math.prod(tensors[operation.outputs[0]]) * math.prod(shapes[operation.parameters["kernel"]][1:])


def _batch(graph: Graph) -> int:
    """The number of examples that were traced: the first axis of the first input."""
    shape = graph.tensors[graph.inputs[0]] if graph.inputs else ()
    return max(shape[0], 1) if shape else 1
