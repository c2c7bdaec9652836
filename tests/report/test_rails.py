"""Rails: one for each set of units, from the first layer that has them to the last, on lanes that never collide."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from report.samples import all_details
from secateur.report.numbers import Coupled, LayerRow
from secateur.report.rails import coupling_figure, rails
from secateur.structure.cost import Cost
from secateur.structure.coupling import Frozen
from secateur.structure.sets import MAKES, READS, Slice

FREE = Cost(0, 0, 0)


def layer(name: str) -> LayerRow:
    return LayerRow(name, "Linear", (4, 4), (2, 4), 8, 16, 4, 2, FREE, FREE, (), f"{name}.weight")


def shared(makers: list[str], readers: list[str], total: int = 4, removed: int = 1) -> Coupled:
    slices = [Slice(f"{name}.weight", "out", 1, MAKES) for name in makers]
    slices += [Slice(f"{name}.weight", "in", 1, READS) for name in readers]
    return Coupled(makers[0], "neurons", total, removed, tuple(slices))


@st.composite
def couplings(draw: st.DrawFn) -> tuple[list[LayerRow], list[Coupled]]:
    layers = [layer(f"fc{number}") for number in range(draw(st.integers(1, 12)))]
    names = st.sampled_from([row.layer for row in layers])
    pair = st.tuples(st.lists(names, min_size=1, max_size=4), st.lists(names, max_size=4))
    return layers, [shared(*each) for each in draw(st.lists(pair, max_size=12))]


@given(couplings())
def test_rails_of_one_lane_have_no_row_in_common(drawn: tuple[list[LayerRow], list[Coupled]]) -> None:
    layers, coupled = drawn
    placed = rails(layers, coupled)
    assert sorted(id(rail.coupled) for rail in placed) == sorted(map(id, coupled))
    taken: set[tuple[int, int]] = set()
    for rail in placed:
        start, end = rail.rows
        own = {(rail.lane, row) for row in range(start, end + 1)}
        assert not own & taken
        taken |= own
        assert {layers[row].parameter for row in rail.makers} == set(rail.coupled.parameters(MAKES))
        assert {layers[row].parameter for row in rail.readers} == set(rail.coupled.parameters(READS))
    assert {lane for lane, _ in taken} == set(range(len({lane for lane, _ in taken})))
    assert coupling_figure(layers, coupled, ()).layout.height > 0


def test_dots_tell_who_makes_reads_and_stays_and_why() -> None:
    layers = [layer(name) for name in ("a", "b", "c", "d")]
    frozen = (Frozen("net.py:7", "softmax", "it normalises over this axis", ("d.weight",)),)
    figure = coupling_figure(layers, [shared(["a", "b"], ["b", "c"]), shared(["c"], ["d"], 16, 4)], frozen)
    traces = {trace.name: trace for trace in figure.data}
    assert sorted(traces["makes"].y) == [0, 1, 2]
    assert sorted(traces["reads"].y) == [2, 3]  # b makes what it reads: the filled dot is enough
    assert list(traces["stays"].y) == [3]
    assert traces["stays"].customdata[0] == ("d has what must stay<br>net.py:7 softmax: it normalises over this axis")
    assert traces["makes"].customdata[0] == (
        "a makes 4 neurons, 1 of 4 go<br>with each of them goes<br>"
        "a.weight out<br>b.weight out<br>b.weight in<br>c.weight in"
    )
    rail = {line.name: line.line.width for line in figure.layout.shapes if line.name}
    assert rail["units left"] == 0.75 * rail["units"]  # of the last one drawn, 4 of 16 go
    assert [trace.text for trace in figure.data if trace.mode == "text"] == [("4 → 2",) * 4]


def test_the_sample_has_one_rail() -> None:
    told = all_details("neurons")
    (rail,) = rails(told.layers, told.coupled)
    assert (rail.lane, rail.makers, rail.readers) == (0, (0,), (1,))
    assert (rail.coupled.total, rail.coupled.removed) == (12, 6)
