"""The generator reaches what the random tests are about; else they would not test what they seem to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan
from structure.executor import KINDS
from structure.random_graphs import graphs

EXAMPLES = 2000
SOURCES = ("embedding", "weight", "fill")
CHANGED = ("groups", "shape", "start", "indices", "sizes", "rows", "rescale")


@cache
def reached() -> frozenset[tuple[str, str]]:
    """What some of so many models do, as (what, which kind or setting)."""
    found: set[tuple[str, str]] = set()

    @settings(max_examples=EXAMPLES, phases=[Phase.generate], derandomize=True, database=None)
    @given(graphs())
    def collect(graph: Graph) -> None:
        coupling = couple(graph)
        found.update(passed(graph, coupling), grouped(graph, coupling), changed(graph, coupling))
        found.update(added(graph, couple(graph, heads=False)))
        if coupling.heads.any():
            found.update(("heads beside", operation.kind) for operation in graph.operations)

    collect()
    return frozenset(found)


def passed(graph: Graph, coupling: Coupling) -> Iterator[tuple[str, str]]:
    live = {tensor for tensor, _ in coupling.tensors}
    for operation in graph.operations:
        if live & set(operation.outputs) and (operation.kind in SOURCES or live & set(operation.inputs)):
            yield "units pass through", operation.kind


def grouped(graph: Graph, coupling: Coupling) -> Iterator[tuple[str, str]]:
    for index, operation in enumerate(graph.operations):
        if operation.kind == "convolution" and operation.settings["groups"] != 1:
            transposed = bool(operation.settings.get("transposed"))
            name = "transposed" if transposed else "plain"
            if index in coupling.groups:
                yield "groups go", name
            if (operation.parameters["kernel"], 2 if transposed else 1) in coupling.units:
                yield "columns of groups go", name


def changed(graph: Graph, coupling: Coupling) -> Iterator[tuple[str, str]]:
    for unit in range(min(coupling.count, 3)):
        made = plan(graph, coupling, np.arange(coupling.count) == unit)
        yield from (("a removal changes", setting) for settings in made.settings.values() for setting in settings)


def added(graph: Graph, coupling: Coupling) -> Iterator[tuple[str, str]]:
    products = np.append(coupling.products, False)
    live = {tensor for (tensor, _), units in coupling.tensors.items() if products[units].any()}
    for operation in graph.operations:
        if live & set(operation.inputs):
            yield "units go since they are zero in", operation.kind


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"unknown"}))
def test_units_pass_through_every_kind(kind: str) -> None:
    assert ("units pass through", kind) in reached()


@pytest.mark.parametrize("setting", CHANGED)
def test_every_setting_is_changed_by_some_removal(setting: str) -> None:
    assert ("a removal changes", setting) in reached()


@pytest.mark.parametrize("convolution", ["plain", "transposed"])
def test_groups_are_cut_in_both_ways(convolution: str) -> None:
    assert {("groups go", convolution), ("columns of groups go", convolution)} <= reached()


@pytest.mark.parametrize("kind", ["contract", "attention"])
def test_heads_are_removed_whole(kind: str) -> None:
    assert ("heads beside", kind) in reached()


@pytest.mark.parametrize("kind", ["contract", "reduce", "standardize", "attention"])
def test_units_go_since_they_are_zero(kind: str) -> None:
    assert ("units go since they are zero in", kind) in reached()
