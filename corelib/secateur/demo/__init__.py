"""The main job, end to end, on real data: one network trained, pruned and made smaller in every framework at hand."""

from __future__ import annotations

import time

from rich.console import Console

from secateur.demo.plan import Options
from secateur.demo.present import Terminal, show_report
from secateur.demo.results import prepare, write_files
from secateur.demo.session import conduct
from secateur.report import DemoReport

__all__ = ["Options", "run"]


def run(options: Options, console: Console | None = None) -> DemoReport:
    """Run the demo, show it in the terminal, and write its files.

    Args:
        options: data, networks, frameworks, recipes, output folder.
        console: where to print; the terminal if None.

    Raises:
        MissingDependencyError: no framework, or none of what the demo needs beside it, is installed.
        DataNotFoundError: the data set cannot be found.
        FileFormatError: the output folder is a file.
        WorkerError: the work in a framework failed.
    """
    console = Console() if console is None else console
    started = time.perf_counter()
    prepare(options.out)
    with Terminal(console) as terminal:
        report = conduct(options, terminal)
    write_files(options.out, report)
    show_report(console, report, options.out, time.perf_counter() - started)
    return report
