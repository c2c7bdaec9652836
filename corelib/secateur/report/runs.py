"""The records of a whole demo: its runs, how far they agree, and what ``results.json`` holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.report.numbers import STAGES, Details, Record, StageMetrics

SAME_ARRAYS = "same arrays"


@dataclass(frozen=True, kw_only=True)
class RunNumbers(Record):
    """One run of the demo: what was done, and the model's figures at each stage.

    Args:
        framework: ``torch`` or ``keras``.
        backend: what computed (``torch``, ``tensorflow``, ``jax``).
        model: the network's name (``mlp``, ``cnn``).
        granularity, score, target, schedule: the recipe, in words fit for a table.
        seed: of the initial weights and the order of the data.
        dense, pruned, finetuned, compact: the stages; None for one that this run does not have.
        max_error: largest difference between the outputs of the masked and of the compact model, relative to the
            largest output.
    """

    framework: str
    backend: str
    model: str
    granularity: str
    score: str
    target: str
    schedule: str
    seed: int = 0
    dense: StageMetrics
    pruned: StageMetrics | None = None
    finetuned: StageMetrics | None = None
    compact: StageMetrics | None = None
    max_error: float | None = None

    @property
    def stages(self) -> dict[str, StageMetrics]:
        """The stages that the run has, in their order."""
        every = {name: getattr(self, name) for name in STAGES}
        return {name: stage for name, stage in every.items() if stage is not None}

    @property
    def last(self) -> StageMetrics:
        """The last stage that the run reached: the compact model, if there is one."""
        return list(self.stages.values())[-1]

    @property
    def platform(self) -> str:
        """Framework and backend in one word: ``torch``, ``keras/jax``."""
        return self.framework if self.framework == self.backend else f"{self.framework}/{self.backend}"

    @property
    def configuration(self) -> str:
        """What was done, without saying to which model or in which framework."""
        return " · ".join((self.granularity, self.score, self.target, self.schedule))

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> RunNumbers:
        """The inverse of :meth:`to_dict`; unknown keys are passed over."""
        known = {item.name: numbers[item.name] for item in dataclasses.fields(cls) if item.name in numbers}
        for name in STAGES:
            if known.get(name) is not None:
                known[name] = StageMetrics(**known[name])
        return cls(**known)


@dataclass(frozen=True)
class Agreement(Record):
    """Whether two runs ended with the same masks.

    Args:
        first, second: positions of the two runs in the list of runs.
        inputs: what both started from: :data:`SAME_ARRAYS` (weights and statistics), ``own gradients``, ...
        bits: mask bits compared.
        different: how many of them differ.
        reason: why they differ, if they do.
    """

    first: int
    second: int
    inputs: str
    bits: int
    different: int
    reason: str = ""


@dataclass(frozen=True)
class DemoRun(Record):
    """One run of the demo with all that the report tells about it."""

    numbers: RunNumbers
    details: Details = field(default_factory=Details)


@dataclass(frozen=True, kw_only=True)
class DemoReport(Record):
    """The whole demo, for :func:`secateur.report.write_demo_report`.

    Args:
        runs: the runs, in the order in which they were made.
        agreement: pairs of runs that were compared.
        data: facts about the data set: ``{"data set": "digits", "training examples": "1,149", ...}``.
        environment: versions and machine, likewise.
        title: the page's heading.
    """

    runs: tuple[DemoRun, ...]
    agreement: tuple[Agreement, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    title: str = "Secateur demo"

    def results(self) -> dict[str, Any]:
        """What ``results.json`` holds: ``data``, ``environment``, the numbers of the ``runs``, and ``agreement``."""
        return {
            "data": dict(self.data),
            "environment": dict(self.environment),
            "runs": [run.numbers.to_dict() for run in self.runs],
            "agreement": [pair.to_dict() for pair in self.agreement],
        }
