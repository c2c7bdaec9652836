"""Measure what holding masks costs a training step, beside other ways, and draw where masks hold.

Run: python benchmarks/hold.py [--only NAME ...] [--rounds 15] [--wall] [--tfmot PYTHON] [--matrix] [--draw]

One thread; how to read what it writes: docs/hold.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Not this script's folder, whose cuda.py would hide a package of that name, but the one above it.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "adapters"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "corelib"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from benchmarks.hold_table import tables
from benchmarks.kernel_table.results import circumstances, read_results, write_results

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "hold.json"
MATRIX = ROOT / "benchmarks" / "results" / "hold_matrix.json"
PACKAGES = ("secateur", "torch", "keras", "tensorflow", "jax")
CASES = ("torch MLP", "torch ResNet-18", "tensorflow MLP", "jax MLP", "keras-torch MLP")
KERAS = "tests/secateur_keras/test_hold_matrix.py"
TORCH = [f"tests/secateur_torch/test_{name}.py" for name in ("hold_matrix", "foreign_optimizers", "distributed")]
TESTS = {"tensorflow": [*TORCH, KERAS], "jax": [KERAS], "torch": [KERAS]}
"""What fills the matrix, by Keras's backend."""

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "JAX_PLATFORMS": "cpu",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=None, help="only these (default: all)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--wall", action="store_true", help="time by the wall, not by the processor")
    parser.add_argument("--tfmot", metavar="PYTHON", help="an interpreter that has tensorflow_model_optimization")
    parser.add_argument("--matrix", action="store_true", help="only fill the matrix, by running the tests")
    parser.add_argument("--draw", action="store_true", help="only write the figures of the document again")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "hold.md")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in a process of its own, for one framework and backend
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    if chosen.measure:
        print(json.dumps(measured(chosen.measure, chosen.rounds, chosen.wall)))
        return
    if chosen.matrix:
        fill_matrix()
    elif not chosen.draw:
        run_all(chosen)
        tables.show(Console(), read_results(chosen.results))
    matrix = json.loads(MATRIX.read_text("utf-8")) if MATRIX.exists() else {}
    tables.write_document(chosen.document, read_results(chosen.results), matrix)


def run_all(chosen: argparse.Namespace) -> None:
    """Measure each case in a process of its own, and keep what was found."""
    found = read_results(chosen.results)["cases"] if chosen.results.exists() else {}
    clock = "wall" if chosen.wall else "processor"
    about = {**circumstances(PACKAGES), "clock": clock, "rounds": chosen.rounds}
    for case in chosen.only or (() if chosen.tfmot else CASES):
        words = ["--measure", case, "--rounds", str(chosen.rounds), *(["--wall"] if chosen.wall else [])]
        found[case] = told([sys.executable, str(Path(__file__).resolve()), *words], backend(case))
        write_results(chosen.results, {**about, "cases": found})
    if chosen.tfmot:
        script = str(ROOT / "benchmarks" / "hold_table" / "tfmot_steps.py")
        found["tf_keras MLP"] = told([chosen.tfmot, script, str(chosen.rounds), clock], "tensorflow")
        write_results(chosen.results, {**about, "cases": found})


def backend(case: str) -> str:
    return {"jax MLP": "jax", "keras-torch MLP": "torch"}.get(case, "tensorflow")


def told(command: list[str], keras_backend: str) -> dict[str, Any]:
    """What a process prints on its last line."""
    environment = {**os.environ, **ONE_THREAD, "KERAS_BACKEND": keras_backend}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def measured(case: str, rounds: int, wall: bool) -> dict[str, Any]:
    framework, _, model = case.partition(" ")
    if framework == "torch":
        from benchmarks.hold_table import torch_steps

        return torch_steps.measure(model, rounds, wall)
    from benchmarks.hold_table import keras_steps

    return keras_steps.measure(rounds, wall)


def fill_matrix() -> None:
    """Run the tests that fill it."""
    with tempfile.TemporaryDirectory() as folder:
        cells = Path(folder) / "cells.jsonl"
        for keras_backend, files in TESTS.items():
            environment = {**os.environ, "KERAS_BACKEND": keras_backend, "SECATEUR_HOLD_TABLE": str(cells)}
            subprocess.run([sys.executable, "-m", "pytest", "-q", *files], cwd=ROOT, env=environment, check=True)
        write_results(MATRIX, tables.matrix(cells))


if __name__ == "__main__":
    main()
