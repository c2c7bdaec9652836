"""What kernels read, gathered from passes forward: against the tensors themselves, and without a trace in the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur.errors import InvalidTensorError, MissingDataError

BOTH = ["input_mean", "input_square"]
X = torch.randn(40, 4, 9, 9, generator=torch.Generator().manual_seed(0))


class Mixed(nn.Module):
    """One of each kind of kernel; it remembers what they read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 6, 3, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.fc = nn.Linear(4, 5)
        self.own = nn.Parameter(torch.randn(5, 3))
        self.rnn = nn.LSTM(3, 2, bidirectional=True, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.read: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.read["conv"] = x
        self.read["up"] = x = self.conv(x)
        self.read["fc"] = x = self.drop(torch.relu(self.up(x)).mean(-1).transpose(1, 2))
        self.read["own"] = x = torch.tanh(functional.linear(x, self.fc.weight, self.fc.bias))
        self.read["rnn"] = x = x @ self.own
        self.read["attention"] = x = self.rnn(x)[0]
        return self.attention(x, x, x)[0]


def near(found: Any, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.detach().double().numpy(), rtol=1e-4, atol=1e-6)


def test_each_kernel_s_inputs_whatever_code_reads_them() -> None:
    model = Mixed()
    found = st.statistics(model, X, None, BOTH)
    model.eval()(X)
    mean, square, read = found["input_mean"], found["input_square"], model.read
    channels = read["conv"].mean((0, 2, 3)), read["up"].square().mean((0, 2, 3))
    near(mean["conv.weight"][:, :, 0, 0], torch.stack([channels[0][:2]] * 3 + [channels[0][2:]] * 3))
    near(square["up.weight"][:, 0, :, 0, 0], channels[1].reshape(2, 3))
    near(mean["fc.weight"], read["fc"].mean((0, 1))[None])
    near(square["own"], read["own"].square().mean((0, 1))[:, None])
    near(mean["rnn.weight_ih_l0"], read["rnn"].mean((0, 1))[None, None])
    states = read["attention"]
    near(mean["rnn.weight_hh_l0"][0, 0], states[:, :-1, :2].sum((0, 1)) / states[:, :, 0].numel())
    near(mean["rnn.weight_hh_l0_reverse"][0, 0], states[:, 1:, 2:].sum((0, 1)) / states[:, :, 0].numel())
    near(square["attention.in_proj_weight"], states.square().mean((0, 1))[None])
    merged = np.linalg.lstsq(
        model.attention.out_proj.weight.detach().numpy(),
        (model(X).mean((0, 1)) - model.attention.out_proj.bias).detach().numpy(),
        rcond=None,
    )[0]
    np.testing.assert_allclose(mean["attention.out_proj.weight"][0], merged, rtol=1e-3, atol=1e-5)
    assert set(mean) == {name for name, weight in model.named_parameters() if weight.ndim > 1}


def test_activations_and_gradients_come_from_one_reading_of_a_generator() -> None:
    model, y = nn.Sequential(nn.Flatten(), nn.Linear(324, 3)), torch.arange(40) % 3
    data = ((X[start : start + 30], y[start : start + 30]) for start in (0, 30))
    found = st.statistics(model, data, nn.CrossEntropyLoss(), ["mean_gradient", "input_mean"])
    assert list(found) == ["mean_gradient", "input_mean"]
    near(found["input_mean"]["1.weight"][0], X.mean(0).flatten())
    assert found["mean_gradient"]["1.weight"].shape == (3, 324)


def test_nothing_in_the_model_changes() -> None:
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(147, 2)).train()
    before, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    enabled = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()
    st.statistics(model, X, None, BOTH)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert torch.equal(random, torch.get_rng_state())
    assert enabled == (torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_kernel_that_two_inputs_meet_has_the_mean_of_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) + self.fc(x * 3)

    x = X[:, :, 0, 0]
    near(st.statistics(Twice(), x, None, BOTH)["input_mean"]["fc.weight"][0], 2 * x.mean(0))


def test_bad_data() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), X[:, :, 0, 0].clone()
    with pytest.raises(
        MissingDataError, match=r"does not accept batch 0, inputs \((torch\.)?float32 \(32, 3\)\): give inputs"
    ):
        st.statistics(model, x[:, :3], None, BOTH)
    with pytest.raises(MissingDataError, match="from data"):
        st.statistics(model, None, None, BOTH)
    with pytest.raises(MissingDataError, match="without labels"):
        st.statistics(model, x, nn.MSELoss(), [*BOTH, "mean_gradient"])
    x[35, 2] = float("nan")
    with pytest.raises(InvalidTensorError, match=r"what 0\.weight reads is nan at \(3, 2\) in batch 1"):
        st.statistics(model, x, None, BOTH)
