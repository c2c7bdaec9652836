"""The smaller model is an ordinary PyTorch model, and the user's own is never touched."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import ExampleError, NoMatchError, VerificationError
from secateur_torch import surgery
from secateur_torch.layouts import layout

HALF = Recipe(0.5, granularity=Neurons(), scope="layer")
IMAGE = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ROW = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def compacted(model: nn.Module, example: Any, recipe: Recipe = HALF) -> Any:
    """Prune, compact, and require equal outputs on the example in float64 to 1e-12."""
    torch.manual_seed(0)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias)
    pruned = st.prune(model, recipe, example=example)
    small = pruned.compact()
    with torch.no_grad():
        expected, actual = model(example), small(example)
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=0, atol=1e-12 * expected.abs().max().item())
    return small


def settings(module: nn.Module) -> tuple[Any, ...]:
    """What a layer says about its sizes, checked against what it holds."""
    assert copy.deepcopy(module).extra_repr() == module.extra_repr()
    if isinstance(module, nn.Linear):
        assert tuple(module.weight.shape) == (module.out_features, module.in_features)
        return module.in_features, module.out_features
    assert isinstance(module, nn.Conv2d)
    return module.in_channels, module.out_channels, module.groups


def test_multilayer_perceptron() -> None:
    small = compacted(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Sigmoid(), nn.Linear(4, 3)), ROW)
    assert [settings(small[index]) for index in (0, 2, 4)] == [(6, 4), (4, 2), (2, 3)]


def test_convolutions_with_batch_normalisation_and_flatten() -> None:
    small = compacted(
        nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 6, 2), nn.BatchNorm2d(6), nn.PReLU(6), nn.Flatten(), nn.Linear(24, 3)),
        ),
        IMAGE,
    )
    assert [settings(small[index]) for index in (0, 4, 8)] == [(3, 4, 1), (4, 3, 1), (12, 3)]
    assert [small[1].num_features, small[5].num_features, small[6].num_parameters] == [4, 3, 3]
    assert small[1].running_mean.shape == small[1].weight.shape == (4,)


def test_depthwise_separable_with_a_multiplier() -> None:
    small = compacted(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.ReLU6(), nn.Conv2d(8, 2, 1)), IMAGE
    )
    assert [settings(small[index]) for index in (0, 1, 3)] == [(3, 2, 1), (2, 4, 2), (4, 2, 1)]


def test_grouped_convolution() -> None:
    small = compacted(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1)), IMAGE)
    first, grouped, last = (settings(layer) for layer in small)
    assert first[1] == grouped[0] == 4
    assert grouped[1] == last[0] == 4
    assert grouped[2] in (1, 2)


def test_unflatten() -> None:
    small = compacted(
        nn.Sequential(nn.Linear(6, 16), nn.Unflatten(-1, (4, 2, 2)), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(8, 2)),
        ROW,
    )
    assert small[0].out_features == 8
    assert small[1].unflattened_size == (2, 2, 2)


def test_shared_weights_stay_shared() -> None:
    layer = nn.Linear(6, 6)
    model = nn.Sequential(nn.Linear(6, 6), layer, nn.Tanh(), layer, nn.Linear(6, 2))
    small = compacted(model, ROW)
    assert small[1] is small[3]
    assert settings(small[1]) == (3, 3)
    tied = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 2))
    tied[4].weight = tied[2].weight
    small = compacted(tied, ROW)
    assert small[4].weight is small[2].weight
    assert settings(small[4]) == settings(small[2]) == (3, 3)


def test_only_what_can_go_goes_from_a_mixed_model() -> None:
    """Attention, normalisation over the width and recurrence stay; the feed-forward layer's inside shrinks."""
    model = nn.TransformerEncoderLayer(6, 2, dim_feedforward=8, batch_first=True)
    pruned_layers = Recipe(0.5, granularity=Neurons(), include=["linear1"])
    example = torch.randn(2, 5, 6, dtype=torch.float64)
    small = compacted(model, example, pruned_layers)
    assert (small.linear1.out_features, small.linear2.in_features) == (4, 4)
    assert small.self_attn.in_proj_weight.shape == (18, 6)
    with pytest.raises(NoMatchError, match="no neuron of the chosen layers"):
        compacted(model, example, Recipe(0.5, granularity=Neurons(), include=["linear2"]))


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    """A masked model in training mode with a frozen layer, and its smaller form."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    model[4].weight.requires_grad_(False)
    model[1].eval()
    pruned = st.prune(model, HALF, example=IMAGE.float())
    return model, pruned.compact()


def test_the_users_model_is_not_touched() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    pruned = st.prune(model, HALF, example=ROW)
    state, tensors = copy.deepcopy(model.state_dict()), [id(tensor) for tensor in model.parameters()]
    small = pruned.compact()
    with torch.no_grad():
        for tensor in small.parameters():
            tensor.fill_(7.0)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert tensors == [id(tensor) for tensor in model.parameters()]
    assert model[0].out_features == 8


def test_modes_and_frozen_weights_are_kept(pair: tuple[nn.Module, nn.Module]) -> None:
    model, small = pair
    assert [m.training for m in small.modules()] == [m.training for m in model.modules()]
    assert [p.requires_grad for p in small.parameters()] == [p.requires_grad for p in model.parameters()]
    assert all(isinstance(p, nn.Parameter) and p.is_leaf and p.is_contiguous() for p in small.parameters())


def test_the_smaller_model_trains_saves_copies_and_exports(pair: tuple[nn.Module, nn.Module]) -> None:
    model, small = pair
    x, y = IMAGE.float(), torch.tensor([0, 2])
    optimizer = torch.optim.Adam([p for p in small.parameters() if p.requires_grad], 0.05)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = functional.cross_entropy(small(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    small.eval()
    expected = small(x).detach()
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    fresh = copy.deepcopy(small)
    fresh.load_state_dict(torch.load(file))
    exported = torch.export.export(small, (x,)).module()
    for twin in (fresh, pickle.loads(pickle.dumps(small)), exported, torch.compile(small, backend="eager")):
        torch.testing.assert_close(twin(x).detach(), expected)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters()) * 0.51


def test_a_compacted_model_can_be_pruned_again(pair: tuple[nn.Module, nn.Module]) -> None:
    again = st.prune(pair[1], HALF, example=IMAGE.float()).compact()
    assert settings(again[0]) == (3, 2, 1)


def test_channels_last_and_half_precision_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)).bfloat16()
    small = st.prune(model, HALF, example=IMAGE).compact()
    assert small[0].weight.dtype == torch.bfloat16
    assert settings(small[2]) == (4, 2, 1)


def test_a_model_that_was_pruned_by_weights_loses_only_what_nobody_reads() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        model[2].weight[:, 2:5] = 0.0
    pruned = st.prune(model, Recipe(9 / 72), example=ROW)
    small = pruned.compact()
    assert settings(small[0]) == (6, 5)
    torch.testing.assert_close(small(ROW), model(ROW), rtol=0, atol=1e-12)


class Baked(nn.Module):
    """Its forward spells a size out."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conv, self.last, self.flat = nn.Conv2d(3, 8, 3), nn.Linear(288, 3), lambda x: x.view(*shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.flat(functional.relu(self.conv(x))))


