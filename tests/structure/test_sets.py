"""Sets of units: each unit is in one, and has exactly the slices that its set tells, and so has no other unit."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given

from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph
from secateur.structure.sets import CARRIES, MAKES, READS, Slice, unit_sets
from structure.building import GraphBuilder
from structure.random_graphs import graphs


def slices_of(graph: Graph, coupling: Coupling, unit: int) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for (name, axis), units in coupling.units.items():
        shape = graph.parameters[name]
        found[name, shape.axes[axis] if len(shape.shape) > 1 else ""] += int((units == unit).sum())
    return +found


@given(graphs())
def test_every_unit_is_in_the_set_of_its_slices(graph: Graph) -> None:
    coupling = couple(graph)
    sets = unit_sets(graph, coupling)
    members = np.concatenate([np.zeros(0, np.int64), *(each.members for each in sets)])
    assert sorted(members) == list(range(coupling.count))
    assert [each.members[0] for each in sets] == sorted(each.members[0] for each in sets)
    told = []
    for each in sets:
        wanted = Counter({(part.parameter, part.axis): part.times for part in each.slices})
        kinds = {(int(coupling.layers[unit]), bool(coupling.heads[unit])) for unit in each.members}
        assert all(slices_of(graph, coupling, unit) == wanted for unit in each.members)
        assert len(kinds) == 1 and each.layer == coupling.layer_names[coupling.layers[each.members[0]]]
        told.append((frozenset(wanted.items()), *kinds))
    assert len(set(told)) == len(told)


def test_channels_that_are_flattened_take_a_column_for_each_place() -> None:
    builder = GraphBuilder()
    hidden = builder.convolution(builder.input(2, 3, 4, 4), 8, 3, name="conv.weight")
    flat = builder.reshape(builder.activation(hidden), 2, 8 * 16)
    graph = builder.build(builder.linear(flat, 5, name="fc.weight"))
    (only,) = unit_sets(graph, couple(graph))
    assert (only.layer, only.what, only.members.size) == ("conv.weight", "channels", 8)
    bias = next(part.parameter for part in only.slices if part.use == CARRIES)
    assert only.slices == (
        Slice("conv.weight", "out", 1, MAKES),
        Slice(bias, "", 1, CARRIES),
        Slice("fc.weight", "in", 16, READS),
    )


def test_a_head_takes_as_many_rows_as_it_has_features() -> None:
    builder = GraphBuilder()
    x = builder.input(2, 5, 12)
    sides = [builder.heads(builder.linear(x, 12, name=f"{name}.weight", bias=False), 3) for name in "qkv"]
    mixed = builder.joined(builder.written_attention(*sides))
    graph = builder.build(builder.linear(mixed, 7, name="out.weight"))
    (only,) = unit_sets(graph, couple(graph))
    assert (only.what, only.members.size) == ("heads", 3)
    assert [part.times for part in only.slices] == [4, 4, 4, 4]


def test_features_are_called_what_makes_them() -> None:
    builder = GraphBuilder()
    looked_up = builder.embedding(builder.input(2, 5), 20, 6)
    hidden, *_ = builder.recurrent(looked_up, 4)
    graph = builder.build(builder.linear(builder.linear(hidden, 3), 2))
    assert [each.what for each in unit_sets(graph, couple(graph))] == ["features", "recurrent units", "neurons"]
    recurrent = unit_sets(graph, couple(graph))[1]
    assert Counter(part.use for part in recurrent.slices)[MAKES] == 2  # from the input and from the state before
