"""What the charts of the benchmarks share: a page of SVG that follows light or dark colours, and its lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from secateur.report.markup import Markup, element, join, raw
from secateur.report.palette import style_sheet

WIDTH, MARGIN = 860, 24
_STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;fill:var(--ink)}"
    ".page{fill:var(--page)}.title{font-size:17px;font-weight:600}.note,.axis{fill:var(--muted);font-size:12px}"
    ".axis{text-anchor:middle}.side{text-anchor:end}.kernel{font-weight:600}.peer{fill:var(--muted)}"
    ".grid{stroke:var(--rule);stroke-width:1}.unit{stroke:var(--muted);stroke-width:1;stroke-dasharray:3 3}"
    ".ours{fill:var(--blue)}.theirs{fill:var(--before)}.target{stroke:var(--vermillion);stroke-width:2.5}"
    ".line{fill:none;stroke-width:2}.bold{font-weight:600}"
)


def page(height: float, title: str, parts: Sequence[Markup]) -> Markup:
    return element(
        "svg",
        element("title", title),
        element("style", raw(style_sheet("(prefers-color-scheme: dark)") + _STYLE)),
        element("rect", width=WIDTH, height=height, rx=10, class_="page"),
        element("text", title, x=MARGIN, y=40, class_="title"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
        role="img",
    )


def note(text: str) -> Markup:
    return element("text", text, x=MARGIN, y=64, class_="note")


def curve(points: Sequence[tuple[float, float]], colour: str, dash: str) -> Markup:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = [element("circle", cx=x, cy=y, r=3, style=f"fill:var(--{colour})") for x, y in points]
    line = element("path", d=path, class_="line", style=f"stroke:var(--{colour})", stroke_dasharray=dash or None)
    return element("g", line, *dots)


def label(name: str, end: tuple[float, float], right: float, y: float, colour: str) -> Markup:
    """A line's name, tied to its end."""
    path = f"M{end[0] + 5:.1f} {end[1]:.1f}L{right + 18:.1f} {y:.1f}"
    tie = element("path", d=path, class_="line", style=f"stroke:var(--{colour});stroke-width:1;opacity:.6")
    return join((tie, element("text", name, x=right + 24, y=y + 4)))


def apart(heights: Sequence[float], least: float = 18) -> list[float]:
    """The heights, moved upwards as far as needed so that labels do not overlap."""
    order = sorted(range(len(heights)), key=lambda index: -heights[index])
    placed = list(heights)
    for lower, upper in pairwise(order):
        placed[upper] = min(placed[upper], placed[lower] - least)
    return placed
