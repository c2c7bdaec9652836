"""A unit's score is one norm over all weights into it, of however many kernels they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import naive
from secateur.adapter import Parameter
from secateur.ranking import NeuronRanking
from secateur.recipe import Magnitude, Neurons
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from structure.building import GraphBuilder
from structure.executor import random_parameters
from structure.random_graphs import graphs

NORMS = [1, 2, "inf", "mean"]


def parameters(graph: Graph, seed: int, dtype: Any = np.float64) -> list[Parameter]:
    drawn = random_parameters(graph, seed)
    return [
        Parameter(name, shape.role, drawn[name].astype(dtype), shape.axes) for name, shape in graph.parameters.items()
    ]


def by_hand(graph: Graph, given: list[Parameter], norm: Any) -> dict[str, list[float]]:
    coupling = couple(graph)
    incoming: list[list[float]] = [[] for _ in range(coupling.count)]
    for parameter in given:
        axis = parameter.producing_axis
        units = coupling.units.get((parameter.name, axis)) if axis is not None else None
        for index, unit in enumerate([] if units is None else units):
            if unit >= 0:
                row = np.take(parameter.view, index, axis=axis)
                incoming[unit] += [abs(value) for value in naive.numbers([row])]
    scores = [naive.norm_of(values, math.inf if norm == "inf" else norm) for values in incoming]
    names = [coupling.layer_names[layer] for layer in coupling.layers]
    return {name: [s for s, own in zip(scores, names, strict=True) if own == name] for name in coupling.layer_names}


@given(graphs(), st.integers(0, 99), st.sampled_from(NORMS), st.sampled_from([np.float32, np.float64]))
def test_the_norm_runs_over_all_kernels_that_make_a_unit(graph, seed, norm, dtype) -> None:  # type: ignore[no-untyped-def]
    coupling = couple(graph)
    assume(coupling.count)
    given = parameters(graph, seed, dtype)
    found = NeuronRanking(graph, coupling, Neurons(norm)).scores(given, Magnitude(), {})
    expected = by_hand(graph, given, norm)
    assert {name: score.tolist() for name, score in found.items()} == expected


@pytest.mark.parametrize("norm", NORMS)
def test_a_unit_of_two_kernels_is_not_worth_more_by_that(norm: Any) -> None:
    builder = GraphBuilder()
    x = builder.input(2, 5)
    plain, wide = builder.linear(x, 4, name="plain"), builder.linear(x, 4, name="wide")
    joined = builder.combine(wide, builder.linear(x, 4, name="beside"))
    graph = builder.build(builder.combine(builder.linear(plain, 2), builder.linear(joined, 2)))
    given = parameters(graph, 3)
    found = NeuronRanking(graph, couple(graph), Neurons(norm)).scores(given, Magnitude(), {})
    assert set(found) == {"plain", "wide"}
    views = {item.name: np.abs(item.view) for item in given}
    both = np.concatenate([views["wide"], views["beside"]], axis=1)
    reduced = {
        1: both.sum(axis=1),
        2: np.sqrt(np.square(both).sum(axis=1)),
        "inf": both.max(axis=1),
        "mean": both.mean(axis=1),
    }
    np.testing.assert_allclose(found["wide"], reduced[norm], rtol=1e-12)


def test_a_kernel_without_elements_scores_its_units_zero() -> None:
    builder = GraphBuilder()
    hidden = builder.linear(builder.input(2, 0), 4, name="nothing")
    graph = builder.build(builder.linear(hidden, 3, name="head"))
    found = NeuronRanking(graph, couple(graph), Neurons()).scores(parameters(graph, 0), Magnitude(), {})
    assert {name: score.tolist() for name, score in found.items()} == {"nothing": [0.0] * 4}
