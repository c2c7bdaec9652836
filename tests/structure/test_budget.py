"""The fewest units for a cost: sizes and costs as plans tell them, and no unit too many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from secateur.structure.budget import Sizes, fewest, last
from secateur.structure.cost import MEASURES, cost, sizes_of
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan
from secateur.structure.turns import limits, turns
from structure.random_graphs import graphs
from structure.test_masked_equals_removed import SEEDS, removal

QUANTITIES = st.sampled_from(sorted(MEASURES))


@given(graphs(), SEEDS)
def test_sizes_and_costs_are_those_of_the_plan(graph: Graph, seed: int) -> None:
    coupling = couple(graph)
    sizes = Sizes(graph, coupling)
    assert sizes.dense == sizes_of(graph)
    for gone in (np.zeros(coupling.count, np.bool_), removal(coupling, seed)):
        made = plan(graph, coupling, gone)
        assert sizes.after(gone) == sizes_of(graph, made)
        for quantity, measure in MEASURES.items():
            assert measure(graph)(sizes.after(gone)) == getattr(cost(graph, made), quantity)


@given(graphs(), SEEDS, QUANTITIES, st.floats(0, 1, exclude_max=True), st.sampled_from([1, 2]), st.sampled_from([1, 2]))
def test_the_target_is_met_and_one_unit_fewer_misses_it(graph, seed, quantity, fraction, minimum, multiple) -> None:  # type: ignore[no-untyped-def]
    coupling = couple(graph)
    order = np.random.default_rng(seed).permutation(coupling.count)
    found = turns(coupling, order, limits(graph, coupling, minimum, multiple))

    def value(gone: np.ndarray) -> int:
        return int(getattr(cost(graph, plan(graph, coupling, gone)), quantity))

    limit = (1 - fraction) * getattr(cost(graph), quantity)
    needed = fewest(found, value, limit)
    event("unreachable" if needed is None else f"units: {min(needed, 5)}")
    if needed is None:
        assert value(found < last(found)) > limit
    else:
        assert value(found < needed) <= limit
        assert needed == 0 or value(found < needed - 1) > limit


@given(graphs(), SEEDS, QUANTITIES)
def test_costs_never_grow(graph: Graph, seed: int, quantity: str) -> None:
    coupling = couple(graph)
    found = turns(coupling, np.random.default_rng(seed).permutation(coupling.count), limits(graph, coupling))
    sizes, measure = Sizes(graph, coupling), MEASURES[quantity](graph)
    values = [measure(sizes.after(found < count)) for count in range(last(found) + 1)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("start", "expected"), [(0, 2), (2, 2), (3, 3), (9, 4)])
def test_what_has_gone_is_not_brought_back(start: int, expected: int) -> None:
    assert fewest(np.arange(4), lambda gone: 4 - int(gone.sum()), 2, start) == expected
    assert fewest(np.arange(4), lambda gone: 4 - int(gone.sum()), -1, start) is None
