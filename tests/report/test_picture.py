"""The picture is well-formed SVG of the numbers in results.json, and loads nothing."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from report.samples import demo_report, run_numbers, stages
from secateur.errors import EmptyInputError, FileFormatError
from secateur.report import read_runs, write_picture
from secateur.report.picture import BARS

SVG = "{http://www.w3.org/2000/svg}"


def drawn(path: Path) -> ET.Element:
    return ET.fromstring(path.read_text("utf-8"))


def test_bars_are_the_numbers_of_both_frameworks(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(demo_report().results()))
    runs = read_runs(tmp_path / "results.json")
    assert runs == [run.numbers for run in demo_report().runs]
    picture = drawn(write_picture(tmp_path / "images" / "demo.svg", runs))
    panels = picture.findall(f"{SVG}g")
    assert len(panels) == 2
    for panel in panels:
        widths = {name: [] for name in stages()}
        for bar in panel.iter(f"{SVG}rect"):
            if bar.get("class") in widths:
                widths[bar.get("class", "")].append(float(bar.get("width", "")) / BARS)
        for name, stage in stages().items():
            assert widths[name] == pytest.approx([stage.accuracy, stage.bytes / stages()["dense"].bytes], abs=1e-3)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"PyTorch", "Keras on TensorFlow", "97.5 %", "96.2 %", "544 B", "280 B"} <= set(texts)


def test_a_configuration_that_gets_smaller_is_preferred(tmp_path: Path) -> None:
    same = stages()["dense"]
    runs = [run_numbers(granularity="weights", compact=same), run_numbers(), run_numbers("keras", "jax")]
    texts = [text.text for text in drawn(write_picture(tmp_path / "a.svg", runs)).iter(f"{SVG}text")]
    assert texts[0] == "mlp: neurons · magnitude · percentile 50 · static"
    only = [text.text for text in drawn(write_picture(tmp_path / "b.svg", runs[:1])).iter(f"{SVG}text")]
    assert (only or [""])[0] == "mlp: weights · magnitude · percentile 50 · static"


def test_names_and_missing_numbers_do_no_harm(tmp_path: Path) -> None:
    bare = dataclasses.replace(stages()["dense"], accuracy=None, bytes=0)
    run = run_numbers("<b>&", "</svg>", dense=bare, pruned=None, finetuned=None, compact=None)
    path = write_picture(tmp_path / "demo.svg", [run])
    assert "<b>& on </svg>" in [text.text for text in drawn(path).iter(f"{SVG}text")]
    assert path.read_text("utf-8").count("http") == 1  # the namespace


def test_no_runs_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyInputError):
        write_picture(tmp_path / "demo.svg", [])
    for content in ("", "[]", '{"runs": [{}]}', '{"runs": [{"dense": {"depth": 1}}]}'):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(FileFormatError, match=r"results\.json is not"):
            read_runs(tmp_path / "results.json")
    with pytest.raises(FileFormatError):
        read_runs(tmp_path / "absent.json")
