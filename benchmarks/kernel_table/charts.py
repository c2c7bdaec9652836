"""The charts of the table, as static SVG that follows the reader's light or dark colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kernel_table.drawing import MARGIN, WIDTH, apart, curve, label, note, page
from benchmarks.kernel_table.results import count_text, ratio_text, threads_text
from secateur.report.files import write_text
from secateur.report.markup import Markup, element, join

Record = Mapping[str, Any]

_LINES = (
    ("muted", "2 4"),
    ("ink", "7 4"),
    ("blue", ""),
    ("vermillion", ""),
    ("green", "8 3"),
    ("purple", "4 3"),
    ("orange", "10 3 2 3"),
)
"""Colour and dash of each line of the chart of growth: the two units first."""


def write_chart(path: Path, table: Record) -> None:
    """Draw Secateur's times and its peers', in readings of the data, on a logarithmic axis."""
    write_text(path, comparison(table) + "\n")


def write_growth(path: Path, tables: Sequence[Record]) -> None:
    """Draw the time an element of some rows over the number of elements."""
    write_text(path, growth(tables) + "\n")


def comparison(table: Record) -> Markup:
    """The SVG: a group of bars for each row that has a short name, Secateur's first."""
    rows = [row for row in table["rows"] if row["short"]]
    left, right, bar, gap, top = 330, WIDTH - 70, 19, 14, 128
    reading = table["units"]["R"]["ns"]
    largest = max(entry["ns"] for row in rows for entry in (row, *row["peers"])) / reading
    decades = max(1, math.ceil(math.log10(largest)))

    def at(multiple: float) -> float:
        return left + (right - left) * min(max(math.log10(multiple), 0.02), decades) / decades

    parts, place = [], top
    for row in rows:
        parts.append(_group(row, reading, table["units"][row["unit"]]["ns"], at, left, place, bar))
        place += bar * (1 + len(row["peers"])) + gap
    places = [left, *(at(10.0**power) for power in range(1, decades + 1))]
    grid = [_tick(x, top - 8, place - gap + 4, f"{10**power:,}") for power, x in enumerate(places)]
    title = (
        f"{count_text(table['elements'])} {table['dtype']} weights in {table['arrays']} arrays, {threads_text(table)}"
    )
    return page(
        place + 16,
        title,
        [
            note("Time in multiples of one reading of the data (logarithmic); less is better"),
            _legend(86),
            *grid,
            *parts,
        ],
    )


def _weights(table: Record) -> str:
    return f"{count_text(table['elements'])} {table['dtype']} weights"


def _group(row: Record, reading: float, unit: float, at: Any, left: float, top: float, bar: int) -> Markup:
    """The bars of one row: Secateur's with the mark of its target, then its peers'."""
    target = None if row["target"] is None else at(row["target"] * unit / reading)
    parts = []
    for number, entry in enumerate((row, *sorted(row["peers"], key=lambda peer: peer["ns"]))):
        ours, multiple, y = number == 0, entry["ns"] / reading, top + bar * number
        end, base = at(multiple), y + bar - 6
        name, name_class = (row["short"], "side kernel") if ours else (entry["name"], "side peer")
        value_x = max(end, target) if ours and target is not None else end
        parts += [
            element("text", name, x=left - 10, y=base, class_=name_class),
            element(
                "rect", x=left, y=y + 2, width=end - left, height=bar - 5, rx=2, class_="ours" if ours else "theirs"
            ),
            element("text", ratio_text(multiple), x=value_x + 8, y=base, class_="bold" if ours else "peer"),
        ]
    if target is not None:
        parts.append(element("line", x1=target, x2=target, y1=top, y2=top + bar - 1, class_="target"))
    return element("g", *parts)


def _legend(y: float) -> Markup:
    return join(
        (
            element("rect", x=MARGIN, y=y - 10, width=18, height=12, rx=2, class_="ours"),
            element("text", "Secateur", x=MARGIN + 25, y=y),
            element("rect", x=MARGIN + 104, y=y - 10, width=18, height=12, rx=2, class_="theirs"),
            element("text", "others", x=MARGIN + 129, y=y),
            element("line", x1=MARGIN + 196, x2=MARGIN + 196, y1=y - 12, y2=y + 4, class_="target"),
            element("text", "Secateur’s target", x=MARGIN + 205, y=y),
        )
    )


def _tick(x: float, top: float, bottom: float, label: str) -> Markup:
    return element(
        "g",
        element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"),
        element("text", label, x=x, y=top - 6, class_="axis"),
    )


def growth(tables: Sequence[Record]) -> Markup:
    """The SVG: one line for each row and unit, on logarithmic axes."""
    left, right, top, bottom = 76, WIDTH - 250, 84, 420
    lines = _lines(tables)
    sizes = [table["elements"] for table in tables]
    values_shown = [value for _, values in lines for value in values]
    marks = _round_values(min(values_shown), max(values_shown))
    scale = (bottom - top) / math.log10(marks[-1] / marks[0])
    low, high = math.log10(sizes[0]), math.log10(sizes[-1])

    def x_of(size: float) -> float:
        return left + (right - left) * (math.log10(size) - low) / ((high - low) or 1)

    def y_of(value: float) -> float:
        return bottom - scale * math.log10(value / marks[0])

    parts = []
    for mark in marks:
        parts.append(element("line", x1=left, x2=right, y1=y_of(mark), y2=y_of(mark), class_="grid"))
        parts.append(element("text", f"{mark:g}", x=left - 10, y=y_of(mark) + 4, class_="side note"))
    for size in sizes:
        parts.append(element("text", count_text(size), x=x_of(size), y=bottom + 22, class_="axis"))
    label_heights = apart([y_of(values[-1]) for _, values in lines])
    for (name, values), (colour, dash), label_y in zip(lines, _LINES, label_heights, strict=False):
        points = [(x_of(size), y_of(value)) for size, value in zip(sizes, values, strict=True)]
        parts.append(curve(points, colour, dash))
        parts.append(label(name, points[-1], right, label_y, colour))
    title = f"Time an element, from {count_text(sizes[0])} to {_weights(tables[-1])}, {threads_text(tables[0])}"
    return page(
        bottom + 62,
        title,
        [
            note("Nanoseconds an element (both axes are logarithmic); less is better"),
            element("text", "elements", x=(left + right) / 2, y=bottom + 44, class_="axis"),
            *parts,
        ],
    )


def _lines(tables: Sequence[Record]) -> list[tuple[str, list[float]]]:
    """Names, and nanoseconds an element at each size."""
    units = (("One reading (R)", "R"), ("One change in place (S)", "S"))
    lines = [(name, [table["units"][unit]["ns"] for table in tables]) for name, unit in units]
    for number, row in enumerate(tables[0]["rows"]):
        lines.append((row["short"] or row["name"], [table["rows"][number]["ns"] for table in tables]))
    return lines


def _round_values(least: float, greatest: float) -> list[float]:
    """1, 2, 5, 10, ... from the last at most ``least`` to the first at least ``greatest``."""
    powers = range(math.floor(math.log10(least)) - 1, math.ceil(math.log10(greatest)) + 1)
    values = [part * 10.0**power for power in powers for part in (1, 2, 5)]
    first = max(number for number, value in enumerate(values) if value <= least)
    last = min(number for number, value in enumerate(values) if value >= greatest)
    return values[first : max(last, first + 1) + 1]
