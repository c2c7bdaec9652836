from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import OutOfRangeError, RecipeError
from secateur.schedules import (
    SCHEDULES,
    Cosine,
    Cubic,
    Exponential,
    Iterative,
    Linear,
    OneCycle,
    OneShot,
    Polynomial,
    Ramp,
)

RAMPS: list[Any] = [Linear, Cubic, Polynomial, Exponential, Cosine, OneCycle]
sparsities = st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.just(1.0))


@st.composite
def ramps(draw: st.DrawFn) -> Ramp:
    begin, length = draw(st.integers(0, 1000)), draw(st.integers(0, 1000))
    kind = draw(st.sampled_from(RAMPS))
    options = {"exponent": draw(st.floats(0.05, 20.0))} if kind is Polynomial else {}
    if kind is OneCycle:
        options = {"alpha": draw(st.floats(0.1, 30.0)), "beta": draw(st.floats(0.1, 20.0))}
    return kind(begin, begin + length, draw(st.integers(1, 300)), draw(st.floats(0.0, 1.0)), **options)


@given(ramps(), sparsities)
def test_a_ramp_starts_at_the_initial_share_never_falls_and_ends_at_exactly_one(ramp: Ramp, sparsity: float) -> None:
    shares = [ramp.fraction(step, sparsity) for step in range(ramp.begin, ramp.end + 2)]
    start = ramp.initial
    if isinstance(ramp, OneCycle):
        start += (1 - start) * (1 + math.exp(ramp.beta - ramp.alpha)) / (1 + math.exp(ramp.beta))
    assert ramp.begin == ramp.end or shares[0] == pytest.approx(start, abs=1e-12)
    assert all(later >= earlier - 1e-15 for earlier, later in itertools.pairwise(shares))
    assert max(shares) <= 1.0 and shares[-2:] == [1.0, 1.0]
    assert ramp.fraction(ramp.begin - 1, sparsity) == 0.0


@given(ramps())
def test_a_ramp_is_due_from_begin_every_so_many_steps_and_at_its_end(ramp: Ramp) -> None:
    due = [step for step in range(ramp.end + 5) if ramp.due(step)]
    assert due == sorted({*range(ramp.begin, ramp.end, ramp.every), ramp.end})


@given(ramps(), st.integers(1, 50), st.integers(0, 2100), sparsities)
def test_epochs_are_multiples_of_steps(ramp: Ramp, length: int, epoch: int, sparsity: float) -> None:
    epochs = type(ramp)(**{**vars(ramp), "unit": "epoch"})
    steps = epochs.in_steps(length)
    assert steps.unit == "step" and steps.in_steps(None) is steps
    assert steps.due(epoch * length) == ramp.due(epoch)
    assert not any(steps.due(epoch * length + offset) for offset in range(1, length))
    assert steps.fraction(epoch * length, sparsity) == pytest.approx(ramp.fraction(epoch, sparsity), abs=1e-12)


def test_the_formulas_are_those_of_the_papers() -> None:
    assert Cubic(begin=0, end=100).fraction(50) == 1.0 - 0.5**3
    assert Cubic(begin=100, end=200, initial=0.5).fraction(150) == 1.0 - 0.5 * 0.5**3
    assert Linear(begin=0, end=4).fraction(1) == 0.25
    assert Polynomial(0, 100, exponent=2).fraction(30) == pytest.approx(1 - 0.7**2)
    assert Cosine(0, 4).fraction(1) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    for step in (10, 35, 60, 99):
        assert OneCycle(0, 100).fraction(step) == pytest.approx(
            (1 + math.exp(-14 + 5)) / (1 + math.exp(-14 * step / 100 + 5))
        )
        assert 1 - 0.9 * Exponential(0, 100).fraction(step, 0.9) == pytest.approx(0.1 ** (step / 100))
        left = 1 - 0.9 * Exponential(0, 100, initial=0.5).fraction(step, 0.9)
        assert left == pytest.approx(0.55 ** (1 - step / 100) * 0.1 ** (step / 100))


