"""Two processes train one model together: masks hold in both, by every optimizer that PyTorch lets do so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hold_table
from torch_training import OPTIMIZERS, needs_closure

WORKER = Path(__file__).parents[1] / "torch_distributed.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the processes saw."""
    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(WORKER.parent), *sys.path]), "OMP_NUM_THREADS": "1"}
    commands = ([sys.executable, str(WORKER), str(rank), str(folder)] for rank in range(2))
    with (folder / "said").open("w") as said:
        workers = [subprocess.Popen(command, env=environment, stdout=said, stderr=said) for command in commands]
    try:
        codes = [worker.wait(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert codes == [0, 0], (folder / "said").read_text("utf-8")[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(2)]


@pytest.mark.parametrize("mode", ["DDP", "FSDP2"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_leaks_in_any_process(found: list[dict[str, Any]], name: str, mode: str) -> None:
    if needs_closure(OPTIMIZERS[name]):
        hold_table.record("torch", "torch", name, mode, None)
        pytest.skip("steps as its own process's loss tells: the processes would go apart, pruned or not")
    first, second = (each["cells"][f"{name} | {mode}"] for each in found)
    assert first == second
    if "refused" in first:
        assert mode == "FSDP2", "of DDP, PyTorch refuses nothing"
        hold_table.record("torch", "torch", name, mode, None)
        pytest.skip(f"PyTorch cannot train with it in shards, pruned or not: {first['refused'][:200]}")
    assert max(first["leaks"]) == 0.0 < first["free"]
    assert first["same"]
    hold_table.record("torch", "torch", name, mode, first["leaks"])


def test_nothing_leaks_where_the_state_of_the_optimizer_is_spread(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert max(each["zero"]["leaks"]) == 0.0
        assert each["zero"]["same"]
    hold_table.record("torch", "torch", "AdamW", "ZeroRedundancyOptimizer", found[0]["zero"]["leaks"])


@pytest.mark.parametrize("mode", ["DDP", "FSDP2"])
def test_a_schedule_prunes_alike_in_all_processes_and_as_in_one(found: list[dict[str, Any]], mode: str) -> None:
    for each in found:
        seen = each["pruner"][mode]
        assert max(seen["leaks"]) == 0.0
        assert seen["sparsity"] == 0.5
        assert seen["same"]
        assert seen["alike"]
