"""The mistakes of the well-known recipes, shown as they go wrong by hand, and avoided."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from secateur import Neurons, Percentile, Recipe, scores, thresholds

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(50, 6)).astype(np.float32)
Y = RANDOM.integers(0, 3, 50)


def keras_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(10, activation="sigmoid"), keras.layers.Dense(3)])


def torch_model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.Sigmoid(), torch.nn.Linear(10, 3))


def test_summing_a_keras_kernel_along_axis_1_scores_the_inputs_not_the_neurons() -> None:
    model = keras_model()
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    assert np.sum(np.abs(kernel), axis=1).shape == (6,), "one number an input: the trap"
    parameter = sk.parameters(model)[0]
    score = scores.reduce(scores.magnitude(parameter.view), axis=parameter.axes.index("out"), norm=1)
    assert score.shape == (10,)
    np.testing.assert_allclose(score, np.abs(kernel).sum(axis=0, dtype=np.float64), rtol=1e-6)
    pruned = sk.prune(model, Recipe(0.5, granularity=Neurons()))
    mask = next(iter(pruned.masks.values()))
    gone = ~mask.any(axis=0)
    assert gone.sum() == 5
    assert np.array_equal(np.sort(np.argsort(score)[:5]), np.flatnonzero(gone)), "the weakest neurons went"


def test_below_the_90th_percentile_lie_90_percent() -> None:
    model = torch_model()
    score = np.abs(model[0].weight.detach().numpy())
    assert (score < np.percentile(score, 90)).mean() == pytest.approx(0.9)
    assert st.prune(model, Recipe(Percentile(90), include=["0"])).masks["0.weight"].mean() == pytest.approx(0.1)
    assert float(thresholds.percentile(score, 90)) == float(np.percentile(score, 90))


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
    optimizer.step()


def test_a_mask_applied_once_is_undone_by_the_next_step() -> None:
    by_hand, ours = torch_model(), torch_model()
    mask = by_hand[0].weight.detach().abs() > 0.2
    with torch.no_grad():
        by_hand[0].weight.mul_(mask)
    step(by_hand, torch.optim.SGD(by_hand.parameters(), 0.1))
    assert by_hand[0].weight[~mask].abs().max() > 0, "the trap: the zeros are gone"
    pruned = st.prune(ours, Recipe(0.6))
    step(ours, torch.optim.SGD(ours.parameters(), 0.1, momentum=0.9, weight_decay=0.1))
    assert not ours[0].weight.detach().numpy()[~pruned.masks["0.weight"]].any()


def test_a_mask_of_weights_is_not_a_list_of_columns_to_delete() -> None:
    model = torch_model()
    pruned = st.prune(model, Recipe(0.5, include=["0"]), example=X[:4])
    mask = pruned.masks["0.weight"]
    assert not mask.all()
    columns = np.delete(model[0].weight.detach().numpy(), np.where(~mask)[1], axis=1)
    assert columns.shape[1] < 6, "the trap: np.where(mask == 0) names almost every column"
    small = pruned.compact()
    assert small[0].weight.shape == (10, 6), "no unit is wholly unread, so nothing may be removed"
    assert pruned.max_error == 0.0


def test_removing_a_neuron_without_its_column_in_the_next_layer_breaks_the_model() -> None:
    model = torch_model()
    with torch.no_grad():
        model[0] = torch.nn.Linear(6, 5)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.tensor(X))
    model = torch_model()
    small = st.prune(model, Recipe(0.5, granularity=Neurons()), example=X[:4]).compact()
    assert (small[0].out_features, small[2].in_features) == (5, 5)
    assert small[0].bias.shape == (5,)
    torch.testing.assert_close(small(torch.tensor(X)), model(torch.tensor(X)))


def test_a_removed_neuron_leaks_neither_its_bias_nor_sigmoid_of_zero() -> None:
    """Zeroing a neuron's own weights alone leaves sigmoid(0) = 0.5 in the sum of the next layer."""
    model = torch_model()
    by_hand = torch_model()
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons()), example=X[:4])
    gone = ~pruned.masks["0.bias"]
    with torch.no_grad():
        by_hand[0].weight[gone] = 0
        by_hand[0].bias[gone] = 0
    small = pruned.compact()
    wrong = (by_hand(torch.tensor(X)) - small(torch.tensor(X))).abs().max()
    assert wrong > 0.01, "the trap"
    assert not model[2].weight.detach().numpy()[:, gone].any()
    torch.testing.assert_close(small(torch.tensor(X)), model(torch.tensor(X)))
