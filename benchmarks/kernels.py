"""Time the numeric core's kernels against the machine's limits and against NumPy, PyTorch and TensorFlow.

Run: python benchmarks/kernels.py [--size 25M 100M] [--threads 1 2] [--rounds 9] [--peers none|quick|all]

How to read what it prints, writes and draws: docs/kernels.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Not this script's folder, whose cuda.py would hide a package of that name, but the one above it.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console

from benchmarks.kernel_table import charts, documents, passes, results
from benchmarks.kernel_table.loads import DTYPES, Load
from benchmarks.kernel_table.measuring import Plan, Record, Units, measure
from benchmarks.kernel_table.options import SIZES, elements
from benchmarks.kernel_table.rows import Row, narrow_rows, rows
from benchmarks.kernel_table.timing import Clock

ROOT = Path(__file__).resolve().parents[1]
GROWTH = (0.01, 0.04, 0.16, 0.5, 1, 4)
"""Sizes of the chart of growth, as multiples of the largest size."""


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", type=elements, default=list(SIZES), help="elements: 25M 100M")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=9, help="how often everything is timed (default: 9)")
    parser.add_argument(
        "--peers", choices=["none", "quick", "all"], default="quick", help="quick: those below a second"
    )
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES), help="default: all")
    parser.add_argument("--only", metavar="PATTERN", help="only rows that this finds; writes no file")
    parser.add_argument("--draw", action="store_true", help="only write charts and figures again")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "kernels.json")
    parser.add_argument("--documents", type=Path, default=ROOT, help="folder of README.md, whose figures are renewed")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the charts")
    return parser.parse_args(words)


def main() -> None:
    chosen = arguments(sys.argv[1:])
    if chosen.draw:
        draw(results.read_results(chosen.results), chosen)
        return
    console = Console(width=None if sys.stdout.isatty() else 200)
    record: Record = {**results.circumstances(), "command": command(), "peers": chosen.peers}
    record["tables"] = tables(chosen, console)
    if chosen.only:
        return
    record["growth"] = growth(chosen, console)
    results.write_results(chosen.results, record)
    draw(record, chosen)
    console.print(f"written: {chosen.results}, and the charts to {chosen.images}")


def command() -> str:
    return " ".join(["python", "benchmarks/kernels.py", *sys.argv[1:]])


def tables(chosen: argparse.Namespace, console: Console) -> list[Record]:
    """All tables, the smallest size first; printed one by one."""
    measured = []
    for dtype in chosen.dtypes:
        shown = wanted(rows() if dtype == "float32" else narrow_rows(), chosen.only)
        once: dict[str, list[Record]] = {}
        for size in sorted(chosen.size) if shown else ():
            load = Load(size, dtype)
            for threads in chosen.threads:
                table = timed(shown, load, threads, chosen, console)
                results.show(console, table, once if threads == chosen.threads[0] else {})
                once = once or long_peers(table)
                measured.append(table)
    if not measured:
        sys.exit(f"--only {chosen.only!r} finds none of these rows:\n  " + "\n  ".join(row.key for row in rows()))
    return measured


def long_peers(table: Record) -> dict[str, list[Record]]:
    """The peers of each row that were called once."""
    return {results.key(row): [peer for peer in row["peers"] if peer["once"]] for row in table["rows"]}


def growth(chosen: argparse.Namespace, console: Console) -> list[Record]:
    """Some rows at sizes that range over a factor of 400, without peers, on the first number of threads."""
    growing = [row for row in rows() if row.grows]
    alone = argparse.Namespace(**{**vars(chosen), "peers": "none"})
    sizes = [max(1, round(max(chosen.size) * share)) for share in GROWTH]
    return [timed(growing, Load(size), chosen.threads[0], alone, console) for size in sizes]


def wanted(all_rows: Sequence[Row], pattern: str | None) -> list[Row]:
    return [row for row in all_rows if pattern is None or re.search(pattern, row.key)]


def timed(all_rows: Sequence[Row], load: Load, threads: int, chosen: argparse.Namespace, console: Console) -> Record:
    """One table."""
    os.environ["SECATEUR_THREADS"] = str(threads)
    if "torch" in sys.modules or chosen.peers != "none":
        set_torch_threads(threads)
    plan = Plan(
        threads=threads,
        rounds=chosen.rounds,
        peers=chosen.peers,
        first=load.size == Load(min(chosen.size)).size and threads == chosen.threads[0],
        clock=Clock(),
        processor=threads == 1,
        memory=True,
        trial=lambda size: Load(size, load.dtype),
    )
    units = Units(passes.read_passes(), passes.write_passes())
    with console.status("") as status:
        heading = f"{results.count_text(load.size)} {load.dtype}, {threads} threads"
        return measure(all_rows, load, units, plan, lambda text: status.update(f"{heading}: {text}"))


def set_torch_threads(threads: int) -> None:
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


def draw(record: Any, chosen: argparse.Namespace) -> None:
    """The charts of a run, of its first table and of its growth, and the figures in the documents."""
    charts.write_chart(chosen.images / "kernels.svg", record["tables"][0])
    charts.write_growth(chosen.images / "kernels-growth.svg", record["growth"])
    if documents.has_all_peers(record):
        documents.write_documents(chosen.documents, record)


if __name__ == "__main__":
    main()
