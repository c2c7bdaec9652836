"""What each kind of operation ties and freezes, and how units are numbered and explained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from secateur.errors import TraceError
from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph, Operation
from structure.building import GraphBuilder


def units_of(coupling: Coupling, *keys: tuple[str, int]) -> list[list[int]]:
    return [coupling.units[key].tolist() for key in keys]


def test_a_chain_has_one_unit_for_each_hidden_neuron() -> None:
    builder = GraphBuilder()
    hidden = builder.activation(builder.linear(builder.input(2, 3), 4, name="first"))
    coupling = couple(builder.build(builder.linear(hidden, 2, name="second")))
    assert coupling.count == 4
    assert units_of(coupling, ("first", 0), ("bias1", 0), ("second", 1)) == [[0, 1, 2, 3]] * 3
    assert set(coupling.units) == {("first", 0), ("bias1", 0), ("second", 1)}
    assert coupling.layer_names == ("first",)
    assert coupling.layers.tolist() == [0, 0, 0, 0]
    assert coupling.tensors[hidden, 1].tolist() == [0, 1, 2, 3]


def test_units_are_numbered_in_execution_order_of_their_first_kernel() -> None:
    builder = GraphBuilder()
    x = builder.input(2, 3)
    first, second = builder.linear(x, 2, name="a"), builder.linear(x, 2, name="b")
    y = builder.linear(builder.concat(second, builder.activation(first)), 3, name="c")
    coupling = couple(builder.build(builder.linear(builder.linear(y, 3, name="d"), 1, name="e")))
    assert coupling.layer_names == ("a", "b", "c", "d")
    assert coupling.layers.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3]
    assert units_of(coupling, ("a", 0), ("b", 0), ("c", 1)) == [[0, 1], [2, 3], [2, 3, 0, 1]]


def test_a_residual_sum_ties_its_branches() -> None:
    builder = GraphBuilder()
    stem = builder.linear(builder.input(2, 3), 4, name="stem")
    branch = builder.linear(builder.activation(builder.linear(stem, 5, name="in")), 4, name="out")
    coupling = couple(builder.build(builder.linear(builder.combine(stem, branch), 2, name="head")))
    assert coupling.count == 9
    tied = units_of(coupling, ("stem", 0), ("in", 1), ("out", 0), ("head", 1))
    assert tied == [[0, 1, 2, 3]] * 4


def test_batch_normalisation_follows_its_channels_with_all_four_vectors() -> None:
    builder = GraphBuilder()
    y = builder.normalize(builder.convolution(builder.input(2, 3, 4, 4), 5, name="first"))
    coupling = couple(builder.build(builder.convolution(y, 2, name="second")))
    vectors = [name for name in coupling.units if name[0].startswith(("scale", "shift", "mean", "variance"))]
    assert len(vectors) == 4
    assert units_of(coupling, *vectors) == [[0, 1, 2, 3, 4]] * 4


@pytest.mark.parametrize(("last", "expected"), [(False, [0, 0, 0, 0, 1, 1, 1, 1]), (True, [0, 1] * 4)])
def test_flatten_repeats_channels_or_tiles_them(last: bool, expected: list[int]) -> None:
    """Channels first, each channel's pixels lie together; channels last, each pixel's channels do."""
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 2, 2), 2, name="first")
    x = builder.permute(x, 0, 2, 3, 1) if last else x
    coupling = couple(builder.build(builder.linear(builder.reshape(x, 2, 8), 3, name="second")))
    assert coupling.units["second", 1].tolist() == expected


def test_flatten_is_undone_without_a_tie() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 1, 2, 3), 4, name="first")
    x = builder.reshape(builder.reshape(x, 2, 24), 2, 4, 2, 3)
    coupling = couple(builder.build(builder.convolution(x, 2, name="second")))
    assert coupling.count == 4
    assert coupling.units["second", 1].tolist() == [0, 1, 2, 3]


def test_a_channel_shuffle_takes_the_same_channel_of_each_group() -> None:
    builder = GraphBuilder()
    x = builder.linear(builder.input(2, 3), 8, name="first")
    coupling = couple(builder.build(builder.linear(builder.shuffle(x, 2), 3, name="second")))
    assert coupling.count == 4
    assert units_of(coupling, ("first", 0), ("second", 1)) == [[0, 1, 2, 3] * 2, [0, 0, 1, 1, 2, 2, 3, 3]]


def test_a_split_axis_loses_what_its_readers_allow() -> None:
    """(rows, columns): a softmax over one of them leaves the other, without a hint."""
    for axis, expected in ((1, [0, 1, 2] * 2), (2, [0, 0, 0, 1, 1, 1])):
        builder = GraphBuilder()
        parted = builder.reshape(builder.linear(builder.input(2, 3), 6, name="first"), 2, 2, 3)
        x = builder.reshape(builder.softmax(parted, axis), 2, 6)
        coupling = couple(builder.build(builder.linear(x, 3, name="second")))
        assert coupling.units["first", 0].tolist() == expected


def test_a_split_axis_that_stays_in_part_loses_the_rest() -> None:
    """Rows (0, 1, 2) and (3, constant, constant): only 0 and 3 can go, and only together."""
    builder = GraphBuilder()
    x = builder.concat(builder.linear(builder.input(2, 5), 4, name="first"), builder.constant(2, 2))
    coupling = couple(builder.build(builder.linear(builder.shuffle(x, 2), 3, name="second")))
    assert units_of(coupling, ("first", 0), ("second", 1)) == [[0, -1, -1, 0], [0, 0, -1, -1, -1, -1]]


def test_choices_that_are_forced_settle_the_open_ones_before_them() -> None:
    """A split that could lose four columns loses three rows, because a later merge leaves nothing else."""
    builder = GraphBuilder()
    x = builder.input(2, 5)
    parted = builder.reshape(builder.linear(x, 12, name="first"), 2, 3, 4)
    crossed = builder.reshape(builder.permute(parted, 0, 2, 1), 2, 12)
    left, right = builder.softmax(builder.linear(x, 4)), builder.linear(x, 3, name="right")
    outer = builder.combine(builder.reshape(left, 2, 4, 1), builder.reshape(right, 2, 1, 3), function="multiply")
    gated = builder.combine(crossed, builder.reshape(outer, 2, 12), function="multiply")
    coupling = couple(builder.build(builder.linear(gated, 2, name="head")))
    assert units_of(coupling, ("first", 0), ("right", 0)) == [[0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2]]


def test_two_live_axes_that_merge_keep_the_longer_choice() -> None:
    builder = GraphBuilder()
    x = builder.input(2, 3)
    left, right = builder.linear(x, 2, name="left"), builder.linear(x, 5, name="right")
    outer = builder.combine(builder.reshape(left, 2, 2, 1), builder.reshape(right, 2, 1, 5), function="multiply")
    coupling = couple(builder.build(builder.linear(builder.reshape(outer, 2, 10), 3, name="head")))
    assert coupling.layer_names == ("right",)
    assert coupling.units["head", 1].tolist() == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution_loses_whole_groups(multiplier: int) -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 4, name="first")
    x = builder.convolution(x, 4 * multiplier, groups=4, name="depthwise")
    coupling = couple(builder.build(builder.convolution(x, 2, name="last")))
    assert coupling.count == 4
    assert coupling.units["depthwise", 0].tolist() == np.repeat(range(4), multiplier).tolist()
    assert ("depthwise", 1) not in coupling.units
    assert [groups.tolist() for groups in coupling.groups.values()] == [[0, 1, 2, 3]]


def test_few_wide_groups_lose_the_same_channels_of_each() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 8, name="first")
    x = builder.convolution(x, 6, groups=2, name="grouped")
    coupling = couple(builder.build(builder.convolution(x, 2, name="last")))
    assert units_of(coupling, ("first", 0), ("grouped", 1)) == [[0, 1, 2, 3] * 2, [0, 1, 2, 3]]
    assert units_of(coupling, ("grouped", 0), ("last", 1)) == [[4, 5, 6] * 2] * 2
    assert not coupling.groups


def test_many_narrow_groups_are_lost_whole() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 16, name="first")
    x = builder.convolution(x, 16, groups=8, name="grouped")
    coupling = couple(builder.build(builder.convolution(x, 2, name="last")))
    rows = np.repeat(range(8), 2).tolist()
    assert coupling.count == 8
    assert units_of(coupling, ("first", 0), ("grouped", 0), ("last", 1)) == [rows] * 3


def test_groups_that_read_the_input_still_lose_channels_of_their_own() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 4, 4, 4), 6, groups=2, name="grouped")
    coupling = couple(builder.build(builder.convolution(x, 2, name="last")))
    assert coupling.units["grouped", 0].tolist() == [0, 1, 2] * 2


def test_squeeze_and_excite_follows_the_channels_that_it_gates() -> None:
    builder = GraphBuilder()
    x = builder.convolution(builder.input(2, 3, 4, 4), 4, name="first")
    coupling = couple(builder.build(builder.convolution(builder.squeeze_and_excite(x, 2), 2, name="last")))
    assert coupling.count == 4 + 2
    assert units_of(coupling, ("first", 0), ("last", 1)) == [[0, 1, 2, 3]] * 2


def test_shared_kernels_are_one_parameter() -> None:
    """Used on two branches that are joined crosswise, so that each unit comes back in the other branch."""
    builder = GraphBuilder()
    left, right = builder.input(2, 3), builder.input(2, 3)
    both = [builder.linear(x, 4, name="twin", bias=False) for x in (left, right)]
    coupling = couple(builder.build(builder.linear(builder.concat(*both), 2, name="head")))
    assert coupling.count == 4
    assert coupling.units["head", 1].tolist() == [0, 1, 2, 3] * 2


def test_a_learned_scale_is_cut_with_its_channels() -> None:
    builder = GraphBuilder()
    x = builder.scale(builder.convolution(builder.input(2, 3, 4, 4), 4, name="first"), (4, 1, 1))
    coupling = couple(builder.build(builder.convolution(x, 2, name="last")))
    scales = [key for key in coupling.units if key[0].startswith("other")]
    assert units_of(coupling, *scales) == [[0, 1, 2, 3]]


def test_excluded_layers_stay() -> None:
    builder = GraphBuilder()
    x = builder.linear(builder.linear(builder.input(2, 3), 4, name="first"), 5, name="second")
    coupling = couple(builder.build(builder.linear(x, 2, name="head")), exclude=["first", "not in this graph"])
    assert coupling.layer_names == ("second",)
    assert ("it is excluded", ("first",)) in [(frozen.reason, frozen.parameters) for frozen in coupling.frozen]


def one_block(kind: str) -> tuple[Graph, int]:
    """first -> the operation in question -> head, and the index of that operation."""
    builder = GraphBuilder()
    x = builder.linear(builder.input(2, 3, 5), 4, axis=1, name="first")
    blocks = {
        "reduce": lambda: builder.reduce(x, [1], keepdims=True),
        "softmax": lambda: builder.softmax(x, 1),
        "unknown": lambda: builder.unknown(x),
        "pool": lambda: builder.pool(x, "pad", axis=2),
        "convolution": lambda: builder.convolution(x, 3, axis=2),
        "elementwise": lambda: builder.combine(x, builder.constant(4, 1), function="multiply"),
        "concat": lambda: builder.concat(x, builder.constant(2, 4, 5), axis=2),
    }
    y = blocks[kind]()
    return builder.build(builder.linear(y, 2, axis=1, name="head")), 1


@pytest.mark.parametrize("kind", ["reduce", "softmax", "unknown", "pool", "convolution", "elementwise", "concat"])
def test_what_mixes_an_axis_freezes_it_and_says_so(kind: str) -> None:
    graph, index = one_block(kind)
    coupling = couple(graph)
    assert coupling.count == 0
    assert coupling.units == {}
    (frozen,) = [frozen for frozen in coupling.frozen if "first" in frozen.parameters]
    assert frozen.source == graph.operations[index].source
    assert frozen.label == f"a {kind}"
    assert frozen.reason


def test_an_unheard_of_kind_counts_as_unknown() -> None:
    graph, index = one_block("unknown")
    operations = list(graph.operations)
    operations[index] = dataclasses.replace(operations[index], kind="teleport")
    assert couple(dataclasses.replace(graph, operations=tuple(operations))).frozen == couple(graph).frozen


def test_outputs_stay_and_the_model_is_named_as_the_cause() -> None:
    builder = GraphBuilder()
    coupling = couple(builder.build(builder.linear(builder.input(2, 3), 4, name="only")))
    (frozen,) = coupling.frozen
    assert (frozen.label, frozen.reason, frozen.parameters) == ("model", "it is an output of the model", ("only",))


def test_what_nobody_reads_stays() -> None:
    builder = GraphBuilder()
    x = builder.input(2, 3)
    builder.activation(builder.linear(x, 4, name="dead end"))
    coupling = couple(builder.build(builder.linear(x, 2, name="head")))
    assert coupling.count == 0
    assert any("dead end" in frozen.parameters and "reads" in frozen.reason for frozen in coupling.frozen)


def test_the_only_unit_of_a_layer_stays() -> None:
    builder = GraphBuilder()
    narrow = builder.linear(builder.input(2, 3), 1, name="narrow")
    coupling = couple(builder.build(builder.linear(narrow, 2, name="head")))
    assert coupling.count == 0
    assert any("narrow" in frozen.parameters and "empty" in frozen.reason for frozen in coupling.frozen)


def test_a_graph_without_parameters_has_no_units() -> None:
    builder = GraphBuilder()
    coupling = couple(builder.build(builder.activation(builder.input(2, 3))))
    assert (coupling.count, coupling.layer_names, coupling.frozen) == (0, (), ())


@pytest.mark.parametrize(
    "operation",
    [
        Operation("linear", (0,), (1,), {"kernel": "k"}, {"axis": -1}),
        Operation("linear", (0,), (1,), {"kernel": "k"}, {"axis": 7}),
        Operation("linear", (0,), (1,), {"kernel": "nowhere"}, {"axis": 0}),
        Operation("convolution", (0,), (1,), {"kernel": "k"}, {"channel_axis": 1, "groups": 3}),
        Operation("reshape", (0,), (1,)),
        Operation("elementwise", (0, 1), (1,)),
        Operation("normalize", (0,), (1,), {"scale": "k"}, {"axis": 1}),
        Operation("normalize", (0,), (1,), {}, {}),
        Operation("permute", (0,), (1,), {}, {"order": (1, 0)}),
    ],
)
def test_a_record_that_contradicts_itself_is_refused_by_name(operation: Operation) -> None:
    builder = GraphBuilder()
    builder.parameter((5, 4), "kernel", "k")
    graph = builder.build(1)
    operation = dataclasses.replace(operation, label="the layer", source="model.py:9")
    graph = dataclasses.replace(graph, tensors=((2, 3), (2, 7)), operations=(operation,), inputs=(0,))
    with pytest.raises(TraceError, match=r"the layer.*model\.py:9"):
        couple(graph)