@pytest.mark.parametrize("shape", [(-1, 288), (2, 288)])
def test_a_size_spelled_out_in_forward_is_written_anew_in_an_exported_graph(shape: tuple[int, ...]) -> None:
    model = Baked(shape)
    pruned = st.prune(model, HALF, example=IMAGE.float())
    state = copy.deepcopy(model.state_dict())
    small = pruned.compact()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert pruned.form is not None and "torch.export" in pruned.form
    assert small.get_parameter("conv.weight").shape[0] == 4
    assert compacted(Baked((2, -1)), IMAGE).conv.out_channels == 4


def test_functional_groups_become_fewer_in_an_exported_graph() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(functional.conv2d(self.first(x), self.kernel, groups=4))

    pruned = st.prune(Functional(), HALF, example=IMAGE.float())
    assert pruned.compact().get_parameter("kernel").shape == (2, 1, 3, 3)
    assert pruned.form is not None and "torch.export" in pruned.form


def test_masks_that_training_undid_are_found_out() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    pruned = st.prune(model, HALF, example=ROW)
    pruned.release()
    for tensor in model.parameters():
        nn.init.normal_(tensor)
    with pytest.raises(VerificationError, match="release"):
        pruned.compact()


def test_an_example_is_needed_and_may_come_late() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    pruned = st.prune(model, Recipe(0.5))
    with pytest.raises(ExampleError, match="example="):
        pruned.compact()
    assert pruned.compact(ROW)[0].in_features == 6


def test_layers_of_one_neuron_and_of_none() -> None:
    one = nn.Sequential(nn.Linear(6, 1), nn.ReLU(), nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
    small = compacted(one, ROW)
    assert [settings(small[index]) for index in (0, 2, 4)] == [(6, 1), (1, 2), (2, 2)]
    with pytest.warns(UserWarning, match="zero-element"):
        none = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 0))
    with pytest.raises(ExampleError, match=r"output 0 of the model has shape \(2, 0\)"):
        st.prune(none, HALF, example=torch.zeros(2, 6)).compact()


def test_models_with_dict_inputs_and_nested_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 3)

        def forward(self, *, x: torch.Tensor, scale: float = 1.0) -> dict[str, Any]:
            h = self.body(x).relu() * scale
            return {"a": self.a(h), "rest": (self.b(h), None)}

    model = Two().double()
    example = {"x": ROW, "scale": 2.0}
    pruned = st.prune(model, HALF, example=example)
    small = pruned.compact()
    assert [settings(layer) for layer in (small.body, small.a, small.b)] == [(6, 4), (4, 2), (4, 3)]
    torch.testing.assert_close(small(**example)["rest"][0], model(**example)["rest"][0], rtol=0, atol=1e-12)


