"""Where views move units, which of their parts must stay alike, and what they are told after a removal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan
from structure.building import GraphBuilder

View = Callable[[GraphBuilder, int], int]


def viewed(view: View, size: int = 6) -> Graph:
    """first -> the view in question -> head."""
    builder = GraphBuilder()
    x = builder.linear(builder.input(2, 3), size, name="first")
    return builder.build(builder.linear(view(builder, x), 2, name="head"))


def units_of(coupling: Coupling, *keys: tuple[str, int]) -> list[list[int]]:
    return [coupling.units[key].tolist() for key in keys]


def halved_gate(builder: GraphBuilder, x: int) -> int:
    left, right = builder.chunk(x, 2)
    return builder.combine(left, builder.activation(right, "sigmoid"), function="multiply")


def equal_halves_side_by_side(builder: GraphBuilder, x: int) -> int:
    left, right = builder.chunk(x, 2)
    return builder.concat(builder.activation(right), left)


def unequal_parts(builder: GraphBuilder, x: int) -> int:
    first, second, third = builder.split(x, 1, 3, 2)
    return builder.concat(third, first, second)


@pytest.mark.parametrize(
    ("view", "first", "head"),
    [
        (lambda builder, x: builder.slice(x, 1, 4), [-1, 0, 1, 2, -1, -1], [0, 1, 2]),
        (lambda builder, x: builder.slice(x, 0, 6, 2), [0, -1, 1, -1, 2, -1], [0, 1, 2]),
        (lambda builder, x: builder.slice(x, 5, 1, -2), [-1, -1, -1, 0, -1, 1], [1, 0]),
        (lambda builder, x: builder.take(x, [2, 3, 4, 5, 0, 1]), [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 0, 1]),
        (lambda builder, x: builder.take(x, [5, 4, 3, 2, 1, 0]), [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]),
        (lambda builder, x: builder.take(x, [1, 1, 4]), [-1, 0, -1, -1, 1, -1], [0, 0, 1]),
        (unequal_parts, [-1, 0, 1, 2, 3, 4], [3, 4, -1, 0, 1, 2]),
        (equal_halves_side_by_side, [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2]),
        (halved_gate, [0, 1, 2, 0, 1, 2], [0, 1, 2]),
        (lambda builder, x: builder.pad(x, 1, 2), [0, 1, 2, 3, 4, 5], [-1, 0, 1, 2, 3, 4, 5, -1, -1]),
    ],
)
def test_units_are_where_the_view_moves_them(view: View, first: list[int], head: list[int]) -> None:
    coupling = couple(viewed(view))
    assert units_of(coupling, ("first", 0), ("head", 1)) == [first, head]


@pytest.mark.parametrize(
    ("view", "removed", "settings"),
    [
        (lambda builder, x: builder.slice(x, 1, 4), [0], {"start": 1, "stop": 3, "step": 1}),
        (lambda builder, x: builder.slice(x, 0, 6, 2), [1], {"start": 0, "stop": 4, "step": 3}),
        (lambda builder, x: builder.slice(x, 0, 6), [0, 1], {"start": 0, "stop": 4, "step": 1}),
        (lambda builder, x: builder.take(x, [2, 3, 4, 5, 0, 1]), [0, 3], {"indices": (1, 2, 3, 0)}),
        (unequal_parts, [1, 4], {"sizes": (1, 2, 1)}),
        (halved_gate, [2], {"sizes": (2, 2)}),
    ],
)
def test_views_are_told_what_is_left(view: View, removed: list[int], settings: dict[str, Any]) -> None:
    graph = viewed(view)
    coupling = couple(graph)
    made = plan(graph, coupling, np.isin(np.arange(coupling.count), removed))
    assert made.settings[1] == settings


def test_a_slice_that_is_none_any_more_is_told_its_indices() -> None:
    """Of units 0, 2, 4, 6 and the odd ones between, which stay, unit 2 goes."""
    graph = viewed(lambda builder, x: builder.slice(x, 0, 7, 2), size=7)
    made = plan(graph, couple(graph), np.arange(4) == 1)
    assert made.settings[1] == {"indices": (0, 3, 5)}


def test_an_empty_slice_beside_a_removal_stays_empty() -> None:
    builder = GraphBuilder()
    x = builder.linear(builder.input(2, 3), 4, name="first")
    nothing = builder.slice(x, 2, 2)
    graph = builder.build(builder.linear(builder.concat(x, nothing), 2, name="head"))
    made = plan(graph, couple(graph), np.arange(4) < 2)
    assert made.settings[1] == {"start": 0, "stop": 0, "step": 1}


def test_a_shortcut_that_pads_channels_ties_those_in_the_middle() -> None:
    """ResNet's without weights: what meets the zeros stays."""
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 4, name="stem")
    wide = builder.convolution(builder.activation(x), 7, name="wide")
    y = builder.combine(wide, builder.pad(x, 1, 2))
    coupling = couple(builder.build(builder.convolution(y, 2, name="head")))
    assert coupling.units["stem", 0].tolist() == [0, 1, 2, 3]
    assert units_of(coupling, ("wide", 0), ("head", 1)) == [[-1, 0, 1, 2, 3, -1, -1]] * 2


