"""The benchmark of headline results trains, prunes and reports; after an epoch of noise, so no error is looked at."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import load, save

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.headline_board import charts, running, storage, tables
from benchmarks.headline_board.jobs import CURVES, SPARSITIES, Job, curve_name, jobs
from benchmarks.headline_board.running import Runner
from benchmarks.headline_board.summary import summaries
from secateur.demo.data import DataSet, Examples
from secateur.masks import unpack

FEW = 3 * 256


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of noise instead of MNIST."""
    random = np.random.default_rng(0)

    def part(count: int) -> Examples:
        return Examples(random.random((count, 28, 28), dtype=np.float32), random.integers(0, 10, count))

    monkeypatch.setattr(running, "load", lambda *_: DataSet("mnist", part(FEW), part(256), part(100)))


def side(framework: str) -> Any:
    return pytest.importorskip(f"benchmarks.headline_board.{framework}_side")


def named(pattern: str) -> Job:
    return next(job for job in jobs() if pattern in job.name)


def test_every_case_has_a_name_of_its_own_and_every_teacher_is_one() -> None:
    names = [job.name for job in jobs()]
    assert len(set(names)) == len(names)
    assert {job.taught for job in jobs()} - {""} <= set(names)
    assert {curve_name(name, sparsity) for name in CURVES for sparsity in SPARSITIES} <= set(names)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("case", ["LeNet-300-100, 98.2 %", "LeNet-5 of SNIP, 99 %", "winning ticket"])
def test_a_case_reaches_its_sparsity_with_no_leak(few: None, tmp_path: Path, framework: str, case: str) -> None:
    runner = Runner(side(framework), framework, tmp_path, validate=False, epochs=1)
    job = named(case)
    row = runner.run(job, seed=3)
    asked = {"LeNet-300-100, 98.2 %": 0.982, "LeNet-5 of SNIP, 99 %": 0.99, "winning ticket": 0.789}[case]
    assert row["case"] == job.name and row["seed"] == 3 and 0 <= row["error"] <= 100
    assert abs(row["sparsity"] - asked) < 1e-4 and row["leak"] == 0.0
    assert row["kept"] == sum(row["layers"].values())
    assert row["bytes"]["pruned"] < 0.4 * row["bytes"]["dense"]
    teachers = list(tmp_path.rglob("*teacher*"))
    assert len(teachers) == bool(job.taught)
    if job.taught:
        written = teachers[0].stat().st_mtime_ns
        assert runner.run(job, seed=3)["error"] == row["error"]  # by the teacher that was kept
        assert teachers[0].stat().st_mtime_ns == written


def test_validation_never_sees_the_test_images(few: None, tmp_path: Path) -> None:
    runner = Runner(side("torch"), "torch", tmp_path, validate=True, epochs=1)
    assert len(runner.train) == FEW and len(runner.test) == 256
    whole = Runner(side("torch"), "torch", tmp_path, validate=False, epochs=1)
    assert len(whole.train) == FEW + 256 and len(whole.test) == 100
    assert runner.teachers != whole.teachers


def test_the_file_holds_what_is_left_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    arrays = {"a": random.normal(size=(40, 33)).astype(np.float32), "b": np.ones(7, np.float32)}
    masks = {"a": random.random((40, 33)) < 0.1}
    files: list[bytes] = []

    def keeping(content: dict[str, Any]) -> bytes:
        files.append(save(content))
        return files[-1]

    monkeypatch.setattr(storage, "save", keeping)
    sizes = storage.sizes(arrays, masks)
    assert [sizes["dense"], sizes["pruned"]] == [len(file) for file in files]
    dense, pruned = map(load, files)
    assert dense.keys() == arrays.keys() and pruned.keys() == {"a.mask", "a.left", "b"}
    restored = np.zeros((40, 33), np.float32)
    restored[unpack(pruned["a.mask"], (40, 33))] = pruned["a.left"]
    assert np.array_equal(restored, arrays["a"] * masks["a"]) and np.array_equal(pruned["b"], arrays["b"])
    assert sizes["pruned, gzip"] < sizes["dense, gzip"]


def rows() -> list[dict[str, Any]]:
    headline = named("98.2 %").name
    layers = {"kept": 4792, "weights": 266200, "epochs": 60, "sparsity": 0.982}
    sizes = {"bytes": dict.fromkeys(tables.SIZES, 1000)}
    found = [
        {"framework": "torch", "backend": "torch", "case": headline, "seed": seed, "error": error, **layers, **sizes}
        for seed, error in enumerate((1.5, 1.7))
    ]
    for name in CURVES:
        for number, sparsity in enumerate(SPARSITIES):
            row = {**found[0], "case": curve_name(name, sparsity), "error": 2.0 + number}
            found += [row, {**row, "framework": "keras", "backend": "jax"}]
    return found


def record() -> dict[str, Any]:
    return {"machine": {"processor": "P"}, "versions": {"torch": "2"}, "date": "2026-01-01T00:00", "rows": rows()}


def test_runs_of_a_case_become_mean_and_deviation() -> None:
    summary = summaries(record())["torch", named("98.2 %").name]
    assert summary.mean == pytest.approx(1.6) and summary.deviation == pytest.approx(np.std([1.5, 1.7], ddof=1))
    assert summary.text == "1.60 ± 0.14 (2 runs)"


def test_the_document_tells_each_case_beside_what_was_published(tmp_path: Path) -> None:
    path = tmp_path / "headline.md"
    path.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n", "utf-8")
    tables.write_document(path, record())
    text = path.read_text("utf-8")
    assert "old" not in text and text.startswith("before") and text.endswith("after\n")
    line = next(line for line in text.splitlines() if "98.2 % pruned" in line)
    assert "2.4 (SNIP 2019, at 98 %)" in line and "≤ 1.75 | **1.60 ± 0.14 (2 runs)** |" in line
    assert "| SNIP (Keras) | 2.00 (1 run) |" in text


def test_the_chart_is_well_formed_and_names_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    charts.write_chart(path, record())
    tree = ElementTree.parse(path)
    told = {element.text for element in tree.iter() if element.tag.endswith("text")}
    assert {"Secateur, with a teacher", *CURVES, "Han et al. 2015", "weights left"} <= told


def test_the_results_that_are_kept_are_whole() -> None:
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / "headline.json"
    found = json.loads(kept.read_text("utf-8"))["rows"]
    names = {job.name for job in jobs()}
    keys = [(row["framework"], row["case"], row["seed"]) for row in found]
    assert len(set(keys)) == len(keys) and {row["case"] for row in found} <= names
    assert all(row["leak"] == 0.0 for row in found if "kept" in row)
