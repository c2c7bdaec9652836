"""Examples that show no difference in numbers: a wrong smaller module is found all the same."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Magnitude, Neurons, Recipe
from secateur.errors import VerificationError
from secateur_torch.adapter import TorchAdapter

OWN, WRITTEN = "your own module, with smaller weights", "the graph that torch.export writes of your module"
HALF = Recipe(0.5, Neurons(), Magnitude(), scope="layer")


class Heads(nn.Module):
    """The width of a head is whatever the number of heads leaves: whole heads cannot go from this code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.qkv, self.out = nn.Linear(8, 16), nn.Linear(16, 48), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, _ = x.shape
        q, k, v = self.qkv(self.first(x)).view(batch, time, 3, 4, -1).permute(2, 0, 3, 1, 4)
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, time, -1))


class Tokens(Heads):
    """The same for tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Embedding(30, 16)  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        q, k, v = self.qkv(hidden).view(*x.shape, 3, 4, -1).permute(2, 0, 3, 1, 4)
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(*x.shape, -1))


class Scaled(nn.Module):
    """Scores by the user's own hand, scaled by a width that shrinks: every shape is right, the numbers are not."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = self.q(x), self.k(x)
        return self.out((q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1) @ self.v(x))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).double()


CASES: dict[str, tuple[type[nn.Module], torch.Tensor, Callable[[], torch.Tensor] | None]] = {
    "zeros": (Heads, torch.zeros(1, 5, 8).double(), lambda: normal(4, 7, 8)),
    "ones": (Heads, torch.ones(2, 5, 8).double(), lambda: normal(4, 7, 8)),
    "one step": (Heads, torch.ones(1, 1, 8).double(), None),
    "tokens": (Tokens, torch.zeros(1, 5, dtype=torch.int64), lambda: torch.randint(0, 30, (4, 7))),
    "scaled": (Scaled, torch.zeros(1, 5, 8).double(), lambda: normal(4, 7, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_example_does_not_show(name: str) -> None:
    torch.manual_seed(0)
    make, example, other = CASES[name]
    model = make().double()
    state = torch.random.get_rng_state()
    pruned = st.prune(model, HALF, example=example)
    small = pruned.compact()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert pruned.form == WRITTEN and pruned.max_error is not None and pruned.max_error < 1e-12
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    x = example if other is None else other()
    torch.testing.assert_close(small(x), model(x), rtol=1e-10, atol=1e-12)


def test_shapes_are_foretold_for_another_example_than_the_traced_one() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    pruned = st.prune(model, HALF, example=torch.zeros(2, 6).double())
    pruned.compact(torch.ones(5, 4, 6).double())
    assert pruned.form == OWN
    pruned = st.prune(Heads().double(), HALF, example=torch.zeros(1, 5, 8).double())
    pruned.compact(torch.ones(3, 2, 8).double())
    assert pruned.form == WRITTEN


class Stubborn(Heads):
    """Neither its code nor torch.export can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if bool(x.sum() < 1) else -x)


def test_the_tensor_of_another_shape_is_told_where_there_is_no_other_form() -> None:
    pruned = st.prune(Stubborn().double(), HALF, example=torch.zeros(1, 1, 8).double())
    with pytest.raises(VerificationError, match=r"view .*gives the shape.*Exclude.*Nor can it be made.*torch\.export"):
        pruned.compact()


class Positive(nn.Module):
    """Gives NaN for most numbers: what is made up tells nothing about it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x.sqrt())))


def test_a_model_that_does_not_take_any_numbers_is_verified_on_the_example_alone() -> None:
    pruned = st.prune(Positive().double(), HALF, example=torch.ones(2, 6).double())
    pruned.compact()
    assert pruned.form == OWN and pruned.max_error is not None