def test_a_wrapped_or_compiled_model() -> None:
    inner = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    wrapped = nn.DataParallel(inner)
    assert settings(compacted(wrapped, ROW).module[0]) == (6, 4)
    compiled = torch.compile(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double(), backend="eager")
    compiled(ROW)
    pruned = st.prune(compiled, HALF, example=ROW)
    small = pruned.compact()
    torch.testing.assert_close(small(ROW), compiled(ROW), rtol=0, atol=1e-12)
    assert sum(p.numel() for p in small.parameters()) == 6 * 4 + 4 + 4 * 3 + 3


def test_recurrent_layers_tell_their_new_sizes() -> None:
    layer = nn.LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True, proj_size=2)
    model = nn.Sequential(nn.Linear(6, 6), layer, Picked(), nn.Linear(4, 2))
    small = compacted(model, torch.randn(2, 3, 6, dtype=torch.float64))
    assert (small[1].input_size, small[1].hidden_size, small[1].proj_size) == (3, 4, 1)
    assert [id(weight) for weight in small[1]._flat_weights] == [id(weight) for weight in small[1].parameters()]
    assert small[1].weight_ih_l1.shape == (16, 2)
    assert small[3].in_features == 2


class Picked(nn.Module):
    def forward(self, result: tuple[torch.Tensor, Any]) -> torch.Tensor:
        return result[0][:, -1]


def test_cells_and_embeddings_tell_their_new_sizes() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.cell, self.last = nn.Embedding(9, 6), nn.GRUCell(6, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = None
            for now in self.table(x).unbind(1):
                state = self.cell(now, state)
            return self.last(state)

    small = compacted(Steps(), torch.tensor([[1, 2], [3, 4]]))
    assert (small.table.num_embeddings, small.table.embedding_dim) == (9, 3)
    assert (small.cell.input_size, small.cell.hidden_size, small.last.in_features) == (3, 4, 4)


def test_groups_of_a_normalisation_go_as_a_whole() -> None:
    small = compacted(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 2, 1)), IMAGE)
    assert (small[1].num_groups, small[1].num_channels, settings(small[0])) == (2, 4, (3, 4, 1))


@pytest.mark.parametrize("epsilon", [None, 1e-2])
def test_a_norm_by_the_mean_square_is_rescaled(epsilon: float | None) -> None:
    norm = nn.RMSNorm(8, eps=epsilon)
    small = compacted(nn.Sequential(nn.Linear(6, 8), norm, nn.Linear(8, 2)), ROW)
    assert small[1].normalized_shape == (4,)
    assert small[1].eps == 2 * (torch.finfo(torch.float64).eps if epsilon is None else epsilon)
    torch.testing.assert_close(small[1].weight, torch.full((4,), 2.0, dtype=torch.float64).sqrt())


def test_a_bilinear_layer_and_a_transposed_convolution_with_groups() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.both, self.last = (
                nn.Linear(6, 8),
                nn.Linear(6, 4),
                nn.Bilinear(8, 4, 6),
                nn.Linear(6, 3),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.both(self.a(x), self.b(x)))

    both = compacted(Both(), ROW).both
    assert (both.in1_features, both.in2_features, both.out_features) == (4, 2, 3)
    layers = (nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 4, 2, groups=2), nn.Conv2d(4, 2, 1))
    small = compacted(nn.Sequential(*layers), IMAGE)
    assert small[0].out_channels == small[1].in_channels == small[1].weight.shape[0] < 8
    assert small[1].out_channels == small[2].in_channels == small[1].groups * small[1].weight.shape[1]
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in nn.Sequential(*layers).parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_left_of_a_weight_is_its_own_and_can_be_resized(dtype: torch.dtype) -> None:
    layer = nn.ConvTranspose2d(6, 8, 3, groups=2).to(dtype)
    form = layout(layer, "weight", tuple(layer.weight.shape))  # group, out, in, height, width
    kept = {1: torch.tensor([0, 3]), 2: torch.tensor([1, 2])}
    left = surgery.cut(layer.weight, form, kept)
    expected = layer.weight.detach().unflatten(0, (2, 3))[:, [1, 2]][:, :, [0, 3]].flatten(0, 1)
    assert left.dtype == dtype
    assert left.is_contiguous()
    assert torch.equal(left, expected)
    assert left.untyped_storage().resizable()
    assert left.data_ptr() != layer.weight.data_ptr()


def test_a_weight_of_a_strided_view_is_cut_as_it_lies() -> None:
    weight = torch.randn(8, 6).t()
    left = surgery.cut(
        weight, layout(nn.Linear(8, 6), "weight", (6, 8)), {0: torch.tensor([4]), 1: torch.tensor([7, 1])}
    )
    assert torch.equal(left, weight[[4]][:, [7, 1]])
