"""Divisions by tensors, and kernels that are computed: exact where a masked unit is divided by what is never zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Neurons
from secateur.structure.cost import cost
from secateur.structure.coupling import couple
from torch_halving import halved, lives_on, units
from torch_sequences import Function

GENERATOR = torch.Generator().manual_seed(0)
STEPS = torch.randn(4, 5, 3, dtype=torch.float64, generator=GENERATOR)
IMAGE = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=GENERATOR)

Run = Callable[[torch.Tensor], torch.Tensor]


def model(run: Run) -> nn.Module:
    return Function(lambda self, x: self.last(run(self.first(x))), first=nn.Linear(3, 6), last=nn.Linear(6, 2))


def _response(x: torch.Tensor) -> torch.Tensor:
    """ConvNeXt's, along time."""
    norm = torch.norm(x, dim=1, keepdim=True)
    return x * (norm / (norm.amax(1, keepdim=True) + 1e-6))


def _attended(x: torch.Tensor) -> torch.Tensor:
    """Attention that is linear in time: keys and values are summed up first."""
    q = x.relu()
    sums, total = torch.einsum("btd,bte->bde", q, x), torch.einsum("btd,bd->bt", q, q.sum(1))
    return torch.einsum("btd,bde->bte", q, sums) / (total[..., None] + 1e-6)


EXACT: dict[str, Run] = {
    "by a norm over units": lambda x: x / x.norm(dim=-1, keepdim=True),
    "by a norm over time": lambda x: x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-6),
    "by a sum over time": lambda x: x / (x.relu().sum(1, keepdim=True) + 1e-6),
    "normalize": lambda x: functional.normalize(x, dim=-1),
    "normalize over time": lambda x: functional.normalize(x.sigmoid(), p=1.0, dim=1),
    "cosine similarity": lambda x: x * functional.cosine_similarity(x, x.flip(1), dim=-1)[..., None],
    "exponentials": lambda x: (lambda e: e / e.sum(1, keepdim=True))(torch.exp(x - x.amax(1, keepdim=True))),
    "standardised": lambda x: (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True) + 1e-5),
    "by a root": lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True).expand_as(x) + 1e-5),
    "a sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "a logarithm": lambda x: torch.log(x.exp() + 1),
    "by the largest": lambda x: x / x.abs().amax(1, keepdim=True).clamp(min=1e-6),
    "response": _response,
    "linear attention": _attended,
}


@pytest.mark.parametrize("name", EXACT)
def test_units_that_are_divided_by_what_is_never_zero_go(name: str) -> None:
    for seed in range(2):
        pruned, small = halved(model(EXACT[name]), STEPS, seed)
        assert (small.first.out_features, small.last.in_features) == (3, 3)
        assert pruned.max_error < 1e-12


HELD: dict[str, Run] = {
    "by a norm that may be 0": lambda x: x / x.norm(dim=1, keepdim=True),
    "by a signed sum": lambda x: x / (x.sum(1, keepdim=True) + 1e-6),
    "less than 0": lambda x: x / (x.abs() - 0.5),
    "written over": lambda x: (lambda e: x / e.sub_(1))(x.exp()),
    "written over by others": lambda x: (lambda e: (e.view(-1).zero_(), x / (e + 0))[1])(x.exp()),
    "a softmax over units": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(torch.exp(x)),
    "normalize what is not zero": lambda x: functional.normalize(x.sigmoid(), dim=-1),
    "normalize without epsilon": lambda x: functional.normalize(x, dim=1, eps=0.0),
    "a root": lambda x: torch.sqrt(x.var(1, keepdim=True)) * x,
}


@pytest.mark.parametrize("name", HELD)
def test_units_stay_that_would_be_divided_by_zero_or_are_averaged(name: str) -> None:
    coupling = couple(st.graph(model(HELD[name]), STEPS))
    assert coupling.count == 0
    assert any("first.weight" in frozen.parameters for frozen in coupling.frozen)


def test_the_reason_is_told() -> None:
    reasons = {frozen.reason for frozen in couple(st.graph(model(HELD["by a norm that may be 0"]), STEPS)).frozen}
    assert "it divides by what would be zero without a unit" in reasons


