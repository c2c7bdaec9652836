"""The frame that every chart shares: calm axes, one font, no junk; and the only door to plotly, opened when needed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from secateur.errors import MissingDependencyError
from secateur.report.formats import shortened
from secateur.report.palette import light

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", sans-serif'
ROW_HEIGHT = 26
CLEAR = "rgba(0,0,0,0)"


def graph_objects() -> Any:
    """``plotly.graph_objects``; raises MissingDependencyError with the command that installs it."""
    try:
        import plotly.graph_objects as objects
    except ImportError as error:
        raise MissingDependencyError("reports are drawn with plotly: pip install 'secateur[report]'") from error
    return objects


def plain(text: str) -> str:
    """Text as plotly takes it: a few HTML tags mean something to it, and names must not."""
    return html.escape(text, quote=False)


def figure(traces: Sequence[Any], *, x: str, y: str, height: int = 300, **layout: Any) -> Any:
    """A ``plotly.graph_objects.Figure`` of the traces in the shared frame.

    Args:
        traces: plotly traces.
        x, y: axis titles, with units.
        height: in pixels; the width is the page's.
        layout: further layout settings, in plotly's names with underscores (``xaxis_range=(0, 100)``).
    """
    drawn = graph_objects().Figure(data=list(traces))
    drawn.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 16, "t": 34, "b": 48},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font={"family": FONT, "size": 12, "color": light("muted")},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.0,
            "yanchor": "bottom",
            "xanchor": "left",
            "traceorder": "normal",
        },
        hoverlabel={"bgcolor": light("panel"), "bordercolor": light("rule"), "font_color": light("ink")},
        modebar={"bgcolor": CLEAR, "color": light("muted"), "activecolor": light("ink")},
        hovermode="closest",
        bargap=0.35,
    )
    drawn.update_xaxes(title_text=plain(x), **_AXIS)
    drawn.update_yaxes(title_text=plain(y), **_AXIS)
    return drawn.update_layout(**layout)


_AXIS: dict[str, Any] = {
    "gridcolor": light("rule"),
    "linecolor": light("rule"),
    "zeroline": False,
    "automargin": True,
    "title_standoff": 10,
    "title_font_size": 12,
    "ticks": "",
}


def rows_axis(names: Sequence[str], limit: int = 30) -> dict[str, Any]:
    """A vertical axis with one named row a number, the first on top.

    Rows are placed by number, so that equal or shortened names never fall together.
    """
    return {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [plain(shortened(name, limit)) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "showgrid": False,
        "title_text": "",
    }


def panels(
    traces: Sequence[Sequence[Any]],
    titles: Sequence[str],
    names: Sequence[str],
    height: int,
    marks: Sequence[float | None],
    from_zero: bool = False,
    **layout: Any,
) -> Any:
    """Panels side by side that share their named rows; each has its own horizontal axis.

    Args:
        traces: the traces of each panel.
        titles: the title of each panel's horizontal axis.
        names: the rows, the first on top.
        height: in pixels.
        marks: for each panel a value that a dotted line marks, or None.
        from_zero: whether the horizontal axes begin at zero.
        layout: further layout settings, as for :func:`figure`.
    """
    numbers = ["", *map(str, range(2, len(titles) + 1))]
    placed = [
        trace.update(xaxis=f"x{number}") for number, group in zip(numbers, traces, strict=True) for trace in group
    ]
    drawn = figure(placed, x="", y="", height=height, **layout)
    drawn.update_layout(yaxis={**rows_axis(names, 60), "showgrid": True})
    for place, (number, title, mark) in enumerate(zip(numbers, titles, marks, strict=True)):
        axis = {**_AXIS, "title_text": plain(title), "domain": _domain(place, len(titles))}
        drawn.update_layout({f"xaxis{number}": axis | ({"rangemode": "tozero"} if from_zero else {})})
        if mark is not None:
            line = {"color": light("muted"), "width": 1, "dash": "dot"}
            drawn.add_shape(x0=mark, x1=mark, y0=0, y1=1, xref=f"x{number}", yref="paper", line=line)
    return drawn


def _domain(place: int, number: int, gap: float = 0.045) -> list[float]:
    wide = (1 + gap) / number
    return [place * wide, (place + 1) * wide - gap]


def rows_height(rows: int, each: int = ROW_HEIGHT) -> int:
    """Height in pixels of a chart with that many rows."""
    return 100 + each * max(rows, 1)
