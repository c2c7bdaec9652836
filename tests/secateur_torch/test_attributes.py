"""Models that keep their sizes as attributes: the smaller one is of the user's own class, with other attributes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Heads, Magnitude, Neurons, Recipe
from secateur_torch.attributes import Key, Size, _solved

HALF = Recipe(0.5, Neurons(), Magnitude(), scope="layer")
Tensor = torch.Tensor


class Causal(nn.Module):
    """Split at the width of its queries, then divided among its heads; it trains with noise of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.split_size, self.heads, self.window = 12, 4, 12
        self.table, self.qkv, self.out = nn.Embedding(30, 12), nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens[:, -self.window :])
        batch, time, _ = x.shape
        parts = self.qkv(x).split(self.split_size, dim=2)
        q, k, v = (part.view(batch, time, self.heads, self.split_size // self.heads).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5)
        if self.training:
            mixed = mixed + torch.randn_like(mixed)
        return self.out(mixed.transpose(1, 2).reshape(batch, time, self.split_size))


class Pieces(nn.Module):
    """Sizes in a tuple, halves of a size, slices, unflattened axes, groups, and a shape that a function remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.shape, self.ends = 24, (2, 8), [6, 12]
        self.first, self.second, self.third = nn.Linear(5, 24), nn.Linear(12, 16), nn.Linear(16, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).tanh().split(self.wide // 2, dim=1)
        x = self.second(left * right).unflatten(1, self.shape).flatten(1)
        x = self.third(x.view(remembered(len(x), self.shape)).flatten(1))
        x = torch.cat([x[:, : self.ends[0]].tanh(), x[:, self.ends[0] : self.ends[1]]], dim=1)
        return self.head(x)


@functools.lru_cache
def remembered(count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """As einops does."""
    return (count, *shape)


class Configured(nn.Module):
    """Two layers with one configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(width=8, name="small")
        self.layers = nn.ModuleList(Layer(self.config) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Layer(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.wide, self.narrow = nn.Linear(6, config.width), nn.Linear(config.width, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(self.wide(x).relu().view(-1, self.config.width))


def tokens(batch: int) -> Tensor:
    return torch.randint(0, 30, (batch, 6))


def numbers(width: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randn(batch, width).double()


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], str]] = {
    "causal": (Causal, tokens, "heads, split_size"),
    "pieces": (Pieces, numbers(5), "ends, shape, wide"),
    "configured": (Configured, numbers(6), "config.width"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_smaller_model_is_of_the_users_own_class(case: str) -> None:
    torch.manual_seed(0)
    make, example, names = CASES[case]
    model = make().double().eval()
    before = {path: dict(vars(module)) for path, module in model.named_modules()}
    pruned = st.prune(model, HALF, example=example(2))
    small = pruned.compact()
    assert pruned.form == f"your own module, with smaller weights and attributes ({names})"
    assert type(small) is make and pruned.max_error is not None and pruned.max_error < 1e-12
    for batch in (1, 5):
        x = example(batch)
        torch.testing.assert_close(small(x), model(x), rtol=1e-10, atol=1e-12)
    assert not any(isinstance(value, Size) for module in small.modules() for value in flat(vars(module)))
    for path, module in model.named_modules():
        assert all(
            vars(module)[name] is value for name, value in before[path].items() if isinstance(value, int | tuple)
        )


def flat(held: dict[str, Any]) -> list[Any]:
    listed = [item for value in held.values() for item in (value if isinstance(value, tuple | list) else [value])]
    return [*listed, *(item for value in listed if isinstance(value, SimpleNamespace) for item in vars(value).values())]


def test_what_the_code_does_in_training_stays_and_other_integers_do() -> None:
    torch.manual_seed(1)
    small = st.prune(Causal().double(), Recipe(0.5, Heads()), example=tokens(2)).compact()
    assert (small.heads, small.split_size, small.window) == (2, 6, 12)
    x = tokens(3)
    small.train()
    assert not torch.equal(small(x), small(x))
    small(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
    small.eval()
    assert small(torch.randint(0, 30, (1, 40))).shape == (1, 12, 12)


class TwoRoles(nn.Module):
    """One attribute for two sizes, of which one stays: no number will do."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu().view(-1, self.width)).view(-1, self.width)


class Scaling(nn.Module):
    """A size that is computed with, too: with another the outputs are others."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).view(-1, self.width)) / math.sqrt(self.width)


@pytest.mark.parametrize("make", [TwoRoles, Scaling])
def test_where_no_attributes_give_the_same_the_graph_is_exported(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(2)
    pruned = st.prune(make().double(), HALF, example=torch.randn(2, 8).double())
    small = pruned.compact()
    assert pruned.form == "the graph that torch.export writes of your module"
    assert pruned.max_error is not None and pruned.max_error < 1e-12
    assert small.get_parameter("first.weight").shape == (4, 8)


def test_demands_are_met_together_or_not_at_all() -> None:
    heads, width, other = (("m", name, None) for name in ("heads", "width", "other"))
    originals: dict[Key, int] = {heads: 4, width: 32, other: 5}
    read = {key: Size.read(value, key) for key, value in originals.items()}
    assert _solved([(read[heads], 2), (read[other], 5)], originals) == {heads: 2}
    assert _solved([(read[heads], 2), (read[width] // read[heads], 4)], originals) == {heads: 2, width: 8}
    assert _solved([(3 * read[width] + 1, 49)], originals) == {width: 16}
    assert _solved([(64 // read[heads], 16), (7 - read[other] % 3, 5)], originals) == {}
    assert _solved([(read[heads], 2), (read[heads], 3)], originals) == {}
    assert _solved([(2 * read[width], 7)], originals) == {}
    assert isinstance(read[width] / 2, float) and read[width] == 32 and read[width] + 0.5 == 32.5
