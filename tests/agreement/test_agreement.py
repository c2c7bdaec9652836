"""One answer: the same numbers give the same masks, scores and smaller models in PyTorch and in Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as hs

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import Pair, canonical_masks, convolutional_pair, dense_pair
from secateur import (
    Bytes,
    Flops,
    KSigma,
    Magnitude,
    Neurons,
    Parameters,
    Percentile,
    Recipe,
    SparseGpt,
    Sparsity,
    SynFlow,
    Weights,
    scores,
)
from secateur.errors import EmptyLayerError, ExampleError, NoMatchError, UnreachableTargetError
from secateur.recipe.score import SCORES, UnitScore
from secateur.statistics import STATISTICS
from secateur.structure.cost import cost

makers = hs.one_of(
    hs.builds(
        partial,
        hs.just(dense_pair),
        hs.lists(hs.integers(1, 9), min_size=3, max_size=4),
        seed=hs.integers(0, 2**16),
        ties=hs.booleans(),
    ),
    hs.builds(
        partial,
        hs.just(convolutional_pair),
        hs.integers(1, 5),
        hs.integers(1, 4),
        seed=hs.integers(0, 2**16),
        ties=hs.booleans(),
    ),
)
targets = hs.one_of(
    hs.builds(Sparsity, hs.floats(0, 0.9)), hs.builds(Percentile, hs.floats(0, 90)), hs.builds(KSigma, hs.floats(-1, 1))
)


def both(pair: Pair, recipe: Recipe, statistics: tuple[dict, dict] = ({}, {})):  # type: ignore[no-untyped-def,type-arg]
    """Prune both models; None if the recipe would empty a layer or is out of reach, which both must then say."""
    calls = [
        lambda: st.prune(
            pair.torch_model, recipe, example=pair.torch_example, statistics=statistics[0] if statistics[0] else None
        ),
        lambda: sk.prune(pair.keras_model, recipe, statistics=statistics[1] if statistics[1] else None),
    ]
    results, refusals = [], 0
    for call in calls:
        try:
            results.append(call())
        except (EmptyLayerError, UnreachableTargetError):
            refusals += 1
    assert refusals in (0, 2), "only one framework refused the recipe"
    return results or None


def made_up_statistics(pair: Pair, seed: int, names: Sequence[str]) -> tuple[dict, dict]:  # type: ignore[type-arg]
    """The same made-up statistics, of few different values, under each framework's parameter names."""
    generator = np.random.default_rng(seed)
    listed = list(
        zip(st.parameters(pair.torch_model, pair.torch_example), sk.parameters(pair.keras_model), strict=True)
    )
    ours: dict = {name: {} for name in names}  # type: ignore[type-arg]
    theirs: dict = {name: {} for name in names}  # type: ignore[type-arg]
    for name in names:
        for torch_parameter, keras_parameter in listed:
            array = generator.integers(0, 4, torch_parameter.view.shape).astype(np.float32)
            if name == "input_gram":
                groups = len(array) if array.ndim == 4 and array.shape[1] == 1 else 1
                rows = generator.integers(-3, 4, (groups, 9, int(np.prod(array.shape[1:]))))
                array = np.squeeze(rows.swapaxes(1, 2) @ rows / 9.0, axis=0 if groups == 1 else ())
            if name == "input_gram" and torch_parameter.role != "kernel":
                continue
            ours[name][torch_parameter.name], theirs[name][keras_parameter.name] = array, array
    return ours, theirs


@settings(max_examples=25)
@given(makers)
def test_both_adapters_show_the_core_the_same_arrays_in_the_same_order(make: Callable[[], Pair]) -> None:
    pair = make()
    ours, theirs = st.parameters(pair.torch_model, pair.torch_example), sk.parameters(pair.keras_model)
    assert [(p.role, p.axes, p.view.shape) for p in ours] == [(p.role, p.axes, p.view.shape) for p in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.view, b.view)
        if a.role == "kernel":
            left, right = (scores.reduce(scores.magnitude(p.view), axis=0, norm=1) for p in (a, b))
            np.testing.assert_array_equal(left, right)


