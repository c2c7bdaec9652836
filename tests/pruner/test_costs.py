"""Half of the parameters, operations or bytes is half of them, to one unit, in the model that comes out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as hs

import keras_models
import secateur_keras as sk
import secateur_torch as st
from secateur import Bytes, Cubic, Flops, Linear, Neurons, OneShot, Parameters, Percentile, Recipe, Sparsity, Weights
from secateur.errors import RecipeError, SecateurError, UnreachableTargetError
from secateur.ranking import NeuronRanking
from secateur.recipe.costs import CostTarget
from secateur.selection import selection
from secateur.structure.cost import cost
from secateur.structure.coupling import couple
from secateur.structure.removal import plan
from structure.random_graphs import graphs

TARGETS = [Parameters, Flops, Bytes]
X = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)


def torch_network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 24, 3, padding=1),
        torch.nn.BatchNorm2d(24),
        torch.nn.ReLU(),
        torch.nn.Conv2d(24, 32, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 40),
        torch.nn.ReLU(),
        torch.nn.Linear(40, 10),
    ).eval()


def left(pruned: Any, target: CostTarget) -> tuple[float, float]:
    """What the plan leaves of the dense cost, and what it may leave."""
    graph = pruned._traced(None)
    return target.of(cost(graph, pruned.plan())), target.limit(target.of(cost(graph)))


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.9])
def test_the_smaller_torch_model_costs_what_was_asked_for(kind: type[CostTarget], fraction: float) -> None:
    model, target = torch_network(), kind(fraction)
    dense = sum(parameter.numel() for parameter in model.parameters())
    pruned = st.prune(model, Recipe(target, granularity=Neurons()), example=torch.from_numpy(X))
    found, limit = left(pruned, target)
    assert found <= limit
    small = pruned.compact()
    assert pruned.max_error is not None
    assert pruned.max_error < 1e-5
    if kind is Parameters:
        assert sum(parameter.numel() for parameter in small.parameters()) == found <= (1 - fraction) * dense
    if fraction == 0.0:
        assert pruned.plan().removed == 0


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("make", [keras_models.plain_cnn, keras_models.residual, keras_models.mlp])
def test_the_smaller_keras_model_costs_what_was_asked_for(kind: type[CostTarget], make: Any) -> None:
    model, target = keras_models.randomize(make()), kind(0.4)
    dense = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    pruned = sk.prune(model, Recipe(target, granularity=Neurons()))
    found, limit = left(pruned, target)
    assert found <= limit
    small: keras.Model = pruned.compact()
    if kind is Parameters:
        counted = sum(int(np.prod(weight.shape)) for weight in small.trainable_weights)
        assert counted == found <= 0.6 * dense


@given(graphs(), hs.integers(0, 99), hs.sampled_from(TARGETS), hs.floats(0, 0.9), hs.integers(1, 2), hs.integers(1, 2))
def test_the_lowest_scores_go_until_the_target_is_met(graph, seed, kind, fraction, minimum, multiple) -> None:  # type: ignore[no-untyped-def]
    """The fewest that do: back with the last unit of the highest score, and it is missed (where none is rounded)."""
    coupling = couple(graph)
    assume(coupling.count)
    ranking = NeuronRanking(graph, coupling, "mean")
    recipe = Recipe(kind(fraction), granularity=Neurons(minimum=minimum, multiple=multiple))
    flat = np.random.default_rng(seed).integers(0, 9, coupling.count).astype(np.float64)
    scores = {layer: flat[members] for layer, members in ranking.layers()}
    chosen = selection(recipe, ranking)
    limit = recipe.target.limit(recipe.target.of(cost(graph)))  # type: ignore[union-attr]

    def costs(gone: np.ndarray) -> int:
        return recipe.target.of(cost(graph, plan(graph, coupling, gone)))  # type: ignore[union-attr]

    try:
        kept, _ = chosen.keep(scores, 1.0, chosen.budgets(scores))
    except UnreachableTargetError as error:
        assert "at most" in str(error)
        return
    gone = np.concatenate([~kept[layer] for layer, _ in ranking.layers()])
    assert costs(gone) <= limit
    ranking.masks(kept)  # raises if a layer or an axis were empty
    if gone.any() and multiple == 1:
        last = max(np.flatnonzero(gone), key=lambda unit: (flat[unit], unit))
        gone[last] = False
        assert costs(gone) > limit


@pytest.mark.parametrize("multiple", [4, 8])
@pytest.mark.parametrize("target", [Parameters(0.5), Flops(0.5), Bytes(0.5), Sparsity(0.5), Percentile(50)])
def test_widths_are_multiples_or_full_and_the_target_is_met(target: Any, multiple: int) -> None:
    recipe = Recipe(target, granularity=Neurons(minimum=12, multiple=multiple))
    pruned = st.prune(torch_network(), recipe, example=torch.from_numpy(X))
    small = pruned.compact()
    widths = (small[0].out_channels, small[3].out_channels, small[7].out_features)
    for width, dense in zip(widths, (24, 32, 40), strict=True):
        assert width == dense or (width % multiple == 0 and width >= 12)
    if isinstance(target, CostTarget):
        found, limit = left(pruned, target)
        assert found <= limit
    else:
        assert sum(widths) <= 48


@pytest.mark.parametrize("kind", TARGETS)
def test_what_cannot_be_met_is_told_before_anything_changes(kind: type[CostTarget]) -> None:
    model = torch_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = Recipe(kind(0.99), granularity=Neurons(minimum=8), exclude=["3.weight"])
    with pytest.raises(UnreachableTargetError) as caught:
        st.prune(model, recipe, example=torch.from_numpy(X))
    message = str(caught.value)
    assert message.index("3.weight (") < message.index("0.weight (")
    assert "32 of 32 stay, model: it is excluded" in message
    assert "8 of 24 stay, minimum=8, multiple=1" in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    fraction = float(message.split("at most ")[2].split(" ")[0])
    reached = Recipe(kind(fraction), granularity=Neurons(minimum=8), exclude=["3.weight"])
    pruned = st.prune(model, reached, example=torch.from_numpy(X))
    found, limit = left(pruned, reached.target)  # type: ignore[arg-type]
    assert found <= limit
    with pytest.raises(UnreachableTargetError):
        st.prune(torch_network(), Recipe(kind(fraction + 1e-3), reached.granularity, exclude=["3.weight"]), example=X)


def test_the_least_is_that_of_all_ways_to_remove_units() -> None:
    """A chain of two small layers: every set of units that empties none is tried."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)]
    model = torch.nn.Sequential(*layers)
    graph = st.graph(model, torch.ones(1, 3))
    coupling = couple(graph)
    sets = [np.array([index >> unit & 1 for unit in range(7)], np.bool_) for index in range(1 << 7)]
    allowed = [gone for gone in sets if not gone[:4].all() and not gone[4:].all()]
    least = min(cost(graph, plan(graph, coupling, gone)).parameters for gone in allowed)
    with pytest.raises(UnreachableTargetError, match=rf"but {least} are left"):
        st.prune(model, Recipe(Parameters(0.99), granularity=Neurons()), example=torch.ones(1, 3))


