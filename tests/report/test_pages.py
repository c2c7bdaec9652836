"""Both pages: well-formed, complete, harmless whatever things are called, and without a single request."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from report.pages import PageReader
from report.samples import all_details, demo_report, pruning_report, run_numbers, stage
from secateur.errors import MissingDependencyError
from secateur.report import (
    Coupled,
    Curve,
    DemoReport,
    DemoRun,
    Details,
    Distribution,
    Histogram,
    LayerRow,
    PruningReport,
    Removal,
    write_demo_report,
    write_report,
)
from secateur.report.demo_page import demo_page
from secateur.report.measure import distribution, with_after
from secateur.report.pruning_page import pruning_page
from secateur.structure.cost import Cost
from secateur.structure.coupling import Frozen
from secateur.structure.sets import MAKES, READS, Slice

NASTY = '<script>alert(1)</script>"\'&amp;<a href="http://evil.example">x</a>'


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {
        "neurons": pruning_page(pruning_report("neurons")).render(),
        "weights": pruning_page(pruning_report("weights", "gradient")).render(),
        "demo": demo_page(demo_report()).render(),
    }


def test_pages_are_well_formed_and_their_links_lead_somewhere(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert page.startswith("<!DOCTYPE html>\n<html lang=")
        read = PageReader(page)
        assert len(read.ids) == len(set(read.ids))
        links = [attributes["href"] or "" for attributes in read.all("a")]
        assert links and all(link[0] == "#" and link[1:] in read.ids for link in links)
        labels = [attributes["for"] for attributes in read.all("label")]
        assert set(labels) <= set(read.ids)


def test_pages_load_nothing(pages: dict[str, str]) -> None:
    for page in pages.values():
        read = PageReader(page)
        for tag, attributes in read.elements:
            assert "src" not in attributes and "srcset" not in attributes, tag
            assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
        assert "url(" not in style and "@import" not in style
        (policy,) = [item["content"] or "" for item in read.all("meta") if item.get("http-equiv")]
        assert policy.startswith("default-src 'none'; ")
        assert "http" not in policy


def test_only_the_two_scripts_of_the_page_may_run(pages: dict[str, str]) -> None:
    read = PageReader(pages["neurons"])
    kinds = [attributes.get("type") for attributes in read.all("script")]
    assert kinds == ["application/json", None, None]
    (policy,) = [item["content"] or "" for item in read.all("meta") if item.get("http-equiv")]
    for script in read.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe-eval" not in policy and "script-src 'unsafe-inline'" not in policy


def test_plotlys_library_is_there_once(pages: dict[str, str]) -> None:
    from plotly.offline import get_plotlyjs

    for page in pages.values():
        assert page.count(get_plotlyjs()) == 1


def test_every_chart_has_its_figure_and_a_name(pages: dict[str, str]) -> None:
    for page in pages.values():
        read = PageReader(page)
        charts = [attributes for attributes in read.all("div") if attributes.get("class") == "chart"]
        assert [chart["id"] for chart in charts] == [f"figure-{number}" for number in range(len(read.figures()))]
        assert all(chart["aria-label"] and chart["role"] == "img" for chart in charts)


def test_the_page_of_a_model_has_every_part(pages: dict[str, str]) -> None:
    text = PageReader(pages["neurons"]).text
    for part in (
        "Cost and quality",
        "Structure before and after",
        "Weights before and after",
        "Gradients before and after",
        "What was removed, and why",
        "What goes together",
        "Which layers share units",
        "neurons of fc1",
        "fc1.weight out, bias1, fc2.weight in",
        "What had to stay",
        "the user's own module",
        "Training",
        "fc1: 6 of 12 neurons removed",
        "fc2.weight: 6 along in",
        "136 → 70",
        "97.50 %",
        "−1.2 points",
        "2.5 × 10⁻⁷",
        "Everything was checked.",
        "Kolmogorov–Smirnov",
    ):
        assert part in text, part


def test_the_page_of_the_demo_has_every_part(pages: dict[str, str]) -> None:
    read = PageReader(pages["demo"])
    for part in (
        "All runs",
        "keras/tensorflow",
        "same 120 bits",
        "3 differ of 120 bits",
        "Each framework adds",
        "digits",
    ):
        assert part in read.text, part
    assert len(read.all("details")) == 4
    assert sum(attributes.get("type") == "radio" for attributes in read.all("input")) == 4
    assert "run-4" in read.ids


def test_runs_of_one_configuration_stand_together_in_whatever_order_they_come() -> None:
    demo = demo_report()
    order = (0, 2, 1, 3)
    mixed = dataclasses.replace(demo, runs=tuple(demo.runs[number] for number in order), agreement=())
    text = PageReader(demo_page(mixed).render()).text
    start, end = text.index("All runs", text.index("Largest error")), text.index("Quality at each stage", 400)
    assert text[start:end].count("neurons · magnitude · percentile 50 · static") == 1


def renamed(name: str) -> Details:
    """Details in which everything that has a name has this one."""
    given = all_details()
    return Details(
        layers=tuple(dataclasses.replace(row, layer=name, kind=name, parameter=name) for row in given.layers),
        distributions=tuple(dataclasses.replace(item, parameter=name, label=name) for item in given.distributions),
        removals=tuple(
            dataclasses.replace(item, layer=name, reason=name, what=name, follows=((name, name, 1),))
            for item in given.removals
        ),
        frozen=(Frozen(name, name, name, (name,)),),
        coupled=(Coupled(name, name, 3, 1, (Slice(name, name, 2, MAKES), Slice(name, name, 2, READS))),),
        curves=(Curve(name, (1.0,), (2.0,), name, name),),
        notes=(name,),
    )


def test_names_are_harmless_wherever_they_stand() -> None:
    words = dict.fromkeys(("model", "framework", "backend"), NASTY)
    one = PruningReport(
        **words, recipe={NASTY: NASTY}, stages={"dense": stage(0.9)}, details=renamed(NASTY), title=NASTY
    )
    run = run_numbers(**words, granularity=NASTY, score=NASTY, target=NASTY, schedule=NASTY)
    demo = DemoReport(
        runs=(DemoRun(run, renamed(NASTY)),), data={NASTY: NASTY}, environment={NASTY: NASTY}, title=NASTY
    )
    for page in (pruning_page(one).render(), demo_page(demo).render()):
        read = PageReader(page)
        assert len(read.scripts) == 3
        assert NASTY in read.text
        assert all((attributes["href"] or "")[0] == "#" for attributes in read.all("a"))
        for figure in read.figures():
            assert "<" not in "".join(texts(figure)).replace("<br>", "").replace("<extra></extra>", "")


def texts(value: Any) -> list[str]:
    """Every string in a figure, keys left out."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_the_data_cannot_end_its_script() -> None:
    page = pruning_page(dataclasses.replace(pruning_report(), details=renamed("</script><!--"))).render()
    data = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0]
    assert "<" not in data and ">" not in data
    assert html.escape("</script><!--") in page


