"""What the benchmark of holding computes and draws; times are not looked at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

import hold_table as cells
from benchmarks.hold_table import tables
from benchmarks.hold_table.rounds import compare
from benchmarks.kernel_table.results import circumstances


def test_a_multiple_is_the_median_of_the_quotients_within_rounds() -> None:
    now, pace = [0.0], {"free": 1.0, "held": 1.5}
    steps = {"free": 0, "held": 0}

    def way(name: str) -> None:
        def run(count: int) -> None:
            steps[name] += count
            drift = 10.0 if steps["free"] > 30 else 1.0  # a machine that becomes slower
            now[0] += count * pace[name] * drift

        return run  # type: ignore[return-value]

    found = compare({name: way(name) for name in pace}, 10, 5, lambda: now[0])  # type: ignore[misc]
    assert found["free"]["ratio"] == 1.0
    assert found["held"]["ratio"] == pytest.approx(1.5)
    assert steps == {"free": 52, "held": 52}


def test_figures_and_matrix_are_written_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, matrix = tmp_path / "hold.md", tmp_path / "cells.jsonl"
    document.write_text("before\n<!-- figures -->\nout of date\n<!-- end of figures -->\nafter\n", "utf-8")
    monkeypatch.setenv("SECATEUR_HOLD_TABLE", str(matrix))
    cells.record("torch", "torch", "Adam", "step", [0.0, 0.0])
    cells.record("torch", "torch", "LBFGS", "step", [0.0, 0.5])
    cells.record("torch", "torch", "LBFGS", "step", [0.0, 0.25])  # run again
    cells.record("torch", "torch", "LBFGS", "fused", None)
    cells.record("keras", "jax", "SGD", "use_ema", [0.0])
    found = {"ms": 12.0, "ratio": 1.02, "share": 0.01, "leak": 0.0}
    record = {**circumstances(), "clock": "processor", "rounds": 3, "cases": {"torch MLP": {"secateur": found}}}
    tables.write_document(document, record, tables.matrix(matrix))
    text = document.read_text("utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "out of date" not in text
    assert "| torch MLP | secateur | 12.00 | 1.020 | +1.00 % | ≤ 1.03 | 0 |" in text
    assert "### PyTorch: 1 of 2 cells" in text
    assert "### Keras on jax: 1 of 1 cells" in text
    assert "| LBFGS | 0.25 | – |" in text
