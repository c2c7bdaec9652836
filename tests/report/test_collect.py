"""What the records say is what the core did."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from report.samples import SIZES, outcome, parameters, statistics
from secateur.report import Outcome, details
from secateur.structure.cost import layer_costs


def test_rows_tell_shapes_units_and_costs_before_and_after() -> None:
    state = outcome("neurons")
    first, second = details(state).layers
    hidden = int(state.kept["fc1.weight"].sum())
    assert (first.layer, first.kind, second.layer) == ("fc1", "a linear", "fc2")
    assert (first.shape_before, first.shape_after) == ((SIZES[1], SIZES[0]), (hidden, SIZES[0]))
    assert (second.shape_before, second.shape_after) == ((SIZES[2], SIZES[1]), (SIZES[2], hidden))
    assert (first.units_before, first.units_after) == (SIZES[1], hidden)
    assert (first.kept, first.total) == (hidden * SIZES[0], SIZES[1] * SIZES[0])
    assert state.graph is not None
    assert first.cost_before == layer_costs(state.graph)["fc1.weight"]
    assert second.cost_after == layer_costs(state.graph, state.plan)["fc2.weight"]
    assert first.kept_map == ()


def test_removals_tell_units_scores_reason_and_what_followed() -> None:
    state = outcome("neurons")
    (removal,) = details(state).removals
    kept = state.kept["fc1.weight"]
    assert removal.units == tuple(np.flatnonzero(~kept))
    assert removal.scores == tuple(state.scores["fc1.weight"])
    assert removal.threshold == max(score for unit, score in enumerate(removal.scores) if unit in removal.units)
    assert (removal.removed, removal.total, removal.what) == (6, 12, "neurons")
    assert removal.follows == (("bias1", "out", 6), ("fc2.weight", "in", 6))
    assert "percentile 50 over the whole model" in removal.reason
    assert any("fc2.weight" in frozen.parameters for frozen in details(state).frozen)


def test_single_weights_have_a_map_and_a_threshold_on_both_sides() -> None:
    state = outcome("weights")
    told = details(state)
    threshold = state.thresholds["model"]
    for row, item in zip(told.layers, told.distributions, strict=False):
        assert np.mean(row.kept_map) == pytest.approx(1 - row.sparsity)
        assert item.thresholds == (-threshold, threshold)
        assert item.after is not None
        assert item.after.zeros == row.total - row.kept
    assert [removal.units for removal in told.removals] == [(), ()]
    assert sum(removal.removed for removal in told.removals) == 60
    assert told.frozen == ()


def test_a_gradient_threshold_stands_on_the_gradients() -> None:
    state = outcome("weights", "gradient")
    cuts = {(item.kind, item.thresholds) for item in details(state).distributions}
    assert cuts == {("weight", ()), ("gradient", (state.thresholds["model"],))}


def test_gradients_before_and_after_are_those_given() -> None:
    told = {item.parameter: item for item in details(outcome()).distributions if item.kind == "gradient"}
    assert set(told) == {"fc1.weight", "fc2.weight"}
    for name, item in told.items():
        assert item.after is not None
        assert item.before.mean == pytest.approx(statistics()["mean_abs_gradient"][name].mean())
        assert item.after.mean == pytest.approx(statistics(2)["mean_abs_gradient"][name].mean())
        assert [fit.family for fit in item.fits] == ["normal", "exponential"]


def test_without_a_structure_costs_are_the_kernels() -> None:
    state = outcome("weights")
    bare = Outcome(recipe=state.recipe, parameters=parameters(), masks={})
    first, _ = details(bare).layers
    assert (first.cost_before.parameters, first.cost_before.flops, first.cost_before.bytes) == (72, 0, 288)
    assert (first.kept, first.kind, first.shape_after) == (72, "kernel", (12, 6))
    assert details(bare).distributions == details(bare).removals == ()


def test_kernels_that_share_a_layer_go_by_their_own_names() -> None:
    state = outcome("weights")
    shared = [dataclasses.replace(item, layer="cell") for item in state.parameters]
    told = details(dataclasses.replace(state, parameters=shared))
    assert [row.layer for row in told.layers] == ["fc1.weight", "fc2.weight"]
