"""The records turn into JSON and back, with the keys that results.json promises."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.samples import demo_report, pruning_report, run_numbers, stage
from secateur.errors import ShapeMismatchError
from secateur.report import Curve, Histogram, RunNumbers, StageMetrics

STAGE_KEYS = {"accuracy", "precision", "recall", "f1", "parameters", "nonzero", "flops", "bytes", "latency_ms"}
RUN_KEYS = {"framework", "backend", "model", "granularity", "score", "target", "schedule", "seed"}

shares = st.none() | st.floats(0, 1)
metrics = st.builds(
    StageMetrics,
    accuracy=shares,
    precision=shares,
    recall=shares,
    f1=shares,
    parameters=st.integers(0, 10**12),
    nonzero=st.integers(0, 10**12),
    flops=st.integers(0, 10**15),
    bytes=st.integers(0, 10**13),
    latency_ms=st.none() | st.floats(0, 1e6),
)
runs = st.builds(
    RunNumbers,
    framework=st.text(),
    backend=st.text(),
    model=st.text(),
    granularity=st.text(),
    score=st.text(),
    target=st.text(),
    schedule=st.text(),
    seed=st.integers(0, 99),
    dense=metrics,
    pruned=st.none() | metrics,
    finetuned=st.none() | metrics,
    compact=st.none() | metrics,
    max_error=st.none() | st.floats(0, 1),
)


@given(runs)
def test_a_run_survives_json(run: RunNumbers) -> None:
    assert RunNumbers.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_results_have_the_promised_keys() -> None:
    results = demo_report().results()
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    for run in results["runs"]:
        assert set(run) == RUN_KEYS | {"dense", "pruned", "finetuned", "compact", "max_error"}
        assert all(set(run[name]) == STAGE_KEYS for name in ("dense", "pruned", "finetuned", "compact"))
    assert [pair["different"] for pair in results["agreement"]] == [0, 0, 3]


@pytest.mark.parametrize("record", [pruning_report(), demo_report()])
def test_a_whole_report_is_plain_json(record: Any) -> None:
    plain = record.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_numpy_numbers_become_plain_and_what_is_not_finite_becomes_null() -> None:
    curve = Curve("a", tuple(np.arange(2.0)), (np.float32(0.5), math.nan))
    assert curve.to_dict()["x"] == [0.0, 1.0]
    assert curve.to_dict()["y"] == [0.5, None]
    assert type(curve.to_dict()["y"][0]) is float


def test_a_run_names_its_platform_and_its_last_stage() -> None:
    assert run_numbers().platform == "torch"
    assert run_numbers("keras", "jax").platform == "keras/jax"
    assert list(run_numbers(compact=None).stages) == ["dense", "pruned", "finetuned"]
    assert run_numbers(compact=None, finetuned=None).last == stage(0.5, nonzero=70)


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeMismatchError, match="2 edges, not 3"):
        Histogram((0.0, 1.0, 2.0), (5,))
    with pytest.raises(ShapeMismatchError, match="'loss' has 2 x values but 1 y"):
        Curve("loss", (1.0, 2.0), (3.0,))
