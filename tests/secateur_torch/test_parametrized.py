"""Weights that are computed from others are refused in words, or left alone where the recipe leaves them out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import secateur_torch as st
from secateur import Gradient, Neurons, Recipe
from secateur.errors import ParametrizationError, SecateurError
from secateur.structure.coupling import couple

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()

KINDS: dict[str, tuple[Callable[[nn.Module], Any], str, str]] = {
    "weight norm": (parametrizations.weight_norm, "WeightNorm", "parametrize.remove_parametrizations"),
    "spectral norm": (parametrizations.spectral_norm, "SpectralNorm", "parametrize.remove_parametrizations"),
    "orthogonal": (parametrizations.orthogonal, "Orthogonal", "parametrize.remove_parametrizations"),
    "older weight norm": (nn.utils.weight_norm, "WeightNorm", "utils.remove_weight_norm"),
    "older spectral norm": (nn.utils.spectral_norm, "SpectralNorm", "utils.remove_spectral_norm"),
    "prune": (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), "L1Unstructured", "utils.prune.remove"),
}


def network(kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU()),
        *(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
    )
    KINDS[kind][0](model[4])
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", [Recipe(0.5), Recipe(0.5, granularity=Neurons()), Recipe(0.5, include=["4"])])
def test_a_computed_weight_is_refused_with_a_remedy(kind: str, recipe: Recipe) -> None:
    model, (_, name, remedy) = network(kind), KINDS[kind]
    before, states = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    match = rf"4\.weight is no parameter.*by {name}.*{remedy}\(model\.get_submodule\('4'\), 'weight'\).*exclude=\['4'\]"
    with pytest.raises(ParametrizationError, match=match) as caught:
        st.prune(model, recipe, example=X)
    assert isinstance(caught.value, SecateurError)
    assert isinstance(caught.value, ValueError)
    assert torch.equal(torch.get_rng_state(), states)
    for key, value in model.state_dict().items():
        assert torch.equal(before[key], value), key


@pytest.mark.parametrize("kind", KINDS)
def test_the_remedy_works(kind: str) -> None:
    model = network(kind)
    with pytest.raises(ParametrizationError) as caught:
        st.prune(model, Recipe(0.5))
    remedy = str(caught.value).partition("make it one by ")[2].partition(" before pruning")[0]
    eval(remedy, {"torch": torch, "model": model})
    assert st.prune(model, Recipe(0.5)).masks.keys() == {"0.weight", "2.weight", "4.weight", "6.weight"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_that_leaves_it_out_goes_on(kind: str) -> None:
    model = network(kind)
    original = {key: value.clone() for key, value in model[4].state_dict().items()}
    recipe = Recipe(0.5, score=Gradient(), exclude=["4"])
    pruned = st.prune(model, recipe, data=(X, Y), loss=nn.CrossEntropyLoss())
    assert pruned.masks.keys() == {"0.weight", "2.weight", "6.weight"}
    assert all(torch.equal(original[key], value) for key, value in model[4].state_dict().items())
    assert "4" in [row.layer for row in pruned.summary().rows]


@pytest.mark.parametrize("kind", KINDS)
def test_neurons_before_it_go_and_its_own_stay(kind: str) -> None:
    model = network(kind).double()
    example = X.double()
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), exclude=["4"]), example=example)
    small = pruned.compact()
    assert (small[0].out_features, small[2].in_features, small[2].out_features) == (5, 5, 8)
    torch.testing.assert_close(small.eval()(example), model.eval()(example), rtol=0, atol=1e-12)
    for left, right in zip(small[4].state_dict().values(), model[4].state_dict().values(), strict=True):
        assert torch.equal(left, right)
    told = [item for item in pruned.summary().frozen if "never run" in item.reason]
    assert told == []


@pytest.mark.parametrize(
    ("kind", "label", "source"),
    [
        ("weight norm", "weight_norm", "4.parametrizations.weight.0 (_WeightNorm)"),
        ("older weight norm", "weight_norm", "4 (Linear)"),
        ("spectral norm", "mv", "4.parametrizations.weight.0 (_SpectralNorm)"),
    ],
)
def test_what_holds_its_inputs_back_is_the_norm(kind: str, label: str, source: str) -> None:
    held = [each for each in couple(st.graph(network(kind), X)).frozen if "2.weight" in each.parameters]
    assert (label, source) in {(each.label, each.source) for each in held}
    if label == "weight_norm":
        assert "its norm changes with each weight that goes" in {each.reason for each in held}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_shown_by_its_numbers_of_now(kind: str) -> None:
    model = network(kind)
    parameter = {parameter.name: parameter for parameter in st.parameters(model)}["4.weight"]
    assert (parameter.role, parameter.axes, parameter.layer) == ("kernel", ("out", "in"), "4")
    assert parameter.refusal
    model.eval()
    np.testing.assert_array_equal(parameter.view, model[4].weight.detach().numpy())


def test_several_are_named() -> None:
    model = nn.Sequential(*(parametrizations.weight_norm(nn.Linear(3, 3)) for _ in range(3)))
    with pytest.raises(ParametrizationError, match=r"0\.weight is no parameter.*; likewise 1\.weight, 2\.weight$"):
        st.prune(model, Recipe(0.5))


def test_a_model_that_is_one_layer() -> None:
    with pytest.raises(ParametrizationError, match=r"remove_parametrizations\(model, 'weight'\).*exclude=\['weight'\]"):
        st.prune(parametrizations.weight_norm(nn.Linear(3, 3)), Recipe(0.5))


def test_a_kernel_of_another_kind() -> None:
    """Recurrent and transposed kernels, and a hook that nobody knows."""
    recurrent = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    with pytest.raises(ParametrizationError, match=r"weight_hh_l0 is no parameter.*remove_weight_norm\(model, "):
        st.prune(recurrent, Recipe(0.5))
    layer = nn.Linear(3, 3)
    del layer.weight
    layer.latent = nn.Parameter(torch.ones(3))
    layer.weight = layer.latent.detach().diag()
    layer.register_forward_pre_hook(lambda module, inputs: setattr(module, "weight", module.latent.diag()))
    with pytest.raises(ParametrizationError, match=r"^weight is no parameter.*each forward pass, so.*nn\.Parameter"):
        st.prune(layer, Recipe(0.5))


def test_the_layers_own_norm_is_not_touched_by_looking() -> None:
    """In training mode, each look at a spectrally normed weight takes a step of the power iteration."""
    model = network("spectral norm").train()
    before = model[4].parametrizations.weight[0]._u.clone()
    st.parameters(model)
    assert torch.equal(model[4].parametrizations.weight[0]._u, before)
    assert model[4].parametrizations.weight[0].training
    assert parametrize.is_parametrized(model[4])
