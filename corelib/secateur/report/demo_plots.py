"""The charts that compare the runs of one network with one another: rows are configurations, symbols are platforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secateur.report.chart import figure, graph_objects, panels, plain, rows_height
from secateur.report.formats import STAGE_NAMES
from secateur.report.numbers import STAGES
from secateur.report.palette import STAGE_COLOURS, light
from secateur.report.runs import RunNumbers

SYMBOLS = {"circle": "●", "square-open": "□", "diamond-open": "◇", "triangle-up-open": "△", "star-open": "☆"}
DENSE_SYMBOL = "line-ns-open"
GROUP_COLOURS = ("blue", "vermillion", "green", "purple", "orange", "muted")
STAGE_SIZES = {"dense": 16, "pruned": 9, "finetuned": 13, "compact": 6}
SIZES = {"nonzero": "non-zero parameters left (% of dense)", "bytes": "size left (% of dense)"}
COSTS = {
    "parameters": "parameters left (%)",
    "flops": "FLOPs left (%)",
    "bytes": "size left (%)",
    "latency_ms": "latency left (%)",
}


@dataclass(frozen=True)
class _Platform:
    """How the points of one platform are told apart: by symbol, and by height within their row."""

    name: str
    runs: list[RunNumbers]
    symbol: str
    offset: float
    first: bool


def _platforms(runs: Sequence[RunNumbers]) -> list[_Platform]:
    names = list(dict.fromkeys(run.platform for run in runs))
    symbols = list(SYMBOLS)
    return [
        _Platform(
            name,
            [run for run in runs if run.platform == name],
            symbols[number % len(symbols)],
            0.55 * ((number + 0.5) / len(names) - 0.5),
            number == 0,
        )
        for number, name in enumerate(names)
    ]


def symbols(runs: Sequence[RunNumbers]) -> str:
    """Which symbol stands for which platform, for the note under a chart's title."""
    return ", ".join(f"{SYMBOLS[platform.symbol]} {platform.name}" for platform in _platforms(runs))


def stage_figure(runs: Sequence[RunNumbers], metric: str) -> Any:
    """A metric (one of METRICS) at every stage, and how far the last stage is from the dense model, in points."""
    rows, platforms = _rows(runs), _platforms(runs)
    stages = [_stage_points(platform, rows, stage, metric) for stage in STAGES for platform in platforms]
    changes = [_change_points(platform, rows, metric) for platform in platforms]
    titles = (f"{metric} on the test split (%)", "last stage minus dense (points)")
    return panels(
        [stages, changes], titles, list(rows), rows_height(len(rows), 44), (None, 0), legend_itemsizing="constant"
    )


def _stage_points(platform: _Platform, rows: dict[str, int], stage: str, metric: str) -> Any:
    chosen = [run for run in platform.runs if _value(run, stage, metric) is not None]
    return _points(
        platform,
        rows,
        chosen,
        [100 * _value(run, stage, metric) for run in chosen],
        "%{customdata}: %{x:.2f} %",
        name=STAGE_NAMES[stage],
        legendgroup=stage,
        showlegend=platform.first and bool(chosen),
        marker=_marker(STAGE_COLOURS[stage], DENSE_SYMBOL if stage == "dense" else platform.symbol, STAGE_SIZES[stage]),
    )


def _change_points(platform: _Platform, rows: dict[str, int], metric: str) -> Any:
    chosen = [
        run
        for run in platform.runs
        if getattr(run.last, metric) is not None and _value(run, "dense", metric) is not None
    ]
    changes = [100 * (getattr(run.last, metric) - _value(run, "dense", metric)) for run in chosen]
    marker = _marker("ink", platform.symbol, 8)
    return _points(platform, rows, chosen, changes, "%{customdata}: %{x:+.2f} points", marker=marker, showlegend=False)


