"""What was found, in the terminal and in the document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.kernel_table.documents import replace_figures

Record = Mapping[str, Any]

TARGETS = {"MLP": 1.03, "ResNet-18": 1.005}


def show(console: Console, record: Record) -> None:
    """Print a line for each case and way."""
    shown = Table(title=f"a step, {record['clock']} time", title_justify="left")
    for heading in ("case", "way", "ms", "times free", "holding itself", "stored where masked"):
        shown.add_column(heading)
    for case, ways in record["cases"].items():
        for name, found in ways.items():
            row = f"{found['ms']:.2f}", f"{found['ratio']:.3f}", _share(found), _leak(found["leak"])
            shown.add_row(case, name, *row)
    console.print(shown)


def write_document(path: Path, record: Record, matrix: Record) -> None:
    """Put figures and matrix between the marks of the document."""
    replace_figures(path, "\n\n".join([_circumstances(record), _figures(record), *_matrices(matrix)]))


def matrix(cells: Path) -> dict[str, Any]:
    """The cells that tests have written, a line each: the last one of a name counts."""
    lines = cells.read_text("utf-8").splitlines()
    return dict(sorted(dict(json.loads(line) for line in lines).items()))


def _circumstances(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"{record['machine']['processor']}, one thread, {record['clock']} time, median of {record['rounds']} "
        f"interleaved rounds; {versions}; {record['date'][:10]}."
    )


def _figures(record: Record) -> str:
    lines = [["model", "way", "ms a step", "times a free step", "holding itself", "target", "stored after a step"]]
    lines.append(["---"] * len(lines[0]))
    for case, ways in record["cases"].items():
        for name, found in ways.items():
            target = f"≤ {TARGETS[case.split()[-1]]:g}" if name == "secateur" else ""
            ratio = "1" if name == "free" else f"{found['ratio']:.3f}"
            lines.append([case, name, f"{found['ms']:.2f}", ratio, _share(found), target, _leak(found["leak"])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(found: Record) -> str:
    return f"+{100 * found['share']:.2f} %" if "share" in found else ""


def _leak(leak: float | None) -> str:
    return "" if leak is None else f"{leak:.2g}" if leak else "0"


def _matrices(matrix: Record) -> list[str]:
    """A table for each framework and backend: a row for each optimizer, a column for each way to train."""
    parts: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for key, found in matrix.items():
        framework, backend, optimizer, mode = key.split(" | ")
        parts.setdefault((framework, backend), {}).setdefault(optimizer, {})[mode] = found
    return [text for (framework, backend), rows in parts.items() for text in _matrix(framework, backend, rows)]


def _matrix(framework: str, backend: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    modes = list(dict.fromkeys(mode for row in rows.values() for mode in row))
    cells = [cell for row in rows.values() for cell in row.values() if cell["leak"] is not None]
    tight = sum(cell["leak"] == 0.0 for cell in cells)
    lines = [["optimizer", *modes], ["---"] * (len(modes) + 1)]
    lines += [[name, *(_cell(row.get(mode)) for mode in modes)] for name, row in rows.items()]
    title = "PyTorch" if framework == "torch" else f"Keras on {backend}"
    return [f"### {title}: {tight} of {len(cells)} cells", "\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _cell(cell: Record | None) -> str:
    return "–" if cell is None or cell["leak"] is None else _leak(cell["leak"])
