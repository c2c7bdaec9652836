"""Normalisations, sums and products: what may go since it is zero, what can be mended, and what must stay."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan
from structure.building import GraphBuilder
from structure.executor import cut, random_parameters, random_tensors, run

Block = Callable[[GraphBuilder, int], int]


def chain(block: Block, width: int = 6) -> Graph:
    """first -> the block in question, on (batch, channels, space) -> head, along the channels."""
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4), width, name="first")
    return builder.build(builder.linear(block(builder, x), 2, axis=1, name="head"))


def summed(builder: GraphBuilder, x: int) -> int:
    return builder.reduce(x, [1], keepdims=True, function="sum")


def test_a_group_normalisation_loses_whole_groups_only() -> None:
    graph = chain(lambda builder, x: builder.standardize(x, [1], groups=3))
    coupling = couple(graph)
    parts = [name for name in graph.parameters if name.startswith(("scale", "shift"))]
    for key in (("first", 0), ("head", 1), *((name, 0) for name in parts)):
        assert coupling.units[key].tolist() == [0, 0, 1, 1, 2, 2]
    made = plan(graph, coupling, np.arange(3) == 1)
    assert made.settings == {1: {"groups": 2}}


def test_an_instance_normalisation_loses_any_channel() -> None:
    graph = chain(lambda builder, x: builder.standardize(x, [1], groups=6))
    coupling = couple(graph)
    assert coupling.count == 6
    assert plan(graph, coupling, np.arange(6) < 2).settings == {1: {"groups": 4}}


@pytest.mark.parametrize("settings", [{}, {"groups": 1}])
def test_what_a_layer_normalisation_averages_over_goes_only_on_request(settings: dict[str, int]) -> None:
    graph = chain(lambda builder, x: builder.standardize(x, [1], **settings))
    coupling = couple(graph)
    assert coupling.count == 0
    (frozen,) = [frozen for frozen in coupling.frozen if "first" in frozen.parameters]
    assert (frozen.label, frozen.reason) == ("a standardize", "it normalises over this axis")
    assert couple(graph, exact=False).units["first", 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_mean_square_is_mended_by_the_ratio_of_all_to_what_stays() -> None:
    """By hand: the scale of what stays times the ratio's root, epsilon times the ratio."""
    graph = chain(lambda builder, x: builder.standardize(x, [1], ("scale",), rms=True))
    coupling = couple(graph)
    assert (coupling.count, coupling.products.tolist()) == (6, [True] * 6)
    made = plan(graph, coupling, np.arange(6) < 2)
    assert made.settings == {1: {"rescale": 6 / 4}}
    parameters, given = random_parameters(graph, 1), random_tensors(graph, 2)
    small = cut(parameters, made)
    before, after = (run(graph, parameters, given, made)[tensor] for tensor in (1, 2))
    scale = next(array for name, array in small.items() if name.startswith("scale")) * math.sqrt(6 / 4)
    square = np.square(before).mean(axis=1, keepdims=True) + 1e-3 * 6 / 4
    np.testing.assert_allclose(after, before / np.sqrt(square) * scale[:, None], rtol=1e-12)


def test_a_batch_normalisation_without_a_scale_leaves_no_zeros() -> None:
    """It subtracts a mean that has no mask, so a sum over its channels holds them; with a scale they go."""
    for parts, count in ((("mean", "variance"), 0), (("scale", "mean", "variance"), 6)):

        def block(builder: GraphBuilder, x: int, parts: tuple[str, ...] = parts) -> int:
            return summed(builder, builder.normalize(x, parts=parts))

        assert couple(chain(block)).count == count


