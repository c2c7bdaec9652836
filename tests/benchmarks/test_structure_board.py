"""The scoreboard of structures runs a few tiny models end to end, and judges as it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.structure_board import seconds, torch_judging
from benchmarks.structure_board.outcomes import verdict
from benchmarks.structure_board.tables import cell

ROOT = Path(__file__).parents[2]


def board(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    variables["PYTHONPATH"] = os.pathsep.join(str(ROOT / part) for part in ("corelib", "adapters"))
    files = ("--results", str(folder / "structure.json"), "--document", str(folder / "structure.md"))
    script = str(ROOT / "benchmarks" / "structure.py")
    return subprocess.run(
        [sys.executable, script, *words, *files], env=variables, capture_output=True, text=True, check=False
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "structure.json").read_text("utf-8"))["rows"]
    return found


def test_tiny_models_of_both_frameworks_are_pruned_judged_and_written_down(tmp_path: Path) -> None:
    (tmp_path / "structure.md").write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n", "utf-8")
    asked = ("--tools", "secateur", "--only", "^(perceptron|permute, then flatten)$")
    result = board(tmp_path, *asked)
    assert result.returncode == 0, result.stderr[-4000:]
    found = rows(tmp_path)
    names = [("torch", "perceptron"), ("torch", "permute, then flatten"), ("keras", "perceptron")]
    assert [(row["framework"], row["model"]) for row in found] == names
    for row in found:
        assert row["status"] == "works" and 0.2 < row["share"] < 0.6 and row["difference"] < 1e-6
        assert set(row["seconds"]) == {*seconds.STEPS, "total"}
        assert all(each >= 0 for each in row["seconds"].values())
        assert row["form"] and row["max_error"] < 1e-6
    text = (tmp_path / "structure.md").read_text("utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("| perceptron |") == 4 and "**2 of 2**" in text  # results and seconds, in both frameworks

    again = board(tmp_path, "--tools", "secateur", "--only", "^perceptron$", "--framework", "torch")
    assert again.returncode == 0, again.stderr[-4000:]
    assert [(row["framework"], row["model"]) for row in rows(tmp_path)] == names


def test_a_pattern_that_finds_nothing_is_refused(tmp_path: Path) -> None:
    result = board(tmp_path, "--only", "nothing at all", "--framework", "torch")
    assert result.returncode == 1 and "finds none of the models" in result.stderr
    assert not list(tmp_path.iterdir())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    torch_judging.prepare(made)
    return made


def cut(model: nn.Sequential, rows: list[int], columns: list[int]) -> nn.Sequential:
    small = nn.Sequential(nn.Linear(4, len(rows)), nn.Tanh(), nn.Linear(len(columns), 3)).double()
    with torch.no_grad():
        small[0].weight.copy_(model[0].weight[rows])
        small[0].bias.copy_(model[0].bias[rows])
        small[2].weight.copy_(model[2].weight[:, columns])
        small[2].bias.copy_(model[2].bias)
    return small


@pytest.mark.parametrize(("columns", "expected"), [([0, 2, 5], "works"), ([0, 3, 5], "wrong")])
def test_a_tool_that_removes_the_wrong_columns_is_found_out(columns: list[int], expected: str) -> None:
    model = network()
    small = cut(model, [0, 2, 5], columns)
    masked = torch_judging.masked_twin(model, small)
    assert torch.equal(masked[0].weight[[0, 2, 5]], model[0].weight[[0, 2, 5]])
    assert not masked[0].weight[[1, 3, 4]].any() and not masked[0].bias[[1, 3, 4]].any()
    error = torch_judging.difference(masked, small, torch.randn(5, 4, dtype=torch.float64))
    assert verdict(0.5, error) == expected


def test_numbers_that_the_model_never_had_cannot_be_judged() -> None:
    model = network()
    small = cut(model, [0, 1], [0, 1])
    with torch.no_grad():
        small[0].weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"other numbers in '0\.weight'"):
        torch_judging.masked_twin(model, small)


def test_layers_that_write_the_outputs_are_known() -> None:
    model = network()
    assert torch_judging.ends(model, torch.zeros(1, 4, dtype=torch.float64)) == [model[2]]


def timed(model: str, tool: str, total: float, verify: float | None = None, status: str = "works") -> dict[str, Any]:
    steps = {"trace": total / 2, "total": total} | ({} if verify is None else {"verify": verify})
    return {"model": model, "tool": tool, "status": status, "seconds": steps}


def test_it_is_told_on_which_models_the_peer_is_faster() -> None:
    listed = [
        *(timed("a", "secateur", 1.0, 0.25), timed("a", "peer", 0.5)),
        *(timed("b", "secateur", 1.0, 0.75), timed("b", "peer", 0.5)),
        *(timed("c", "secateur", 1.0, 0.25), timed("c", "peer", 2.0)),
        *(timed("d", "secateur", 9.0, 0.25), timed("d", "peer", 2.0, status="wrong")),
        *(timed("e", "secateur", 9.0, 0.25), {"model": "e", "tool": "peer", "status": "timeout"}),
    ]
    (told,) = seconds.compared(listed)
    assert told.startswith("Of the 3 models that both Secateur and peer make smaller rightly, Secateur takes less time")
    assert "for 1 in total, and for 2 without its verification; peer verifies nothing" in told
    assert "longer for a (1.00 s, of which verifying 0.25 s; peer 0.50 s), b (" in told and "c (" not in told
    lines = seconds.table(listed).splitlines()
    assert lines[0] == "| model | secateur: trace + verify = total | peer: trace = total |"
    assert lines[2] == "| a | 0.500 + 0.250 = **1.000** | 0.250 = **0.500** |" and lines[-1].endswith("| – |")
    assert seconds.compared([timed("a", "secateur", 1.0, 0.25)]) == []


def test_cells_tell_what_happened() -> None:
    row = {"share": 0.25, "difference": 2e-16, "seconds": {"total": 1.0}, "form": "the graph that torch.export writes"}
    assert cell({**row, "status": "works"}) == "25 %*, 2e-16, 1.00 s"
    assert cell({**row, "status": "wrong", "difference": None}) == "wrong: 25 %*, other outputs, 1.00 s"
    assert cell({**row, "status": "nothing", "share": 1.0}) == "prunes nothing, 1.00 s"
    assert cell({"status": "timeout"}) == "timeout" and cell(None) == "–"
