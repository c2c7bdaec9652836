from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import OutOfRangeError
from secateur.schedules import SCHEDULES, Cubic, Linear, OneShot


@st.composite
def ramps(draw: st.DrawFn) -> Linear | Cubic:
    begin, length = draw(st.integers(0, 1000)), draw(st.integers(0, 1000))
    kind = draw(st.sampled_from([Linear, Cubic]))
    return kind(begin, begin + length, draw(st.integers(1, 300)), draw(st.floats(0.0, 1.0)))


@given(ramps())
def test_a_ramp_starts_at_the_initial_share_never_falls_and_ends_at_exactly_one(ramp):
    shares = [ramp.fraction(step) for step in range(ramp.begin, ramp.end + 2)]
    assert ramp.begin == ramp.end or shares[0] == pytest.approx(ramp.initial, abs=1e-15)
    assert shares == sorted(shares) and shares[-2:] == [1.0, 1.0]
    assert ramp.fraction(ramp.begin - 1) == 0.0


@given(ramps())
def test_a_ramp_is_due_from_begin_every_so_many_steps_and_at_its_end(ramp):
    due = [step for step in range(ramp.end + 5) if ramp.due(step)]
    assert due == sorted({*range(ramp.begin, ramp.end, ramp.every), ramp.end})


def test_the_formulas_are_those_of_the_paper():
    assert Cubic(begin=0, end=100).fraction(50) == 1.0 - 0.5**3
    assert Cubic(begin=100, end=200, initial=0.5).fraction(150) == 1.0 - 0.5 * 0.5**3
    assert Linear(begin=0, end=4).fraction(1) == 0.25


def test_one_shot_is_due_once():
    schedule = OneShot(at=3)
    assert [schedule.due(step) for step in range(5)] == [False, False, False, True, False]
    assert [schedule.fraction(step) for step in range(5)] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert OneShot().due(0) and OneShot().fraction(0) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneShot(-1),
        lambda: Linear(-1, 5),
        lambda: Cubic(5, 4),
        lambda: Cubic(0, 5, every=0),
        lambda: Linear(0, 5, initial=1.5),
        lambda: Linear(0, 5, initial=float("nan")),
    ],
)
def test_schedules_out_of_range_are_refused(make):
    with pytest.raises(OutOfRangeError):
        make()


def test_schedules_are_values():
    assert Cubic(0, 9) == Cubic(begin=0, end=9, every=1, initial=0.0) != Linear(0, 9)
    assert len({Cubic(0, 9), Cubic(0, 9), Linear(0, 9), OneShot()}) == 3
    assert set(SCHEDULES) == {"OneShot", "Linear", "Cubic"}
