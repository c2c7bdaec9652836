"""What was found, in the terminal and in the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.headline_board.jobs import (
    CURVES,
    SPARSITIES,
    Job,
    convolutions,
    curve_name,
    jobs,
    methods,
    perceptrons,
    units,
)
from benchmarks.headline_board.summary import Summary, summaries
from benchmarks.kernel_table.documents import replace_figures

Record = Mapping[str, Any]
Found = Mapping[tuple[str, str], Summary]
Line = Sequence[str]

FRAMEWORKS = {"torch": "PyTorch", "keras": "Keras"}
SIZES = ("dense", "pruned", "dense, gzip", "pruned, gzip")


def show(console: Console, record: Record) -> None:
    """Print a line for each case that was run."""
    found = summaries(record)
    shown = Table(title="error on the images that were not trained on, %", title_justify="left")
    for heading in ("case", *FRAMEWORKS.values()):
        shown.add_column(heading)
    for job in jobs():
        if any((framework, job.name) in found for framework in FRAMEWORKS):
            shown.add_row(job.name, *_both(found, job.name))
    console.print(shown)


def write_document(path: Path, record: Record) -> None:
    """Put the tables between the marks of the document."""
    found = summaries(record)
    parts = [_circumstances(record)]
    parts += ["### Against what was published", _markdown(_headline(found))]
    parts += ["### How large the files are", _markdown(_sizes(found))]
    if curves := _curves(found):
        parts += ["### Error against sparsity", _markdown(curves)]
    for title, listed in (("### The methods side by side", methods()), ("### Scores of neurons", units())):
        if lines := _compared(found, listed):
            parts += [title, _markdown([["method", "weights left", *FRAMEWORKS.values()], *lines])]
    replace_figures(path, "\n\n".join(parts))


def _circumstances(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"Error on the 10,000 test images in percent, mean ± deviation of five seeds where nothing else is said. "
        f"{record['machine']['processor']}; {versions}; {record['date'][:10]}."
    )


def _headline(found: Found) -> list[Line]:
    lines = [["case", "published", "asked", *FRAMEWORKS.values(), "weights left", "epochs"]]
    for job in (*perceptrons(), *convolutions()):
        if summary := _either(found, job.name):
            published = "; ".join(f"{each.error:g} ({each.source})" for each in job.published)
            target = job.published[0].target if job.published else None
            cells = [_met(found.get((framework, job.name)), target) for framework in FRAMEWORKS]
            asked = "" if target is None else f"≤ {target:.2f}"
            lines.append([job.name, published, asked, *cells, _left(summary), str(summary.first("epochs"))])
    return lines


def _sizes(found: Found) -> list[Line]:
    lines = [["case", *(f"{name}, kB" for name in SIZES), "times smaller", "and with gzip"]]
    for job in (*perceptrons(), *convolutions()):
        summary = _either(found, job.name)
        if summary and (sizes := summary.first("bytes")):
            ratios = [f"{sizes['dense'] / sizes[name]:.1f}" for name in ("pruned", "pruned, gzip")]
            lines.append([job.name, *(f"{sizes[name] / 1000:,.1f}" for name in SIZES), *ratios])
    return lines


def _curves(found: Found) -> list[Line]:
    lines: list[Line] = []
    for name in CURVES:
        for framework, title in FRAMEWORKS.items():
            points = [found.get((framework, curve_name(name, sparsity))) for sparsity in SPARSITIES]
            if any(points):
                lines.append([f"{name} ({title})", *("" if each is None else each.text for each in points)])
    return [["method", *(f"{100 * sparsity:g} %" for sparsity in SPARSITIES)], *lines] if lines else []


def _compared(found: Found, listed: Sequence[Job]) -> list[Line]:
    """The methods of the list at the sparsity that all of them have, the best first."""
    curves = {curve_name(name, sparsity) for name in CURVES for sparsity in SPARSITIES if sparsity != 0.98}
    known = [(summary, job.name) for job in listed if (summary := _either(found, job.name)) and job.name not in curves]
    ordered = sorted(known, key=lambda pair: pair[0].mean)
    return [[name.partition(": ")[2], _left(summary), *_both(found, name)] for summary, name in ordered]


def _both(found: Found, name: str) -> list[str]:
    return ["" if each is None else each.text for each in (found.get((side, name)) for side in FRAMEWORKS)]


def _either(found: Found, name: str) -> Summary | None:
    return next((found[framework, name] for framework in FRAMEWORKS if (framework, name) in found), None)


def _met(summary: Summary | None, target: float | None) -> str:
    """Bold where what is asked is reached."""
    if summary is None:
        return ""
    return f"**{summary.text}**" if target is not None and summary.mean <= target else summary.text


def _left(summary: Summary) -> str:
    kept, total = summary.first("kept"), summary.first("weights")
    return "all" if kept is None else f"{kept:,} ({100 * kept / total:.1f} %)"


def _markdown(lines: Sequence[Line]) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
