"""Weights as the core sees them: canonical, in the model's own memory, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import MissingWeightsError, NoMatchError, ShapeMismatchError, UnbuiltModelError
from secateur_torch.adapter import TorchAdapter
from secateur_torch.parameters import to_canonical, to_native, weights

LAYERS: dict[str, tuple[nn.Module, str, tuple[str, tuple[str, ...], tuple[int, ...]]]] = {
    "linear": (nn.Linear(3, 5), "weight", ("kernel", ("out", "in"), (5, 3))),
    "bias": (nn.Linear(3, 5), "bias", ("bias", ("out",), (5,))),
    "conv1d": (nn.Conv1d(4, 6, 3), "weight", ("kernel", ("out", "in", "width"), (6, 4, 3))),
    "grouped": (
        nn.Conv2d(4, 6, (2, 3), groups=2),
        "weight",
        ("kernel", ("out", "in", "height", "width"), (6, 2, 2, 3)),
    ),
    "conv3d": (nn.Conv3d(1, 2, 3), "weight", ("kernel", ("out", "in", "depth", "height", "width"), (2, 1, 3, 3, 3))),
    "transposed": (nn.ConvTranspose1d(4, 6, 3), "weight", ("kernel", ("out", "in", "width"), (6, 4, 3))),
    "transposed grouped": (
        nn.ConvTranspose2d(4, 6, (2, 3), groups=2),
        "weight",
        ("kernel", ("group", "out", "in", "height", "width"), (2, 3, 2, 2, 3)),
    ),
    "embedding": (nn.Embedding(7, 2), "weight", ("embedding", ("entries", "features"), (7, 2))),
    "lstm": (nn.LSTM(3, 5), "weight_ih_l0", ("recurrent", ("gate", "out", "in"), (4, 5, 3))),
    "gru": (nn.GRU(3, 5), "weight_hh_l0", ("recurrent", ("gate", "out", "in"), (3, 5, 5))),
    "rnn cell": (nn.RNNCell(3, 5), "weight_ih", ("recurrent", ("gate", "out", "in"), (1, 5, 3))),
    "lstm bias": (nn.LSTM(3, 5), "bias_hh_l0", ("bias", ("gate", "out"), (4, 5))),
    "scale": (nn.BatchNorm2d(4), "weight", ("scale", ("out",), (4,))),
    "shift": (nn.GroupNorm(2, 4), "bias", ("shift", ("out",), (4,))),
    "mean": (nn.BatchNorm1d(4), "running_mean", ("mean", ("out",), (4,))),
    "variance": (nn.BatchNorm1d(4), "running_var", ("variance", ("out",), (4,))),
    "attention": (nn.MultiheadAttention(4, 2), "in_proj_weight", ("kernel", ("out", "in"), (12, 4))),
    "slope": (nn.PReLU(4), "weight", ("other", ("axis0",), (4,))),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_view_is_canonical_and_shares_the_models_memory(kind: str, dtype: torch.dtype) -> None:
    layer, name, expected = LAYERS[kind]
    layer = layer.to(dtype)
    parameter = {parameter.name: parameter for parameter in st.parameters(layer)}[name]
    assert (parameter.role, parameter.axes, parameter.view.shape) == expected
    tensor = layer.get_parameter(name) if name in dict(layer.named_parameters()) else layer.get_buffer(name)
    position = tuple(size - 1 for size in tensor.shape)
    with torch.no_grad():
        tensor[position] = 42.0
    assert parameter.view[tuple(size - 1 for size in parameter.view.shape)] == 42.0
    assert np.count_nonzero(np.asarray(parameter.view, np.float64) == 42.0) == 1


def test_bfloat16_is_the_type_of_ml_dtypes() -> None:
    (parameter, _) = st.parameters(nn.Linear(2, 2, dtype=torch.bfloat16))
    assert parameter.view.dtype == ml_dtypes.bfloat16


def test_a_transposed_convolution_turns_its_axes() -> None:
    layer = nn.ConvTranspose2d(3, 4, 2)
    view = st.parameters(layer)[0].view
    np.testing.assert_array_equal(view, layer.weight.detach().permute(1, 0, 2, 3).numpy())


def test_a_grouped_transposed_convolution_keeps_each_groups_kernel() -> None:
    layer = nn.ConvTranspose1d(4, 6, 3, groups=2)
    view = st.parameters(layer)[0].view
    for group in range(2):
        own = layer.weight.detach()[2 * group : 2 * group + 2]
        np.testing.assert_array_equal(view[group], own.permute(1, 0, 2).numpy())


def test_gates_follow_one_another() -> None:
    layer = nn.LSTM(3, 5)
    view = st.parameters(layer)[0].view
    np.testing.assert_array_equal(view[2], layer.weight_ih_l0.detach().numpy()[10:15])


@pytest.mark.parametrize("kind", LAYERS)
def test_masks_go_to_the_native_layout_and_back(kind: str) -> None:
    layer, name, (_, _, shape) = LAYERS[kind]
    mask = np.random.default_rng(0).random(shape) < 0.5
    native = to_native(layer, {name: mask})
    tensor = next(weight.tensor for weight in weights(layer) if weight.name == name)
    assert native[name].shape == tuple(tensor.shape)
    assert native[name].flags.c_contiguous
    np.testing.assert_array_equal(to_canonical(layer, native)[name], mask)


def test_masks_reach_the_elements_that_the_view_shows() -> None:
    model = nn.Sequential(nn.ConvTranspose1d(4, 6, 3, groups=2), nn.ConvTranspose1d(6, 2, 2), nn.LSTM(2, 3))
    masks = {p.name: np.random.default_rng(1).random(p.view.shape) < 0.5 for p in st.parameters(model)}
    before = {parameter.name: parameter.view.copy() for parameter in st.parameters(model)}
    TorchAdapter().apply(model, masks)
    for parameter in st.parameters(model):
        np.testing.assert_array_equal(
            parameter.view, np.where(masks[parameter.name], before[parameter.name], 0), parameter.name
        )


def test_a_shared_weight_comes_once_under_its_first_name() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert [parameter.name for parameter in st.parameters(model)] == ["0.weight", "0.bias", "1.bias"]


def test_a_frozen_layer_says_so() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    assert [parameter.trainable for parameter in st.parameters(model)] == [False, False, True, True]


def test_weights_come_in_the_order_of_the_forward_pass() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first, self.idle = nn.Linear(4, 2), nn.Linear(3, 4), nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x))

    names = [parameter.name for parameter in st.parameters(Backwards(), torch.zeros(1, 3))]
    assert names == ["first.weight", "first.bias", "last.weight", "last.bias", "idle.weight", "idle.bias"]


@pytest.mark.parametrize("layer", [nn.Linear(0, 3), nn.Linear(3, 0), nn.Linear(1, 1), nn.Conv2d(1, 1, 1)])
def test_empty_and_single_neuron_layers(layer: nn.Module) -> None:
    weight = dict(layer.named_parameters())["weight"]
    assert st.parameters(layer)[0].view.shape == tuple(weight.shape)
    assert to_native(layer, {"weight": np.ones(tuple(weight.shape), bool)})["weight"].shape == tuple(weight.shape)


def test_non_contiguous_weights_are_seen_and_masked() -> None:
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    before = layer.weight.detach().clone()
    mask = np.random.default_rng(0).random((4, 3, 3, 3)) < 0.5
    TorchAdapter().apply(layer, {"weight": mask})
    np.testing.assert_array_equal(st.parameters(layer)[0].view, np.where(mask, before.numpy(), 0))
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("masks", "error", "match"),
    [
        ({"2.weight": np.ones((2, 2), bool)}, NoMatchError, "no weight named 2.weight"),
        ({"0.weight": np.ones((2, 3), bool)}, ShapeMismatchError, r"0\.weight has shape \(2, 3\), expected \(3, 2\)"),
    ],
)
def test_masks_that_do_not_fit(masks: Any, error: type[Exception], match: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    before = model[0].weight.detach().clone()
    with pytest.raises(error, match=match):
        TorchAdapter().apply(model, {"0.bias": np.zeros(3, bool)} | masks)
    assert torch.equal(before, model[0].weight)
    assert model[0].bias.count_nonzero() > 0


def test_models_without_numbers() -> None:
    with pytest.raises(UnbuiltModelError, match="weight has no shape yet"):
        st.parameters(nn.LazyLinear(3))
    with pytest.raises(MissingWeightsError, match="weight is on the meta device"):
        st.parameters(nn.Linear(3, 3, device="meta"))


def test_a_subclass_with_parameters_of_its_own() -> None:
    class Scaled(nn.BatchNorm1d):
        def __init__(self) -> None:
            super().__init__(3)
            self.temperature = nn.Parameter(torch.ones(3))

    roles = {parameter.name: parameter.role for parameter in st.parameters(Scaled())}
    assert roles["temperature"] == "other"


def test_masks_of_running_statistics_are_applied() -> None:
    layer = nn.BatchNorm1d(4)
    TorchAdapter().apply(layer, {"running_var": np.array([True, False, True, False])})
    assert layer.running_var.tolist() == [1.0, 0.0, 1.0, 0.0]


class Chosen(nn.Module):
    """Reads its hidden units in an order that is told by an integer parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.order = nn.Parameter(torch.randperm(8), requires_grad=False)
        self.flags = nn.Parameter(torch.tensor([True, False]), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))[:, self.order]))


@pytest.mark.parametrize("recipe", [Recipe(0.5), Recipe(0.5, granularity=Neurons(), include=["first"])])
def test_integers_outside_of_kernels_are_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    """They neither block the model nor are they masked, sliced or lost."""
    model, example = Chosen(), torch.randn(4, 6)
    order = model.order.clone()
    pruned = st.prune(model, recipe, example=example)
    assert {"order", "flags"}.isdisjoint(item.name for item in pruned.parameters())
    assert pruned.sparsity > 0.0
    small = pruned.compact()
    assert small.first.out_features == (4 if isinstance(recipe.granularity, Neurons) else 8)
    assert pruned.max_error is not None
    pruned.save(tmp_path / "saved")
    loaded = st.load(tmp_path / "saved", Chosen(), example).model
    for left in (model, small, loaded):
        assert torch.equal(left.order, order)
        assert left.flags.tolist() == [True, False]
