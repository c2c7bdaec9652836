"""The picture for a README: accuracy and size at every stage, framework beside framework, as one static SVG.

Drawn from ``results.json`` with no browser and no plotting library; it follows the reader's light or dark colours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from secateur.errors import EmptyInputError, FileFormatError
from secateur.report import formats
from secateur.report.files import write_text
from secateur.report.markup import Markup, element, join, raw
from secateur.report.palette import STAGE_COLOURS, style_sheet
from secateur.report.runs import RunNumbers

PANEL, GAP, MARGIN = 420, 48, 24
LABELS, BARS, ROW, BAR = 84, 250, 27, 17
NAMES = {"torch": "PyTorch", "keras": "Keras", "tensorflow": "TensorFlow", "jax": "JAX"}

_QUANTITIES: tuple[tuple[str, str, Callable[..., str]], ...] = (
    ("accuracy", "Accuracy on the test split", formats.percent),
    ("bytes", "Size", formats.size),
)


def read_runs(results: str | os.PathLike[str]) -> list[RunNumbers]:
    """The runs of a ``results.json``.

    Raises:
        FileFormatError: the file is not one that the demo wrote.
    """
    try:
        content = json.loads(Path(results).read_text(encoding="utf-8"))
        return [RunNumbers.from_dict(run) for run in content["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{results} is not a results.json of the demo ({error}); run the demo again") from error


def write_picture(path: str | os.PathLike[str], runs: Sequence[RunNumbers]) -> Path:
    """Draw one configuration of ``runs`` in every framework that ran it.

    Args:
        path: the SVG file; replaced whole.
        runs: all runs; shown is the first configuration that removes whole units, or else the first one.

    Returns:
        The path written.

    Raises:
        EmptyInputError: there are no runs.
    """
    if not runs:
        raise EmptyInputError("there are no runs to draw: give the runs of a demo")
    return write_text(path, picture(_chosen(runs)) + "\n")


def _chosen(runs: Sequence[RunNumbers]) -> list[RunNumbers]:
    first = next((run for run in runs if run.last.parameters < run.dense.parameters), runs[0])
    alike = [run for run in runs if (run.model, run.configuration) == (first.model, first.configuration)]
    return list({run.platform: run for run in reversed(alike)}.values())[::-1]


def picture(runs: Sequence[RunNumbers]) -> Markup:
    """The SVG of runs of one configuration, one panel each."""
    first = runs[0]
    wide = MARGIN * 2 + PANEL * len(runs) + GAP * (len(runs) - 1)
    heights = [56 + ROW * len(first.stages)] * len(_QUANTITIES)
    high = 100 + sum(heights)
    title = f"{first.model}: {first.configuration}"
    panels = [_panel(run, MARGIN + (PANEL + GAP) * number) for number, run in enumerate(runs)]
    return element(
        "svg",
        element("title", f"{title}; accuracy and size, dense, pruned, fine-tuned and compact"),
        element("style", raw(style_sheet("(prefers-color-scheme: dark)") + _STYLE)),
        element("rect", width=wide, height=high, rx=10, class_="page"),
        element("text", title, x=MARGIN, y=40, class_="title"),
        *panels,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {wide} {high}",
        width=wide,
        height=high,
        role="img",
    )


_STYLE = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;fill:var(--ink)}"
    ".page{fill:var(--page)}.title{font-size:17px;font-weight:600}.framework{font-size:15px;font-weight:600}"
    ".quantity{fill:var(--muted)}.stage{text-anchor:end}.track{fill:var(--panel)}"
    + "".join(f".{stage}{{fill:var(--{colour})}}" for stage, colour in STAGE_COLOURS.items())
)


def _panel(run: RunNumbers, left: int) -> Markup:
    name, backend = (NAMES.get(word, word) for word in (run.framework, run.backend))
    heading = name if run.framework == run.backend else f"{name} on {backend}"
    parts = [element("text", heading, x=left, y=80, class_="framework")]
    top = 100
    for quantity, title, written in _QUANTITIES:
        parts.append(_bars(run, quantity, title, written, left, top))
        top += 56 + ROW * len(run.stages)
    return element("g", *parts)


def _bars(run: RunNumbers, quantity: str, title: str, written: Callable[..., str], left: int, top: int) -> Markup:
    values = {name: getattr(stage, quantity) for name, stage in run.stages.items()}
    whole = 1.0 if quantity == "accuracy" else max(filter(None, values.values()), default=1)
    rows = [element("text", title, x=left, y=top + 16, class_="quantity")]
    for number, (stage, value) in enumerate(values.items()):
        rows.append(_bar(stage, value, (value or 0) / whole, written, left, top + 26 + ROW * number))
    return join(rows)


def _bar(stage: str, value: float | None, share: float, written: Callable[..., str], left: int, top: int) -> Markup:
    start, base = left + LABELS, top + BAR - 4
    return join(
        (
            element("text", formats.STAGE_NAMES[stage], x=start - 10, y=base, class_="stage"),
            element("rect", x=start, y=top, width=BARS, height=BAR, rx=2, class_="track"),
            element("rect", x=start, y=top, width=max(BARS * share, 1.0), height=BAR, rx=2, class_=stage),
            element("text", written(value), x=start + BARS + 10, y=base),
        )
    )
