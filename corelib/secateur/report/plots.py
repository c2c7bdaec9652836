"""The charts of one pruned model. Each function takes records and gives a plotly figure with exactly their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from secateur.report.chart import figure, graph_objects, panels, plain, rows_height
from secateur.report.numbers import Curve, Distribution, FittedCurve, Histogram, LayerRow, Removal
from secateur.report.palette import FAMILY_COLOURS, light

DASHES = ("solid", "dash", "dot", "dashdot")
COSTS = {"parameters": "parameters", "flops": "FLOPs of one example"}


def distribution_figure(distribution: Distribution) -> Any:
    """Histograms before and after, fitted densities scaled to the bins, and the thresholds as vertical lines.

    The vertical axis is the share of *all* values before pruning in a bin, in percent; exact zeros are left out of the
    bars, so what pruning took away is what stays grey.
    """
    before, after = distribution.before, distribution.after
    traces = [_bars(before, "before", "before")]
    if after is not None:
        traces.append(_bars(after, "after", "blue"))
    width = before.edges[1] - before.edges[0]
    traces += [_density(fit, width, number) for number, fit in enumerate(distribution.fits)]
    return figure(
        traces,
        x=distribution.label,
        y="share of values per bin (%)",
        barmode="overlay",
        bargap=0,
        xaxis_showgrid=False,
        xaxis_range=_span(distribution),
        yaxis_rangemode="tozero",
        shapes=[_threshold(value, first=number == 0) for number, value in enumerate(distribution.thresholds)],
    )


def _bars(histogram: Histogram, name: str, colour: str) -> Any:
    edges, total = histogram.edges, max(histogram.total, 1)
    return graph_objects().Bar(
        name=name,
        x=[(left + right) / 2 for left, right in pairwise(edges)],
        y=[100 * count / total for count in histogram.counts],
        width=[right - left for left, right in pairwise(edges)],
        customdata=list(histogram.counts),
        marker={"color": light(colour), "line_width": 0},
        hovertemplate=f"{name}: %{{customdata:,}} values<br>around %{{x:.3~g}}<br>%{{y:.2f}} %<extra></extra>",
    )


def _density(fit: FittedCurve, bin_width: float, number: int) -> Any:
    return graph_objects().Scatter(
        name=plain(f"{fit.family} (KS {fit.ks_distance:.3f})"),
        x=list(fit.x),
        y=[100 * bin_width * density for density in fit.density],
        mode="lines",
        line={
            "color": light(FAMILY_COLOURS.get(fit.family, "ink")),
            "width": 1.8,
            "dash": DASHES[number % len(DASHES)],
        },
        hovertemplate=f"{plain(fit.family)} model<br>%{{x:.3~g}}<extra></extra>",
    )


def _span(distribution: Distribution) -> list[float]:
    edges = distribution.before.edges + (distribution.after.edges if distribution.after else ())
    low, high = min(edges + distribution.thresholds), max(edges + distribution.thresholds)
    margin = 0.02 * (high - low)
    return [low - margin, high + margin]


def _threshold(value: float, first: bool) -> dict[str, Any]:
    line = {"color": light("ink"), "width": 1.4, "dash": "4px,3px"}
    place = {"type": "line", "x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "paper"}
    return {**place, "line": line, "name": "threshold", "showlegend": first}


def layers_figure(layers: Sequence[LayerRow]) -> Any:
    """One row a layer, one panel a quantity: what the dense layer has in grey, what is left of it in blue.

    The first panel is the share of weights that the masks keep; costs (:data:`COSTS`) follow where they changed.
    """
    names = [row.layer for row in layers]
    kept = (
        [100.0] * len(layers),
        [100 * (1 - row.sparsity) for row in layers],
        [f"{row.kept:,} of {row.total:,} weights kept" for row in layers],
    )
    costs = {quantity: _layer_costs(layers, quantity) for quantity in COSTS}
    shown = {quantity: values for quantity, values in costs.items() if values[0] != values[1]}
    return panels(
        [_bar_pair(names, *values, first=not number) for number, values in enumerate([kept, *shown.values()])],
        ["weights kept (%)", *(COSTS[quantity] for quantity in shown)],
        names,
        rows_height(len(layers)),
        marks=[None] * (1 + len(shown)),
        from_zero=True,
        barmode="overlay",
    )


def _layer_costs(layers: Sequence[LayerRow], quantity: str) -> tuple[list[float], list[float], list[str]]:
    before = [getattr(row.cost_before, quantity) for row in layers]
    after = [getattr(row.cost_after, quantity) for row in layers]
    return before, after, [f"{now:,} of {was:,} {quantity} left" for was, now in zip(before, after, strict=True)]


def _bar_pair(names: Sequence[str], dense: list[float], left: list[float], texts: list[str], first: bool) -> list[Any]:
    return [
        graph_objects().Bar(
            name=name,
            showlegend=first,
            x=values,
            y=list(range(len(values))),
            orientation="h",
            marker={"color": light(colour), "line_width": 0},
            customdata=[[plain(layer), text] for layer, text in zip(names, texts, strict=True)],
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        )
        for name, values, colour in (("dense", dense, "before"), ("left", left, "blue"))
    ]


def unit_scores_figure(removal: Removal) -> Any:
    """The scores of a layer's units, lowest first, with the removed ones and the threshold marked."""
    order = sorted(range(len(removal.scores)), key=lambda unit: (removal.scores[unit], unit))
    removed = frozenset(removal.units)
    ranks = {unit: rank for rank, unit in enumerate(order, start=1)}
    gone = [unit for unit in order if unit in removed]
    kept = [unit for unit in order if unit not in removed]
    traces = [_unit_bars(removal, "removed", gone, ranks, "before"), _unit_bars(removal, "kept", kept, ranks, "blue")]
    lines = [] if removal.threshold is None else [_level(removal.threshold)]
    return figure(
        traces,
        x=f"{removal.what}, lowest score first",
        y="score",
        height=250,
        barmode="overlay",
        bargap=0.1,
        xaxis_showgrid=False,
        yaxis_rangemode="tozero",
        shapes=lines,
    )


