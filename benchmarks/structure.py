"""Prune models of many families, with Secateur and with its peers, and see whether the smaller ones are right.

Run: python benchmarks/structure.py [--only PATTERN] [--tools secateur,torch-pruning] [--framework torch|keras]

How to read what it prints and writes: docs/structure.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Not this script's folder, whose cuda.py would hide a package of that name, but the one above it.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "adapters"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "corelib"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rich.console import Console

from benchmarks.kernel_table.results import circumstances, read_results, write_results
from benchmarks.structure_board import cases, tables
from benchmarks.structure_board.running import Runner

ROOT = Path(__file__).resolve().parents[1]
TOOLS = {"torch": ("secateur", "torch-pruning", "torch-kirigami"), "keras": ("secateur",)}
PACKAGES = ("secateur", "torch", "keras", "tensorflow", "timm", "transformers", "torch-pruning", "torch-kirigami")


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", help="only models whose name this finds")
    parser.add_argument("--tools", default=",".join(TOOLS["torch"]), help="separated by commas (default: all)")
    parser.add_argument("--framework", choices=list(TOOLS), help="only models of this framework (default: both)")
    parser.add_argument("--target", choices=["units", "parameters"], default="units", help="what to halve")
    parser.add_argument("--limit", type=int, default=60, help="processor seconds a model and tool (default: 60)")
    parser.add_argument("--draw", action="store_true", help="only write the tables of the document again")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "structure.json")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "structure.md")
    return parser.parse_args(words)


def main() -> None:
    chosen = arguments(sys.argv[1:])
    if not chosen.draw:
        console = Console(width=None if sys.stdout.isatty() else 200)
        command = " ".join(["python", "benchmarks/structure.py", *sys.argv[1:]])
        now = {**circumstances(PACKAGES), "command": command, "limit": chosen.limit}
        rows = read_results(chosen.results)["rows"] if chosen.results.exists() else []
        for row in measured(chosen, console):
            rows = joined(rows, row)
            write_results(chosen.results, {**now, "rows": rows})
        if not rows:
            sys.exit(f"--only {chosen.only!r} finds none of the models, or their packages are not installed")
        tables.show(console, read_results(chosen.results))
    tables.write_document(chosen.document, read_results(chosen.results))


def measured(chosen: argparse.Namespace, console: Console) -> Iterator[dict[str, Any]]:
    """A row for each model and tool, one after the other."""
    asked = chosen.tools.split(",")
    for framework in [chosen.framework] if chosen.framework else list(TOOLS):
        runner = Runner(framework, chosen.limit)
        for case in cases.cases(framework, chosen.only):
            for tool in (tool for tool in TOOLS[framework] if tool in asked):
                found = runner.run(case.name, tool, chosen.target)
                said = {"model": case.name, "source": case.source, "tool": tool, "target": chosen.target}
                row = {"framework": framework, **said, "limit": chosen.limit, **found}
                console.print(tables.line(row))
                yield row


def joined(rows: Sequence[dict[str, Any]], newer: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of earlier runs, of which a newer one takes the place of one of the same model, tool and target."""

    def key(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(row[part] for part in ("framework", "model", "tool", "target"))

    return list({key(row): row for row in (*rows, newer)}.values())


if __name__ == "__main__":
    main()
