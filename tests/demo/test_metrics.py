"""Figures of quality against their definitions, and the clock."""

from __future__ import annotations

import itertools
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.demo.metrics import LATENCY_BATCH, cross_entropy, latencies_ms, latency_inputs, quality


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_quality_is_what_the_definitions_say(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    found = quality(np.eye(4, dtype=np.float32)[predicted], labels)
    precisions, recalls, f1s = [], [], []
    for label in sorted({*labels.tolist(), *predicted.tolist()}):
        hits = int(((predicted == label) & (labels == label)).sum())
        precision = hits / max(1, int((predicted == label).sum()))
        recall = hits / max(1, int((labels == label).sum()))
        precisions.append(precision)
        recalls.append(recall)
        f1s.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert found["accuracy"] == pytest.approx(float((labels == predicted).mean()))
    assert found["precision"] == pytest.approx(np.mean(precisions))
    assert found["recall"] == pytest.approx(np.mean(recalls))
    assert found["f1"] == pytest.approx(np.mean(f1s))


def test_cross_entropy_is_the_mean_log_loss_and_stays_finite() -> None:
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    assert cross_entropy(probabilities, np.array([1, 0])) == pytest.approx(-np.log(0.75) / 2)
    assert cross_entropy(probabilities, np.array([0, 1])) == pytest.approx(-(np.log(0.25) + np.log(1e-7)) / 2)


def test_latency_is_the_median_in_milliseconds_of_calls_that_take_turns() -> None:
    turns: list[str] = []
    pauses = {"quick": 0.0005, "slow": 0.004}

    def call(name: str) -> None:
        turns.append(name)
        time.sleep(pauses[name])

    found = latencies_ms({name: partial(call, name) for name in pauses})
    assert all(found[name] >= 1000 * pause for name, pause in pauses.items())
    assert [name for name, _ in itertools.groupby(turns)][:4] == ["quick", "slow"] * 2


def test_the_batch_is_filled_by_repetition() -> None:
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1)
    batch = latency_inputs(images)
    assert batch.shape == (LATENCY_BATCH, 1, 1)
    np.testing.assert_array_equal(batch[:, 0, 0], np.arange(LATENCY_BATCH) % 10)
