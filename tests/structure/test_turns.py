"""When units go: against a loop that takes one after the other and counts every axis anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph, producing_axis
from secateur.structure.removal import plan
from secateur.structure.turns import NEVER, limits, turns
from structure.building import GraphBuilder
from structure.random_graphs import graphs

ORDERS = st.integers(0, 2**32 - 1)


def widths(graph: Graph, coupling: Coupling) -> list[np.ndarray]:
    return [
        units
        for (name, axis), units in coupling.units.items()
        if axis == producing_axis(graph.parameters[name].role, graph.parameters[name].axes)
    ]


def kept(units: np.ndarray, gone: set[int]) -> int:
    return sum(int(unit) not in gone for unit in units)


def one_by_one(graph: Graph, coupling: Coupling, order: np.ndarray, minimum: int) -> list[int]:
    """The units that go, in order: each is tried, every axis counted anew, and put back if one became too short."""
    live = [units for units in (*coupling.units.values(), *coupling.tensors.values()) if (units >= 0).all()]
    layers = [np.flatnonzero(coupling.layers == layer) for layer in range(len(coupling.layer_names))]
    rules = [(units, 1) for units in (*live, *layers)]
    rules += [(units, min(minimum, units.size)) for units in widths(graph, coupling)]
    gone: list[int] = []
    for unit in order.tolist():
        if all(kept(units, {*gone, unit}) >= least for units, least in rules):
            gone.append(unit)
    return gone


def drawn(graph: Graph, seed: int) -> tuple[Coupling, np.ndarray]:
    coupling = couple(graph)
    return coupling, np.random.default_rng(seed).permutation(coupling.count)


@given(graphs(), ORDERS, st.sampled_from([1, 1, 2, 3]))
def test_units_go_in_order_but_for_those_that_an_axis_needs(graph: Graph, seed: int, minimum: int) -> None:
    coupling, order = drawn(graph, seed)
    found = turns(coupling, order, limits(graph, coupling, minimum))
    expected = one_by_one(graph, coupling, order, minimum)
    event(f"passed over: {min(coupling.count - len(expected), 4)}")
    assert [order[position] for position in np.argsort(found[order])][: len(expected)] == expected
    assert sorted(found[found < NEVER].tolist()) == list(range(len(expected)))
    plan(graph, coupling, found < NEVER)  # raises if an axis were empty


@given(graphs(), ORDERS, st.integers(1, 3), st.sampled_from([2, 3]), st.integers(0, 12))
def test_every_width_is_a_multiple_or_full_after_any_number_of_turns(graph, seed, minimum, multiple, count) -> None:  # type: ignore[no-untyped-def]
    coupling, order = drawn(graph, seed)
    assume(coupling.count)
    plain = turns(coupling, order, limits(graph, coupling, minimum))
    rounded = turns(coupling, order, limits(graph, coupling, minimum, multiple))
    assert (rounded >= plain).all()
    gone = set(np.flatnonzero(rounded < count).tolist())
    for units in widths(graph, coupling):
        stay = kept(units, gone)
        assert stay == units.size or (stay % multiple == 0 and stay >= min(minimum, units.size))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), ORDERS, st.integers(1, 4), st.data())
def test_a_layer_of_its_own_loses_the_most_that_is_a_multiple(sizes, seed, multiple, data) -> None:  # type: ignore[no-untyped-def]
    builder = GraphBuilder()
    x = builder.input(2, 3)
    for index, size in enumerate(sizes):
        x = builder.activation(builder.linear(x, size, name=f"layer{index}"))
    graph = builder.build(builder.linear(x, 2))
    coupling, order = drawn(graph, seed)
    assume(coupling.count)
    found = turns(coupling, order, limits(graph, coupling, 1, multiple))
    plain = turns(coupling, order, limits(graph, coupling))
    count = data.draw(st.integers(0, coupling.count))
    for layer, name in enumerate(coupling.layer_names):
        own = coupling.layers == layer
        asked, size = int((plain[own] < count).sum()), int(own.sum())
        fits = [lost for lost in range(asked + 1) if lost == 0 or (size - lost) % multiple == 0]
        assert int((found[own] < count).sum()) == max(fits), name


def test_axes_that_share_units_spare_one_for_both() -> None:
    """Two sums over one shared branch: once its unit stays for the first, the second may lose its own."""
    builder = GraphBuilder()
    x = builder.input(2, 3)
    hidden = builder.linear(x, 3, name="hidden")
    joined = builder.concat(hidden, builder.linear(x, 2, name="beside"))
    graph = builder.build(builder.linear(joined, 2))
    coupling = couple(graph)
    found = turns(coupling, np.array([4, 2, 0, 3, 1]), limits(graph, coupling))
    assert found.tolist() == [2, NEVER, 1, NEVER, 0]


@pytest.mark.parametrize("multiple", [1, 3])
def test_where_nothing_may_go_no_unit_has_a_turn(multiple: int) -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.linear(builder.linear(builder.input(2, 3), 4), 2))
    coupling = couple(graph)
    assert (turns(coupling, np.arange(4), limits(graph, coupling, 4, multiple)) == NEVER).all()


@pytest.mark.parametrize("multiple", [1, 2])
def test_a_frozen_part_counts_as_width(multiple: int) -> None:
    """Of five features one is read by nobody and stays: with an even number the unread one and an odd one stay."""
    builder = GraphBuilder()
    wide = builder.linear(builder.input(2, 3), 6, name="wide")
    graph = builder.build(builder.linear(wide, 2))
    units = dict(couple(graph).units)
    units["wide", 0] = np.where(units["wide", 0] == 0, -1, units["wide", 0] - 1)
    coupling = Coupling(5, {("wide", 0): units["wide", 0]}, np.zeros(5, np.int64), ("wide",))
    found = turns(coupling, np.arange(5), limits(graph, coupling, 1, multiple))
    assert found.tolist() == ([0, 1, 2, 3, NEVER] if multiple == 1 else [1, 1, 3, 3, NEVER])
