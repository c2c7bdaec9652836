"""From what the processes returned to what is kept: records of every run, and the files in the output folder."""

from __future__ import annotations

import json
import os
import platform as machine
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from secateur.demo.metrics import LATENCY_BATCH
from secateur.demo.plan import Choice
from secateur.demo.platforms import Platform
from secateur.demo.records import decode
from secateur.errors import FileFormatError, MissingDependencyError
from secateur.report import DemoReport, DemoRun, Details, RunNumbers, StageMetrics, write_demo_report, write_events
from secateur.report.files import write_text
from secateur.report.tensorboard import FILE_NAME

RunKey = tuple[Platform, str, Choice]


@dataclass(frozen=True)
class Outcome:
    """What a process returned of one run.

    Args:
        stages: ``pruned``, ``finetuned``, ``compact``, without latencies.
        max_error: largest difference between the outputs of the masked and of the compact model.
        details: for the report.
    """

    stages: Mapping[str, StageMetrics]
    max_error: float
    details: Details

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """From JSON values."""
        stages = {name: StageMetrics(**figures) for name, figures in values["stages"].items()}
        return cls(stages, values["max_error"], decode(Details, values["details"]))


@dataclass
class Results:
    """What has been returned so far."""

    dense: dict[tuple[Platform, str], Mapping[str, Any]] = field(default_factory=dict)
    outcomes: dict[RunKey, Outcome] = field(default_factory=dict)
    latencies: dict[Platform, Mapping[str, float]] = field(default_factory=dict)


def demo_run(results: Results, key: RunKey, seed: int) -> DemoRun:
    """The record of one run, with the latencies that were measured at the end."""
    platform, model, choice = key
    outcome, latencies = results.outcomes[key], results.latencies[platform]
    stages = {
        name: replace(stage, latency_ms=latencies[f"{model}/{choice.label}/{name}"])
        for name, stage in outcome.stages.items()
    }
    dense = StageMetrics(**results.dense[platform, model])
    numbers = RunNumbers(
        framework=platform.framework,
        backend=platform.backend,
        model=model,
        granularity=choice.granularity,
        score=choice.score,
        target=choice.amount,
        schedule=choice.schedule,
        seed=seed,
        dense=replace(dense, latency_ms=latencies[f"{model}/dense"]),
        **stages,
        max_error=outcome.max_error,
    )
    return DemoRun(numbers, outcome.details)


def environment(versions: Mapping[str, str]) -> dict[str, str]:
    """Versions and machine, and how latency was measured."""
    return {
        **versions,
        **{name: version(name) for name in ("numpy", "numba", "scikit-learn")},
        "python": machine.python_version(),
        "machine": f"{machine.system()} {machine.machine()}, {os.cpu_count()} cores",
        "threads": "1 a framework, on the CPU",
        "latency": f"median of a forward pass of {LATENCY_BATCH} examples after warm-up, with nothing else running",
    }


def prepare(out: Path) -> None:
    """Make the output folder, and see to it that all files can be written when the work is done.

    Raises:
        MissingDependencyError: a package that the demo needs beside the frameworks is not installed.
        FileFormatError: ``out`` is a file.
    """
    missing = [name for name in ("sklearn", "plotly", "tensorboard") if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"the demo needs {', '.join(missing)}: pip install 'secateur[demo]'")
    if out.exists() and not out.is_dir():
        raise FileFormatError(f"--out {out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)


def write_files(out: Path, report: DemoReport) -> None:
    """Write ``results.json``, ``report.html`` and a folder of TensorBoard events for each run; each file whole or not.

    Event files of an earlier demo in the same folder are removed, so that TensorBoard shows this one alone.
    """
    write_text(out / "results.json", json.dumps(report.results(), indent=1, ensure_ascii=False) + "\n")
    write_demo_report(out / "report.html", report)
    for stale in (out / "events").glob(f"*/{FILE_NAME}"):
        stale.unlink()
    for run in report.runs:
        numbers = run.numbers
        words = (numbers.platform, numbers.model, numbers.granularity, numbers.score, numbers.target, numbers.schedule)
        name = "-".join(words).replace("/", "-").replace(" ", "-")
        write_events(out / "events" / name, numbers.stages, run.details)