def _unit_bars(removal: Removal, name: str, units: list[int], ranks: dict[int, int], colour: str) -> Any:
    return graph_objects().Bar(
        name=name,
        x=[ranks[unit] for unit in units],
        y=[removal.scores[unit] for unit in units],
        customdata=units,
        marker={"color": light(colour), "line_width": 0},
        hovertemplate=f"unit %{{customdata}}, {name}<br>score %{{y:.4~g}}<extra></extra>",
    )


def _level(value: float) -> dict[str, Any]:
    line = {"color": light("ink"), "width": 1.4, "dash": "4px,3px"}
    place = {"type": "line", "y0": value, "y1": value, "x0": 0, "x1": 1, "xref": "paper"}
    return {**place, "line": line, "name": "threshold", "showlegend": True}


def kept_map_figure(row: LayerRow) -> Any:
    """Which weights of a kernel are kept, in blocks: outputs downwards, inputs to the right."""
    kept = graph_objects().Heatmap(
        z=[list(line) for line in row.kept_map],
        zmin=0,
        zmax=1,
        colorscale=[[0, light("panel")], [1, light("blue")]],
        colorbar={"title_text": "kept", "tickformat": ".0%", "thickness": 10, "outlinewidth": 0, "nticks": 3},
        hovertemplate="output block %{y}, input block %{x}<br>%{z:.0%} kept<extra></extra>",
    )
    return figure(
        [kept],
        x="inputs",
        y="outputs",
        yaxis_autorange="reversed",
        xaxis_showgrid=False,
        yaxis_showgrid=False,
        xaxis_showticklabels=False,
        yaxis_showticklabels=False,
    )


def curves_figure(curves: Sequence[Curve]) -> Any:
    """Curves that share one vertical axis, drawn over training."""
    colours = ("blue", "vermillion", "green", "purple", "orange", "muted")
    traces = [
        graph_objects().Scatter(
            name=plain(curve.name),
            x=list(curve.x),
            y=list(curve.y),
            mode="lines+markers" if len(curve.x) <= 12 else "lines",
            line={"color": light(colours[number % 6]), "width": 2, "dash": DASHES[number // 6 % len(DASHES)]},
            marker_size=5,
            hovertemplate="%{x:.4~g}: %{y:.4~g}",
        )
        for number, curve in enumerate(curves)
    ]
    return figure(traces, x=curves[0].x_label, y=curves[0].y_label, hovermode="x unified", height=260)
