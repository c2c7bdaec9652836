"""Models that people do write, though not often: each is pruned rightly, or refused in words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Bytes, Gradient, Neurons, Recipe
from secateur.errors import FileFormatError, HoldError, NoMatchError, TraceError, UnsupportedDtypeError
from secateur.structure.coupling import couple
from secateur_torch.files import read_model, write_model
from secateur_torch.masking import hold

IMAGE = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
HALF = Recipe(0.5, granularity=Neurons(), scope="layer")


class Own(nn.Module):
    """A module with a forward of its own."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def halved(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """The model without half of its neurons, verified on an input that it has not seen, without a warning."""
    pruned = st.prune(model, HALF, example=example)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = pruned.compact().eval()
        fresh = torch.randn(5, *example.shape[1:])
        with torch.no_grad():
            torch.testing.assert_close(small(fresh), model.eval()(fresh), rtol=1e-4, atol=1e-5)
    return small


def test_kernels_that_are_parameters_of_a_module_without_layers() -> None:
    torch.manual_seed(0)
    model = Own(
        lambda self, x: functional.linear(functional.linear(x, self.first, self.shift).relu() * self.scale, self.last),
        first=nn.Parameter(torch.randn(8, 6)),
        shift=nn.Parameter(torch.randn(8)),
        scale=nn.Parameter(torch.rand(8)),
        last=nn.Parameter(torch.randn(3, 8)),
    )
    small = halved(model, torch.randn(2, 6))
    assert [tuple(tensor.shape) for tensor in small.parameters()] == [(4, 6), (4,), (4,), (3, 4)]
    by_name = st.prune(model, Recipe(0.25, include=["first"]), example=torch.randn(2, 6))
    assert by_name.masks.keys() == {"first"}


def test_a_depthwise_kernel_of_ones_own() -> None:
    torch.manual_seed(0)
    block = Own(
        lambda self, x: self.out(functional.conv2d(self.inner(x), self.kernel, groups=self.groups)),
        inner=nn.Conv2d(4, 6, 1),
        kernel=nn.Parameter(torch.randn(6, 1, 3, 3)),
        groups=6,
        out=nn.Conv2d(6, 2, 1),
    )
    small = halved(nn.Sequential(block), IMAGE)
    assert (small[0].groups, tuple(small[0].kernel.shape)) == (3, (3, 1, 3, 3))
    assert block.groups == 6


def test_depthwise_layers_that_share_their_kernel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 6, 1), *(nn.Conv2d(6, 6, 3, groups=6, padding=1) for _ in range(2)), nn.Conv2d(6, 2, 1)
    )
    model[2].weight = model[1].weight
    small = halved(model, IMAGE)
    assert small[1].weight is small[2].weight
    assert [(layer.groups, layer.in_channels, layer.out_channels) for layer in small[1:3]] == [(3, 3, 3)] * 2


@pytest.mark.parametrize(
    "norm", [nn.InstanceNorm2d(6), nn.BatchNorm2d(6, affine=False), nn.InstanceNorm2d(6, track_running_stats=True)]
)
def test_normalisations_without_learned_parameters_know_their_new_width(norm: nn.Module) -> None:
    torch.manual_seed(0)
    small = halved(nn.Sequential(nn.Conv2d(4, 6, 3), norm, nn.ReLU(), nn.Conv2d(6, 2, 1)), IMAGE)
    assert small[1].num_features == 3


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4, affine=False, track_running_stats=False), nn.InstanceNorm2d(4, affine=True)]
)
def test_a_normalisation_over_space_holds_back_an_axis_of_space(norm: nn.Module) -> None:
    """The linear layer makes the last axis of the image, along which each channel is then normalised."""
    assert couple(st.graph(nn.Sequential(nn.Linear(6, 9), norm, nn.Linear(9, 3)), IMAGE)).count == 0


def test_a_layer_without_inputs() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Linear(0, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    small = halved(model, torch.zeros(2, 0))
    assert [small[0].out_features, small[2].in_features, small[2].out_features] == [2, 2, 2]


def test_a_weight_that_the_model_returns_stays_whole() -> None:
    model = Own(lambda self, x: (self.b(self.a(x)), self.a.weight), a=nn.Linear(6, 8), b=nn.Linear(8, 2))
    coupling = couple(st.graph(model, torch.zeros(2, 6)))
    assert coupling.count == 0
    assert ("model", "return") in {(frozen.source, frozen.label) for frozen in coupling.frozen}


def test_what_was_frozen_is_told_with_file_and_line() -> None:
    def forward(self: Own, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).sort(dim=1).values)

    line = forward.__code__.co_firstlineno + 1
    graph = st.graph(Own(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 2)), torch.zeros(2, 6))
    sources = {operation.label: operation.source for operation in graph.operations}
    assert sources["sort"] == f"model (Own) at {Path(__file__).name}:{line}"
    assert [operation.source for operation in graph.operations if operation.label == "linear"] == [
        "a (Linear)",
        "b (Linear)",
    ]


def test_a_model_that_cannot_be_copied() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    model.log = Path(__file__).open("rb")  # noqa: SIM115 - closed below
    pruned = st.prune(model, HALF, example=torch.zeros(2, 6))
    with model.log, pytest.raises(TraceError, match="cannot be copied"):
        pruned.compact()
    assert tuple(model[0].weight.shape) == (8, 6)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (torch.eye(3).to(torch.float8_e4m3fn), r"1\.weight has dtype float8_e4m3fn"),
        (torch.ones(3, 3, dtype=torch.bool), r"1\.weight has dtype bool"),
        (torch.eye(3).to_sparse(), r"1\.weight is stored as torch\.sparse_coo"),
    ],
)
def test_weights_that_have_no_order_or_no_place(weight: torch.Tensor, match: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = nn.Parameter(weight, requires_grad=False)
    before = model[0].weight.detach().clone()
    with pytest.raises(UnsupportedDtypeError, match=match):
        st.prune(model, Recipe(0.5))
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("optimizer", ["adam", torch.optim.Adam])
def test_something_that_is_no_optimizer(optimizer: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    before = model[0].weight.detach().clone()
    with pytest.raises(HoldError, match=r"give the torch\.optim\.Optimizer"):
        hold(model, {"0.weight": np.zeros((3, 3), np.bool_)}, optimizer)
    assert torch.equal(model[0].weight, before)


def test_gradients_are_gathered_inside_of_inference_mode() -> None:
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), nn.CrossEntropyLoss()
    inputs, labels = torch.randn(10, 6), torch.randint(0, 3, (10,))
    expected = st.statistics(model, (inputs, labels), loss, ["mean_abs_gradient"])["mean_abs_gradient"]
    with torch.inference_mode():
        data = inputs.clone(), labels.clone()
        found = st.statistics(model, data, loss, ["mean_abs_gradient"])["mean_abs_gradient"]
        assert st.prune(model, Recipe(0.5, score=Gradient()), data=data, loss=loss).sparsity == 0.5
    assert found.keys() == expected.keys()
    for name, mean in expected.items():
        np.testing.assert_array_equal(found[name], mean)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.register_forward_hook(lambda module, inputs, output: output * 2),
        lambda layer: layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,)),
        nn.utils.weight_norm,
        nn.utils.parametrizations.weight_norm,
    ],
)
def test_what_hooks_do_is_not_lost_in_a_file(change: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    model, twin = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    change(model[0])
    change(twin[0])
    write_model(model, tmp_path)
    with pytest.raises(FileFormatError, match="pass model="):
        read_model(tmp_path, None)
    x = torch.randn(2, 3)
    assert torch.equal(read_model(tmp_path, twin)(x), model(x))


def test_gradients_of_a_recurrent_layer_without_cudnn() -> None:
    """On a GPU, cuDNN refuses them in evaluation mode; its switch is found as it was."""
    seen = []

    def loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cudnn.enabled)
        return functional.mse_loss(outputs[0], labels)

    before = torch.backends.cudnn.enabled
    model = nn.LSTM(4, 3)
    found = st.statistics(model, (torch.randn(8, 2, 4), torch.randn(8, 2, 3)), loss, ["mean_gradient"])
    assert found["mean_gradient"]["weight_ih_l0"].shape == (4, 3, 4)
    assert (seen, torch.backends.cudnn.enabled) == ([False], before)


@pytest.mark.parametrize(
    "singular",
    [
        lambda x: 1 / (x + 0),
        lambda x: torch.rsqrt(x),
        lambda x: torch.log(x),
        lambda x: x.sqrt(),
        lambda x: x / x,
        lambda x: x**-1,
        lambda x: x**0.5,
    ],
)
def test_units_that_would_be_divided_by_stay(singular) -> None:  # type: ignore[no-untyped-def]
    """A masked unit is exactly 0 there: its output, or its gradient in training, would not be a number."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(singular(torch.relu(self.first(x))))

    with pytest.raises(NoMatchError, match="no neuron"):
        st.prune(Net(), Recipe(0.5, granularity=Neurons()), example=torch.zeros(3, 4))


