"""In mid-training no layer is emptied: its best element stays, the count is met all the same, and the user is told."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as hyp
from hypothesis.extra import numpy as hnp

import secateur_torch as st
from secateur import Cubic, KSigma, Linear, Neurons, OneShot, Recipe
from secateur.errors import EmptyLayerError, InvalidTensorError
from secateur.ranking import NeuronRanking, WeightRanking, sparing
from secateur.structure.coupling import couple
from structure.random_graphs import graphs

pools = hyp.lists(hyp.one_of(hyp.sampled_from([0.0, 1.0, math.inf]), hyp.floats(0.5, 4, width=32)), min_size=2)
sizes = hyp.dictionaries(hyp.sampled_from("abcd"), hnp.array_shapes(max_dims=2, max_side=5), min_size=2)
fractions = hyp.lists(hyp.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]), min_size=1, max_size=4).map(sorted)


def total(kept: dict[str, np.ndarray]) -> int:
    return sum(int(np.count_nonzero(flags)) for flags in kept.values())


def drawn(data: hyp.DataObject, shapes: dict[str, Any], dtype: Any) -> dict[str, np.ndarray]:
    """New scores, one layer far below the others."""
    random, low = (
        np.random.default_rng(data.draw(hyp.integers(0, 1 << 32))),
        data.draw(hyp.sampled_from(sorted(shapes))),
    )
    scores = {name: random.choice(np.array(data.draw(pools), dtype), shape) for name, shape in shapes.items()}
    return {name: np.minimum(score, dtype(0.25)) if name == low else score for name, score in scores.items()}


@given(sizes, fractions, hyp.integers(0, 5), hyp.data())
def test_weights_the_count_is_exact_nothing_comes_back_and_no_layer_is_empty(shapes, steps, spare, data) -> None:  # type: ignore[no-untyped-def]
    size = sum(math.prod(shape) for shape in shapes.values())
    budget = max(0, size - len(shapes) - spare)
    recipe, ranking, kept = Recipe(0.5), WeightRanking(tuple(shapes)), None
    for fraction in steps:
        scores, pruned = drawn(data, shapes, np.float32), [math.floor(fraction * budget + 0.5)]
        plain = recipe.allocate(scores, pruned, kept)
        now, spared = sparing(recipe, ranking, scores, pruned, kept)
        assert total(now) == size - pruned[0]
        assert all(flags.any() for flags in now.values())
        assert set(ranking.emptied(plain)) <= set(spared)
        if all(flags.any() for flags in plain.values()):
            assert spared == ()
            assert all((now[name] == plain[name]).all() for name in shapes)
        for name in spared:
            (best,) = scores[name][now[name]]
            assert best == scores[name][now[name] if kept is None else kept[name]].max()
        if kept is not None:
            assert all((now[name] <= kept[name]).all() for name in shapes)
        kept = now


@given(graphs(), fractions, hyp.sampled_from(["model", "layer"]), hyp.data())
def test_neurons_no_axis_anywhere_is_emptied(graph, steps, scope, data) -> None:  # type: ignore[no-untyped-def]
    coupling = couple(graph)
    assume(coupling.count)
    recipe, ranking, kept = Recipe(0.5, scope=scope), NeuronRanking(graph, coupling, Neurons()), None
    shapes = {name: (int((coupling.layers == index).sum()),) for index, name in enumerate(coupling.layer_names)}
    groups = [list(shapes)] if scope == "model" else [[name] for name in shapes]
    for fraction in steps:
        scores = drawn(data, shapes, np.float64)
        pruned = [math.floor(fraction * sum(shapes[name][0] for name in group) + 0.5) for group in groups]
        now, spared = sparing(recipe, ranking, scores, pruned, kept)
        ranking.masks(now)  # raises if a layer or any axis between layers were empty
        for group, count in zip(groups, pruned, strict=True):
            asked = sum(shapes[name][0] for name in group) - count
            stay = total({name: now[name] for name in group})
            assert asked <= stay <= max(asked, len(spared))
        if kept is not None:
            assert all((now[name] <= kept[name]).all() for name in shapes)
        kept = now


class Shrinking:
    """A training in which the first layer loses all its weight against the others at a given step."""

    def __init__(self, recipe: Recipe, at: int = 1) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.0)
        self.pruner = st.Pruner(self.model, recipe, self.optimizer, example=torch.ones(2, 6))
        self.at = at

    def run(self, steps: int) -> None:
        for step in range(steps):
            if step == self.at:
                with torch.no_grad():
                    self.model[0].weight.mul_(1e-3)
            self.optimizer.zero_grad()
            self.model(torch.ones(2, 6)).square().sum().backward()
            self.optimizer.step()


@pytest.mark.parametrize("schedule", [Linear(0, 12, every=2), Cubic(2, 12, every=5), OneShot(at=8)])
def test_a_training_goes_on_and_the_user_is_told(schedule: Any) -> None:
    training = Shrinking(Recipe(0.7, schedule=schedule))
    with pytest.warns(UserWarning, match=r"would have emptied 0\.weight\. Its best weight stays"):
        training.run(13)
    pruner = training.pruner
    assert pruner.finished
    kept = {name: int(mask.sum()) for name, mask in pruner.masks.items()}
    assert kept == {"0.weight": 1, "2.weight": 21}
    assert sum(kept.values()) == 72 - math.floor(0.7 * 72 + 0.5)
    assert "would have emptied 0.weight" in str(pruner.summary())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.run(2)


def test_whole_neurons_too() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    recipe = Recipe(0.75, granularity=Neurons(), schedule=OneShot(at=2))
    pruner = st.Pruner(model, recipe, optimizer, example=torch.randn(4, 6))
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    model(torch.randn(2, 6)).sum().backward()
    with pytest.warns(UserWarning, match=r"emptied 0\.weight\. Its best neuron stays"):
        optimizer.step()
        optimizer.step()
    small = pruner.compact()
    assert (small[0].out_features, small[2].out_features) == (1, 3)


def test_what_is_known_before_training_is_refused_before_training() -> None:
    for schedule in (Linear(0, 12), Linear(3, 12), OneShot(at=3), Linear(0, 12, initial=0.5)):
        with pytest.raises(EmptyLayerError, match="would prune all"):
            Shrinking(Recipe(KSigma(50.0), scope="layer", schedule=schedule))
        with pytest.raises(EmptyLayerError, match="would prune all"):
            Shrinking(Recipe(0.99, schedule=schedule))


@pytest.mark.parametrize("schedule", [Linear(0, 4), OneShot(at=3)])
def test_the_weights_of_the_start_decide_nothing_that_is_due_later(schedule: Any) -> None:
    """A wide layer begins with smaller weights; what counts is whether training has moved them."""
    training = Shrinking(Recipe(0.5), at=99)
    layers = [torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)]
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    with torch.no_grad():
        layers[0].weight.mul_(1e-3)
    training.model, training.optimizer = model, torch.optim.SGD(model.parameters(), 0.0)
    with pytest.raises(EmptyLayerError, match="would prune all 48 weights"):
        st.prune(model, Recipe(0.7))
    training.pruner = st.Pruner(model, Recipe(0.7, schedule=schedule), training.optimizer)
    with torch.no_grad():
        layers[0].weight.mul_(1e3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.run(5)
    assert training.pruner.finished and training.pruner.sparsity == pytest.approx(0.7, abs=0.5 / 72)


def test_a_threshold_that_asks_for_everything_in_mid_training_leaves_the_best() -> None:
    training = Shrinking(Recipe(KSigma(1.0), scope="layer", schedule=OneShot(at=2)))
    with torch.no_grad():
        training.model[0].weight.fill_(0.5)
    with pytest.warns(UserWarning, match=r"emptied 0\.weight"):
        training.pruner.advance(2)
    assert training.pruner.masks["0.weight"].sum() == 1
    assert training.pruner.masks["2.weight"].sum() > 1


def test_a_failed_update_is_not_the_end_of_the_schedule() -> None:
    training = Shrinking(Recipe(0.5, schedule=Linear(0, 2)))
    before = training.pruner.masks
    training.pruner.advance()
    with torch.no_grad():
        training.model[0].bias[0] = float("nan")
    with pytest.raises(InvalidTensorError, match=r"0\.bias holds NaN"):
        training.pruner.advance()
    assert not training.pruner.finished
    assert 0.2 < training.pruner.sparsity < 0.3
    assert before.keys() == training.pruner.masks.keys()
