"""What was measured: on which machine, as JSON, and as a table in the terminal."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from secateur.report.files import write_text

Record = Mapping[str, Any]

PACKAGES = ("secateur", "numpy", "numba", "llvmlite", "ml_dtypes", "torch", "tensorflow", "numba-cuda", "cupy")


def circumstances(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Date, machine and versions."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "vector_instructions": _instructions(),
        },
        "versions": versions,
    }


def write_results(path: Path, results: Record) -> None:
    """Keep the results as JSON."""
    write_text(path, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """Results that were kept."""
    results: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return results


def count_text(count: int) -> str:
    """A number of elements, such as 25M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if count >= 0.995 * unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)


def ratio_text(ratio: float) -> str:
    """A multiple of a unit."""
    return f"{ratio:.2f}" if ratio < 9.95 else f"{ratio:.3g}" if ratio < 1000 else f"{ratio:,.0f}"


def threads_text(table: Record) -> str:
    """On how many threads a table was measured."""
    return "1 thread" if table["threads"] == 1 else f"{table['threads']} threads"


def show(console: Console, table: Record, long_ones: Mapping[str, Sequence[Record]]) -> None:
    """Print a table.

    Args:
        console: where.
        table: a record of ``measuring.measure``.
        long_ones: for rows by name and data, peers that were measured at the first size only.
    """
    units = table["units"]
    shown = Table(title=_title(table), title_justify="left", caption_justify="left", caption=_caption(table))
    for heading, side in (("kernel", "left"), ("data", "left"), ("ns/element", "right"), ("time", "right")):
        shown.add_column(heading, justify=side)
    for heading, side in (("target", "right"), ("memory", "right"), ("peers", "left")):
        shown.add_column(heading, justify=side)
    for unit, name in (("R", "one reading"), ("S", "one change in place")):
        shown.add_row(name, "normal", f"{units[unit]['ns']:.3f}", f"1 {unit}", "", "", units[unit]["loop"], style="dim")
    for row in table["rows"]:
        style = {True: "green", False: "red", None: "none"}[row["met"]]
        others = [_peer(peer) for peer in row["peers"]] + [_peer(peer) for peer in long_ones.get(key(row), ())]
        shown.add_row(
            row["name"],
            row["data"],
            f"{row['ns']:.3f}",
            Text(f"{ratio_text(row['ratio'])} {row['unit']}", style),
            "" if row["target"] is None else f"{row['target']:g} {row['unit']}",
            _memory(row["memory"]),
            "; ".join(others),
        )
    console.print(shown)


def key(row: Record) -> str:
    """What tells a row from others of its table."""
    return f"{row['name']} · {row['data']}"


def _title(table: Record) -> str:
    threads = f", {threads_text(table)}" if table["threads"] else ""
    return f"{count_text(table['elements'])} {table['dtype']} in {table['arrays']} arrays{threads}"


def _caption(table: Record) -> str:
    clock = "processor time" if table["clock"] == "processor" else "wall time"
    return (
        f"{clock}, the shortest of {table['rounds']} interleaved rounds; peers in the row's unit and, in brackets, the "
        "memory that they take beside the input; * = once, at the first size"
    )


def _peer(peer: Record) -> str:
    memory = f" ({_memory(peer['memory'])})" if peer["memory"] is not None else ""
    once = "*" if peer["once"] else ""
    return f"{peer['name']} {ratio_text(peer['ratio'])}{once}{memory}"


def _memory(size: int | None) -> str:
    return "–" if size is None else f"{size / 2**20:.1f} MB" if size < 10 << 20 else f"{size / 2**20:,.0f} MB"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _instructions() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text("utf-8").split() if cpuinfo.exists() else []
    return [flag for flag in ("avx2", "avx512f", "avx512bw", "asimd", "sve") if flag in flags]
