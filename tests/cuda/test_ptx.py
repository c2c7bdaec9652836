"""Every CUDA kernel compiles for the devices that are in use, to code that does what was meant; no device is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

ATOMICS = {
    "add_sums": {"shared.add.u64", "global.add.u64"},
    "break_ties": {"shared.add.u64"},
    "count_equal": {"global.add.u64"},
    "count_kept": {"shared.add.u64", "global.add.u64"},
    "digit_counts": {"global.add.u64"},
    "extremes": {f"{where}.{how}.u64" for where in ("shared", "global") for how in ("add", "min", "max")},
    "first_nan": {"global.min.s64"},
    "first_nan_product": {"global.min.s64"},
    "histogram": {"shared.add.u32", "global.add.u64"},
    "largest_magnitudes": {"shared.max.s64", "global.max.s64"},
    "select_rows": {"shared.add.u64"},
}
"""How blocks merge what they found: with 64 bits in global memory."""
ELEMENTWISE = (
    *("accumulate", "combine", "copy_bits", "mask_above", "mask_n_of_m", "mask_rows", "pack", "packed_above"),
    *("packed_n_of_m", "packed_rows", "product_absolute", "unpack", "zero_at_most", "zero_n_of_m", "zero_rows"),
    *("zero_where_clear", "zero_where_false"),
)


@pytest.fixture(scope="module", params=["8.0", "9.0"])
def capability(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def compiled(capability: str) -> list[dict[str, Any]]:
    """What is known of every kernel, compiled in a fresh interpreter without the simulator."""
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    environment["PYTHONPATH"] = str(ROOT / "corelib")
    command = [sys.executable, str(ROOT / "tests" / "cuda_ptx.py"), capability]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    known: list[dict[str, Any]] = json.loads(result.stdout)
    return known


def test_every_kernel_compiles_for_every_dtype(compiled: list[dict[str, Any]], capability: str) -> None:
    assert {each["kernel"] for each in compiled} == {*ATOMICS, *ELEMENTWISE}
    for each in compiled:
        # PTX newer than 9.0 is refused by drivers of the CUDA version that pyproject.toml asks for.
        assert each["headers"] == [".version 9.0", f".target sm_{capability.replace('.', '')}"]
        assert each["machine_code"] > 0


def test_nothing_is_kept_in_slow_local_memory(compiled: list[dict[str, Any]]) -> None:
    for each in compiled:
        assert each["stack_and_spills"] == [0, 0, 0], each
        assert not [name for name in each["instructions"] if ".local" in name], each


def test_what_blocks_found_is_merged_by_whole_atomics(compiled: list[dict[str, Any]]) -> None:
    for each in compiled:
        assert each["atomics"] == sorted(f"atom.{name}" for name in ATOMICS.get(each["kernel"], ())), each


def test_numbers_are_rounded_as_on_the_cpu(compiled: list[dict[str, Any]]) -> None:
    """No fused, flushed or approximate arithmetic, and no 64-bit integer that strays into floats."""
    for each in compiled:
        for name in each["instructions"]:
            operation, *kinds = name.split(".")
            assert operation not in ("fma", "mad") or kinds[-1][0] in "su", each
            assert not {"ftz", "approx", "full", "sat"} & set(kinds), each
            assert operation != "cvt" or not (kinds[-1] in ("s64", "u64") and kinds[-2][0] == "f"), each
