"""Gradients gathered over batches equal those of autograd, and leave no trace in the model."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur.errors import InvalidTensorError, MissingDataError

X = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 4
LOSS = nn.CrossEntropyLoss()
BOTH = ["mean_abs_gradient", "mean_gradient"]


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.ConvTranspose2d(4, 5, 2), nn.Flatten(), nn.Linear(125, 4)),
    )
    model[1].running_mean.normal_()
    return model.to(dtype)


def direct(model: nn.Module, batches: list[tuple[Any, Any]]) -> dict[str, torch.Tensor]:
    """Mean |gradient| of each weight, by ``backward`` on a copy."""
    twin = copy.deepcopy(model).eval()
    totals = {name: torch.zeros_like(tensor) for name, tensor in twin.named_parameters()}
    for x, y in batches:
        twin.zero_grad()
        LOSS(twin(x), y).backward()
        for name, tensor in twin.named_parameters():
            totals[name] += tensor.grad.abs()
    return {name: total / len(batches) for name, total in totals.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_absolute_gradient_is_that_of_autograd(dtype: torch.dtype) -> None:
    model = network(dtype)
    found = st.statistics(model, (X, Y), LOSS, BOTH)
    expected = direct(model, [(X[:32].to(dtype), Y[:32]), (X[32:].to(dtype), Y[32:])])
    assert set(found) == set(BOTH)
    assert set(found["mean_abs_gradient"]) == set(expected)
    for name, gradient in expected.items():
        canonical = gradient.transpose(0, 1) if name == "4.weight" else gradient
        np.testing.assert_array_equal(found["mean_abs_gradient"][name], canonical.numpy())
        assert found["mean_gradient"][name].shape == tuple(canonical.shape)
        assert (np.abs(found["mean_gradient"][name]) <= found["mean_abs_gradient"][name] * 1.0001 + 1e-12).all()


def test_every_batch_has_equal_weight() -> None:
    model = network()
    batches = [(X[:30], Y[:30]), (X[30:32], Y[30:32]), (X[32:], Y[32:])]
    found = st.statistics(model, iter(batches), LOSS, ["mean_abs_gradient"])
    for name, gradient in direct(model, batches).items():
        canonical = gradient.transpose(0, 1) if name == "4.weight" else gradient
        np.testing.assert_array_equal(found["mean_abs_gradient"][name], canonical.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    model = nn.Linear(6, 4).to(dtype)
    data = [(X[:8, 0, 0], Y[:8]), (X[8:16, 0, 0], Y[8:16]), (X[16:24, 0, 0], Y[16:24])]
    found = st.statistics(model, data, LOSS, ["mean_abs_gradient"])["mean_abs_gradient"]["weight"]
    assert found.dtype == np.float32
    exact = direct(copy.deepcopy(model).float(), data)["weight"].numpy()
    np.testing.assert_allclose(found, exact, atol=0.01 * exact.max())


@pytest.mark.parametrize(
    "data",
    [
        (X.numpy(), Y.numpy()),
        (X.numpy().astype(np.float64), Y.numpy().astype(np.uint8)),
        (X, Y.to(torch.int32)),
        [(X[:32], Y[:32].tolist()), (X[32:], tuple(Y[32:].tolist()))],
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=32),
        [(X[:32].numpy(), Y[:32].numpy().astype(np.uint16)), (X[32:], Y[32:], torch.ones(8))],
    ],
    ids=["numpy", "wide", "int32", "python numbers", "loader", "sample weights"],
)
def test_any_kind_of_data_gives_the_same(data: Any) -> None:
    model = network()
    expected = st.statistics(model, (X, Y), LOSS, BOTH)
    found = st.statistics(model, data, LOSS, BOTH)
    for need in BOTH:
        for name, value in expected[need].items():
            np.testing.assert_array_equal(found[need][name], value)


def test_other_labels() -> None:
    model = nn.Linear(6, 1)
    x = X[:, 0, 0]
    for labels, loss in [
        (np.zeros((40, 1), np.float64), nn.MSELoss()),
        (np.ones((40, 1), bool), lambda out, label: nn.functional.binary_cross_entropy_with_logits(out, label.float())),
        (torch.ones(40, 1), nn.BCEWithLogitsLoss()),
    ]:
        found = st.statistics(model, (x, labels), loss, ["mean_gradient"])
        assert np.abs(found["mean_gradient"]["weight"]).max() > 0
    batches = [({"input": x}, {"target": np.zeros((40, 1)), "weight": [x.mean(), x.std()]})]
    found = st.statistics(model, batches, lambda out, label: label["weight"][1] * out.sum(), ["mean_gradient"])
    np.testing.assert_allclose(found["mean_gradient"]["weight"][0], (x.std() * x.sum(0)).numpy(), rtol=1e-5)


def test_models_of_several_inputs_and_outputs() -> None:
    model = nn.Bilinear(3, 2, 4)
    left, right = torch.randn(8, 3), torch.randn(8, 2)
    found = st.statistics(model, [((left, right), None)], lambda out, _: out.mean(), ["mean_gradient"])
    np.testing.assert_allclose(found["mean_gradient"]["bias"], np.full(4, 0.25), rtol=1e-6)
    gru = nn.GRU(3, 4)
    found = st.statistics(gru, [(left, right)], lambda out, label: out[1].sum() + label.sum(), ["mean_gradient"])
    assert found["mean_gradient"]["weight_hh_l0"].shape == (3, 4, 4)


def test_nothing_in_the_model_changes() -> None:
    class Counting(nn.Module):
        """Its forward normalises by the batch and counts in a buffer, even in evaluation mode."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.register_buffer("seen", torch.zeros(()))
            self.register_buffer("replaced", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += len(x)
            self.replaced = self.replaced + 1
            norm = self.inner[1]
            nn.functional.batch_norm(self.inner[0](x), norm.running_mean, norm.running_var, training=True)
            return self.inner(x) + 0 * torch.rand(1)

    model = Counting()
    model.train()
    model.inner[2].eval()
    model.inner[0].weight.grad = torch.ones_like(model.inner[0].weight)
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    buffers = {name: id(buffer) for name, buffer in model.named_buffers()}
    random = torch.get_rng_state()
    st.statistics(model, (X, Y), LOSS, BOTH)
    st.graph(model, X[:2])
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert buffers == {name: id(buffer) for name, buffer in model.named_buffers()}
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(model.inner[0].weight.grad, torch.ones_like(model.inner[0].weight))
    assert model.inner[6].weight.grad is None
    assert all(tensor.requires_grad for tensor in model.parameters())


def test_it_works_where_gradients_are_off() -> None:
    model = network()
    expected = st.statistics(model, (X, Y), LOSS, ["mean_gradient"])
    with torch.no_grad():
        found = st.statistics(model, (X, Y), LOSS, ["mean_gradient"])
    np.testing.assert_array_equal(found["mean_gradient"]["6.weight"], expected["mean_gradient"]["6.weight"])


def test_frozen_and_unused_weights_are_absent_and_shared_ones_once() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4))
    model[1].weight = model[0].weight
    model[2].bias.requires_grad_(False)
    model[0].register_parameter("idle", nn.Parameter(torch.zeros(3)))
    found = st.statistics(model, (X[:, 0, 0], Y), LOSS, ["mean_gradient"])["mean_gradient"]
    assert set(found) == {"0.weight", "0.bias", "1.bias", "2.weight"}


