"""Every view and product is read as what it does: the graph, run by its documented meaning, gives PyTorch's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs
from torch import nn
from torch.nn import functional

import secateur_torch as st
from torch_replay import constants, replay
from torch_sequences import Function


def same(model: nn.Module, *inputs: torch.Tensor) -> None:
    """The graph of a model gives what the model gives."""
    model = model.double().eval()
    graph = st.graph(model, inputs)
    assert "unknown" not in [operation.kind for operation in graph.operations]
    weights = {p.name: torch.from_numpy(np.array(p.view)) for p in st.parameters(model)}
    with torch.no_grad():
        results = model(*inputs)
        replayed = replay(graph, inputs, constants(model, graph), weights)
    expected = [results] if isinstance(results, torch.Tensor) else list(results)
    for wanted, found in zip(expected, replayed, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Two(Function):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.run(self, x, y)


VIEWS: dict[str, Callable[[torch.Tensor], Any]] = {
    "select": lambda x: x.select(1, -2),
    "narrow": lambda x: x.narrow(2, -3, 2),
    "chunk": lambda x: x.chunk(2, 2),
    "split": lambda x: x.split(3, dim=2),
    "split with sizes": lambda x: torch.split(x, [1, 4, 1], 2),
    "tensor split": lambda x: x.tensor_split([1, 3], dim=1),
    "tensor split in parts": lambda x: torch.tensor_split(x, 3, 2),
    "unbind": lambda x: x.unbind(-2),
    "iterated": lambda x: tuple(x),
    "roll": lambda x: x.roll((1, -2), (0, 2)),
    "roll all": lambda x: torch.roll(x, 5),
    "flip": lambda x: x.flip(0, -1),
    "fliplr": lambda x: x.fliplr(),
    "stack": lambda x: torch.stack([x, x], -1),
    "cat": lambda x: torch.cat((x, x[:, :1]), dim=1),
    "expand": lambda x: x[:, None, :1].expand(4, 2, 3, 7, 6),
    "broadcast": lambda x: torch.broadcast_to(x[0], (5, 4, 6)),
    "repeat": lambda x: x[:, :1].repeat(3, 1, 2, 2),
    "tile": lambda x: x.tile((2, 1)),
    "repeat interleave": lambda x: x.repeat_interleave(2, dim=1),
    "repeat interleave all": lambda x: x.repeat_interleave(3),
    "pad": lambda x: functional.pad(x, (1, 0, 2, 3)),
    "pad and cut": lambda x: functional.pad(x, (-1, 2, 0, -3)),
    "unflatten": lambda x: x.unflatten(2, (3, -1)),
    "view as": lambda x: x.view_as(torch.zeros(2, 2, 12)),
    "movedim": lambda x: x.movedim((0, 1), (2, 0)),
    "turned": lambda x: x.mT.transpose(0, 1),
    "pixel shuffle": lambda x: functional.pixel_shuffle(x.reshape(1, 4, 2, 6), 2),
    "pixel shuffle without a batch": lambda x: functional.pixel_shuffle(x.reshape(4, 2, 6), 2),
    "pixel unshuffle": lambda x: functional.pixel_unshuffle(x.reshape(1, 2, 4, 6), 2),
    "channel shuffle": lambda x: functional.channel_shuffle(x.reshape(2, 6, 2, 2), 3),
    "index select": lambda x: x.index_select(1, torch.tensor([3, 0, 3])),
    "sum": lambda x: x.sum((0, -1), keepdim=True),
    "sum of all": lambda x: x.sum(),
    "softmax": lambda x: x.softmax(-2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str) -> None:
    same(Function(lambda self, x: VIEWS[name](x)), numbers(2, 4, 6))


def one_index(size: int) -> hs.SearchStrategy[Any]:
    ends = hs.one_of(hs.none(), hs.integers(-size - 1, size + 1))
    slices = hs.builds(slice, ends, ends, hs.one_of(hs.none(), hs.integers(1, 3)))
    return hs.one_of(hs.integers(-size, size - 1), slices, hs.just(slice(None)))


def positions(size: int) -> hs.SearchStrategy[torch.Tensor]:
    lists = hs.lists(hs.integers(-size, size - 1), min_size=1, max_size=6)
    return hs.one_of(lists.map(torch.tensor), lists.map(lambda some: torch.tensor(some + some).view(2, -1)), lists)


@hs.composite
def indices(draw: hs.DrawFn) -> tuple[Any, ...]:
    """Of a tensor of shape (3, 4, 5, 2): whole numbers, slices, one run of positions, new axes, dots."""
    parts: list[Any] = [draw(one_index(size)) for size in (3, 4, 5, 2)[: draw(hs.integers(0, 4))]]
    if parts and draw(hs.booleans()):
        axis = draw(hs.integers(0, len(parts) - 1))
        parts[axis] = draw(positions((3, 4, 5, 2)[axis]))
    for _ in range(draw(hs.integers(0, 2))):
        parts.insert(draw(hs.integers(0, len(parts))), None)
    if draw(hs.booleans()):
        parts.append(...)
    return tuple(parts)


@given(indices())
def test_indexing(index: tuple[Any, ...]) -> None:
    same(Function(lambda self, x: x[index]), numbers(3, 4, 5, 2))


@hs.composite
def factors(draw: hs.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors that matmul takes, batches that broadcast among them."""
    batch = draw(hs.lists(hs.integers(1, 3), max_size=2))
    inner, left, right = (draw(hs.integers(1, 4)) for _ in range(3))
    shapes = [(*batch, left, inner), (*batch, inner, right)]
    vectors = draw(hs.integers(0, 3))
    short = draw(hs.integers(0, len(batch)))
    shapes[1] = (*[1 if draw(hs.booleans()) else size for size in batch[short:]], inner, right)
    if vectors & 1:
        shapes[0] = (inner,)
    if vectors & 2:
        shapes[1] = (inner,)
    return numbers(*shapes[0]), numbers(*shapes[1])


