"""The benchmark of kernels runs at a tiny size and leaves well-formed results and charts; times are not looked at."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join(str(ROOT / part) for part in ("corelib", "adapters"))
SVG = "{http://www.w3.org/2000/svg}"

ROWS = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.kernel_table import rows
print(json.dumps([[[row.name, row.data] for row in group()] for group in (rows.rows, rows.narrow_rows)]))
"""


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    variables |= {"PYTHONPATH": PATH, **environment}
    return subprocess.run([sys.executable, *words], env=variables, capture_output=True, text=True, check=False)


def kernels(*words: str) -> subprocess.CompletedProcess[str]:
    return run(str(ROOT / "benchmarks" / "kernels.py"), *words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a whole run writes."""
    folder = tmp_path_factory.mktemp("kernels")
    files = ("--results", str(folder / "kernels.json"), "--images", str(folder))
    result = kernels("--size", "20000", "--rounds", "1", "--peers", "none", *files)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "kernels.json").read_text("utf-8"))
    return found


def test_every_row_is_in_the_table_of_every_dtype_and_number_of_threads(record: dict[str, Any]) -> None:
    listed = run("-c", ROWS)
    assert listed.returncode == 0, listed.stderr
    wide, narrow = json.loads(listed.stdout)
    expected = {
        (dtype, threads): rows
        for dtype, rows in (("float32", wide), ("bfloat16", narrow), ("float16", narrow))
        for threads in (1, 2)
    }
    found = {
        (table["dtype"], table["threads"]): [[row["name"], row["data"]] for row in table["rows"]]
        for table in record["tables"]
    }
    assert found == expected


def test_times_are_multiples_of_the_unit_measured_beside_them(record: dict[str, Any]) -> None:
    for table in (*record["tables"], *record["growth"]):
        assert table["clock"] == ("processor" if table["threads"] == 1 else "wall")
        for row in table["rows"]:
            assert row["calls"] == table["rounds"] == 1
            assert math.isclose(row["ratio"], row["ns"] / table["units"][row["unit"]]["ns"]) and row["ratio"] > 0
            assert row["met"] is (None if row["target"] is None else row["ratio"] <= row["target"])
            seconds = row["processor_seconds" if table["threads"] == 1 else "wall_seconds"]
            assert math.isclose(row["ns"], 1e9 * seconds / table["elements"])
            assert row["memory"] is None or row["memory"] >= 0


def test_growth_is_measured_over_a_factor_of_400(record: dict[str, Any]) -> None:
    sizes = [table["elements"] for table in record["growth"]]
    assert sizes == sorted(sizes) and 380 < sizes[-1] / sizes[0] < 420
    assert len({tuple(row["name"] for row in table["rows"]) for table in record["growth"]}) == 1


def test_results_say_when_where_and_with_what_they_were_measured(record: dict[str, Any]) -> None:
    assert record["command"].startswith("python benchmarks/kernels.py --size 20000")
    assert re.match(r"\d{4}-\d\d-\d\dT", record["date"]) and record["machine"]["processor"]
    assert {"python", "secateur", "numpy", "numba"} <= set(record["versions"])


def test_charts_are_well_formed_and_name_what_they_show(folder: Path, record: dict[str, Any]) -> None:
    for name, rows in (("kernels", record["tables"][0]["rows"]), ("kernels-growth", record["growth"][0]["rows"])):
        texts = drawn(folder / f"{name}.svg")
        wanted = [row["short"] for row in rows if row["short"]]
        assert wanted and set(wanted) <= set(texts)


def test_charts_are_drawn_again_from_results_with_the_peers_in_them(
    folder: Path, record: dict[str, Any], tmp_path: Path
) -> None:
    row = next(row for row in record["tables"][0]["rows"] if row["short"])
    row["peers"] = [{**row, "name": "a peer & more", "ns": 40 * row["ns"]}]
    (tmp_path / "kernels.json").write_text(json.dumps(record), "utf-8")
    result = kernels("--draw", "--results", str(tmp_path / "kernels.json"), "--images", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "a peer & more" in drawn(tmp_path / "kernels.svg")
    assert "a peer & more" not in drawn(folder / "kernels.svg")


def test_documents_quote_the_figures_of_a_run_with_all_peers(record: dict[str, Any], tmp_path: Path) -> None:
    places = ("README.md", "README.zh-CN.md", "docs/kernels.md")
    (tmp_path / "docs").mkdir()
    for name in places:
        (tmp_path / name).write_text("before\n<!-- figures -->\noutdated\n<!-- end of figures -->\nafter\n", "utf-8")
    for row in record["tables"][0]["rows"]:
        names = {"exact threshold of magnitudes, 90 %": ("np.partition", "torch.topk", "tf.math.top_k")}
        names["exactly a tenth kept, in place"] = ("prune.global_unstructured",)
        reading = record["tables"][0]["units"]["R"]["ns"]
        row["peers"] = [{**row, "name": name, "ns": 123 * reading} for name in names.get(row["name"], ())]
    (tmp_path / "kernels.json").write_text(json.dumps(record), "utf-8")
    files = ("--results", str(tmp_path / "kernels.json"), "--images", str(tmp_path), "--documents", str(tmp_path))
    result = kernels("--draw", *files)
    assert result.returncode == 0, result.stderr
    english, chinese, page = ((tmp_path / name).read_text("utf-8") for name in places)
    for text in (english, chinese, page):
        assert text.startswith("before\n") and text.endswith("after\n") and "outdated" not in text
        assert record["machine"]["processor"] in text and record["command"] in text
    assert "`torch.topk` 123," in english and "`torch.topk` 为 123 倍" in chinese
    heads = [line for line in page.splitlines() if line.startswith("| kernel")]
    assert [head.count("thread") for head in heads] == [2, 4]
    assert sum(line.startswith("| ") for line in page.splitlines()) == 2 * 4 + sum(
        len(record["tables"][number]["rows"]) for number in (0, 2)
    )


def test_the_documents_have_places_for_figures() -> None:
    for name in ("README.md", "README.zh-CN.md", "docs/kernels.md"):
        assert re.search(r"<!-- figures -->\n(.*\n)+<!-- end of figures -->", (ROOT / name).read_text("utf-8")), name


def test_some_rows_alone_leave_files_as_they_are(tmp_path: Path) -> None:
    files = ("--results", str(tmp_path / "kernels.json"), "--images", str(tmp_path))
    few = ("--size", "20k", "--rounds", "1", "--threads", "1", "--dtypes", "float32", "--peers", "none")
    result = kernels(*few, "--only", "2:4", *files)
    assert result.returncode == 0 and "2:4 in place" in result.stdout and "Wanda" not in result.stdout
    assert not list(tmp_path.iterdir())
    assert "finds none of these rows" in kernels(*few, "--only", "nothing at all", *files).stderr


def test_a_size_that_is_no_number_is_refused() -> None:
    result = kernels("--size", "many")
    assert result.returncode == 2 and "'many' is no number of elements" in result.stderr


def drawn(path: Path) -> list[str]:
    """The texts of a chart, all of whose places are finite numbers."""
    tree = ElementTree.parse(path).getroot()
    assert tree.tag == f"{SVG}svg"
    for node in tree.iter():
        for attribute in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            assert math.isfinite(float(node.get(attribute, 0)))
        assert "nan" not in node.get("d", "")
    return [node.text or "" for node in tree.iter(f"{SVG}text")]
