"""What attention, recurrence, embeddings and sums of products tie together."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan
from structure.building import GraphBuilder

TIME, WIDTH = 3, 4


def units_of(coupling: Coupling, *keys: tuple[str, int]) -> list[list[int]]:
    return [coupling.units[key].tolist() for key in keys]


def reasons(coupling: Coupling, name: str) -> list[str]:
    return [frozen.reason for frozen in coupling.frozen if name in frozen.parameters]


def repeated(units: list[int], times: int) -> list[int]:
    return np.repeat(units, times).tolist()


def attended(builder: GraphBuilder, queries: int = 2, keys: int = 2, width: int = WIDTH) -> list[int]:
    """Queries, keys and values of named layers, in heads."""
    x = builder.input(2, TIME, 5)
    counts = {"q": queries, "k": keys, "v": keys}
    return [builder.heads(builder.linear(x, count * width, name=name), count) for name, count in counts.items()]


def read(builder: GraphBuilder, y: int) -> Graph:
    return builder.build(builder.linear(builder.joined(y), 3, name="head"))


def test_written_attention_loses_whole_heads() -> None:
    builder = GraphBuilder()
    coupling = couple(read(builder, builder.written_attention(*attended(builder))))
    keys = [("q", 0), ("k", 0), ("v", 0), ("head", 1), ("bias1", 0)]
    assert units_of(coupling, *keys) == [repeated([0, 1], WIDTH)] * 5
    assert (coupling.count, coupling.heads.tolist(), coupling.products.tolist()) == (2, [True] * 2, [False] * 2)


def test_written_attention_loses_the_same_features_of_all_heads_where_that_is_wished() -> None:
    builder = GraphBuilder()
    coupling = couple(read(builder, builder.written_attention(*attended(builder))), heads=False)
    assert units_of(coupling, ("q", 0), ("k", 0)) == [[0, 1, 2, 3] * 2] * 2
    assert units_of(coupling, ("v", 0), ("head", 1)) == [[4, 5, 6, 7] * 2] * 2
    assert not coupling.heads.any()
    assert coupling.products.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("written", [True, False])
def test_a_head_of_keys_goes_with_all_the_queries_that_it_serves(written: bool) -> None:
    """Grouped queries: keys that serve two heads each, by themselves or repeated in the user's code."""
    builder = GraphBuilder()
    queries, *served = attended(builder, queries=4)
    if written:
        served = [_repeated(builder, x, 2) for x in served]
    coupling = couple(read(builder, builder.attention(queries, *served)))
    assert coupling.heads.tolist() == [True, True]
    assert units_of(coupling, ("q", 0), ("head", 1)) == [repeated([0, 1], 2 * WIDTH)] * 2
    assert units_of(coupling, ("k", 0), ("v", 0)) == [repeated([0, 1], WIDTH)] * 2


def _repeated(builder: GraphBuilder, x: int, copies: int) -> int:
    batch, count, time, width = builder.shape(x)
    thin = builder.reshape(x, batch, count, 1, time, width)
    return builder.reshape(builder.expand(thin, batch, count, copies, time, width), batch, count * copies, time, width)


def test_keys_that_serve_all_heads_stay_and_queries_go_alone() -> None:
    builder = GraphBuilder()
    coupling = couple(read(builder, builder.attention(*attended(builder, queries=3, keys=1))))
    assert units_of(coupling, ("q", 0), ("head", 1)) == [repeated([0, 1, 2], WIDTH)] * 2
    assert not {("k", 0), ("v", 0)} & coupling.units.keys()


@pytest.mark.parametrize("scaled", [True, False])
def test_features_of_queries_and_keys_stay_if_they_set_the_scale(scaled: bool) -> None:
    builder = GraphBuilder()
    coupling = couple(read(builder, builder.attention(*attended(builder), scaled=scaled)), heads=False)
    features = coupling.units["v", 0]
    assert features[:WIDTH].tolist() == features[WIDTH:].tolist() == coupling.units["head", 1][:WIDTH].tolist()
    assert (("q", 0) in coupling.units, ("k", 0) in coupling.units) == (not scaled, not scaled)


def test_the_scale_is_told_as_the_reason_for_which_features_stay() -> None:
    builder = GraphBuilder()
    x = builder.input(2, TIME, 5)
    y = builder.attention(*(builder.linear(x, 4, name=name) for name in "qkv"))
    coupling = couple(builder.build(builder.linear(y, 3, name="head")))
    assert reasons(coupling, "q") == reasons(coupling, "k") == ["its scale depends on the number of features"]
    assert units_of(coupling, ("v", 0), ("head", 1)) == [[0, 1, 2, 3]] * 2
    assert not coupling.heads.any()