@settings(max_examples=40)
@given(makers, targets, hs.sampled_from([Weights(), Neurons(), Neurons(2)]), hs.sampled_from(["model", "layer"]))
def test_magnitude_masks_are_equal_bit_for_bit_and_the_smaller_models_agree(make, target, granularity, scope) -> None:  # type: ignore[no-untyped-def]
    pair = make()
    recipe = Recipe(target, granularity=granularity, score=Magnitude(), scope=scope)
    if isinstance(granularity, Neurons) and not st_can_remove(pair):
        return
    results = both(pair, recipe)
    if results is None:
        return
    ours, theirs = results
    for a, b in zip(canonical_masks(ours), canonical_masks(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
    try:
        small_torch, small_keras = ours.compact().eval(), theirs.compact()
    except ExampleError:  # outputs that are all zero verify nothing
        reject()
    with torch.no_grad():
        expected = small_torch(pair.torch_example).numpy()
    actual = keras.ops.convert_to_numpy(small_keras(pair.keras_example))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
    assert ours.max_error is not None
    assert theirs.max_error is not None
    assert max(ours.max_error, theirs.max_error) < 1e-5


@settings(max_examples=25)
@given(makers, hs.sampled_from([Parameters, Flops, Bytes]), hs.floats(0, 0.9), hs.integers(1, 2), hs.integers(1, 3))
def test_costs_are_counted_alike(make, target, fraction, minimum, multiple) -> None:  # type: ignore[no-untyped-def]
    pair = make()
    if not st_can_remove(pair):
        return
    graphs = st.graph(pair.torch_model, pair.torch_example), sk.graph(pair.keras_model)
    assert cost(graphs[0]) == cost(graphs[1])
    results = both(pair, Recipe(target(fraction), granularity=Neurons(minimum=minimum, multiple=multiple)))
    if results is not None:
        for a, b in zip(*map(canonical_masks, results), strict=True):
            np.testing.assert_array_equal(a, b)


def st_can_remove(pair: Pair) -> bool:
    from secateur.structure.coupling import couple

    counts = {
        couple(st.graph(pair.torch_model, pair.torch_example)).count,
        couple(sk.graph(pair.keras_model)).count,
    }
    assert len(counts) == 1, "the frameworks see different structures"
    return counts.pop() > 0


@settings(max_examples=25)
@given(
    makers,
    targets,
    hs.sampled_from(sorted(kind for kind in SCORES if kind not in ("SynFlow", "SparseGpt", "MultiTask"))),
    hs.booleans(),
    hs.integers(0, 99),
)
def test_equal_statistics_give_equal_masks(make, target, kind, by_units, seed) -> None:  # type: ignore[no-untyped-def]
    pair, score = make(), SCORES[kind]()
    by_units = by_units or isinstance(score, UnitScore)
    if by_units and not st_can_remove(pair):
        return
    recipe = Recipe(target, granularity=Neurons() if by_units else Weights(), score=score, scope="layer")
    needs = [need for need in score.needs if need != "order"]
    try:
        results = both(pair, recipe, made_up_statistics(pair, seed, needs))
    except NoMatchError:  # units without a normalisation
        reject()
    if results is None:
        return
    for a, b in zip(*map(canonical_masks, results), strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=6)
@given(
    makers, hs.floats(0, 0.9), hs.sampled_from([None, 4, 128]), hs.sampled_from(["model", "row"]), hs.integers(0, 99)
)
def test_adjusted_weights_are_equal_bit_for_bit(make, sparsity, block, scope, seed) -> None:  # type: ignore[no-untyped-def]
    pair = make()
    recipe = Recipe(sparsity, score=SparseGpt(block=block), scope=scope)
    results = both(pair, recipe, made_up_statistics(pair, seed, ["input_gram"]))
    if results is None:
        return
    for a, b in zip(*(each.parameters() for each in results), strict=True):
        np.testing.assert_array_equal(a.view, b.view)
    for a, b in zip(*map(canonical_masks, results), strict=True):
        np.testing.assert_array_equal(a, b)


def test_synaptic_flow_gives_the_same_masks() -> None:
    for pair in (dense_pair([8, 12, 10, 3], seed=4), convolutional_pair(6, 3, seed=4)):
        results = both(pair, Recipe(0.7, score=SynFlow(5)))
        assert results is not None
        differing = [np.mean(a != b) for a, b in zip(*map(canonical_masks, results), strict=True)]
        assert max(differing) <= 0.01  # of gradients that differ by their rounding


def test_the_frameworks_own_gradients_agree_to_rounding() -> None:
    pair = dense_pair([12, 16, 4], seed=3)
    generator = np.random.default_rng(5)
    x = generator.normal(size=(70, 12)).astype(np.float32)
    y = generator.integers(0, 4, 70)

    needs = [name for name, each in STATISTICS.items() if each.origin != "record"]
    ours = st.statistics(pair.torch_model, (x, y), torch.nn.CrossEntropyLoss(), needs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs = sk.statistics(pair.keras_model, (x, y), loss, needs)
    assert set(ours) == set(theirs) == set(needs)
    for name, statistic in ours.items():
        for a, b in zip(statistic.values(), theirs[name].values(), strict=True):
            assert a.shape == b.shape
            scale = float(np.sqrt(np.mean(np.square(a, dtype=np.float64))))
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_constant_model_loses_exactly_the_share_asked_for(share: float) -> None:
    pair = dense_pair([10, 20, 10])
    for parameter in pair.torch_model.parameters():
        torch.nn.init.constant_(parameter, 0.25)
    pair.keras_model.set_weights([np.full_like(array, 0.25) for array in pair.keras_model.get_weights()])
    results = both(pair, Recipe(share, scope="layer"))
    assert results is not None
    for pruned in results:
        assert pruned.sparsity == pytest.approx(share)
    for a, b in zip(*map(canonical_masks, results), strict=True):
        np.testing.assert_array_equal(a, b)
