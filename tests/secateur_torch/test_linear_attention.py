"""Attention that is linear in time: sums of products of ``elu(x) + 1``, over a divisor that no mask makes zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Heads, Neurons
from secateur.structure.coupling import couple
from torch_halving import halved, lives_on, units

X = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

Features = Callable[[torch.Tensor], torch.Tensor]

FEATURES: dict[str, Features] = {
    "elu": lambda x: functional.elu(x) + 1,
    "elu, the other way round": lambda x: 1.0 + functional.elu(x, 0.5),
    "tanh": lambda x: torch.tanh(x) + 1,
    "square": lambda x: x**2 + 1e-3,
    "exp": torch.exp,
}


def _signed(x: torch.Tensor) -> torch.Tensor:
    """Which may sum up to zero."""
    return torch.sin(2 * x) + 1


class Attention(nn.Module):
    """Of Katharopoulos et al. (2020), arXiv:2006.16236, by three projections or by one."""

    def __init__(self, features: str = "elu", style: str = "einsum", fused: bool = False) -> None:
        super().__init__()
        self.features, self.style, self.heads = FEATURES.get(features, _signed), style, 4
        self.stem, self.out, self.last = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        if fused:
            self.qkv = nn.Linear(12, 36)
        else:
            self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.fused = fused

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        batch, time, _ = x.shape
        if self.fused:
            q, k, v = self.qkv(x).view(batch, time, 3, self.heads, -1).unbind(2)
        else:
            q, k, v = (f(x).view(batch, time, self.heads, -1) for f in (self.q, self.k, self.v))
        q, k = self.features(q), self.features(k)
        made = {"einsum": self.by_einsum, "matmul": self.by_matmul, "causal": self.causal}[self.style](q, k, v)
        return self.last(self.out(made.reshape(batch, time, -1)))

    def by_einsum(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sums = torch.einsum("nshd,nshm->nhmd", k, v)
        scale = 1 / (torch.einsum("nlhd,nhd->nlh", [q, k.sum(dim=1)]) + 1e-6)
        return torch.einsum("nlhd,nhmd,nlh->nlhm", q, sums, scale)

    def by_matmul(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        divisor = q @ k.sum(2).unsqueeze(-1)
        return ((q @ (k.mT @ v)) / divisor).transpose(1, 2)

    def causal(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sums = torch.einsum("nshd,nshm->nshdm", k, v).cumsum(1)
        divisor = (q * k.cumsum(1)).sum(-1, keepdim=True)
        return torch.einsum("nshd,nshdm->nshm", q, sums) * divisor.reciprocal()


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("style", ["einsum", "matmul", "causal"])
def test_heads_go(features: str, style: str) -> None:
    pruned, small = halved(Attention(features, style), X, 0)
    assert pruned.max_error < 1e-12
    assert units(pruned) == {"stem": 12, "q": 4, "out": 12}
    assert tuple(small.get_parameter("v.weight").shape) == (6, 6)


@pytest.mark.parametrize("fused", [False, True])
def test_in_training_and_from_a_folder(fused: bool, tmp_path: Path) -> None:
    pruned, small = halved(Attention(fused=fused), X, 1, Heads())
    assert units(pruned) == {"qkv" if fused else "q": 4}
    lives_on(pruned, small, Attention(fused=fused), X, tmp_path)


def test_features_of_values_go_where_heads_shall_not() -> None:
    """Those of queries and keys cannot: a masked one adds 1 to each sum."""
    pruned, _ = halved(Attention(), X, 0, Neurons(heads=False))
    assert pruned.max_error < 1e-12
    assert units(pruned) == {"stem": 12, "v": 3, "out": 12}


@pytest.mark.parametrize("fused", [False, True])
def test_what_holds_heads_back_is_told_with_its_line(fused: bool) -> None:
    """Of a divisor that may be zero, although features are held back by another operation."""
    coupling = couple(st.graph(Attention("signed", fused=fused), X))
    held = [each for each in coupling.frozen if ("qkv.weight" if fused else "q.weight") in each.parameters]
    (divisor,) = [each for each in held if each.reason == "it divides by what would be zero without a unit"]
    assert divisor.source.startswith("model (Attention) at test_linear_attention.py:")
    assert not any("empty" in each.reason for each in held)
