"""The board: a line a result in the terminal, a table at the end, and the same in the document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.kernel_table.documents import replace_figures
from benchmarks.structure_board import seconds

Record = Mapping[str, Any]
Rows = Sequence[Record]

STYLES = {"works": "green", "nothing": "yellow"}
TITLES = {"torch": "PyTorch", "keras": "Keras"}


def line(row: Record) -> Text:
    """One result."""
    text = f"{row['framework']} {row['model']:28} {row['tool']:15} {cell(row)}"
    return Text(text if "error" not in row else f"{text}: {row['error']}", STYLES.get(row["status"], "red"))


def cell(row: Record | None) -> str:
    """A result in a few words: the parameters that are left, how far the outputs are off, and the time."""
    if row is None:
        return "–"
    total = f"{row['seconds']['total']:.2f} s" if "seconds" in row else ""
    if row["status"] in ("error", "crash", "timeout"):
        return f"{row['status']} {total}".strip()
    if row["status"] == "nothing":
        return f"prunes nothing, {total}"
    off = "other outputs" if row["difference"] is None else f"{row['difference']:.0e}"
    rebuilt = "*" if "torch.export" in (row.get("form") or "") else ""
    return f"{'' if row['status'] == 'works' else 'wrong: '}{100 * row['share']:.0f} %{rebuilt}, {off}, {total}"


def show(console: Console, record: Record) -> None:
    """Print a table for each framework, and how many of its models work with each tool."""
    for framework, title in TITLES.items():
        rows = [row for row in record["rows"] if row["framework"] == framework]
        if not rows:
            continue
        tools = _unique(row["tool"] for row in rows)
        shown = Table(title=f"{title}: parameters left, masked against removed, seconds", title_justify="left")
        for heading in ("model", *tools):
            shown.add_column(heading)
        for model, found in _by_model(rows).items():
            shown.add_row(model, *(Text(cell(found.get(tool)), _style(found.get(tool))) for tool in tools))
        shown.add_section()
        shown.add_row("works", *(_counted(rows, tool) for tool in tools))
        console.print(shown, *seconds.compared(rows), sep="\n")


def write_document(path: Path, record: Record) -> None:
    """Put the tables between the marks of the document."""
    sections = [_circumstances(record)]
    for framework, title in TITLES.items():
        rows = [row for row in record["rows"] if row["framework"] == framework]
        if rows:
            sections += [f"### {title}", _markdown(rows), *_failures(rows)]
            sections += [f"#### Seconds, {title}", *seconds.compared(rows), seconds.table(rows)]
    replace_figures(path, "\n\n".join(sections))


def _circumstances(record: Record) -> str:
    machine, versions = record["machine"], record["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, one thread; {packages}; `{record['command']}`, "
        f"{record['date'][:10]}, at most {record['limit']} processor seconds a model and tool."
    )


def _markdown(rows: Rows) -> str:
    tools = _unique(row["tool"] for row in rows)
    lines = [["model", "of", *tools], ["---", "---", *["---"] * len(tools)]]
    for model, found in _by_model(rows).items():
        source = next(iter(found.values()))["source"]
        lines.append([model, source, *(_marked(found.get(tool)) for tool in tools)])
    lines.append(["**works**", "", *(f"**{_counted(rows, tool)}**" for tool in tools)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _failures(rows: Rows) -> list[str]:
    """What Secateur did not do, and why."""
    failed = [row for row in rows if row["tool"] == "secateur" and row["status"] != "works"]
    reasons = (row.get("error") or "; ".join(row.get("frozen", [])[:2]) for row in failed)
    listed = [f"- {row['model']}: {reason.replace('|', ' ')}" for row, reason in zip(failed, reasons, strict=True)]
    return ["Where Secateur does not work:", "\n".join(listed)] if listed else []


def _marked(row: Record | None) -> str:
    return f"**{cell(row)}**" if row is not None and row["status"] == "works" else cell(row)


def _style(row: Record | None) -> str:
    return "none" if row is None else STYLES.get(row["status"], "red")


def _counted(rows: Rows, tool: str) -> str:
    tried = [row for row in rows if row["tool"] == tool]
    return f"{sum(row['status'] == 'works' for row in tried)} of {len(tried)}"


def _by_model(rows: Rows) -> dict[str, dict[str, Record]]:
    found: dict[str, dict[str, Record]] = {}
    for row in rows:
        found.setdefault(row["model"], {})[row["tool"]] = row
    return found


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