def test_heads_that_carry_masks_of_their_own_go_with_them() -> None:
    """A learned bias for each head is cut, constant slopes hold all heads."""
    for learned, count in ((True, 2), (False, 0)):
        builder = GraphBuilder()
        parts = attended(builder)
        mask = builder.weight(2, TIME, TIME, name="mask") if learned else builder.constant(2, 1, TIME)
        coupling = couple(read(builder, builder.attention(*parts, mask)))
        assert int(coupling.heads.sum()) == count
        assert (("mask", 0) in coupling.units) == learned
        assert ("mask", 1) not in coupling.units


@pytest.mark.parametrize("spelling", ["chunked", "rows", "stacked", "interleaved"])
def test_one_layer_for_queries_keys_and_values_loses_a_heads_rows_of_all_three(spelling: str) -> None:
    builder = GraphBuilder()
    x, count, width = builder.input(2, TIME, 5), 2, 2
    size = count * width
    if spelling == "rows":
        rows = [(part * size, part * size + size) for part in range(3)]
        parts = [builder.heads(builder.linear(x, 3 * size, name="qkv", rows=own), count) for own in rows]
    elif spelling == "chunked":
        parts = [builder.heads(part, count) for part in builder.chunk(builder.linear(x, 3 * size, name="qkv"), 3)]
    elif spelling == "stacked":
        packed = builder.reshape(builder.linear(x, 3 * size, name="qkv"), 2, TIME, 3, count, width)
        slices = [builder.slice(builder.permute(packed, 2, 0, 3, 1, 4), part, part + 1, axis=0) for part in range(3)]
        parts = [builder.reshape(part, 2, count, TIME, width) for part in slices]
    else:
        packed = builder.reshape(builder.linear(x, 3 * size, name="qkv"), 2, TIME, count, 3 * width)
        parts = builder.split(builder.permute(packed, 0, 2, 1, 3), width, width, width)
    coupling = couple(read(builder, builder.attention(*parts)))
    assert coupling.heads.tolist() == [True, True]
    own = repeated([0, 1], 3 * width) if spelling == "interleaved" else repeated([0, 1], width) * 3
    assert units_of(coupling, ("qkv", 0), ("head", 1)) == [own, repeated([0, 1], width)]


def test_rotation_ties_a_feature_to_its_partner() -> None:
    """Feature d with d + D/2, if the angles are parameters; constant angles hold the features, heads still go."""
    for learned in (True, False):
        builder = GraphBuilder()
        queries, keys, values = attended(builder)
        queries, keys = (_rotated(builder, x, learned) for x in (queries, keys))
        graph = read(builder, builder.attention(queries, keys, values, scaled=False))
        assert couple(graph).heads.tolist() == [True, True]
        features = couple(graph, heads=False)
        if learned:
            assert units_of(features, ("q", 0), ("k", 0)) == [[0, 1, 0, 1] * 2] * 2
        else:
            assert not {("q", 0), ("k", 0)} & features.units.keys()
            assert reasons(features, "q")


