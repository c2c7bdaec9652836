"""Kernels with an axis of heads or experts, in einsum and batched products: each of their axes has units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Heads, Neurons, Recipe
from secateur.structure.cost import cost
from torch_halving import halved, units
from torch_sequences import Function

X = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def model(run: Callable[..., torch.Tensor], **shapes: tuple[int, ...]) -> nn.Module:
    """A linear layer to 6 features, then ``run`` with parameters of these shapes."""
    kernels = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    return Function(lambda self, x: run(self, self.first(x)), first=nn.Linear(3, 6), last=nn.Linear(4, 2), **kernels)


def _heads(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bhne,hed->bnd", torch.einsum("bnd,hde->bhne", x, self.w).sigmoid(), self.o)


def _experts(self: Any, x: torch.Tensor) -> torch.Tensor:
    """All experts read all tokens, in batched products."""
    tokens = x.flatten(0, 1)
    made = torch.bmm(torch.bmm(tokens.expand(self.w.size(0), -1, -1), self.w).relu(), self.o)
    return self.last(made.sum(0)).view(*x.shape[:2], 2)


def _attention(self: Any, x: torch.Tensor) -> torch.Tensor:
    """With a fixed scale, so that features of queries and keys may go as well."""
    q, k, v = (torch.einsum("bnd,hde->bhne", x, kernel) for kernel in (self.q, self.k, self.v))
    weights = (torch.einsum("bhne,bhme->bhnm", q, k) * 0.3).softmax(-1)
    return torch.einsum("bhnm,bhme,hed->bnd", weights, v, self.o)


def _scaled(self: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (torch.einsum("bnd,hde->bhne", x, kernel) for kernel in (self.q, self.k, self.v))
    return torch.einsum("bhne,hed->bnd", functional.scaled_dot_product_attention(q, k, v), self.o)


PROJECTIONS = dict.fromkeys(("q", "k", "v"), (4, 6, 5))
KINDS: dict[str, tuple[Callable[..., torch.Tensor], dict[str, tuple[int, ...]], dict[str, int]]] = {
    "heads": (_heads, {"w": (3, 6, 5), "o": (3, 5, 2)}, {"w": 8}),
    "experts": (_experts, {"w": (3, 6, 5), "o": (3, 5, 4)}, {"w": 5, "o": 4}),
    "attention": (_attention, {**PROJECTIONS, "o": (4, 5, 2)}, {"q": 9, "v": 5}),
    "scaled attention": (_scaled, {**PROJECTIONS, "o": (4, 5, 2)}, {"q": 4, "v": 5}),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_axis_that_makes_features_has_units(name: str) -> None:
    run, shapes, expected = KINDS[name]
    for seed in range(2):
        pruned, small = halved(model(run, **shapes), X, seed)
        assert units(pruned) == {"first": 6, **expected}
        assert cost(st.graph(small, X)).flops < cost(st.graph(pruned.model, X)).flops
        assert small.get_parameter(next(iter(expected))).shape[1] == 3


def test_whole_heads_go_where_they_are_asked_for() -> None:
    run, shapes, _ = KINDS["attention"]
    pruned, small = halved(model(run, **shapes), X, 0, Heads())
    (heads,) = pruned.summary().coupled
    assert (heads.what, heads.total, heads.removed) == ("heads", 4, 2)
    assert [tuple(small.get_parameter(name).shape) for name in "qo"] == [(2, 6, 5), (2, 5, 2)]


def test_what_makes_features_keeps_as_many_as_are_asked_for() -> None:
    pruned = st.prune(
        model(KINDS["heads"][0], w=(3, 6, 5), o=(3, 5, 2)).double(),
        Recipe(0.5, granularity=Neurons(minimum=2)),
        example=X,
    )
    small = pruned.compact()
    assert min(small.get_parameter("w").shape) >= 2 <= small.first.out_features


def test_axes_are_named_by_their_use_and_excluded_by_name() -> None:
    network = model(_heads, w=(3, 6, 5), o=(3, 5, 2))
    described = st.graph(network, X).parameters
    assert (described["w"].role, described["w"].axes) == ("kernel", ("out2", "in", "out"))
    assert (described["o"].role, described["o"].axes) == ("kernel", ("in", "in2", "out"))
    pruned = st.prune(network, Recipe(0.5, granularity=Neurons(), exclude=["w"]), example=X)
    assert units(pruned) == {"first": 6}


def test_learned_queries_are_no_kernel() -> None:
    def run(self: Any, x: torch.Tensor) -> torch.Tensor:
        return ((self.query @ x.mT).softmax(-1) @ x).flatten(1)[:, :4]

    assert st.graph(model(run, query=(1, 2, 6)), X).parameters["query"].role == "other"