@pytest.mark.parametrize("schedule", [Linear(0, 6, every=2), Cubic(1, 6, every=2), OneShot(at=3)])
@pytest.mark.parametrize("units", [Neurons(), Neurons(minimum=4, multiple=4)])
def test_a_schedule_ends_at_the_target_by_the_scores_of_then(schedule: Any, units: Neurons) -> None:
    model, target = torch_network(), Flops(0.5)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    recipe = Recipe(target, granularity=units, schedule=schedule)
    pruner = st.Pruner(model, recipe, optimizer, example=torch.from_numpy(X))
    before, removed = pruner.masks, []
    for step in range(8):
        if step == 2:
            with torch.no_grad():
                model[3].weight[:16].mul_(0.01)  # the scores of the start are wrong from here on
        optimizer.zero_grad()
        model(torch.from_numpy(X)).square().sum().backward()
        optimizer.step()
        assert all((mask <= before[name]).all() for name, mask in pruner.masks.items())
        before = pruner.masks
        removed.append(sum(int((~mask).sum()) for mask in before.values()))
    assert pruner.finished
    found, limit = left(pruner, target)
    assert found <= limit
    assert removed == sorted(removed)
    if isinstance(schedule, Cubic):
        assert 0 < removed[2] < removed[-1]
    if isinstance(schedule, OneShot) and units == Neurons():
        mask = pruner.masks["3.weight"].any(axis=(1, 2, 3))
        assert mask[:16].sum() < mask[16:].sum()


