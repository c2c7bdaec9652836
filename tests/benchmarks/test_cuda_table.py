"""The benchmark for CUDA devices ends clearly without one, and runs from end to end in the simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "benchmarks" / "cuda.py")

IN_SIMULATOR = f"""
import runpy, sys
import cuda_simulator
from cuda_arrays import launched
from numba import cuda

cuda_simulator.complete()
type(cuda.get_current_device()).name = b"simulator"
sys.argv[0] = {SCRIPT!r}
sys.path.insert(0, {str(ROOT / "benchmarks")!r})  # as Python does for a script
with launched(1, 4):
    runpy.run_path({SCRIPT!r}, run_name="__main__")
"""


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    variables |= {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("corelib", "tests")), **environment}
    return subprocess.run([sys.executable, *words], env=variables, capture_output=True, text=True, check=False)


def test_without_a_device_one_line_says_so() -> None:
    result = run(SCRIPT, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "no CUDA device can be used: this benchmark needs an NVIDIA GPU and its driver"
    ]


def test_without_numba_cuda_one_line_says_what_to_install() -> None:
    program = f"import sys, runpy; sys.modules['numba_cuda'] = None; runpy.run_path({SCRIPT!r}, run_name='__main__')"
    result = run("-c", program)
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["numba-cuda is not installed: pip install 'secateur[cuda]'"]


def test_the_table_is_measured_from_end_to_end_in_the_simulator(tmp_path: Path) -> None:
    file = tmp_path / "cuda.json"
    words = ("--arrays", "numba", "--size", "200", "--rounds", "1", "--results", str(file))
    result = run("-c", IN_SIMULATOR, *words, NUMBA_ENABLE_CUDASIM="1")
    assert result.returncode == 0, result.stderr[-4000:]
    record = json.loads(file.read_text("utf-8"))
    assert record["device"] == "simulator"
    assert [table["dtype"] for table in record["tables"]] == ["float32", "float16"]
    assert all(row["calls"] == 1 and row["ratio"] > 0 for table in record["tables"] for row in table["rows"])