def test_a_pixel_shuffle_loses_all_pixels_of_a_channel() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 2, 2), 12, name="first")
    parted = builder.permute(builder.reshape(x, 2, 3, 2, 2, 2, 2), 0, 1, 4, 2, 5, 3)
    coupling = couple(builder.build(builder.convolution(builder.reshape(parted, 2, 3, 4, 4), 2, name="last")))
    assert units_of(coupling, ("first", 0), ("last", 1)) == [np.repeat(range(3), 4).tolist(), [0, 1, 2]]


def test_stacked_tensors_lose_the_same_indices() -> None:
    builder = GraphBuilder()
    x = builder.input(2, 3)
    parts = [builder.reshape(builder.linear(x, 4, name=name), 2, 1, 4) for name in ("left", "right")]
    coupling = couple(builder.build(builder.linear(builder.concat(*parts, axis=1), 2, name="head")))
    assert units_of(coupling, ("left", 0), ("right", 0), ("head", 1)) == [[0, 1, 2, 3]] * 3


def test_a_learned_token_in_front_is_cut_with_what_it_meets() -> None:
    builder = GraphBuilder()
    x = builder.linear(builder.input(2, 3, 5), 4, name="first")
    token = builder.expand(builder.weight(1, 1, 4, name="token"), 2, 1, 4)
    coupling = couple(builder.build(builder.linear(builder.concat(token, x), 2, name="head")))
    assert units_of(coupling, ("first", 0), ("token", 2), ("head", 1)) == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("repeat", ["expand", "fill"])
def test_what_repeats_one_number_takes_the_size_of_what_it_meets(repeat: str) -> None:
    builder = GraphBuilder()
    x = builder.input(2, 5, 3)
    y = builder.linear(x, 4, name="first")
    same = (
        builder.expand(builder.reduce(x, [2], keepdims=True), 2, 5, 4) if repeat == "expand" else builder.fill(2, 5, 4)
    )
    graph = builder.build(builder.linear(builder.combine(y, same), 2, name="head"))
    made = plan(graph, couple(graph), np.arange(4) == 2)
    assert made.settings[[o.kind for o in graph.operations].index(repeat)] == {"shape": (2, 5, 3)}


@pytest.mark.parametrize("groups", [2, 4])
def test_a_transposed_convolution_loses_channels_or_whole_groups(groups: int) -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 4, name="first")
    x = builder.transposed_convolution(x, 8, groups=groups, name="up")
    graph = builder.build(builder.convolution(x, 2, name="last"))
    coupling = couple(graph)
    if ("up", 0) in coupling.units:
        assert coupling.units["up", 0].tolist() == list(range(groups))
        assert coupling.units["last", 1].tolist() == np.repeat(range(groups), 8 // groups).tolist()
        assert plan(graph, coupling, np.arange(coupling.count) == 0).settings[1] == {"groups": groups - 1}
    else:
        assert coupling.units["first", 0].tolist() == coupling.units["up", 2].tolist() * groups
        assert coupling.units["last", 1].tolist() == coupling.units["up", 1].tolist() * groups


def test_a_transposed_convolution_without_groups_reads_and_makes_channels() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 4, name="first")
    x = builder.transposed_convolution(x, 3, name="up")
    coupling = couple(builder.build(builder.convolution(x, 2, name="last")))
    assert units_of(coupling, ("first", 0), ("up", 1), ("up", 0), ("last", 1)) == [[0, 1, 2, 3]] * 2 + [[4, 5, 6]] * 2