def _rotated(builder: GraphBuilder, x: int, learned: bool) -> int:
    left, right = (builder.slice(x, start, start + WIDTH // 2) for start in (0, WIDTH // 2))
    turned = builder.concat(builder.activation(right, "negative"), left, axis=-1)
    if learned:
        return builder.combine(builder.scale(x, (WIDTH,)), builder.scale(turned, (WIDTH,)))
    angles = [builder.constant(TIME, WIDTH) for _ in range(2)]
    parts = [builder.combine(y, angle, function="multiply") for y, angle in zip((x, turned), angles, strict=True)]
    return builder.combine(*parts)


def test_a_recurrent_unit_has_all_gates_both_biases_and_what_the_layer_reads_of_itself() -> None:
    builder = GraphBuilder()
    y, *_ = builder.recurrent(builder.linear(builder.input(2, TIME, 3), 2, name="first"), 4, name="cell")
    coupling = couple(builder.build(builder.linear(y, 3, name="head")))
    own = [("cell", 1), ("cell recurrent", 1), ("cell recurrent", 2), ("head", 1)]
    biases = [("cell bias", 1), ("cell recurrent_bias", 1)]
    assert units_of(coupling, *own, *biases) == [[2, 3, 4, 5]] * 6
    assert units_of(coupling, ("first", 0), ("cell", 2)) == [[0, 1]] * 2
    assert not {(name, 0) for name, _ in (*own[:-1], *biases)} & coupling.units.keys()
    assert {("cell", 2), ("cell recurrent", 2), ("head", 1)} <= set(coupling.readers)


def test_a_bias_that_stacks_both_kinds_loses_units_on_its_last_axis() -> None:
    builder = GraphBuilder()
    y, *_ = builder.recurrent(builder.input(2, TIME, 3), 3, "gru", name="cell", bias="stacked")
    coupling = couple(builder.build(builder.linear(y, 3)))
    assert coupling.units["cell bias", 2].tolist() == [0, 1, 2]


def test_two_directions_stand_side_by_side_in_what_reads_them() -> None:
    builder = GraphBuilder()
    x = builder.input(2, TIME, 3)
    there, back = (builder.recurrent(x, 2, "rnn", name=name)[0] for name in ("there", "back"))
    y, _ = builder.recurrent(builder.concat(there, back, axis=-1), 3, "gru", name="next")
    coupling = couple(builder.build(builder.linear(y, 2, name="head")))
    assert units_of(coupling, ("there", 1), ("back", 1), ("next", 2)) == [[0, 1], [2, 3], [0, 1, 2, 3]]
    assert units_of(coupling, ("next", 1), ("head", 1)) == [[4, 5, 6]] * 2


def test_a_projection_parts_the_cells_from_what_is_fed_back() -> None:
    builder = GraphBuilder()
    y, *_ = builder.recurrent(builder.input(2, TIME, 3), 4, name="cell", projection=2)
    coupling = couple(builder.build(builder.linear(y, 3, name="head")))
    cells, fed_back = coupling.units["cell", 1], coupling.units["cell projection", 0]
    assert sorted([*cells, *fed_back]) == [0, 1, 2, 3, 4, 5]
    assert units_of(coupling, ("cell recurrent", 1), ("cell projection", 1)) == [cells.tolist()] * 2
    assert units_of(coupling, ("cell recurrent", 2), ("head", 1)) == [fed_back.tolist()] * 2


@pytest.mark.parametrize(("start", "count"), [("zeros", 4), ("ones", 4), ("made", 4), ("given", 0)])
def test_a_starting_state_shrinks_if_it_can(start: str, count: int) -> None:
    """Filled with a number or made by a layer; one that the user gives holds the units."""
    builder = GraphBuilder()
    x = builder.input(2, TIME, 3)
    starts = {
        "zeros": lambda: builder.fill(2, 4),
        "ones": lambda: builder.fill(2, 4, value=1.0),
        "made": lambda: builder.linear(builder.reduce(x, [1]), 4, name="start"),
        "given": lambda: builder.input(2, 4),
    }
    state = starts[start]()
    y, last = builder.recurrent(x, 4, "gru", name="cell", states=[state])
    graph = builder.build(builder.linear(y, 3), builder.linear(last, 3))
    coupling = couple(graph)
    assert coupling.count == count
    if count:
        made = plan(graph, coupling, np.arange(4) < 1)
        assert (made.shapes[state], made.shapes[y], made.shapes[last]) == ((2, 3), (2, TIME, 3), (2, 3))
    else:
        assert any("starts from" in reason for reason in reasons(coupling, "cell"))


def test_a_tied_embedding_loses_features_and_keeps_entries() -> None:
    builder = GraphBuilder()
    x = builder.embedding(builder.input(2, TIME), 7, 4, name="table")
    inner = builder.activation(builder.linear(x, 3, name="in"))
    y = builder.combine(x, builder.linear(inner, 4, name="out"))
    coupling = couple(builder.build(builder.tied_linear(y, "table")))
    assert units_of(coupling, ("table", 1), ("in", 1), ("out", 0)) == [[0, 1, 2, 3]] * 3
    assert ("table", 0) not in coupling.units
    assert ("table", 1) in coupling.readers
    assert coupling.layer_names == ("table", "in")


def test_entries_stay_although_a_later_layer_reads_what_a_tied_one_makes() -> None:
    builder = GraphBuilder()
    x = builder.embedding(builder.input(2, TIME), 7, 4, name="table")
    y = builder.combine(builder.tied_linear(x, "table"), builder.linear(x, 7, name="other"))
    coupling = couple(builder.build(builder.linear(y, 3, name="head")))
    assert not {("head", 1), ("other", 0)} & coupling.units.keys()
    assert any("looked up" in reason for reason in reasons(coupling, "other"))
    assert coupling.units["table", 1].tolist() == [0, 1, 2, 3]


def test_a_bilinear_form_reads_both_its_inputs() -> None:
    builder = GraphBuilder()
    x = builder.input(2, 3)
    left, right = builder.linear(x, 2, name="left"), builder.linear(x, 3, name="right")
    y = builder.bilinear(left, right, 4, name="both")
    coupling = couple(builder.build(builder.linear(y, 2, name="head")))
    assert units_of(coupling, ("left", 0), ("both", 1)) == [[0, 1]] * 2
    assert units_of(coupling, ("right", 0), ("both", 2)) == [[2, 3, 4]] * 2
    assert units_of(coupling, ("both", 0), ("head", 1)) == [[5, 6, 7, 8]] * 2


def test_rows_of_one_kernel_are_units_of_their_own() -> None:
    """Rows 2 and 3, which both parts have, must go from both; row 6, which no one has, stays."""
    builder = GraphBuilder()
    x = builder.input(2, 3)
    parts = [builder.linear(x, 7, name="packed", rows=rows) for rows in ((0, 4), (2, 6))]
    graph = builder.build(*(builder.linear(part, 2, name=f"head{k}") for k, part in enumerate(parts)))
    coupling = couple(graph)
    assert units_of(coupling, ("packed", 0), ("packed bias", 0)) == [[0, 1, 2, 3, 4, 5, -1]] * 2
    assert units_of(coupling, ("head0", 1), ("head1", 1)) == [[0, 1, 2, 3], [2, 3, 4, 5]]
    made = plan(graph, coupling, np.isin(np.arange(6), [1, 2]))
    assert [made.settings[index] for index in (0, 1)] == [{"rows": (0, 2)}, {"rows": (1, 4)}]


def test_a_kernel_may_lie_the_other_way_round() -> None:
    builder = GraphBuilder()
    x = builder.linear(builder.input(2, 3), 4, name="first", axes=("in", "out"))
    coupling = couple(builder.build(builder.linear(x, 2, name="second", axes=("in", "out"))))
    assert units_of(coupling, ("first", 1), ("second", 0)) == [[0, 1, 2, 3]] * 2


def test_weights_that_are_contracted_as_tensors_are_cut_on_the_axes_that_meet() -> None:
    """Heads made and joined by weights of three axes, one of them permuted first."""
    builder = GraphBuilder()
    x = builder.linear(builder.input(2, TIME, 5), 4, name="first")
    wide = builder.permute(builder.weight(2, 4, 3, name="wide"), 1, 0, 2)
    narrow = builder.weight(5, 2, 3, name="narrow", role="kernel")
    y = builder.contract(["bthd", "ohd"], "bto", builder.contract(["btf", "fhd"], "bthd", x, wide), narrow)
    coupling = couple(builder.build(builder.linear(y, 2, name="head")))
    assert units_of(coupling, ("first", 0), ("wide", 1)) == [[0, 1, 2, 3]] * 2
    assert units_of(coupling, ("narrow", 0), ("head", 1)) == [[4, 5, 6, 7, 8]] * 2


def contracted(labels: list[str], result: str) -> Coupling:
    """Two layers' outputs, multiplied and added up, and what reads the last axis of the result."""
    builder = GraphBuilder()
    x = builder.input(2, TIME, 5)
    left, right = builder.linear(x, 3, name="left"), builder.linear(x, 3, name="right")
    return couple(builder.build(builder.linear(builder.contract(labels, result, left, right), 2, name="head")))


def test_a_contraction_ties_what_it_multiplies() -> None:
    coupling = contracted(["btd", "bsd"], "bts")
    assert units_of(coupling, ("left", 0), ("right", 0)) == [[0, 1, 2]] * 2
    assert coupling.products.all()
    assert ("head", 1) not in coupling.units


def test_a_contraction_carries_what_it_does_not_add_up() -> None:
    coupling = contracted(["btd", "btd"], "btd")
    assert units_of(coupling, ("left", 0), ("right", 0), ("head", 1)) == [[0, 1, 2]] * 3
    assert not coupling.products.any()
    coupling = contracted(["btd", "bte"], "bde")
    assert coupling.units["head", 1].tolist() == coupling.units["right", 0].tolist()
    assert ("left", 0) not in coupling.units