MIXED: dict[str, Block] = {
    "mean over units": lambda builder, x: builder.reduce(x, [1], keepdims=True),
    "maximum over units": lambda builder, x: builder.reduce(x, [1], keepdims=True, function="max"),
    "softmax over units": lambda builder, x: builder.softmax(x, 1),
    "layer normalisation": lambda builder, x: builder.standardize(x, [1]),
    "mean square without a scale": lambda builder, x: builder.standardize(x, [1], (), rms=True),
    "mean square of sigmoids": lambda builder, x: builder.standardize(
        builder.activation(x, "sigmoid"), [1], ("scale",), rms=True
    ),
    "sum of sigmoids": lambda builder, x: summed(builder, builder.activation(x, "sigmoid")),
    "sum over what is shifted by one number": lambda builder, x: summed(builder, builder.scale(x, (1, 1), "add")),
    "sum of softmax over space": lambda builder, x: summed(builder, builder.softmax(x, 2)),
    "sum after padding with ones": lambda builder, x: summed(builder, builder.pad(x, 1, 1, axis=2, value=1.0)),
    "sum after pooling with ones": lambda builder, x: summed(builder, builder.pool(x, "pad")),
    "sum after a layer along space": lambda builder, x: summed(builder, builder.linear(x, 4, axis=2)),
    "sum after a shift along space": lambda builder, x: summed(builder, builder.standardize(x, [2])),
    "product of sigmoids": lambda builder, x: builder.reshape(
        builder.contract(["bcs", "bcs"], "bs", *[builder.activation(x, "sigmoid")] * 2), 2, 1, 4
    ),
    "product with what is shifted": lambda builder, x: builder.reshape(
        builder.contract(["bcs", "bcs"], "bs", builder.activation(x, "cosine"), builder.scale(x, (1, 1), "add")),
        2,
        1,
        4,
    ),
    "sum over times of queries": lambda builder, x: summed(
        builder, builder.attention(x, builder.constant(2, 5, 4), builder.constant(2, 5, 4))
    ),
    "sum after adding what is repeated": lambda builder, x: summed(
        builder, builder.combine(x, builder.expand(builder.constant(2, 1, 4), 2, 6, 4))
    ),
    "group normalisation over units as space": lambda builder, x: builder.permute(
        builder.standardize(builder.permute(x, 0, 2, 1), [1], groups=2), 0, 2, 1
    ),
    "unknown": lambda builder, x: builder.unknown(x),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_a_masked_unit_would_change_stays(name: str) -> None:
    coupling = couple(chain(MIXED[name]))
    assert ("first", 0) not in coupling.units
    assert any(frozen.reason for frozen in coupling.frozen if "first" in frozen.parameters)


@pytest.mark.parametrize(("start", "count"), [(0.0, 4), (1.0, 0)])
def test_a_sum_over_recurrent_units_needs_a_start_from_zero(start: float, count: int) -> None:
    """A masked unit halves the state from which it starts at each step, so it is zero only if that is."""
    builder = GraphBuilder()
    x = builder.input(2, 3, 5)
    states = [builder.fill(2, 4, value=start) for _ in range(2)]
    y, *_ = builder.recurrent(x, 4, states=states)
    graph = builder.build(builder.linear(builder.reduce(y, [2], keepdims=True, function="sum"), 3))
    assert couple(graph).count == count


def test_a_merged_axis_is_zero_only_if_both_its_parts_are() -> None:
    """The left factor is a sigmoid: where a unit of it is masked, the product is not zero."""
    builder = GraphBuilder()
    x = builder.input(2, 3)
    left, right = builder.linear(x, 5, name="left"), builder.linear(x, 2, name="right")
    gate = builder.reshape(builder.activation(left, "sigmoid"), 2, 1, 5)
    merged = builder.reshape(builder.combine(builder.reshape(right, 2, 2, 1), gate, function="multiply"), 2, 10)
    graph = builder.build(builder.linear(builder.reduce(merged, [1], keepdims=True, function="sum"), 2))
    assert ("left", 0) not in couple(graph).units


ZERO: dict[str, Block] = {
    "sum": summed,
    "sum after functions that keep zeros": lambda builder, x: summed(
        builder, builder.activation(builder.activation(x, "tanh"), "silu")
    ),
    "sum after a product with what is not zero": lambda builder, x: summed(
        builder, builder.combine(builder.activation(x, "sigmoid"), x, function="multiply")
    ),
    "sum after a layer along space without a bias": lambda builder, x: summed(
        builder, builder.linear(x, 4, axis=2, bias=False)
    ),
    "sum after a shift of each channel": lambda builder, x: summed(builder, builder.scale(x, (6, 1), "add")),
    "sum after padding with zeros": lambda builder, x: summed(builder, builder.pad(x, 1, 1, axis=2)),
    "sum after a group normalisation": lambda builder, x: summed(builder, builder.standardize(x, [1], (), groups=3)),
    "product with sigmoids": lambda builder, x: builder.reshape(
        builder.contract(["bcs", "bcs"], "bs", x, builder.activation(x, "sigmoid")), 2, 1, 4
    ),
    "mean square": lambda builder, x: builder.standardize(x, [1], ("scale",), rms=True),
}


@pytest.mark.parametrize("name", ZERO)
def test_what_a_masked_unit_leaves_as_it_is_may_go(name: str) -> None:
    coupling = couple(chain(ZERO[name]))
    assert (coupling.units["first", 0] >= 0).all()
    assert coupling.products.all()
