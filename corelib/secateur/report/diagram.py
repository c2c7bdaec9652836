"""Drawings made of plain SVG, readable without a script: the network's silhouette, and which units were removed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from secateur.report.formats import count, percent, shortened
from secateur.report.markup import Markup, element, join
from secateur.report.numbers import LayerRow, Removal

BAR, TALL, TOP, LEFT = 14, 150, 26, 60
STEPS, WIDE = (116, 240), 900
CELL, CELLS = 9, 64

Width = tuple[str, int, int]


def structure_diagram(layers: Sequence[LayerRow]) -> Markup:
    """The layers from left to right, each as tall as it has units: the dense network in grey, what is left in blue.

    The band in front of a layer is its weights: the paler the band, the fewer of them are kept.
    """
    widths = _widths(layers)
    scale = TALL / max(max(before for _, before, _ in widths), 1)
    step = min(max(WIDE // len(layers), STEPS[0]), STEPS[1])
    places = [LEFT + step * column for column in range(len(widths))]
    bands = [
        _band(*pair, *ends, scale, row)
        for pair, ends, row in zip(pairwise(widths), pairwise(places), layers, strict=True)
    ]
    bars = [_column(width, place, scale) for width, place in zip(widths, places, strict=True)]
    wide, high = LEFT + places[-1], TOP + TALL + 52
    title = "Units of every layer before and after pruning: " + "; ".join(
        f"{name} {before} to {after}" for name, before, after in widths
    )
    return element(
        "svg",
        element("title", title),
        *bands,
        *bars,
        class_="structure",
        viewBox=f"0 0 {wide} {high}",
        width=wide,
        height=high,
        role="img",
    )


def _widths(layers: Sequence[LayerRow]) -> list[Width]:
    """(name, units before, units after) of each column; the first is the input, or nothing where it has no width."""
    first = layers[0]
    plain = len(first.shape_before) > 1 and first.shape_before[0] == first.units_before
    source = ("input", first.shape_before[1], first.shape_after[1]) if plain else ("input", 0, 0)
    return [source, *((row.layer, row.units_before, row.units_after) for row in layers)]


def _column(width: Width, middle: float, scale: float) -> Markup:
    name, before, after = width
    bottom = TOP + TALL
    units = count(before) if before == after else f"{count(before)} → {count(after)}"
    return join(
        (
            _bar(middle, before * scale, "was") if before != after else "",
            _bar(middle, after * scale, "is"),
            element("text", element("title", name), shortened(name, 15), x=middle, y=bottom + 22, class_="name"),
            element("text", units if before else "", x=middle, y=bottom + 40, class_="units"),
        )
    )


def _bar(middle: float, height: float, kind: str) -> Markup:
    tall = max(height, 2.0) if height else 0.0
    top = TOP + (TALL - tall) / 2
    return element("rect", x=middle - BAR / 2, y=top, width=BAR, height=tall, rx=2, class_=kind)


def _band(left: Width, right: Width, start: float, end: float, scale: float, row: LayerRow) -> Markup:
    remaining = math.prod(row.shape_after)
    density = min(row.kept / remaining, 1.0) if remaining else 0.0
    caption = f"{percent(density, 0)} of weights" if density < 0.9995 else ""
    ends = (start + BAR / 2, end - BAR / 2)
    return join(
        (
            _polygon(*ends, left[1] * scale, right[1] * scale, "dense-band", 1.0),
            _polygon(*ends, left[2] * scale, right[2] * scale, "band", 0.08 + 0.37 * density),
            element("text", caption, x=(start + end) / 2, y=TOP - 10, class_="density"),
        )
    )


def _polygon(start: float, end: float, left: float, right: float, kind: str, opacity: float) -> Markup:
    middle = TOP + TALL / 2
    corners = [(start, -left / 2), (end, -right / 2), (end, right / 2), (start, left / 2)]
    points = " ".join(f"{x:.1f},{middle + y:.1f}" for x, y in corners)
    return element("polygon", points=points, class_=kind, fill_opacity=opacity)


def unit_strip(removal: Removal) -> Markup:
    """One small square a unit, in the layer's order: filled if kept, hollow if removed."""
    removed = frozenset(removal.units)
    kept = [unit for unit in range(removal.total) if unit not in removed]
    rows = -(-removal.total // CELLS)
    wide, high = min(removal.total, CELLS) * CELL, rows * CELL
    return element(
        "svg",
        element("title", f"{removal.layer}: {len(removed)} of {removal.total} {removal.what} removed"),
        element("path", d=_squares(kept), class_="is"),
        element("path", d=_squares(sorted(removed)), class_="gone"),
        class_="strip",
        viewBox=f"-1 -1 {wide + 2} {high + 2}",
        width=wide + 2,
        height=high + 2,
        role="img",
    )


def _squares(units: Sequence[int]) -> str:
    side = CELL - 2
    return "".join(f"M{unit % CELLS * CELL} {unit // CELLS * CELL}h{side}v{side}h-{side}z" for unit in units)