def test_a_wholly_frozen_model_has_none() -> None:
    model = nn.Linear(6, 4).requires_grad_(False)
    assert st.statistics(model, (X[:, 0, 0], Y), LOSS, ["mean_gradient"]) == {"mean_gradient": {}}


def test_a_nan_gradient_is_named() -> None:
    model = nn.Sequential(nn.Linear(6, 4))
    x = X[:, 0, 0].clone()
    x[35, 2] = float("nan")
    with pytest.raises(InvalidTensorError, match=r"gradient of 0\.weight is NaN at \(0, 0\) in batch 1"):
        st.statistics(model, (x, Y), LOSS, ["mean_gradient"])


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (nn.CrossEntropyLoss(reduction="none"), "one number a batch"),
        (lambda out, label: float(out.detach().sum()), "one number a batch"),
        (lambda out, label: out.detach().sum(), "does not depend on any trainable weight"),
        (None, "need a loss"),
        ("mse", "need a loss"),
    ],
)
def test_losses_that_do_not_work(loss: Any, match: str) -> None:
    with pytest.raises(MissingDataError, match=match):
        st.statistics(nn.Linear(6, 4), (X[:, 0, 0], Y), loss, ["mean_gradient"])


def test_an_unknown_statistic() -> None:
    with pytest.raises(MissingDataError, match="hessian cannot be gathered"):
        st.statistics(nn.Linear(6, 4), (X[:, 0, 0], Y), LOSS, ["mean_gradient", "hessian"])


@pytest.mark.parametrize("frozen", [False, True])
def test_a_flow_that_no_gradient_follows_is_told(frozen: bool) -> None:
    class Free(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.set_grad_enabled(frozen):
                return super().forward(x)

    model = Free(4, 3).requires_grad_(not frozen)
    with pytest.raises(MissingDataError, match="no output of the model depends on any trainable weight"):
        st.statistics(model, None, None, ["flow_gradient"], example=torch.ones(1, 4))