def edge_cases() -> Details:
    """A single layer without weights, a parameter without elements, one of equal weights, one of zeros."""
    import numpy as np

    free = Cost(0, 0, 0)
    empty = with_after(distribution("empty", np.zeros((0, 3)), families=("normal",)), np.zeros((0, 3)))
    constant = with_after(
        distribution("constant", np.full((4, 4), 2.0), families=("normal",)), np.zeros((4, 4)), (2.0,)
    )
    return Details(
        layers=(LayerRow("only", "linear", (0, 3), (0, 3), 0, 0, 0, 0, free, free),),
        distributions=(empty, constant, distribution("zeros", np.zeros(5))),
        removals=(Removal("only", "neurons", 0, 0, "nothing to remove"),),
        curves=(Curve("nothing", (), ()),),
    )


@pytest.mark.parametrize(
    "details",
    [
        Details(),
        edge_cases(),
        Details(layers=all_details().layers[:1]),
        Details(distributions=(Distribution("flat", "weight", "weight", Histogram((0.0, 1.0), (3,))),)),
    ],
    ids=["empty", "edges", "one layer", "one bin"],
)
def test_little_or_nothing_to_show_still_makes_a_page(details: Details, tmp_path: Path) -> None:
    report = PruningReport(model="m", framework="torch", backend="torch", details=details)
    assert PageReader(write_report(tmp_path / "one.html", report).read_text("utf-8")).all("h1")
    demo = DemoReport(runs=(DemoRun(run_numbers(pruned=None, finetuned=None, compact=None), details),))
    assert PageReader(write_demo_report(tmp_path / "demo.html", demo).read_text("utf-8")).all("h1")


def test_a_demo_without_measurements_of_quality_or_time() -> None:
    bare = dataclasses.replace(stage(None), latency_ms=None)
    run = run_numbers(dense=bare, pruned=bare, finetuned=None, compact=None, max_error=None)
    text = PageReader(demo_page(DemoReport(runs=(DemoRun(run),))).render()).text
    assert "Quality at each stage" not in text
    assert "mlp: accuracy against" not in text


def test_a_demo_without_runs_has_a_page() -> None:
    assert "Secateur demo" in PageReader(demo_page(DemoReport(runs=())).render()).text


def test_an_existing_report_stays_whole_if_the_new_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made" / "report.html"
    write_report(path, pruning_report())
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, pruning_report("weights"))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("missing", ["plotly", "plotly.graph_objects", "plotly.offline"])
def test_without_plotly_the_error_tells_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'secateur\[report\]'"):
        write_report(tmp_path / "report.html", pruning_report())
    assert list(tmp_path.iterdir()) == []


def test_only_runs_that_started_alike_and_differ_give_an_alarm() -> None:
    demo = demo_report()
    assert "differs" not in classes(demo_page(demo).render())
    broken = dataclasses.replace(demo.agreement[0], different=1, reason="a bug")
    page = demo_page(dataclasses.replace(demo, agreement=(broken,))).render()
    assert "differs" in classes(page)
    assert "1 differ of 120 bits" in PageReader(page).text


def classes(page: str) -> set[str | None]:
    return {attributes.get("class") for attributes in PageReader(page).all("span")}
