"""Figures hold exactly the numbers of the records, under labelled axes."""

from __future__ import annotations

from typing import Any

import pytest

from report.samples import CURVES, all_details, demo_report
from secateur.report import METRICS, Curve, Distribution, FittedCurve, Histogram, demo_plots, plots

BEFORE = Histogram((0.0, 1.0, 2.0, 3.0), (5, 3, 1), zeros=1, mean=1.0, std=1.0, maximum=3.0)
AFTER = Histogram((0.0, 1.0, 2.0, 3.0), (0, 3, 1), zeros=6)
FIT = FittedCurve("normal", (0.0, 1.0), (0.1, 0.4), 0.25)


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_bars_are_shares_of_all_values_and_curves_are_scaled_to_the_bins() -> None:
    figure = plots.distribution_figure(Distribution("w", "weight", "weight", BEFORE, AFTER, (FIT,), (-0.5, 0.5)))
    drawn = traces(figure)
    assert drawn["before"].y == pytest.approx((50.0, 30.0, 10.0))
    assert drawn["after"].y == pytest.approx((0.0, 30.0, 10.0))
    assert drawn["before"].x == (0.5, 1.5, 2.5)
    assert drawn["before"].customdata == (5, 3, 1)
    assert drawn["normal (KS 0.250)"].y == pytest.approx((10.0, 40.0))
    assert [(line.x0, line.x1, line.showlegend) for line in figure.layout.shapes] == [
        (-0.5, -0.5, True),
        (0.5, 0.5, False),
    ]
    low, high = figure.layout.xaxis.range
    assert low < -0.5 and high > 3.0


def test_the_bars_of_an_array_add_up_to_what_is_drawn() -> None:
    for item in all_details("weights").distributions:
        drawn = traces(plots.distribution_figure(item))
        assert item.after is not None
        assert sum(drawn["before"].y) == pytest.approx(100 * sum(item.before.counts) / item.before.total)
        assert sum(drawn["after"].customdata) == sum(item.after.counts)
        assert len(item.fits) == 2 and len(drawn) == 4


def test_sparsity_and_costs_of_layers() -> None:
    rows = all_details("neurons").layers
    bars = {(trace.xaxis, trace.name): list(trace.x) for trace in plots.layers_figure(rows).data}
    assert bars["x", "dense"] == [100.0, 100.0]
    assert bars["x", "left"] == pytest.approx([100 * (1 - row.sparsity) for row in rows])
    for axis, quantity in (("x2", "parameters"), ("x3", "flops")):
        assert bars[axis, "dense"] == [getattr(row.cost_before, quantity) for row in rows]
        assert bars[axis, "left"] == [getattr(row.cost_after, quantity) for row in rows]


def test_costs_that_did_not_change_are_not_drawn() -> None:
    figure = plots.layers_figure(all_details("weights").layers)
    assert {trace.xaxis for trace in figure.data} == {"x"}


def test_scores_are_sorted_and_say_which_units_went() -> None:
    (removal,) = all_details("neurons").removals
    figure = plots.unit_scores_figure(removal)
    drawn = traces(figure)
    assert sorted(drawn["removed"].customdata) == list(removal.units)
    for trace in drawn.values():
        assert list(trace.y) == [removal.scores[unit] for unit in trace.customdata]
    by_rank = dict(zip((*drawn["removed"].x, *drawn["kept"].x), (*drawn["removed"].y, *drawn["kept"].y), strict=True))
    assert [by_rank[rank] for rank in range(1, removal.total + 1)] == sorted(removal.scores)
    assert figure.layout.shapes[0].y0 == removal.threshold


def test_the_map_is_drawn_as_it_is() -> None:
    row = all_details("weights").layers[0]
    (trace,) = plots.kept_map_figure(row).data
    assert tuple(map(tuple, trace.z)) == row.kept_map


def test_curves_keep_their_points() -> None:
    figure = plots.curves_figure(CURVES[:2])
    assert [(trace.name, trace.x, trace.y) for trace in figure.data] == [(c.name, c.x, c.y) for c in CURVES[:2]]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("epoch", "loss")


@pytest.mark.parametrize("metric", METRICS)
def test_every_stage_of_every_run_is_drawn_once(metric: str) -> None:
    runs = [run.numbers for run in demo_report().runs]
    figure = demo_plots.stage_figure(runs, metric)
    drawn = sorted(x for trace in figure.data if trace.xaxis == "x" for x in trace.x)
    assert drawn == pytest.approx(sorted(100 * getattr(stage, metric) for run in runs for stage in run.stages.values()))
    changes = [x for trace in figure.data if trace.xaxis == "x2" for x in trace.x]
    assert changes == pytest.approx([-1.25] * len(runs))
    assert sum(trace.showlegend for trace in figure.data) == 4


@pytest.mark.parametrize("size", demo_plots.SIZES)
def test_accuracy_against_size(size: str) -> None:
    runs = [run.numbers for run in demo_report().runs]
    figure = demo_plots.size_figure(runs, size)
    points = [point for trace in figure.data if trace.name != "dense" for point in zip(trace.x, trace.y, strict=True)]
    assert points == [(pytest.approx(100 * 70 / 136), pytest.approx(96.25))] * len(runs)
    assert set(figure.data[0].x) == {100.0}


def test_costs_left() -> None:
    runs = [run.numbers for run in demo_report().runs]
    figure = demo_plots.cost_figure(runs)
    titles = [figure.layout[axis].title.text for axis in ("xaxis", "xaxis2", "xaxis3", "xaxis4")]
    assert titles == list(demo_plots.COSTS.values())
    for axis, left in (("x", 100 * 70 / 136), ("x4", 100.0)):
        assert [x for trace in figure.data if trace.xaxis == axis for x in trace.x] == pytest.approx([left] * len(runs))


def test_rows_of_equal_or_long_names_stay_apart() -> None:
    rows = [all_details().layers[0]] * 3
    figure = plots.layers_figure(rows)
    assert figure.data[0].y == (0, 1, 2)
    assert len(figure.layout.yaxis.ticktext) == 3


@pytest.mark.parametrize(
    "figure",
    [
        plots.distribution_figure(all_details().distributions[0]),
        plots.unit_scores_figure(all_details().removals[0]),
        plots.kept_map_figure(all_details("weights").layers[0]),
        plots.curves_figure([Curve("a", (1.0,), (2.0,))]),
        demo_plots.size_figure([run.numbers for run in demo_report().runs], "nonzero"),
    ],
    ids=["distribution", "scores", "map", "curves", "sizes"],
)
def test_both_axes_say_what_they_show(figure: Any) -> None:
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
