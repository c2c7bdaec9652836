"""The chart of error against sparsity, as a static SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.headline_board.jobs import CURVES, PERCEPTRON, SPARSITIES, curve_name, perceptrons
from benchmarks.headline_board.summary import Summary, summaries
from benchmarks.kernel_table.drawing import WIDTH, apart, curve, label, note, page
from secateur.report.files import write_text
from secateur.report.markup import Markup, element, join

Record = Mapping[str, Any]
Point = tuple[float, float]
"""Share of the weights that are left, and error, both in percent."""

LEFT, RIGHT, TOP, BOTTOM = 64, WIDTH - 270, 96, 440
SHARES = (20.0, 10.0, 5.0, 2.0, 1.0)
ERRORS = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0)
STYLES = {"magnitude, gradual": ("blue", ""), "SNIP": ("orange", "7 4"), "random, at the start": ("muted", "2 4")}
OURS = ("Secateur, with a teacher", "vermillion", "")
PUBLISHED_LEFT = {"12 times fewer weights": 100 / 12, "98.2 % pruned": 1.8}


def write_chart(path: Path, record: Record) -> None:
    """Draw PyTorch's curves, the headline's results and what others published; nothing where nothing was measured."""
    found = {case: each for (framework, case), each in summaries(record).items() if framework == "torch"}
    lines = _lines(found)
    if lines:
        write_text(path, _chart(lines) + "\n")


def _lines(found: Mapping[str, Summary]) -> list[tuple[str, str, str, list[Point]]]:
    """Name, colour, dash and points of each line."""
    ours = [
        (100 - 100 * found[job.name].first("sparsity"), found[job.name].mean)
        for job in perceptrons()
        if job.published and job.name in found
    ]
    lines = [(*OURS, sorted(ours, reverse=True))] if ours else []
    for name in CURVES:
        measured = [(sparsity, found.get(curve_name(name, sparsity))) for sparsity in SPARSITIES]
        points = [(100 - 100 * sparsity, each.mean) for sparsity, each in measured if each is not None]
        if points:
            lines.append((name, *STYLES[name], points))
    return lines


def _published() -> list[tuple[str, Point]]:
    named = [(name, job) for job in perceptrons() for name in PUBLISHED_LEFT if job.name.endswith(name)]
    return [
        (each.source.partition(",")[0], (PUBLISHED_LEFT[name], each.error))
        for name, job in named
        for each in job.published
    ]


def _chart(lines: Sequence[tuple[str, str, str, list[Point]]]) -> Markup:
    errors = [error for *_, points in lines for _, error in points] + [error for _, (_, error) in _published()]
    low, high = min(ERRORS[0], *errors), max(*errors)

    def at(point: Point) -> Point:
        share, error = point
        x = math.log(SHARES[0] / share) / math.log(SHARES[0] / SHARES[-1])
        y = math.log(error / low) / math.log(high / low)
        return LEFT + (RIGHT - LEFT) * x, BOTTOM - (BOTTOM - TOP) * y

    heights = apart([at(points[-1])[1] for *_, points in lines])
    drawn = [
        join((curve([at(point) for point in points], colour, dash), label(name, at(points[-1]), RIGHT, height, colour)))
        for (name, colour, dash, points), height in zip(lines, heights, strict=True)
    ]
    return page(
        BOTTOM + 62,
        f"{PERCEPTRON} on MNIST: error against the weights that are left",
        [
            note("Error on the test images in percent, mean of the seeds (both axes are logarithmic); less is better"),
            *_axes(at, low, high),
            *drawn,
            *(_mark(name, at(point)) for name, point in _published()),
        ],
    )


def _axes(at: Callable[[Point], Point], low: float, high: float) -> list[Markup]:
    parts = []
    for error in (each for each in ERRORS if low <= each <= high):
        y = at((SHARES[0], error))[1]
        parts.append(element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{error:g}", x=LEFT - 10, y=y + 4, class_="side note"))
    for share in SHARES:
        parts.append(element("text", f"{share:g} %", x=at((share, low))[0], y=BOTTOM + 22, class_="axis"))
    parts.append(element("text", "weights left", x=(LEFT + RIGHT) / 2, y=BOTTOM + 44, class_="axis"))
    return parts


def _mark(name: str, place: Point) -> Markup:
    """A published result: a diamond and its source."""
    x, y = place
    path = f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"
    return join(
        (
            element("path", d=path, style="fill:var(--green)"),
            element("text", name, x=x - 10, y=y - 8, class_="side note"),
        )
    )
