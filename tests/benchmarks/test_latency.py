"""The benchmark of latency runs on its quickest network; times are not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_network_is_made_smaller_and_both_are_timed() -> None:
    path = os.pathsep.join(str(ROOT / part) for part in ("corelib", "adapters"))
    words = ("--only", "LSTM", "--rounds", "1", "--batch", "1", "--threads", "1")
    results = ROOT / "benchmarks" / "results" / "latency.json"
    before = results.read_bytes() if results.exists() else b""
    command = [sys.executable, str(ROOT / "benchmarks" / "latency.py"), *words]
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "120"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "LSTM" in found.stdout and "3.70" in found.stdout
    assert (results.read_bytes() if results.exists() else b"") == before
