"""Residual branches: which there are, and that a model with one at zero gives what the model without it gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from secateur.structure.branches import closed, closing, find, kernels
from secateur.structure.bypassing import Branch, bypass
from secateur.structure.cost import cost, layer_costs
from secateur.structure.graph import PRUNABLE_ROLES, Graph
from secateur.structure.removal import STATISTICS, Plan, parameter_shapes, shortened
from structure.building import GraphBuilder
from structure.executor import cut, random_parameters, random_tensors, run
from structure.random_graphs import graphs
from structure.residual_graphs import residual_graphs

SEEDS = st.integers(0, 2**32 - 1)
ANY = st.one_of(residual_graphs(), residual_graphs(), graphs())


def chosen(graph: Graph, seed: int) -> list[Branch]:
    """Some of the branches, at any density."""
    generator = np.random.default_rng(seed)
    density = generator.random()
    return [branch for branch in find(graph) if generator.random() < density]


@given(ANY, SEEDS)
def test_masking_branches_equals_removing_them(graph: Graph, seed: int) -> None:
    """What is added is exactly zero; the outputs agree to the order in which a library adds up other strides."""
    branches = chosen(graph, seed)
    event(f"branches: {len(find(graph))}, removed: {len(branches)}")
    parameters, given_tensors = random_parameters(graph, seed), random_tensors(graph, seed)
    masks = closing(graph, branches)
    masked = {name: value * masks.get(name, True) for name, value in parameters.items()}
    with np.errstate(all="ignore"):  # what is masked may divide by the variance of zeros
        expected = run(graph, masked, given_tensors)
    small = run(graph, parameters, given_tensors, shortened(graph, branches))
    for branch in branches:
        assert not expected[graph.operations[branch.addition].inputs[1 - branch.stays]].any()
    for output in graph.outputs:
        scale = max(1.0, float(np.abs(expected[output]).max()))
        np.testing.assert_allclose(small[output], expected[output], rtol=0, atol=1e-12 * scale)


@given(ANY, SEEDS)
def test_what_is_left_is_a_graph_that_gives_the_same(graph: Graph, seed: int) -> None:
    branches = chosen(graph, seed)
    parameters, given_tensors = random_parameters(graph, seed), random_tensors(graph, seed)
    left = bypass(graph, branches)
    small = run(left, {name: parameters[name] for name in left.parameters}, given_tensors)
    expected = run(graph, parameters, given_tensors, shortened(graph, branches))
    for before, after in zip(graph.outputs, left.outputs, strict=True):
        np.testing.assert_array_equal(small[after], expected[before])


@given(ANY, SEEDS)
def test_masks_tell_which_branches_are_gone(graph: Graph, seed: int) -> None:
    """All that were closed, those inside of them, and no other."""
    branches = chosen(graph, seed)
    masks = {name: np.ones(shape.shape, np.bool_) for name, shape in graph.parameters.items()} | closing(
        graph, branches
    )
    own = {name for branch in branches for name in branch.parameters}
    inside = [branch for branch in find(graph) if set(branch.parameters) <= own]
    assert closed(graph, find(graph), masks) == inside
    for name in masks:
        if graph.parameters[name].role not in STATISTICS and name in own:
            masks[name].flat[-1] = True
    assert closed(graph, find(graph), masks) == []


@given(ANY, SEEDS)
def test_costs_are_those_of_what_is_left(graph: Graph, seed: int) -> None:
    removal = shortened(graph, chosen(graph, seed))
    parameters = random_parameters(graph, seed)
    small = cut(parameters, removal)
    shapes = parameter_shapes(graph, removal)
    assert shapes == {name: small[name].shape for name in shapes}
    found = cost(graph, removal)
    assert found == cost(bypass(graph, removal.branches))
    trainable = (name for name in shapes if graph.parameters[name].role not in STATISTICS)
    assert found.parameters == sum(small[name].size for name in trainable)
    layers = layer_costs(graph, removal)
    assert layers.keys() == layer_costs(graph).keys()
    assert all((layers[name].parameters == 0) == (name not in shapes) for name in layers)
    assert sum(layer.flops for layer in layers.values()) <= found.flops + len(layers)


@given(ANY)
def test_a_branch_owns_what_it_uses(graph: Graph) -> None:
    """No parameter is used outside, and each branch has a kernel."""
    for branch in find(graph):
        assert bypass(graph, [branch]).parameters.keys() == graph.parameters.keys() - set(branch.parameters)
        assert [graph.parameters[name].role for name in kernels(graph, branch)] != []
        for name in kernels(graph, branch):
            assert branch not in find(graph, exclude=[name])
            assert graph.parameters[name].role in PRUNABLE_ROLES


@given(residual_graphs(), SEEDS)
def test_a_plan_with_branches_survives_json(graph: Graph, seed: int) -> None:
    removal = shortened(graph, chosen(graph, seed))
    again = Plan.from_dict(json.loads(json.dumps(removal.to_dict())))
    assert (again.branches, again.removed, again.shapes) == (removal.branches, removal.removed, removal.shapes)
    old = {key: value for key, value in removal.to_dict().items() if key != "branches"}
    assert Plan.from_dict(old).branches == ()


def found(builder: GraphBuilder, x: int) -> list[list[str]]:
    """The kernels of each branch of a model with a head."""
    graph = builder.build(builder.linear(x, 3, name="head"))
    return [kernels(graph, branch) for branch in find(graph)]


def stem() -> tuple[GraphBuilder, int]:
    builder = GraphBuilder()
    return builder, builder.linear(builder.input(2, 5, 4), 6, name="stem")


def attention(builder: GraphBuilder, x: int, name: str) -> int:
    parts = [builder.heads(builder.linear(x, 6, name=f"{name}.{part}"), 2) for part in ("q", "k", "v")]
    return builder.linear(builder.joined(builder.attention(*parts)), 6, name=f"{name}.out")


def feed_forward(builder: GraphBuilder, x: int, name: str) -> int:
    return builder.linear(builder.activation(builder.linear(x, 9, name=f"{name}.wide")), 6, name=f"{name}.narrow")


@pytest.mark.parametrize("pre_norm", [True, False])
def test_attention_and_feed_forward_of_each_transformer_block(pre_norm: bool) -> None:
    builder, x = stem()
    for block in "ab":
        for part in (attention, feed_forward):
            inner = builder.standardize(x, [-1]) if pre_norm else x
            x = builder.combine(x, part(builder, inner, block))
            x = x if pre_norm else builder.standardize(x, [-1])
    expected = [
        [f"{b}.q", f"{b}.k", f"{b}.v", f"{b}.out"] if k else [f"{b}.wide", f"{b}.narrow"] for b in "ab" for k in (1, 0)
    ]
    assert found(builder, x) == expected


def test_branches_side_by_side_of_one_norm() -> None:
    """Attention and feed-forward read the same; each goes by itself, and the norm with neither."""
    builder, x = stem()
    inner = builder.standardize(x, [-1])
    y = builder.combine(builder.combine(x, attention(builder, inner, "a")), feed_forward(builder, inner, "a"))
    assert found(builder, y) == [["a.q", "a.k", "a.v", "a.out"], ["a.wide", "a.narrow"]]


def test_a_branch_inside_of_a_branch() -> None:
    builder, x = stem()
    inner = builder.linear(x, 6, name="outer")
    inner = builder.combine(inner, builder.linear(inner, 6, name="inner"))
    assert found(builder, builder.combine(inner, x)) == [["inner"], ["outer", "inner"]]


@pytest.mark.parametrize("downsampled", [False, True])
def test_a_basic_block_with_a_convolution_on_its_shortcut_stays(downsampled: bool) -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 4, name="stem")
    y = builder.activation(builder.normalize(builder.convolution(x, 4, name="first")))
    y = builder.normalize(builder.convolution(y, 4, name="second"))
    shortcut = builder.normalize(builder.convolution(x, 4, 1, name="shortcut")) if downsampled else x
    x = builder.activation(builder.combine(y, shortcut))
    x = builder.combine(builder.convolution(x, 4, name="third"), x)
    assert found(builder, builder.reshape(x, 2, 64)) == ([] if downsampled else [["first", "second"]]) + [["third"]]


def test_a_learned_gain_closes_what_does_not_end_with_zeros() -> None:
    builder, x = stem()
    y = builder.activation(builder.linear(x, 6, name="open"), "sigmoid")
    x = builder.combine(x, y)
    y = builder.scale(builder.activation(builder.linear(x, 6, name="scaled"), "sigmoid"), [6])
    assert found(builder, builder.combine(x, y)) == [["scaled"]]


def test_shared_weights_make_no_branch() -> None:
    builder, x = stem()
    for _ in range(2):
        x = builder.combine(x, builder.linear(x, 6, name="shared"))
    x = builder.combine(x, builder.linear(builder.linear(x, 6, name="own"), 6, name="shared"))
    x = builder.combine(x, builder.linear(x, 6, name="alone"))
    assert found(builder, x) == [["alone"]]


def test_what_others_read_is_no_branch() -> None:
    builder, x = stem()
    y = builder.linear(x, 6, name="read twice")
    assert found(builder, builder.concat(builder.combine(x, y), y, axis=-1)) == []


def test_a_repeated_or_scaled_sum_is_no_branch() -> None:
    builder, x = stem()
    mean = builder.reduce(builder.linear(x, 6, name="broadcast"), [1], keepdims=True)
    x = builder.combine(x, mean)
    assert found(builder, builder.combine(x, builder.linear(x, 6, name="f"), function="subtract")) == []


def test_two_layers_side_by_side_are_no_branch() -> None:
    builder, x = stem()
    assert found(builder, builder.combine(builder.linear(x, 6), builder.linear(x, 6))) == []


def test_a_decoder_loses_no_encoder() -> None:
    """What attends to a second input goes by itself, unless nothing else reads that input."""
    builder, x = stem()
    memory = builder.linear(builder.input(2, 5, 4), 6, name="encoder")

    def cross(x: int, name: str) -> int:
        parts = [builder.heads(builder.linear(t, 6, name=f"{name}{i}"), 2) for i, t in enumerate([x, memory, memory])]
        return builder.combine(x, builder.linear(builder.joined(builder.attention(*parts)), 6, name=f"{name}3"))

    assert found(builder, cross(x, "a")) == []
    assert found(builder, cross(cross(x, "b"), "c")) == [[f"{name}{i}" for i in range(4)] for name in "bc"]


def test_an_addition_of_the_training_pass_is_none() -> None:
    builder, x = stem()
    x = builder.combine(x, builder.linear(x, 6, name="f"))
    graph = builder.build(builder.linear(x, 3, name="head"))
    assert len(find(graph)) == 1
    training = tuple(replace(operation, in_inference=False) for operation in graph.operations)
    assert find(replace(graph, operations=training)) == []
