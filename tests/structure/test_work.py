"""The operations of each kind, against loops that multiply one pair of numbers after the other and count."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from secateur.structure.cost import Cost, cost, layer_costs
from secateur.structure.graph import Graph, Operation, ParameterShape
from secateur.structure.removal import Plan

Shape = tuple[int, ...]


def one(
    kind: str,
    inputs: Sequence[Shape],
    output: Shape,
    weights: dict[str, tuple[Shape, tuple[str, ...]]] | None = None,
    **settings: object,
) -> Graph:
    """A graph of one operation, whose parameters are named as their parts."""
    names = {part: part for part in weights or {}}
    operation = Operation(kind, tuple(range(len(inputs))), (len(inputs),), names, settings)
    shapes = {
        part: ParameterShape(shape, axes, part if part in ("recurrent", "bias") else "kernel")
        for part, (shape, axes) in (weights or {}).items()
    }
    return Graph((*inputs, output), (operation,), tuple(range(len(inputs))), (len(inputs),), shapes)


def flops(graph: Graph) -> int:
    return cost(graph).flops


def test_a_linear_layer_on_some_rows_of_its_kernel() -> None:
    graph = one("linear", [(2, 5, 6)], (2, 5, 4), {"kernel": ((12, 6), ("out", "in"))}, axis=-1, rows=(4, 8))
    assert flops(graph) == 2 * 5 * 4 * 6


def test_a_tied_embedding_is_contracted_along_its_features() -> None:
    graph = one("linear", [(1, 5, 6)], (1, 5, 11), {"kernel": ((11, 6), ("entries", "features"))}, axis=-1)
    assert flops(graph) == 2 * 5 * 11 * 6


def convolved(size: int, channels: int, window: int, stride: int, groups: int, out: int, transposed: bool) -> int:
    """Multiply-adds of a convolution of one example along one axis, without padding; one after the other."""
    count = 0
    for made, taken, position, offset in itertools.product(*map(range, (out, channels, size, window))):
        if made // (out // groups) == taken // (channels // groups):
            reached = position * stride + offset if transposed else position - offset
            count += transposed or (reached >= 0 and reached % stride == 0 and reached <= size - window)
    return count


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_plain_and_transposed_with_groups(transposed: bool, groups: int) -> None:
    size, channels, window, stride, out = 9, 4, 3, 2, 6
    length = (size - 1) * stride + window if transposed else (size - window) // stride + 1
    shape: Shape = (out, channels // groups, window)
    axes: tuple[str, ...] = ("out", "in", "width")
    if transposed and groups > 1:
        shape, axes = (groups, out // groups, channels // groups, window), ("group", *axes)
    graph = one(
        "convolution",
        [(3, channels, size)],
        (3, out, length),
        {"kernel": (shape, axes)},
        channel_axis=1,
        groups=groups,
        transposed=transposed,
    )
    assert flops(graph) == 2 * convolved(size, channels, window, stride, groups, out, transposed)


def test_a_bilinear_form_multiplies_each_weight_once_at_each_position() -> None:
    weights = {"kernel": ((4, 3, 5), ("out", "in", "in2"))}
    assert flops(one("bilinear", [(2, 7, 3), (2, 7, 5)], (2, 7, 4), weights)) == 2 * 7 * 4 * 3 * 5


@pytest.mark.parametrize("gates", [1, 3, 4])
def test_a_recurrent_layer_runs_all_gates_at_each_step(gates: int) -> None:
    weights = {
        "kernel": ((gates, 8, 5), ("gate", "out", "in")),
        "recurrent": ((gates, 8, 3), ("gate", "out", "in")),
        "projection": ((3, 8), ("out", "in")),
        "bias": ((gates, 8), ("gate", "out")),
    }
    graph = one("recurrent", [(2, 7, 5)], (2, 7, 3), weights, axis=-1, projected=(0,))
    steps = [2 * 7 * count for count in (gates * 8 * 5, gates * 8 * 3, 3 * 8)]
    assert flops(graph) == sum(steps)
    layers = layer_costs(graph)
    assert [layers[name].flops for name in ("kernel", "recurrent", "projection")] == steps
    assert layers["kernel"].parameters == gates * 8 * 5 + gates * 8
    assert cost(graph).parameters == sum(layer.parameters for layer in layers.values())


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bthd,bshd->bhts", [(2, 5, 3, 4), (2, 6, 3, 4)]),
        ("bij,jk->bik", [(2, 3, 4), (4, 5)]),
        ("bij,bjk->bik", [(2, 3, 4), (1, 4, 5)]),
        ("bi,bj,ijk->bk", [(2, 3), (2, 4), (3, 4, 5)]),
    ],
)
def test_a_sum_of_products_counts_one_operation_an_operand_for_each_product(equation: str, shapes: list[Shape]) -> None:
    operands, result = equation.split("->")
    labels = tuple(tuple(map(ord, operand)) for operand in operands.split(","))
    output = np.einsum(equation, *(np.ones(shape) for shape in shapes)).shape
    sizes = {
        label: size for own, shape in zip(labels, shapes, strict=True) for label, size in zip(own, shape, strict=True)
    }
    sizes[ord("b")] = 2
    graph = one("contract", shapes, output, labels=labels, result=tuple(map(ord, result)))
    assert flops(graph) == len(shapes) * np.prod(list(sizes.values())) // 2


def test_what_adds_nothing_up_is_free() -> None:
    assert flops(one("contract", [(2, 3), (2, 4)], (2, 3, 4), labels=((0, 1), (0, 2)), result=(0, 1, 2))) == 0
    assert flops(one("contract", [(2, 3)], (2,), labels=((0, 1),), result=(0,))) == 0
    assert flops(one("embedding", [(2, 3)], (2, 3, 4), {"table": ((9, 4), ("entries", "features"))})) == 0


@pytest.mark.parametrize("shared", [1, 2, 6])
def test_attention_multiplies_queries_with_keys_and_weights_with_values(shared: int) -> None:
    queries, keys, values = (2, 6, 5, 4), (2, shared, 7, 4), (2, shared, 7, 3)
    graph = one("attention", [queries, keys, values], (2, 6, 5, 3), scaled=True)
    assert flops(graph) == 2 * 6 * 5 * 7 * 4 + 2 * 6 * 5 * 7 * 3


def test_costs_follow_the_shapes_of_a_plan() -> None:
    """Two of eight units of a recurrent layer go, with their rows of all gates and what the layer reads of itself."""
    weights = {"kernel": ((4, 8, 5), ("gate", "out", "in")), "recurrent": ((4, 8, 8), ("gate", "out", "in"))}
    graph = one("recurrent", [(2, 7, 5)], (2, 7, 8), weights, axis=-1)
    keep = np.arange(8) >= 2
    plan = Plan({("kernel", 1): keep, ("recurrent", 1): keep, ("recurrent", 2): keep}, ((2, 7, 5), (2, 7, 6)), {}, 2)
    weights_left = 4 * 6 * 5 + 4 * 6 * 6
    assert cost(graph, plan) == Cost(weights_left, 2 * 7 * weights_left, 4 * weights_left)


def test_a_pass_in_training_mode_costs_nothing_in_inference() -> None:
    graph = one("linear", [(2, 6)], (2, 4), {"kernel": ((4, 6), ("out", "in"))}, axis=-1)
    (operation,) = graph.operations
    idle = Operation(**{**vars(operation), "in_inference": False})
    assert cost(Graph(graph.tensors, (operation, idle), graph.inputs, graph.outputs, graph.parameters)) == cost(graph)
