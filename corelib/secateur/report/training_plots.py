"""Charts of when a training prunes, and of what each layer can bear. Each function gives a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from secateur.errors import RecipeError
from secateur.recipe import Sensitivity
from secateur.report.numbers import Curve
from secateur.report.plots import curves_figure
from secateur.schedules import Schedule

MOST = 400
"""Points of a curve that are drawn."""
SHARE = "share of the final sparsity"


def schedule_figure(schedules: Schedule | Sequence[Schedule], sparsity: float = 0.9) -> Any:
    """The sparsity that schedules hold over training, one stepped line each.

    Args:
        schedules: one or more, of one unit.
        sparsity: the final one.

    Returns:
        A ``plotly.graph_objects.Figure``.

    Raises:
        RecipeError: none is given, or some count steps and others epochs.
        MissingDependencyError: plotly is not installed.
    """
    listed = list(schedules) if isinstance(schedules, Sequence) else [schedules]
    units = {schedule.unit for schedule in listed}
    if len(units) != 1:
        told = " and ".join(f"{unit}s" for unit in sorted(units)) or "nothing"
        raise RecipeError(f"schedules in {told} cannot share an axis: give some of one unit")
    end = max(1, *(schedule.last for schedule in listed))
    shares = [schedule_curve(schedule, sparsity, end) for schedule in listed]
    curves = [replace(each, y=tuple(sparsity * y for y in each.y), y_label="sparsity") for each in shares]
    return curves_figure(curves).update_traces(line_shape="hv", mode="lines")


def sensitivity_figure(scan: Sensitivity) -> Any:
    """The loss of the model with each layer pruned by itself, against the sparsity of that layer.

    Returns:
        A ``plotly.graph_objects.Figure``.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    return curves_figure(
        [
            Curve(name, (0.0, *scan.sparsities), (scan.dense, *row), "sparsity of the layer", "loss")
            for name, row in zip(scan.layers, scan.losses, strict=True)
        ]
    )


def schedule_curve(schedule: Schedule, sparsity: float, end: int = 0) -> Curve:
    """The share of the final sparsity that holds from each time at which masks are made, as far as ``end`` at least."""
    times = [step for step in range(schedule.last + 1) if schedule.due(step)]
    times = [*times[:: len(times) // MOST + 1], schedule.last]
    points = {step: schedule.fraction(step, sparsity) for step in times}
    points = {0: 0.0, **points, max(end, schedule.last): points[schedule.last]}
    return Curve(_name(schedule), tuple(points), tuple(points.values()), f"training {schedule.unit}", SHARE)


def _name(schedule: Any) -> str:
    """Its class, and what sets it apart from others of that class."""
    own = {field.name: getattr(schedule, field.name) for field in fields(schedule)}
    shown = ("exponent", "initial", "alpha", "beta", "rounds", "rewind")
    told = [f"{name} {own[name]:g}" for name in shown if own.get(name)]
    return ", ".join([type(schedule).__name__, *told])