class Standardised(nn.Conv2d):
    """A kernel less its mean, over its deviation, in four hands."""

    def __init__(self, style: str, *sizes: int, **settings: Any) -> None:
        super().__init__(*sizes, **settings)
        self.style, self.gain = style, nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def kernel(self) -> torch.Tensor:
        weight = self.weight
        if self.style == "big transfer":
            variance, mean = torch.var_mean(weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
            return (weight - mean) / torch.sqrt(variance + 1e-10)
        if self.style == "by steps":
            weight = weight - weight.mean(1, keepdim=True).mean(2, keepdim=True).mean(3, keepdim=True)
            deviation = weight.view(weight.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
            return weight / deviation.expand_as(weight)
        flat = weight.reshape(1, self.out_channels, -1)
        gain = (self.gain * 0.3).view(-1) if self.style == "scaled" else None
        return functional.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0).reshape_as(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.kernel(), self.bias, self.stride, self.padding, groups=self.groups)


@pytest.mark.parametrize("style", ["big transfer", "by steps", "timm", "scaled"])
@pytest.mark.parametrize("bias", [True, False])
def test_channels_of_standardised_kernels(style: str, bias: bool) -> None:
    """What they make goes; what they read stays, since their mean is over it."""
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 1), Standardised(style, 4, 8, 3, padding=1, bias=bias), nn.GroupNorm(8, 8)),
        *(nn.ReLU(), nn.Conv2d(8, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    pruned, small = halved(network, IMAGE, 0)
    assert units(pruned) == {"1": 8}
    assert (small[1].out_channels, small[1].in_channels, small[4].in_channels) == (4, 4, 4)
    plain = nn.Sequential(network[0], nn.Conv2d(4, 8, 3, padding=1, bias=bias), *network[2:]).double()
    assert cost(st.graph(network, IMAGE)).flops == cost(st.graph(plain, IMAGE)).flops


def grouped(groups: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 1), nn.ReLU(), Standardised("big transfer", 8, 16, 3, padding=1, groups=groups, bias=bias)),
        *(nn.ReLU(), nn.Conv2d(16, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


@pytest.mark.parametrize(("groups", "bias"), [(2, True), (4, False), (8, True)])
def test_groups_of_standardised_kernels(groups: int, bias: bool, tmp_path: Path) -> None:
    """Whole groups go, or channels that all of them make; the channels of a group that it reads are averaged."""
    network = grouped(groups, bias)
    pruned, small = halved(network, IMAGE, 0)
    assert units(pruned) == {"0": groups}
    assert pruned.max_error < 1e-12
    assert [tuple(small.get_parameter(f"{at}.weight").shape[:2]) for at in (0, 2, 4)] == [
        *((4, 3), (8, 8 // groups), (2, 8)),
    ]
    lives_on(pruned, small, grouped(groups, bias), IMAGE, tmp_path)
    plain = nn.Sequential(*network[:2], nn.Conv2d(8, 16, 3, padding=1, groups=groups, bias=bias), *network[3:]).double()
    assert cost(st.graph(network, IMAGE)).flops == cost(st.graph(plain, IMAGE)).flops


def test_channels_that_all_groups_make_and_the_reason_of_those_that_they_read() -> None:
    pruned, small = halved(grouped(4, True), IMAGE, 0, Neurons(heads=False))
    assert units(pruned) == {"2": 4}
    assert pruned.max_error < 1e-12
    assert small[2].weight.shape[:2] == (8, 2)
    held = couple(st.graph(grouped(1, True).double(), IMAGE)).frozen[0]
    assert (held.label, held.reason) == ("var_mean", "it reduces over this axis")
    assert held.source.startswith("2 (Standardised) at test_divisors.py:")


def test_channels_before_a_kernel_that_another_layer_makes() -> None:
    network = Function(
        lambda self, x: self.last(
            functional.conv2d(self.first(x), self.maker(self.code).view(6, self.first.out_channels, 3, 3)).relu()
        ).mean((2, 3)),
        first=nn.Conv2d(3, 8, 1),
        maker=nn.Linear(5, 6 * 8 * 9),
        code=nn.Parameter(torch.ones(5)),
        last=nn.Conv2d(6, 2, 1),
    )
    pruned, small = halved(network, IMAGE, 0)
    assert small.first.out_channels == 4
    assert small.maker.out_features == 6 * 4 * 9
    assert units(pruned) == {"first": 8}
