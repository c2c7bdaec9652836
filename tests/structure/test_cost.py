"""Parameters, operations and bytes, counted again from the arrays and tensors of a real run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given

from secateur.structure.cost import Cost, Sum, cost, layer_costs, sizes_of
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import plan
from secateur.structure.work import work
from structure.building import GraphBuilder
from structure.executor import Array, cut, random_parameters, random_tensors, run
from structure.random_graphs import BATCH, graphs
from structure.test_masked_equals_removed import SEEDS, removal


def multiplied(operation: Operation, own: dict[str, Array], given: list[Array], result: Array) -> int:
    """Multiply-adds: every weight of a kernel is multiplied once at each position that the kernel is applied to."""
    settings: dict[str, Any] = dict(operation.settings)
    if operation.kind == "linear":
        return result.size * given[0].shape[settings["axis"]]
    if operation.kind == "convolution":
        slid = given[0] if settings.get("transposed") else result
        return slid.size // slid.shape[settings["channel_axis"]] * own["kernel"].size
    if operation.kind == "bilinear":
        return result.size // result.shape[-1] * own["kernel"].size
    if operation.kind == "recurrent":
        steps = given[0].size // given[0].shape[settings["axis"]]
        return steps * sum(own[part].size for part in ("kernel", "recurrent", "projection") if part in own)
    if operation.kind == "attention":
        return (result.size // result.shape[-1] * given[0].shape[-1] + result.size) * given[1].shape[-2]
    return 0


def contracted(operation: Operation, given: list[Array]) -> int:
    """A sum of products: one operation an operand for each product that is added."""
    labels: Any = operation.settings["labels"]
    sizes: dict[int, int] = {}
    for own, array in zip(labels, given, strict=True):
        for label, size in zip(own, array.shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    summed = len(given) > 1 and set(sizes) - set(operation.settings["result"])  # type: ignore[call-overload]
    return len(given) * math.prod(sizes.values()) if summed else 0


def counted(graph: Graph, parameters: dict[str, Array], tensors: dict[int, Array]) -> Cost:
    """Two operations for each multiply-add that the arrays of a real run need."""
    flops = 0
    for operation in graph.operations:
        own = {part: parameters[name] for part, name in operation.parameters.items()}
        given = [tensors[tensor] for tensor in operation.inputs]
        if operation.kind == "contract":
            flops += contracted(operation, given)
        else:
            flops += 2 * multiplied(operation, own, given, tensors[operation.outputs[0]])
    trainable = [name for name, parameter in graph.parameters.items() if parameter.role not in ("mean", "variance")]
    size = sum(array.astype(np.float64).nbytes for array in parameters.values())
    return Cost(sum(parameters[name].size for name in trainable), flops // BATCH, size)


@given(graphs(), SEEDS)
def test_costs_before_and_after_are_those_of_real_runs(graph: Graph, seed: int) -> None:
    coupling = couple(graph)
    made = plan(graph, coupling, removal(coupling, seed))
    parameters, tensors = random_parameters(graph, seed), random_tensors(graph, seed)
    assert cost(graph) == counted(graph, parameters, run(graph, parameters, tensors))
    assert cost(graph, made) == counted(graph, cut(parameters, made), run(graph, parameters, tensors, made))


@given(graphs(), SEEDS)
def test_layers_share_out_all_operations(graph: Graph, seed: int) -> None:
    coupling = couple(graph)
    for made in (None, plan(graph, coupling, removal(coupling, seed))):
        layers = layer_costs(graph, made)
        total = cost(graph, made)
        terms = [term for operation in graph.operations for term in work(graph, operation) if term.weight is None]
        products = Sum(tuple(terms), BATCH)(sizes_of(graph, made))
        assert abs(sum(layer.flops for layer in layers.values()) + products - total.flops) <= len(layers) + 1
        assert sum(layer.parameters for layer in layers.values()) <= total.parameters


def test_a_multilayer_perceptron_costs_what_the_textbook_says() -> None:
    builder = GraphBuilder()
    hidden = builder.activation(builder.linear(builder.input(32, 784), 128, name="hidden"))
    graph = builder.build(builder.linear(hidden, 10, name="output"))
    weights, biases = 784 * 128 + 128 * 10, 128 + 10
    assert cost(graph) == Cost(weights + biases, 2 * weights, 8 * (weights + biases))
    assert layer_costs(graph) == {
        "hidden": Cost(784 * 128 + 128, 2 * 784 * 128, 8 * (784 * 128 + 128)),
        "output": Cost(1290, 2560, 8 * 1290),
    }
    half = plan(graph, couple(graph), np.arange(128) % 2 == 0)
    assert cost(graph, half).flops == 2 * (784 * 64 + 64 * 10)


def test_a_kernel_used_twice_is_stored_once_and_run_twice() -> None:
    builder = GraphBuilder()
    x = builder.linear(builder.input(1, 4), 4, name="twin", bias=False)
    graph = builder.build(builder.linear(x, 4, name="twin", bias=False))
    assert cost(graph) == Cost(16, 2 * 2 * 16, 8 * 16)
    assert layer_costs(graph) == {"twin": cost(graph)}


def test_running_statistics_count_as_bytes_only() -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.normalize(builder.input(2, 5, 3)))
    assert cost(graph) == Cost(parameters=2 * 5, flops=0, bytes=8 * math.prod((4, 5)))
