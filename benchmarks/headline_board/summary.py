"""Runs of several seeds as one figure each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """The runs of a case in one framework: errors in percent, and what the masks have left."""

    framework: str
    backends: tuple[str, ...]
    errors: tuple[float, ...]
    rows: tuple[Record, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.errors)

    @property
    def deviation(self) -> float:
        """Of the sample; 0 of a single run."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else 0.0

    @property
    def text(self) -> str:
        """Mean, deviation and, unless there are five, how many runs."""
        runs = len(self.errors)
        spread = f" ± {self.deviation:.2f}" if runs > 1 else ""
        return f"{self.mean:.2f}{spread}" + ("" if runs == 5 else f" ({runs} run{'s' * (runs > 1)})")

    def first(self, name: str) -> Any:
        """What the first run says of something that does not depend on the seed."""
        return self.rows[0].get(name)


def summaries(record: Record) -> dict[tuple[str, str], Summary]:
    """(framework, case) -> its runs, in the order of their seeds."""
    found: dict[tuple[str, str], list[Record]] = {}
    for row in sorted(record["rows"], key=lambda row: row["seed"]):
        found.setdefault((row["framework"], row["case"]), []).append(row)
    return {
        (framework, case): Summary(
            framework,
            tuple(dict.fromkeys(row["backend"] for row in rows)),
            tuple(row["error"] for row in rows),
            tuple(rows),
        )
        for (framework, case), rows in found.items()
    }
