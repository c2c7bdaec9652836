"""Whatever is removed, the smaller PyTorch model gives the outputs of the masked one, to 1e-12 in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn

import secateur_torch
from secateur import Gradient, Neurons, Recipe, Weights
from secateur.errors import EmptyLayerError, NoMatchError
from torch_networks import Network, networks

X = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def recipes(granularity: Any) -> st.SearchStrategy[Recipe]:
    return st.builds(
        lambda sparsity, scope: Recipe(sparsity, granularity=granularity, score=Gradient(), scope=scope),
        st.floats(0.1, 0.8),
        st.sampled_from(["model", "layer"]),
    )


def random_statistics(model: nn.Module, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Scores that have nothing to do with the weights, so that units go at random."""
    random = np.random.default_rng(seed)
    return {"mean_abs_gradient": {p.name: random.random(p.view.shape) for p in secateur_torch.parameters(model)}}


def outputs(model: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(inputs.clone()).numpy()


@settings(max_examples=80)
@given(networks(), recipes(Neurons()), st.integers(0, 2**32 - 1))
def test_neurons(model: Network, recipe: Recipe, seed: int) -> None:
    try:
        pruned = secateur_torch.prune(model, recipe, statistics=random_statistics(model, seed), example=X[:2])
    except (NoMatchError, EmptyLayerError) as error:
        event(type(error).__name__)
        return
    expected = outputs(model, X)
    small = pruned.compact()
    event(f"removed: {min(pruned.plan().removed, 5)}")
    np.testing.assert_allclose(outputs(small, X), expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))
    np.testing.assert_array_equal(outputs(model, X), expected)
    lost = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters())
    assert (lost > 0) == (pruned.plan().removed > 0)
    assert list(small.state_dict()) == list(model.state_dict())


@settings(max_examples=25)
@given(networks(), recipes(Weights()), st.integers(0, 2**32 - 1))
def test_weights_may_leave_whole_neurons_unread(model: Network, recipe: Recipe, seed: int) -> None:
    try:
        pruned = secateur_torch.prune(model, recipe, statistics=random_statistics(model, seed), example=X[:2])
    except EmptyLayerError:
        return
    expected = outputs(model, X)
    small = pruned.compact()
    np.testing.assert_allclose(outputs(small, X), expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("batch", [1, 2])
def test_an_example_of_one_is_enough(batch: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3))
    model = model.double()
    pruned = secateur_torch.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=X[:batch])
    small = pruned.compact()
    assert (small[0].out_channels, small[3].in_features, small[3].out_features) == (3, 12, 2)
    np.testing.assert_allclose(outputs(small, X), outputs(model, X), atol=1e-12)
