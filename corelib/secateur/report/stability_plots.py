"""The chart of several runs of one recipe: a plotly figure with exactly the numbers of the table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from secateur.report.chart import graph_objects, panels, plain, rows_height
from secateur.report.palette import light
from secateur.stability import LayerStability, Stability


def stability_figure(stability: Stability) -> Any:
    """One row a layer and one for all: how far the masks of the runs overlap, beside chance, and how much they keep.

    Bars are means; lines reach from the least to the most of all pairs, or runs.

    Returns:
        A ``plotly.graph_objects.Figure``.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    rows = (*stability.layers, stability.total)
    overlaps = _bars(rows, "overlap", [row.overlaps for row in rows], "blue")
    kept = _bars(rows, "kept", [[each / row.size for each in row.kept] for row in rows], "before")
    names = [row.name for row in rows]
    titles = ["overlap of kept weights", "share of weights kept"]
    return panels(
        [[overlaps, _chances(rows)], [kept]], titles, names, rows_height(len(rows)), marks=[1.0, None], from_zero=True
    )


def _bars(rows: Sequence[LayerStability], name: str, values: Sequence[Sequence[float]], colour: str) -> Any:
    means = [fmean(each) for each in values]
    reach = {
        "array": [max(each) - mean for each, mean in zip(values, means, strict=True)],
        "arrayminus": [mean - min(each) for each, mean in zip(values, means, strict=True)],
    }
    return graph_objects().Bar(
        name=name,
        x=means,
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": light(colour), "line_width": 0},
        error_x={"type": "data", "symmetric": False, "color": light("muted"), "thickness": 1.2, "width": 3, **reach},
        customdata=[plain(row.name) for row in rows],
        hovertemplate=f"%{{customdata}}<br>{name} %{{x:.3f}}<extra></extra>",
    )


def _chances(rows: Sequence[LayerStability]) -> Any:
    return graph_objects().Scatter(
        name="by chance",
        x=[row.chance for row in rows],
        y=list(range(len(rows))),
        mode="markers",
        marker={"symbol": "diamond-open", "size": 9, "color": light("vermillion"), "line_width": 2},
        customdata=[plain(row.name) for row in rows],
        hovertemplate="%{customdata}<br>by chance %{x:.3f}<extra></extra>",
    )
