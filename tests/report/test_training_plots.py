"""The charts of schedules and of sensitivities hold their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secateur import Cosine, Cubic, Exponential, Iterative, Linear, OneCycle, OneShot, Polynomial, Recipe, Sensitivity
from secateur.errors import RecipeError
from secateur.report import Outcome, details, schedule_figure, sensitivity_figure

SCHEDULES: list[Any] = [
    OneShot(),
    OneShot(30),
    Linear(10, 90, 5),
    Polynomial(10, 90, 5, exponent=2.0),
    Cubic(0, 100, 10, initial=0.2),
    Exponential(10, 90, 5),
    Cosine(10, 90, 5),
    OneCycle(10, 90, 5),
    Iterative(4, 20, rewind=2),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_a_schedule_is_drawn_as_what_it_holds(schedule: Any) -> None:
    (trace,) = schedule_figure(schedule, sparsity=0.8).data
    assert trace.line.shape == "hv"
    drawn = dict(zip(trace.x, trace.y, strict=True))
    assert list(drawn) == sorted(drawn) and len(drawn) == len(trace.x)
    for step, sparsity in drawn.items():
        assert sparsity == pytest.approx(0.8 * schedule.fraction(step, 0.8))
    assert {step for step in range(schedule.last + 1) if schedule.due(step)} <= set(drawn)
    assert trace.y[-1] == 0.8 and trace.name.startswith(type(schedule).__name__)


def test_many_schedules_share_one_axis_and_long_ones_are_thinned() -> None:
    figure = schedule_figure([*SCHEDULES, Cubic(0, 100_000)])
    assert len(figure.data) == len(SCHEDULES) + 1
    assert len(figure.data[-1].x) < 500 and figure.data[-1].x[-1] == 100_000
    assert figure.layout.xaxis.title.text == "training step"
    assert schedule_figure([Cubic(0, 5, unit="epoch")]).layout.xaxis.title.text == "training epoch"
    with pytest.raises(RecipeError, match="epochs and steps"):
        schedule_figure([Cubic(0, 5), Cubic(0, 5, unit="epoch")])
    with pytest.raises(RecipeError, match="nothing"):
        schedule_figure([])


def test_the_report_of_a_training_draws_its_schedule() -> None:
    recipe = Recipe(0.5, schedule=Iterative(2, 10))
    kept = {"a": np.array([True, False, False, False])}
    told = details(Outcome(recipe=recipe, parameters=(), masks={}, kept=kept, scores={"a": np.ones(4)}))
    (curve,) = told.curves
    assert (curve.x, curve.x_label, curve.y_label) == ((0, 10, 20), "training step", "share of the final sparsity")
    assert curve.y == pytest.approx((0.0, (1 - 0.25**0.5) / 0.75, 1.0))
    assert details(Outcome(recipe=Recipe(0.5), parameters=(), masks={})).curves == ()


def test_a_scan_is_drawn_from_the_dense_loss_on() -> None:
    scan = Sensitivity(["a", "b<c>"], [0.5, 0.9], [[1.0, 2.0], [0.5, 4.0]], 0.25)
    first, second = sensitivity_figure(scan).data
    assert (first.x, first.y) == ((0.0, 0.5, 0.9), (0.25, 1.0, 2.0))
    assert second.y == (0.25, 0.5, 4.0) and second.name == "b&lt;c&gt;"
