"""The promise of structure: a model with units masked gives what the model without them gives, to 1e-12 in float64."""

from __future__ import annotations

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from secateur.structure.coupling import Coupling, couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan, removable, unit_masks
from structure.executor import random_parameters, random_tensors, run
from structure.random_graphs import graphs

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=300)
@given(graphs(), SEEDS, st.booleans())
def test_masking_units_equals_removing_them(graph: Graph, seed: int, heads: bool) -> None:
    coupling = couple(graph, heads=heads)
    gone = removal(coupling, seed)
    event(f"units: {min(coupling.count, 8)}, removed: {min(int(gone.sum()), 8)}")
    assert_masked_equals_removed(graph, coupling, gone, seed, unit_masks(graph, coupling, gone))


@given(graphs(), SEEDS)
def test_masked_consumers_alone_make_a_unit_removable(graph: Graph, seed: int) -> None:
    """Producers, biases and shifts keep their values: what a removed unit computes must not reach any output.

    Units that products of tensors sum over are masked whole, since nothing but their own zeros keeps them out.
    """
    coupling = couple(graph)
    gone = removal(coupling, seed)
    masks = {name: np.ones_like(mask) for name, mask in unit_masks(graph, coupling, gone).items()}
    for (name, axis), units in coupling.units.items():
        if name in masks:
            is_read = (name, axis) in coupling.readers
            cut = np.append(gone, False)[units] & (is_read | np.append(coupling.products, False)[units])
            np.moveaxis(masks[name], axis, 0)[cut] = False
    found = removable(graph, coupling, masks)
    assert (found >= gone).all()
    assert_masked_equals_removed(graph, coupling, found, seed, masks)


@given(graphs(), SEEDS, st.booleans())
def test_what_is_not_exact_still_has_the_shapes_that_the_plan_foretells(graph: Graph, seed: int, heads: bool) -> None:
    coupling = couple(graph, heads=heads, exact=False)
    made = plan(graph, coupling, removal(coupling, seed))
    run(graph, random_parameters(graph, seed), random_tensors(graph, seed), made)


@given(graphs(), SEEDS)
def test_every_unit_can_go_alone(graph: Graph, seed: int) -> None:
    coupling = couple(graph)
    for unit in range(min(coupling.count, 4)):
        gone = np.arange(coupling.count) == (unit * 7919 + seed) % coupling.count
        assert_masked_equals_removed(graph, coupling, gone, seed, unit_masks(graph, coupling, gone))


def removal(coupling: Coupling, seed: int) -> np.ndarray:
    """Units at random, at any density up to all, sparing one of every axis that has no index that stays."""
    generator = np.random.default_rng(seed)
    gone = generator.random(coupling.count) < min(1.2 * generator.random(), 1.0)
    for units in (*coupling.units.values(), *coupling.tensors.values()):
        if (units >= 0).all() and gone[units].all():
            gone[units[generator.integers(units.size)]] = False
    return gone


def assert_masked_equals_removed(graph: Graph, coupling: Coupling, gone: np.ndarray, seed: int, masks: dict) -> None:
    """The outputs agree to 1e-12 of the largest, and removal changes them where it should leave them changed."""
    parameters, given_tensors = random_parameters(graph, seed), random_tensors(graph, seed)
    masked = {name: value * masks.get(name, True) for name, value in parameters.items()}
    expected = run(graph, masked, given_tensors)
    small = run(graph, parameters, given_tensors, plan(graph, coupling, gone))
    for output in graph.outputs:
        scale = max(1.0, float(np.abs(expected[output]).max()))
        np.testing.assert_allclose(small[output], expected[output], rtol=0, atol=1e-12 * scale)