def test_what_cannot_be_met_any_more_ends_no_training() -> None:
    """Scores may move so that another unit of a layer must stay, one that more weights hang on."""
    graph = st.graph(torch_network(), torch.from_numpy(X))
    ranking = NeuronRanking(graph, couple(graph), "mean")
    scores = {layer: np.arange(members.size, dtype=np.float64) for layer, members in ranking.layers()}
    chosen = selection(Recipe(Parameters(0.999), granularity=Neurons()), ranking)
    with pytest.raises(UnreachableTargetError):
        chosen.keep(scores, 1.0, chosen.budgets(scores))
    with pytest.warns(UserWarning, match="are left when everything has gone that can"):
        kept, _ = chosen.keep(scores, 1.0, chosen.budgets(scores), training=True)
    assert [np.flatnonzero(flags).tolist() for flags in kept.values()] == [[23], [31], [39]]


@pytest.mark.parametrize("kind", TARGETS)
def test_costs_of_single_weights_and_of_layers_are_refused(kind: type[CostTarget]) -> None:
    with pytest.raises(RecipeError, match=r"stays stored.*Neurons\(\).*Sparsity\(0\.5\)"):
        Recipe(kind(0.5))
    with pytest.raises(RecipeError, match=r"scope='model'.*Sparsity\(0\.5\)"):
        Recipe(kind(0.5), granularity=Neurons(), scope="layer")
    with pytest.raises(RecipeError, match="scope='model'"):
        Recipe(0.5, granularity=Neurons(multiple=8), scope="layer")
    with pytest.raises(RecipeError, match="traced model"):
        Recipe(kind(0.5), granularity=Neurons()).budgets({"a": np.ones(3)})
    assert isinstance(Recipe(0.5, granularity=Weights()).target, Sparsity)


@pytest.mark.parametrize("options", [{"minimum": 0}, {"multiple": -8}, {"minimum": 1.5}, {"multiple": True}])
def test_limits_are_whole_numbers_of_units(options: dict[str, Any]) -> None:
    with pytest.raises(SecateurError, match=r"1 or more|whole number"):
        Neurons(**options)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan"), 50])
def test_fractions_lie_between_0_and_1(kind: type[CostTarget], fraction: float) -> None:
    with pytest.raises(SecateurError, match="0 <= fraction < 1"):
        kind(fraction)


def test_the_recipe_is_restored_with_the_model(tmp_path: Any) -> None:
    recipe = Recipe(Flops(0.5), granularity=Neurons(multiple=4))
    pruned = st.prune(torch_network(), recipe, example=torch.from_numpy(X))
    pruned.save(tmp_path / "saved")
    restored = st.load(tmp_path / "saved", torch_network(), example=torch.from_numpy(X))
    assert restored.recipe == recipe
    assert left(restored, recipe.target) == left(pruned, recipe.target)  # type: ignore[arg-type]
    assert "until 50 % of the floating-point operations are gone" in str(
        pruned.report(tmp_path / "report.html").read_text(encoding="utf-8")
    )
