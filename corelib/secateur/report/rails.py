"""Which layers share units, drawn as rails: one row a layer, one rail a set of units that go together.

A rail runs from the layer that makes its units to the last one that reads them, so a residual stream is one long rail
with a dot at every layer that writes to it. Rails whose rows do not overlap share a lane, as branches of a version
history do; a deep network needs few lanes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secateur.report.chart import figure, graph_objects, plain, rows_axis, rows_height
from secateur.report.formats import count
from secateur.report.numbers import Coupled, LayerRow
from secateur.report.palette import light
from secateur.report.tables import arrow
from secateur.report.words import together
from secateur.structure.coupling import Frozen
from secateur.structure.sets import MAKES, READS

LANES, THICK, THIN, SLICES = 14, 11.0, 4.0, 6
_SYMBOLS = {
    "makes": ("circle", "blue", "blue"),
    "reads": ("circle", "page", "blue"),
    "stays": ("diamond", "vermillion", "vermillion"),
}

Point = tuple[float, int, str]


@dataclass(frozen=True)
class Rail:
    """A set of units on its lane, with the rows of the layers that make and read it."""

    coupled: Coupled
    lane: int
    makers: tuple[int, ...]
    readers: tuple[int, ...]

    @property
    def rows(self) -> tuple[int, int]:
        """The first and the last row."""
        both = (*self.makers, *self.readers)
        return min(both), max(both)


def rails(layers: Sequence[LayerRow], coupled: Sequence[Coupled]) -> list[Rail]:
    """The sets of units, the longest rails first, each on the first lane that is free over all of its rows."""
    rows = {layer.parameter: number for number, layer in enumerate(layers)}
    found = [Rail(item, 0, _rows(rows, item, MAKES), _rows(rows, item, READS)) for item in coupled]
    placed: list[Rail] = []
    lanes: list[list[Rail]] = []
    for rail in sorted((rail for rail in found if rail.makers), key=lambda rail: rail.rows[0] - rail.rows[1]):
        free = (number for number, lane in enumerate(lanes) if not any(_overlap(rail, other) for other in lane))
        number = next(free, len(lanes))
        lanes += [[]] if number == len(lanes) else []
        lanes[number].append(rail)
        placed.append(replace(rail, lane=number))
    return placed


def _overlap(one: Rail, other: Rail) -> bool:
    return one.rows[0] <= other.rows[1] and other.rows[0] <= one.rows[1]


def _rows(rows: Mapping[str, int], item: Coupled, use: str) -> tuple[int, ...]:
    return tuple(sorted({rows[name] for name in item.parameters(use) if name in rows}))


def coupling_figure(layers: Sequence[LayerRow], coupled: Sequence[Coupled], frozen: Sequence[Frozen]) -> Any:
    """Layers as rows, units that go together as rails: grey in the dense network, blue what is left of them.

    A filled dot marks a layer that makes the units, an open one a layer that reads them, a diamond what must stay.
    """
    placed = rails(layers, coupled)
    names = [layer.layer for layer in layers]
    lanes = 1 + max((rail.lane for rail in placed), default=-1)
    height = rows_height(len(layers), 26 if len(layers) <= 40 else 20) - 36
    points = {
        "makes": [point for rail in placed for point in _dots(rail, rail.makers, "makes", names)],
        "reads": [point for rail in placed for point in _dots(rail, rail.readers, "reads", names)],
        "stays": list(_diamonds(layers, frozen)),
    }
    return figure(
        [*(_markers(kind, each) for kind, each in points.items() if each), _widths(layers, lanes)],
        x="",
        y="",
        height=height,
        margin_b=12,
        yaxis=rows_axis(names, 40),
        xaxis={"visible": False, "range": [-1.6, 1.16 * max(lanes, LANES)], "fixedrange": True},
        shapes=[*_threads(layers, placed, lanes), *_lines(placed)],
    )


def _dots(rail: Rail, rows: Sequence[int], verb: str, names: Sequence[str]) -> Iterator[Point]:
    """A dot for each of the rows; where a layer makes what it reads, the filled one is enough."""
    item = rail.coupled
    goes = f"{count(item.removed)} of {count(item.total)} go" if item.removed else "none goes"
    slices = "<br>".join(plain(part) for part in together(item.slices, SLICES).split(", "))
    for row in rows:
        if verb == "makes" or row not in rail.makers:
            head = f"{plain(names[row])} {verb} {count(item.total)} {plain(item.what)}, {goes}"
            yield rail.lane, row, f"{head}<br>with each of them goes<br>{slices}"


def _diamonds(layers: Sequence[LayerRow], frozen: Sequence[Frozen]) -> Iterator[Point]:
    for row, layer in enumerate(layers):
        causes = [item for item in frozen if layer.parameter in item.parameters]
        if causes:
            told = [f"{plain(item.where)}: {plain(item.reason)}" for item in causes[:SLICES]]
            more = [f"{len(causes) - SLICES} more reasons"] if len(causes) > SLICES else []
            yield -1, row, "<br>".join([f"{plain(layer.layer)} has what must stay", *told, *more])


def _markers(kind: str, points: Sequence[Point]) -> Any:
    symbol, inside, edge = _SYMBOLS[kind]
    lanes, rows, texts = zip(*points, strict=True)
    return graph_objects().Scatter(
        name=kind,
        x=list(lanes),
        y=list(rows),
        mode="markers",
        marker={"symbol": symbol, "color": light(inside), "size": 9, "line": {"width": 2, "color": light(edge)}},
        customdata=list(texts),
        hovertemplate="%{customdata}<extra></extra>",
    )


def _widths(layers: Sequence[LayerRow], lanes: int) -> Any:
    """How many features each layer makes, to the right of the rails."""
    return graph_objects().Scatter(
        x=[lanes - 0.3] * len(layers),
        y=list(range(len(layers))),
        mode="text",
        text=[arrow(count(layer.units_before), count(layer.units_after)) for layer in layers],
        textposition="middle right",
        textfont={"color": light("muted")},
        hoverinfo="skip",
        showlegend=False,
    )


def _threads(layers: Sequence[LayerRow], placed: Sequence[Rail], lanes: int) -> Iterator[dict[str, Any]]:
    """A thin line for each row, on which its dots hang."""
    for row in range(len(layers)):
        ends = [rail.lane for rail in placed if row in (*rail.makers, *rail.readers)]
        yield _line(-1.4, row, max(ends, default=-1), row, 1.0, "rule")
        yield _line(max(ends, default=-1), row, lanes - 0.4, row, 1.0, "rule", dash="dot")


def _lines(placed: Sequence[Rail]) -> Iterator[dict[str, Any]]:
    """Each rail as thick as it has units, on a scale of square roots, and over it what is left."""
    most = max((rail.coupled.total for rail in placed), default=1)
    for number, rail in enumerate(placed):
        item, (start, end) = rail.coupled, rail.rows
        thick = max(THIN, THICK * math.sqrt(item.total / most))
        legend = {"showlegend": number == 0}
        yield _line(rail.lane, start, rail.lane, end, thick, "before", name="units", **legend)
        left = thick * (1 - item.removed / item.total)
        yield _line(rail.lane, start, rail.lane, end, left, "blue", name="units left", **legend)


def _line(x0: float, y0: float, x1: float, y1: float, width: float, colour: str, **more: Any) -> dict[str, Any]:
    dash = more.pop("dash", "solid")
    line = {"color": light(colour), "width": round(width, 2), "dash": dash}
    return {"type": "line", "x0": x0, "y0": y0, "x1": x1, "y1": y1, "layer": "below", "line": line, **more}