def test_inputs_are_made_up_in_shape_and_type() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.small, self.head = nn.Embedding(30, 4), nn.Embedding(2, 4), nn.Linear(4, 3)

        def forward(
            self, tokens: torch.Tensor, kinds: torch.Tensor, place: torch.Tensor, mask: torch.Tensor, x: torch.Tensor
        ) -> torch.Tensor:
            return self.head((self.table(tokens) + self.small(kinds) + x)[:, place] * mask)

    whole = torch.zeros(1, 50, dtype=torch.int32)
    given = {
        "tokens": whole,
        "kinds": whole.long(),
        "place": torch.tensor([3, 1]),
        "mask": torch.ones(1, 2, 1, dtype=torch.bool),
        "x": torch.ones(1, 50, 4),
    }
    model, adapter = Mixed(), TorchAdapter()
    drawn = adapter.made_up(model, st.graph(model, given), given)
    assert list(drawn) == list(given)
    assert all(drawn[name].shape == given[name].shape and drawn[name].dtype == given[name].dtype for name in given)
    assert 20 < int(drawn["tokens"].max()) < 30 and sorted(drawn["kinds"].unique().tolist()) == [0, 1]
    assert torch.equal(drawn["place"], given["place"]) and torch.equal(drawn["mask"], given["mask"])
    assert 0.8 < float(drawn["x"].std()) < 1.2
    again = adapter.made_up(model, st.graph(model, given), given)
    assert all(torch.equal(drawn[name], again[name]) for name in given)


class Residual(nn.Module):
    """A convolutional network, of which the weights' shapes say all shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head((x + self.second(x)).mean((2, 3)))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)).double()


@pytest.mark.parametrize(
    ("make", "example", "large", "small"),
    [
        (Residual, noise(2, 3, 6, 6), 2, 1),  # traced, and compared once
        (Residual, torch.ones(2, 3, 6, 6).double(), 3, 2),  # made-up numbers are compared too
        (Scaled, noise(2, 5, 8), 2, 2),  # the small one is traced too, since code could read another size
        (Scaled, torch.ones(2, 5, 8).double(), 3, 3),
    ],
)
def test_nothing_is_run_twice(make: type[nn.Module], example: torch.Tensor, large: int, small: int) -> None:
    torch.manual_seed(0)
    model, ran = make().double(), [0, 0]
    size = sum(weight.numel() for weight in model.parameters())

    def count(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if type(module) is make:
            ran[int(sum(weight.numel() for weight in module.parameters()) < size)] += 1

    recipe = Recipe(0.5, Neurons(heads=False), Magnitude(), scope="layer", exclude=["q", "k"])
    handle = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        pruned = st.prune(model, recipe if make is Scaled else HALF, example=example)
        pruned.compact()
    finally:
        handle.remove()
    assert pruned.form == OWN and ran == [large, small]


def test_random_numbers_need_no_other_ones() -> None:
    model, adapter = Residual().double(), TorchAdapter()
    graph = st.graph(model, noise(2, 3, 6, 6))
    assert adapter.made_up(model, graph, noise(2, 3, 6, 6)) is None
    drawn = adapter.made_up(model, graph, torch.arange(216.0).view(2, 3, 6, 6).double())
    assert drawn is not None and drawn[0].shape == (2, 3, 6, 6)


class Choosing(nn.Module):
    """Takes one of two paths by its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 100:
            return self.last(self.first(-x))
        if x.sum() > 0:
            return self.last(self.first(x))
        return self.last(self.other(x))


def test_a_branch_on_numbers_is_told() -> None:
    with pytest.warns(
        UserWarning, match=r"reads numbers.*\(Choosing\) at test_fitting\.py:\d+\. If it branches"
    ) as told:
        pruned = st.prune(Choosing(), HALF, example=torch.ones(2, 6))
    assert len(told) == 1 and str(told[0].message).count("test_fitting") == 1
    assert str(told[0].message) in pruned.summary().notes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        st.prune(Choosing(), Recipe(0.5), example=torch.ones(2, 6))
        pruned = st.prune(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), HALF, example=torch.ones(2, 6))
    assert not pruned.summary().notes
