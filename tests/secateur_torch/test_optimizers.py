"""A smaller model with the carried optimizer goes where the masked large model goes on what stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import HoldError, ModelTypeError

HALF = Recipe(0.5, granularity=Neurons(), scope="layer")


class Convolutional(nn.Sequential):
    """Batch normalisation, a group of channels, a flattened axis."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 8, 3, padding=1, bias=False),  # its gradient would be rounding alone
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, groups=2),
            nn.PReLU(12),
            nn.Flatten(),
            nn.Linear(192, 3),
        )


class Recurrent(nn.Module):
    """Four gates that are stacked in one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 10, num_layers=2, batch_first=True), nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Tied(nn.Module):
    """One weight under two names, which the optimizer knows once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 6)
        self.out.weight = nn.Parameter(self.first.weight.detach().t().clone())
        self.again = nn.Linear(10, 10)
        self.again.weight = self.second.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.first(x))
        return self.out(torch.tanh(self.again(torch.tanh(self.second(x)))))


class Written(nn.Module):
    """A width in the code: the smaller model is the exported graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.second(torch.relu(self.first(x)))).view(-1, 32))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutional": (Convolutional, (2, 6, 6)),
    "recurrent": (Recurrent, (5, 4)),
    "tied": (Tied, (6,)),
    "exported": (Written, (2, 6, 6)),
}

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "momentum": lambda model: torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), 0.01, amsgrad=True),
    "RMSprop": lambda model: torch.optim.RMSprop(model.parameters(), 0.01, momentum=0.5, centered=True),
    "Adagrad": lambda model: torch.optim.Adagrad(model.parameters(), 0.05),
    "plain": lambda model: torch.optim.SGD(model.parameters(), 0.05),
}


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    return make().double(), torch.randn(7, *shape).double()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    (model(x) - 0.3).square().mean().backward()
    optimizer.step()


def same(small: nn.Module, other: nn.Module) -> None:
    assert small.state_dict().keys() == other.state_dict().keys()
    for (name, found), expected in zip(small.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(
            found, expected, rtol=1e-9, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_the_next_steps_are_those_of_the_masked_model(name: str, kind: str) -> None:
    model, x = made(name)
    optimizer = OPTIMIZERS[kind](model)
    pruned = st.prune(model, HALF, example=x[:2])
    for _ in range(3):
        step(model, optimizer, x)
    small = pruned.compact()
    before = copy.deepcopy(optimizer.state_dict())
    carried = pruned.carry_optimizer(optimizer, small)
    assert type(carried) is type(optimizer)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    for _ in range(2):
        step(small, carried, x)
        step(model, optimizer, x)
        same(small, pruned.compact())
    assert str(before["param_groups"]) == str(optimizer.state_dict()["param_groups"])


def test_without_the_state_the_next_step_is_another_one() -> None:
    model, x = made("convolutional")
    optimizer = OPTIMIZERS["AdamW"](model)
    pruned = st.prune(model, HALF, example=x[:2])
    for _ in range(3):
        step(model, optimizer, x)
    small = pruned.compact()
    step(small, OPTIMIZERS["AdamW"](small), x)
    step(model, optimizer, x)
    with pytest.raises(AssertionError):
        same(small, pruned.compact())


def test_groups_keep_their_settings_and_names_and_nothing_is_shared() -> None:
    model, x = made("convolutional")
    kernels = [(name, p) for name, p in model.named_parameters() if p.ndim > 1]
    others = [(name, p) for name, p in model.named_parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": 0.1}, {"params": others, "lr": torch.tensor(0.5), "weight_decay": 0.0}]
    )
    called: list[int] = []
    optimizer.register_step_post_hook(lambda *_: called.append(1))
    pruned = st.prune(model, HALF, example=x[:2])
    step(model, optimizer, x)
    small = pruned.compact()
    carried = pruned.carry_optimizer(optimizer, small)
    first, second = carried.param_groups
    assert (first["weight_decay"], second["weight_decay"]) == (0.1, 0.0)
    assert first["param_names"] == [name for name, _ in kernels]
    assert [id(p) for p in first["params"] + second["params"]] == [
        id(dict(small.named_parameters())[name]) for name, _ in kernels + others
    ]
    first["lr"] = 0.0
    second["lr"].fill_(0.0)
    weights = [p.clone() for p in small.parameters()]
    step(small, carried, x)
    assert called == [1]
    assert all(torch.equal(old, new) for old, new in zip(weights, small.parameters(), strict=True))
    assert optimizer.param_groups[1]["lr"] == 0.5
    assert float(optimizer.state[model[0].weight]["step"]) == 1.0
    assert float(carried.state[small[0].weight]["step"]) == 2.0


def test_a_factored_average_starts_afresh_only_where_its_weight_was_cut() -> None:
    model, x = made("convolutional")
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01)
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer", include=["3.weight"]), example=x[:2])
    step(model, optimizer, x)
    small = pruned.compact()
    carried = pruned.carry_optimizer(optimizer, small)
    assert not carried.state[small[3].weight]
    assert torch.equal(carried.state[small[0].weight]["row_var"], optimizer.state[model[0].weight]["row_var"])
    step(small, carried, x)


def test_it_is_saved_and_loaded_as_any_optimizer() -> None:
    model, x = made("convolutional")
    optimizer = OPTIMIZERS["AdamW"](model)
    pruned = st.prune(model, HALF, example=x[:2])
    step(model, optimizer, x)
    small = pruned.compact()
    carried = pruned.carry_optimizer(optimizer, small)
    twin = copy.deepcopy(small)
    restored = OPTIMIZERS["AdamW"](twin)
    restored.load_state_dict(copy.deepcopy(carried.state_dict()))
    step(small, carried, x)
    step(twin, restored, x)
    same(small, twin)


@pytest.mark.parametrize("kind", ["foreign", "masks", "lbfgs"])
def test_what_cannot_be_carried_is_refused(kind: str) -> None:
    model, x = made("convolutional")
    pruned = st.prune(model, HALF, example=x[:2])
    small: Any = pruned.compact()
    optimizer: torch.optim.Optimizer = OPTIMIZERS["plain"](model)
    message = "compact\\(\\) returned"
    if kind == "foreign":
        optimizer, message = OPTIMIZERS["plain"](made("convolutional")[0]), "none of the model's"
    elif kind == "lbfgs":
        optimizer, message = torch.optim.LBFGS(model.parameters()), "one vector"
    else:
        small = copy.deepcopy(model)
    with pytest.raises(HoldError, match=message):
        pruned.carry_optimizer(optimizer, small)


def test_what_is_no_optimizer_or_no_model_is_refused() -> None:
    model, x = made("convolutional")
    pruned = st.prune(model, HALF, example=x[:2])
    small, optimizer = pruned.compact(), OPTIMIZERS["plain"](model)
    for wrong in (None, small, "SGD"):
        with pytest.raises(HoldError, match=f"{type(wrong).__name__}: give the torch.optim.Optimizer"):
            pruned.carry_optimizer(wrong, small)
    for wrong in (None, optimizer):
        with pytest.raises(ModelTypeError, match=f"{type(wrong).__name__}: give what compact"):
            pruned.carry_optimizer(optimizer, wrong)


def test_what_trains_alone_is_left_out_where_the_smaller_model_has_it_not() -> None:
    class Unused(Written):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(3, 3)

    torch.manual_seed(0)
    model, x = Unused().double(), torch.randn(4, 2, 6, 6).double()
    optimizer = OPTIMIZERS["momentum"](model)
    pruned = st.prune(model, HALF, example=x)
    step(model, optimizer, x)
    small = pruned.compact()
    carried = pruned.carry_optimizer(optimizer, small)
    assert functional.mse_loss(small(x), model(x)) < 1e-20
    assert {id(p) for group in carried.param_groups for p in group["params"]} == {id(p) for p in small.parameters()}