def cost_figure(runs: Sequence[RunNumbers]) -> Any:
    """What the last stage of each run has left of the dense model's costs (COSTS), in percent; one panel a cost."""
    rows, platforms = _rows(runs), _platforms(runs)
    measured = [cost for cost in COSTS if any(_left(run, cost) is not None for run in runs)]
    traces = [[_cost_points(platform, rows, cost) for platform in platforms] for cost in measured]
    titles = [COSTS[cost] for cost in measured]
    return panels(traces, titles, list(rows), rows_height(len(rows), 34), marks=[100] * len(measured), from_zero=True)


def _cost_points(platform: _Platform, rows: dict[str, int], cost: str) -> Any:
    chosen = [run for run in platform.runs if _left(run, cost) is not None]
    marker = _marker("green", platform.symbol, 9)
    left = [_left(run, cost) for run in chosen]
    return _points(platform, rows, chosen, left, "%{customdata}: %{x:.1f} %", marker=marker, showlegend=False)


def _points(
    platform: _Platform, rows: dict[str, int], runs: list[RunNumbers], values: list[Any], hover: str, **style: Any
) -> Any:
    return graph_objects().Scatter(
        x=values,
        y=[rows[run.configuration] + platform.offset for run in runs],
        mode="markers",
        customdata=[plain(f"{run.configuration}, {run.platform}") for run in runs],
        hovertemplate=hover + "<extra></extra>",
        **style,
    )


def _marker(colour: str, symbol: str, size: int) -> dict[str, Any]:
    return {"color": light(colour), "symbol": symbol, "size": size, "line_width": 2 if symbol.endswith("open") else 0}


def size_figure(runs: Sequence[RunNumbers], size: str) -> Any:
    """Accuracy of the last stage against what is left (a key of SIZES); colour is granularity and score."""
    groups = {name: GROUP_COLOURS[number % 6] for number, name in enumerate(dict.fromkeys(map(_group, runs)))}
    platforms = _platforms(runs)
    traces = [_dense_points(runs)]
    traces += [
        _size_points(platform, group, colour, size) for group, colour in groups.items() for platform in platforms
    ]
    return figure(traces, x=SIZES[size], y="accuracy on the test split (%)", height=380, xaxis_rangemode="tozero")


def _dense_points(runs: Sequence[RunNumbers]) -> Any:
    values = list(dict.fromkeys((run.platform, run.dense.accuracy) for run in runs if run.dense.accuracy is not None))
    return graph_objects().Scatter(
        name="dense",
        x=[100.0] * len(values),
        y=[100 * accuracy for _, accuracy in values],
        mode="markers",
        marker=_marker("muted", "x", 8),
        customdata=[plain(platform) for platform, _ in values],
        hovertemplate="dense, %{customdata}: %{y:.2f} %<extra></extra>",
    )


def _size_points(platform: _Platform, group: str, colour: str, size: str) -> Any:
    chosen = [run for run in platform.runs if _group(run) == group and run.last.accuracy is not None]
    return graph_objects().Scatter(
        name=plain(group),
        legendgroup=plain(group),
        showlegend=platform.first,
        x=[_left(run, size) for run in chosen],
        y=[100 * (run.last.accuracy or 0.0) for run in chosen],
        mode="markers",
        marker=_marker(colour, platform.symbol, 10),
        customdata=[plain(f"{run.configuration}, {run.platform}") for run in chosen],
        hovertemplate="%{customdata}<br>%{y:.2f} % accurate with %{x:.1f} % left<extra></extra>",
    )


def _left(run: RunNumbers, quantity: str) -> float | None:
    """What the last stage has of a quantity, in percent of the dense model's; None if either is not known."""
    before, after = getattr(run.dense, quantity), getattr(run.last, quantity)
    return None if not before or after is None else 100 * after / before


def _value(run: RunNumbers, stage: str, metric: str) -> Any:
    return getattr(run.stages.get(stage), metric, None)


def _group(run: RunNumbers) -> str:
    return f"{run.granularity}, {run.score}"


def _rows(runs: Sequence[RunNumbers]) -> dict[str, int]:
    return {name: row for row, name in enumerate(dict.fromkeys(run.configuration for run in runs))}