@given(factors())
def test_matrix_products(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    same(Two(lambda self, x, y: x @ y), *pair)


PRODUCTS: dict[str, tuple[Callable[..., torch.Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "mm": (torch.mm, (3, 4), (4, 2)),
    "bmm": (torch.bmm, (2, 3, 4), (2, 4, 5)),
    "mv": (torch.mv, (3, 4), (4,)),
    "dot": (torch.dot, (4,), (4,)),
    "outer": (torch.outer, (3,), (4,)),
    "baddbmm": (lambda x, y: torch.baddbmm(x[:, :, :1], x, y), (2, 3, 4), (2, 4, 5)),
    "implicit": (lambda x, y: torch.einsum("bij, kj", x, y), (2, 3, 4), (5, 4)),
    "dots": (lambda x, y: torch.einsum("...ij,...kj->...ki", x, y), (2, 3, 4), (5, 4)),
    "dots in the middle": (lambda x, y: torch.einsum("i...j,j->...i", x, y), (2, 3, 4), (4,)),
    "in a list": (lambda x, y: torch.einsum("ij,jk->ki", [x, y]), (3, 4), (4, 2)),
    "tensordot": (lambda x, y: torch.tensordot(x, y, 2), (2, 3, 4), (3, 4, 5)),
    "tensordot of axes": (lambda x, y: torch.tensordot(x, y, dims=([0, -1], [2, 0])), (2, 3, 4), (4, 5, 2)),
    "attention": (lambda x, y: functional.scaled_dot_product_attention(x, y, y), (2, 4, 3, 5), (2, 4, 6, 5)),
    "grouped": (
        lambda x, y: functional.scaled_dot_product_attention(x, y, y, enable_gqa=True),
        (2, 4, 3, 5),
        (2, 2, 6, 5),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    run, left, right = PRODUCTS[name]
    same(Two(lambda self, x, y: run(x, y)), numbers(*left), numbers(*right))


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_multi_head_attention(separate: bool, biased: bool, batched: bool) -> None:
    sizes = {"kdim": 5, "vdim": 7} if separate else {"kdim": None, "vdim": None}
    attention = nn.MultiheadAttention(6, 3, bias=biased, **sizes)
    if biased:
        nn.init.normal_(attention.in_proj_bias)
    shapes = [
        (time, *([2] if batched else []), width)
        for time, width in ((3, 6), (4, sizes["kdim"] or 6), (4, sizes["vdim"] or 6))
    ]

    class Three(Function):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.attention(q, k, v)[0]

    same(Three(lambda self: None, attention=attention), *(numbers(*shape) for shape in shapes))


def test_weights_as_tensors() -> None:
    def turned(self: Function, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        grouped, gates = self.transposed.weight.flatten(1), self.recurrent.weight_hh.transpose(0, 1)
        return grouped, gates, self.recurrent.bias_ih[None], x @ self.table[self.positions].flatten(1)

    parts = {"transposed": nn.ConvTranspose2d(4, 6, 1, groups=2), "recurrent": nn.LSTMCell(3, 2)}
    model = Function(turned, table=nn.Parameter(torch.randn(5, 2)), **parts)
    model.register_buffer("positions", torch.tensor([[4, 0], [1, 1], [3, 2]]))
    same(model, numbers(2, 3))
