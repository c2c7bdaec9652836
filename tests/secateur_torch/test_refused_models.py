"""Models that cannot be pruned, and plans of other models, are refused in words; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import (
    ExampleError,
    MissingWeightsError,
    ModelTypeError,
    SecateurError,
    ShapeMismatchError,
    TraceError,
    UnsupportedDtypeError,
)
from secateur_torch import surgery

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
HALF = Recipe(0.5, granularity=Neurons(), scope="layer")


def network(width: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def _quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(network(), {nn.Linear}, dtype=torch.qint8)


REFUSED: dict[str, tuple[Callable[[], Any], type[SecateurError], str]] = {
    "scripted": (lambda: torch.jit.script(network()), ModelTypeError, "is scripted.*the module that it was made from"),
    "traced": (lambda: torch.jit.trace(network(), X), ModelTypeError, "is scripted"),
    "program": (lambda: torch.export.export(network(), (X,)), ModelTypeError, "ExportedProgram"),
    "exported": (lambda: torch.export.export(network(), (X,)).module(), ModelTypeError, r"torch\.export wrote"),
    "quantized": (_quantized, UnsupportedDtypeError, r"0 \(Linear\) is quantized; prune the model before"),
    "on meta": (lambda: network().to("meta"), MissingWeightsError, "meta device"),
}


@pytest.mark.parametrize("recipe", [HALF, Recipe(0.5)])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_model_of_layers_any_more(name: str, recipe: Recipe) -> None:
    make, error, match = REFUSED[name]
    with pytest.raises(error, match=match):
        st.prune(make(), recipe, example=X)


def test_a_scripted_layer_of_a_model() -> None:
    model = nn.Sequential(torch.jit.script(nn.BatchNorm1d(4)), *network())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TraceError, match=r"^0 is scripted, so its structure cannot be read: give the module"):
        st.prune(model, HALF, example=X)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert st.prune(model, Recipe(0.5), example=X).sparsity == 0.5  # single weights need no structure


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrapped_models_are_pruned_through_their_wrapper(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = network()
    small = st.prune(wrap(model), HALF, example=X).compact()
    torch.testing.assert_close(small(X), model(X))
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    assert (model[0].weight == 0).all(1).sum() == 3


@pytest.mark.parametrize("example", [X.to("meta"), torch.ones(3, 4, dtype=torch.int64), X.to(torch.complex64), X.T])
def test_examples_on_another_device_or_of_another_type(example: torch.Tensor) -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ExampleError, match="the model does not accept the example"):
        st.prune(model, HALF, example=example)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_plans_of_other_models_and_of_models_that_are_smaller_already() -> None:
    model = network()
    pruned = st.prune(model, HALF, example=X)
    graph, plan, small = st.graph(model, X), pruned.plan(), pruned.compact()
    for other in (network(5), small, nn.Sequential(nn.Linear(4, 6))):
        with pytest.raises(ShapeMismatchError, match="made for another model, or this one was made smaller since"):
            surgery.compact(other, graph, plan)
    again = st.prune(small, HALF, example=X).compact()
    assert (again[0].out_features, small[0].out_features) == (1, 3)


def test_parameters_that_two_models_share() -> None:
    """Both hold what either prunes, and each can be made smaller."""
    first = network()
    second = nn.Sequential(first[0], nn.Tanh(), nn.Linear(6, 3))
    one, other = st.prune(first, HALF, example=X), st.prune(second, HALF, example=X)
    for model, pruned in ((first, one), (second, other)):
        torch.testing.assert_close(pruned.compact()(X), model(X))
    assert first[0].weight.shape == (6, 4)