class FrozenNorm(nn.Module):
    """A batch normalisation of buffers alone, as detection models have it: by hand, or by PyTorch's function."""

    def __init__(self, channels: int, by_hand: bool) -> None:
        super().__init__()
        self.by_hand = by_hand
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.by_hand:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


@pytest.mark.parametrize("by_hand", [True, False])
def test_buffers_go_with_the_channels_that_they_belong_to(by_hand: bool) -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, bias=False),
        FrozenNorm(8, by_hand),
        nn.Sigmoid(),
        nn.Conv2d(8, 8, 3, bias=False),
        FrozenNorm(8, by_hand),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    before = [buffer.clone() for buffer in model.buffers()]
    small = halved(model, IMAGE)
    assert {tuple(buffer.shape) for buffer in small.buffers()} == {(4,)}
    assert all(map(torch.equal, before, model.buffers()))  # constants are not masked


def test_constants_that_are_summed_over_hold_their_axis_back() -> None:
    """A buffer is no zero where a unit is masked, so what adds it up and has no kernel between would change."""

    def summed(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.last((self.first(x) + self.shift).sum(-1, keepdim=True) * x)

    model = Own(summed, first=nn.Linear(6, 8), last=nn.Linear(6, 2))
    model.register_buffer("shift", torch.rand(8))
    with pytest.raises(NoMatchError, match="reduces over this axis"):
        st.prune(model, HALF, example=torch.randn(3, 6))


def test_buffers_count_in_no_target_and_are_cut_in_the_exported_graph_too() -> None:
    def shifted(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.last(((self.first(x) + self.shift[:1]) * self.gain).reshape(-1, 8))

    model = Own(shifted, first=nn.Linear(6, 8), last=nn.Linear(8, 2))
    model.register_buffer("shift", torch.rand(5, 8))
    model.register_buffer("gain", torch.rand(8), persistent=False)
    pruned = st.prune(model, Recipe(Bytes(0.5), granularity=Neurons()), example=torch.randn(3, 6))
    small = pruned.compact()
    assert pruned.form == "the graph that torch.export writes of your module"
    width = small.get_parameter("first.weight").shape[0]
    assert width == 3  # of 74 numbers 9 * width + 2 stay
    assert {tuple(buffer.shape) for buffer in small.buffers()} == {(5, width), (width,)}
    assert pruned.max_error is not None
    assert pruned.max_error < 1e-5


def routed(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Two experts, chosen by features of which some are masked: how many rows each gets changes with the masks."""
    hidden = self.second(self.first(x).relu())
    result = torch.zeros(len(x), 2)
    for expert, chosen in ((self.one, hidden.sum(-1) > 0), (self.two, hidden.sum(-1) <= 0)):
        result[chosen] = expert(hidden[chosen])
    return result


def packed(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Lengths that depend on features of which some are masked."""
    hidden = self.second(self.first(x).relu())
    lengths = torch.stack([hidden[:, 0] > 0, torch.ones(len(x), dtype=torch.bool)], -1).sum(-1)
    given = nn.utils.rnn.pack_padded_sequence(hidden[:, None].expand(-1, 2, -1), lengths, True, False)
    return self.last(self.reader(given)[1][0])


@pytest.mark.parametrize("forward", [routed, packed])
def test_places_may_depend_on_what_is_masked(forward: Callable[..., Any]) -> None:
    model = Own(
        forward,
        first=nn.Linear(6, 16),
        second=nn.Linear(16, 8),
        one=nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 2)),
        two=nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 2)),
        reader=nn.GRU(8, 6, batch_first=True),
        last=nn.Linear(6, 2),
    )
    pruned = st.prune(model, HALF, example=torch.randn(64, 6))
    small = pruned.compact()
    assert pruned.form == "your own module, with smaller weights"
    fresh = torch.randn(64, 6)
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(fresh), model.eval()(fresh), rtol=1e-4, atol=1e-5)


BLURS: dict[str, Callable[..., torch.Tensor]] = {
    "groups read off": lambda self, x: functional.conv2d(x, self.kernel, groups=x.shape[1]),
    "groups in the code": lambda self, x: functional.conv2d(x.sigmoid(), self.kernel, self.shift, 2, groups=8),
    "expanded": lambda self, x: functional.conv2d(x, self.kernel[:1].expand(x.shape[1], 1, 3, 3), groups=x.shape[1]),
    "repeated": lambda self, x: functional.conv2d(x, self.kernel[:1].repeat(8, 1, 1, 1), groups=8),
}


@pytest.mark.parametrize("name", BLURS)
def test_images_may_be_blurred_by_a_constant_channel_by_channel(name: str) -> None:
    blur = Own(BLURS[name])
    blur.register_buffer("kernel", torch.rand(8, 1, 3, 3))
    blur.register_buffer("shift", torch.rand(8))
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3), blur, nn.Conv2d(8, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    small = halved(model, IMAGE)
    weights = {name: tuple(tensor.shape) for name, tensor in small.named_parameters()}
    assert (weights["0.weight"], weights["2.weight"], weights["6.weight"]) == ((4, 4, 3, 3), (3, 4, 1, 1), (3, 3))
