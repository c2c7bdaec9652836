"""Train and prune the classic networks of the field on MNIST, and hold the errors against those that were published.

Run: python benchmarks/headline.py [--framework torch|keras] [--only PATTERN] [--seeds 5] [--validate]

What is trained how, and how to read what it prints and writes: docs/headline.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
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

from rich.console import Console

from benchmarks.headline_board import charts, tables
from benchmarks.headline_board.jobs import SEEDS, Job, jobs
from benchmarks.headline_board.running import Runner
from benchmarks.kernel_table.results import circumstances, read_results, write_results
from secateur.demo.data import cache_folder

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "headline.json"
PACKAGES = ("secateur", "numpy", "torch", "keras", "tensorflow", "jax")


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch", help="Keras on KERAS_BACKEND")
    parser.add_argument("--only", metavar="PATTERN", default="", help="only cases whose name this finds")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many runs of each case (default: 5)")
    parser.add_argument("--epochs", type=int, help="as many for every training, to try it out")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="leave out a tenth of the training images and measure on them; writes no document",
    )
    parser.add_argument("--again", action="store_true", help="also what the results hold already")
    parser.add_argument("--draw", action="store_true", help="only write the document and the chart again")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "headline.md")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs" / "images" / "headline.svg")
    parser.add_argument("--teachers", type=Path, default=cache_folder() / "headline", help="where teachers are kept")
    chosen = parser.parse_args(words)
    if chosen.validate and chosen.results == RESULTS:
        parser.error("--validate needs --results FILE: what is measured on images of the training part stays apart")
    if not chosen.validate and not chosen.document.exists():
        parser.error(f"--document {chosen.document}: there is no such file to write the tables into")
    return chosen


def main() -> None:
    chosen = arguments(sys.argv[1:])
    console = Console(width=None if sys.stdout.isatty() else 200)
    if not chosen.draw:
        measure(chosen, console)
    record = read_results(chosen.results)
    tables.show(console, record)
    if not chosen.validate:
        tables.write_document(chosen.document, record)
        charts.write_chart(chosen.chart, record)


def measure(chosen: argparse.Namespace, console: Console) -> None:
    """Train what the results lack, and keep each as it is done."""
    asked = [job for job in jobs() if re.search(chosen.only, job.name)]
    if not asked:
        sys.exit(f"--only {chosen.only!r} finds none of: {', '.join(job.name for job in jobs())}")
    for row in trained(chosen, asked):
        rows = [other for other in known_rows(chosen.results) if key(other) != key(row)] + [row]
        write_results(chosen.results, {**circumstances(PACKAGES), "rows": rows})
        console.print(f"{row['framework']} · {row['case']} · seed {row['seed']}: {row['error']:.2f} % error")


def trained(chosen: argparse.Namespace, asked: Sequence[Job]) -> Iterator[dict[str, Any]]:
    side = importlib.import_module(f"benchmarks.headline_board.{chosen.framework}_side")
    runner = Runner(side, chosen.framework, chosen.teachers, chosen.validate, chosen.epochs)
    known = set() if chosen.again else {key(row) for row in known_rows(chosen.results)}
    for job in asked:
        for seed in range(chosen.seeds):
            if (chosen.framework, job.name, seed) not in known:
                yield runner.run(job, seed)


def known_rows(results: Path) -> list[dict[str, Any]]:
    """Read anew for each row, since a run of the other framework may write beside this one."""
    return read_results(results)["rows"] if results.exists() else []


def key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["framework"], row["case"], row["seed"]


if __name__ == "__main__":
    main()
