"""Plans, unit masks and what masks have already cut off."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given

from secateur.errors import EmptyLayerError, FileFormatError, ShapeMismatchError
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan, parameter_shapes, plan, removable, unit_masks
from structure.building import GraphBuilder
from structure.executor import cut, random_parameters
from structure.random_graphs import graphs
from structure.test_masked_equals_removed import SEEDS, removal


def small_network() -> Graph:
    """A convolution, batch normalisation, a depthwise convolution, flatten, a dense layer."""
    builder = GraphBuilder()
    x = builder.normalize(builder.convolution(builder.input(2, 3, 4, 4), 4, name="first"))
    x = builder.convolution(builder.activation(x), 4, groups=4, name="depthwise")
    return builder.build(builder.linear(builder.reshape(x, 2, 64), 5, name="head"))


def flags(count: int, *true: int) -> np.ndarray:
    return np.isin(np.arange(count), true)


def test_a_plan_cuts_every_axis_that_a_unit_touches() -> None:
    graph = small_network()
    made = plan(graph, couple(graph), flags(4, 1, 3))
    kept = {key: np.flatnonzero(keep).tolist() for key, keep in made.keep.items()}
    vectors = [name for name, parameter in graph.parameters.items() if parameter.role != "kernel" and name != "bias9"]
    pixels = [*range(16), *range(32, 48)]
    assert kept.pop(("head", 1)) == pixels
    assert kept == {(name, 0): [0, 2] for name in ("first", "depthwise", *vectors)}
    assert made.removed == 2
    assert made.shapes == ((2, 3, 4, 4), *[(2, 2, 4, 4)] * 4, (2, 32), (2, 5))
    assert made.settings == {3: {"groups": 2}, 4: {"shape": (2, 32)}}


def test_removing_nothing_changes_nothing() -> None:
    graph = small_network()
    made = plan(graph, couple(graph), flags(4))
    assert (made.keep, made.settings, made.removed, made.shapes) == ({}, {}, 0, graph.tensors)


@given(graphs(), SEEDS)
def test_parameter_shapes_are_those_of_the_cut_arrays(graph: Graph, seed: int) -> None:
    coupling = couple(graph)
    made = plan(graph, coupling, removal(coupling, seed))
    small = cut(random_parameters(graph, seed), made)
    assert parameter_shapes(graph, made) == {name: array.shape for name, array in small.items()}
    assert parameter_shapes(graph) == {name: parameter.shape for name, parameter in graph.parameters.items()}


@given(graphs(), SEEDS)
def test_a_plan_survives_json(graph: Graph, seed: int) -> None:
    coupling = couple(graph)
    made = plan(graph, coupling, removal(coupling, seed))
    again = Plan.from_dict(json.loads(json.dumps(made.to_dict())))
    assert (again.shapes, again.settings, again.removed) == (made.shapes, made.settings, made.removed)
    assert again.keep.keys() == made.keep.keys()
    for key, keep in made.keep.items():
        assert again.keep[key].dtype == np.bool_
        np.testing.assert_array_equal(again.keep[key], keep)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"removed": "many", "keep": [], "shapes": [], "settings": {}},
        {"removed": 1, "keep": [{"parameter": "a"}], "shapes": [], "settings": {}},
        {"removed": 1, "keep": [{"parameter": "a", "axis": 0, "size": 2, "gone": [5]}], "shapes": [], "settings": {}},
        {"removed": 1, "keep": [], "shapes": [3], "settings": {}},
        {"removed": 1, "keep": [], "shapes": [], "settings": []},
    ],
)
def test_what_is_no_plan_is_refused(data: dict) -> None:
    with pytest.raises(FileFormatError, match="not a removal plan"):
        Plan.from_dict(data)


def test_emptying_a_layer_is_refused_by_name() -> None:
    graph = small_network()
    with pytest.raises(EmptyLayerError, match="first"):
        plan(graph, couple(graph), flags(4, 0, 1, 2, 3))


def test_emptying_one_of_several_branches_is_refused() -> None:
    builder = GraphBuilder()
    x = builder.input(2, 3)
    left, right = builder.linear(x, 2, name="left"), builder.linear(x, 2, name="right")
    graph = builder.build(builder.linear(builder.concat(left, right), 3, name="head"))
    with pytest.raises(EmptyLayerError, match="right"):
        plan(graph, couple(graph), flags(4, 2, 3))


def test_emptying_a_tensor_that_no_parameter_spans_is_refused() -> None:
    """As where a part of an axis is sliced off: every parameter keeps an index, the part would not."""
    graph = small_network()
    coupling = dataclasses.replace(couple(graph), units={}, tensors={(1, 1): np.array([0, 1, 0, 1])})
    with pytest.raises(EmptyLayerError, match=r"tensor 1 \(a convolution model\.py:1\)"):
        plan(graph, coupling, flags(4, 0, 1))


@pytest.mark.parametrize("removed", [np.zeros(3, bool), np.zeros(4), [0, 1], np.zeros((4, 1), bool)])
def test_removed_must_be_one_bool_for_each_unit(removed: np.ndarray) -> None:
    graph = small_network()
    for call in (plan, unit_masks):
        with pytest.raises(ShapeMismatchError, match="4 units"):
            call(graph, couple(graph), removed)


def test_unit_masks_cover_producers_and_consumers_but_not_statistics() -> None:
    graph = small_network()
    masks = unit_masks(graph, couple(graph), flags(4, 2))
    assert not {name for name in masks if graph.parameters[name].role in ("mean", "variance")}
    assert set(masks) == {"first", "bias1", "scale2", "shift3", "depthwise", "bias7", "head"}
    assert not masks["first"][2].any()
    assert masks["first"][[0, 1, 3]].all()
    assert not masks["head"][:, 32:48].any()
    assert masks["head"].sum() == 5 * 48


@given(graphs(), SEEDS)
def test_removable_finds_the_units_that_are_masked(graph: Graph, seed: int) -> None:
    """And no other, but for those all of whose readers are gone."""
    coupling = couple(graph)
    gone = removal(coupling, seed)
    masks = unit_masks(graph, coupling, gone)
    found = removable(graph, coupling, masks)
    assert (found >= gone).all()
    for (name, axis), units in coupling.units.items():
        if (name, axis) in coupling.readers:
            for index in np.flatnonzero(np.isin(units, np.flatnonzero(found))):
                assert not np.moveaxis(masks[name], axis, 0)[index].any()


def test_a_missing_mask_keeps_everything() -> None:
    graph = small_network()
    assert not removable(graph, couple(graph), {}).any()


def test_a_layer_that_is_masked_whole_keeps_one_unit() -> None:
    graph = small_network()
    coupling = couple(graph)
    masks = unit_masks(graph, coupling, flags(4, 0, 1, 2, 3))
    assert removable(graph, coupling, masks).tolist() == [False, True, True, True]


def test_one_weight_left_keeps_its_unit() -> None:
    graph = small_network()
    coupling = couple(graph)
    masks = unit_masks(graph, coupling, flags(4, 1, 2))
    masks["head"][4, 20] = True
    assert removable(graph, coupling, masks).tolist() == [False, False, True, False]


def test_a_mask_of_another_shape_is_refused() -> None:
    graph = small_network()
    with pytest.raises(ShapeMismatchError, match="head"):
        removable(graph, couple(graph), {"head": np.ones((5, 63), dtype=bool)})