@given(st.integers(1, 9), st.integers(1, 50), st.floats(0.0, 0.999))
def test_each_round_prunes_the_same_share_of_what_is_left(rounds: int, every: int, sparsity: float) -> None:
    schedule = Iterative(rounds, every)
    left = [1.0 - sparsity * schedule.fraction(every * done, sparsity) for done in range(rounds + 2)]
    for done in range(rounds + 1):
        assert left[done] == pytest.approx((1.0 - sparsity) ** (done / rounds))
    assert [step for step in range(every * (rounds + 3)) if schedule.due(step)] == [
        every * done for done in range(1, rounds + 1)
    ]
    assert schedule.fraction(every - 1, sparsity) == 0.0 and schedule.fraction(every * rounds, sparsity) == 1.0


def test_twenty_percent_a_round_are_the_lottery_tickets() -> None:
    """Frankle and Carbin 2019: 20 % of what is left in each round leaves 51.2 % after three."""
    schedule = Iterative(rounds=3, every=10, rewind=0)
    left = [1 - 0.488 * schedule.fraction(10 * done, 0.488) for done in range(4)]
    assert left == pytest.approx([1.0, 0.8, 0.64, 0.512])


def test_one_shot_is_due_once() -> None:
    schedule = OneShot(at=3)
    assert [schedule.due(step) for step in range(5)] == [False, False, False, True, False]
    assert [schedule.fraction(step) for step in range(5)] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert OneShot().due(0) and OneShot().fraction(0) == 1.0
    assert OneShot(2, unit="epoch").in_steps(7) == OneShot(14)


def test_rounds_in_epochs() -> None:
    assert Iterative(3, 10, rewind=1, unit="epoch").in_steps(8) == Iterative(3, 80, rewind=8)
    assert Iterative(3, 10, unit="epoch").in_steps(8) == Iterative(3, 80)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneShot(-1),
        lambda: Linear(-1, 5),
        lambda: Cubic(0, 5, every=0),
        lambda: Linear(0, 5, initial=1.5),
        lambda: Linear(0, 5, initial=float("nan")),
        lambda: Polynomial(0, 5, exponent=0),
        lambda: Polynomial(0, 5, exponent=float("inf")),
        lambda: OneCycle(0, 5, alpha=-1),
        lambda: Iterative(0, 5),
        lambda: Iterative(5, 0),
        lambda: Iterative(2, 5, rewind=5),
        lambda: Iterative(2, 5, rewind=-1),
        lambda: Cubic(0, 5, unit="epoch").in_steps(0),
    ],
)
def test_schedules_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(OutOfRangeError):
        make()


@pytest.mark.parametrize("kind", RAMPS)
def test_a_schedule_that_ends_before_it_begins_is_told_so(kind: Any) -> None:
    with pytest.raises(OutOfRangeError, match=r"begin=5, end=4\) ends before it begins"):
        kind(5, 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Cubic(0, 5, unit="hour"), "'step' or 'epoch'"),
        (lambda: Cubic(0, 5, unit="epoch").in_steps(None), "steps_per_epoch=len"),
        (lambda: Cubic(0, 5, unit="epoch").in_steps("all"), "whole number"),  # type: ignore[arg-type]
        (lambda: Iterative(2, 5, rewind=0.5), "whole number"),  # type: ignore[arg-type]
        (lambda: Iterative(2, None), "whole number"),  # type: ignore[arg-type]
        (lambda: Polynomial(0, 5, exponent="cubic"), "give a number"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_schedule_is_refused_in_words(make: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        make()


def test_schedules_are_values() -> None:
    assert Cubic(0, 9) == Cubic(begin=0, end=9, every=1, initial=0.0, unit="step") != Linear(0, 9)
    assert Polynomial(0, 9, exponent=3) != Cubic(0, 9)
    assert len({Cubic(0, 9), Cubic(0, 9), Linear(0, 9), OneShot(), Iterative(2, 5)}) == 4
    assert set(SCHEDULES) == {kind.__name__ for kind in (OneShot, Iterative, *RAMPS)}
