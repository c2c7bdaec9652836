"""Random blocks on sequences (batch, time, features): attention, recurrence, gates and norms, in several hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Made = tuple[nn.Module, int]


class RootMeanSquareNorm(nn.Module):
    """As every library of language models writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = 1e-5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))


class Function(nn.Module):
    """Layers, and what is done with them."""

    def __init__(self, run: Callable[..., torch.Tensor], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


def _dots(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    return (q * scale @ k.transpose(-2, -1)).softmax(-1) @ v


def _einsum(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    weights = functional.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) * scale, dim=-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)


def _fixed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, scale=scale, is_causal=True)


def _default(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v)


def _masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    time = q.shape[-2]
    mask = torch.full((time, time), float("-inf")).triu(1).to(q.dtype)
    return torch.matmul(torch.softmax(torch.matmul(q, k.mT).mul(scale) + mask, -1), v)


STYLES = [_dots, _einsum, _fixed, _default, _masked]


def _heads_apart(style: Any, repeat: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            split(layer(x)).transpose(1, 2)
            for layer, split in ((self.q, self.heads), (self.k, self.of_keys), (self.v, self.of_values))
        )
        return self.o(style(q, repeat(k), repeat(v), 0.4).transpose(1, 2).flatten(2))

    return forward


def _attention(draw: st.DrawFn, width: int) -> Made:
    """With as many heads of keys as of queries, or with fewer, which are repeated in one of three ways."""
    served, features, times = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    repeat = draw(
        st.sampled_from(
            [
                lambda x: x.repeat_interleave(times, 1),
                lambda x: x[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2),
                lambda x: torch.stack([x] * times, 2).flatten(1, 2),
            ]
        )
    )
    heads, out, bias = served * times, draw(st.integers(1, 5)), draw(st.booleans())
    layers = {
        name: nn.Linear(width, size * features, bias) for name, size in (("q", heads), ("k", served), ("v", served))
    }
    splits = {"heads": heads, "of_keys": served, "of_values": served}
    splits = {name: nn.Unflatten(-1, (size, features)) for name, size in splits.items()}
    forward = _heads_apart(draw(st.sampled_from(STYLES)), repeat)
    return Function(forward, **layers, **splits, o=nn.Linear(heads * features, out)), out


def _fused(draw: st.DrawFn, width: int) -> Made:
    """Queries, keys and values from one layer, taken apart in one of four ways."""
    heads, features, out = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 5))

    def unbind(x: torch.Tensor) -> Any:
        return x.permute(2, 0, 3, 1, 4).unbind(0)

    def index(x: torch.Tensor) -> Any:
        x = x.permute(2, 0, 3, 1, 4)
        return x[0], x[1], x[2]

    def unpack(x: torch.Tensor) -> Any:
        q, k, v = x.transpose(1, 3).transpose(0, 2)
        return q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)

    def chunk(x: torch.Tensor) -> Any:
        return (part.squeeze(2).transpose(1, 2) for part in x.chunk(3, 2))

    style, apart = draw(st.sampled_from(STYLES)), draw(st.sampled_from([unbind, index, unpack, chunk]))

    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        q, k, v = apart(self.split(self.qkv(x)))
        return self.o(style(q, k, v, 0.4).transpose(1, 2).flatten(2))

    split = nn.Unflatten(-1, (3, heads, features))
    qkv = nn.Linear(width, 3 * heads * features)
    return Function(forward, qkv=qkv, split=split, o=nn.Linear(heads * features, out)), out


def _recurrent(draw: st.DrawFn, width: int) -> Made:
    units, directions = draw(st.integers(2, 4)), draw(st.integers(1, 2))
    kind = draw(st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]))
    settings: dict[str, Any] = {"num_layers": draw(st.integers(1, 2)), "bidirectional": directions == 2}
    settings |= {"bias": draw(st.booleans()), "batch_first": True}
    layer: Any = kind(width, units, **settings)
    out = units * directions
    if draw(st.booleans()):
        return Function(lambda self, x: self.layer(x)[0], layer=layer), out

    def last(self: Function, x: torch.Tensor) -> torch.Tensor:
        y, state = self.layer(x)
        state = state[0] if isinstance(state, tuple) else state
        return torch.cat([y, state[-1].unsqueeze(1)] if directions == 1 else [y, y.flip(1)], 1)

    return Function(last, layer=layer), out


def _cell(draw: st.DrawFn, width: int) -> Made:
    units = draw(st.integers(2, 4))
    cell = draw(st.sampled_from([nn.LSTMCell, nn.GRUCell, nn.RNNCell]))(width, units)

    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        state, steps = None, []
        for now in x.unbind(1):
            state = self.cell(now, state)
            steps.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(steps, 1)

    return Function(forward, cell=cell), units


def _gate(draw: st.DrawFn, width: int) -> Made:
    inner, out = draw(st.integers(1, 5)), draw(st.integers(1, 5))

    def halves(self: Function, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.a(x).chunk(2, -1)
        return self.b(functional.silu(gate) * up)

    def glu(self: Function, x: torch.Tensor) -> torch.Tensor:
        return self.b(functional.glu(self.a(x)))

    if draw(st.booleans()):
        layers = {"a": nn.Linear(width, 2 * inner), "b": nn.Linear(inner, out)}
        return Function(draw(st.sampled_from([halves, glu])), **layers), out
    layers = {"g": nn.Linear(width, inner), "u": nn.Linear(width, inner, bias=False), "b": nn.Linear(inner, out)}
    return Function(lambda self, x: self.b(functional.silu(self.g(x)) * self.u(x)), **layers), out


def _norm(width: int, kind: str) -> nn.Module:
    if kind == "own":
        return RootMeanSquareNorm(width)
    return {"rms": nn.RMSNorm, "layer": nn.LayerNorm}[kind](width)


def _residual(draw: st.DrawFn, width: int) -> Made:
    """A widened stream with one or two blocks on it, each behind a norm."""
    stream = draw(st.integers(2, 6))
    inside = [draw(st.sampled_from([_attention, _fused, _gate]))(draw, stream) for _ in range(draw(st.integers(1, 2)))]
    blocks = nn.ModuleList(nn.Sequential(block, nn.Linear(size, stream)) for block, size in inside)
    kind = draw(st.sampled_from(["rms", "own", "layer"]))
    norms = nn.ModuleList(_norm(stream, kind) for _ in blocks)

    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return x

    return Function(forward, first=nn.Linear(width, stream), blocks=blocks, norms=norms), stream


def _by_hand(draw: st.DrawFn, width: int) -> Made:
    """Kernels that no layer of PyTorch's owns, and tensors that are learned."""
    out = draw(st.integers(2, 5))

    def product(self: Function, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias

    def conv1d(self: Function, x: torch.Tensor) -> torch.Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], -1)

    def turned(self: Function, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(functional.linear(x, self.weight.t(), self.bias)) @ self.square.T

    def einsum(self: Function, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("btf,fo->bto", x, self.weight)

    def token(self: Function, x: torch.Tensor) -> torch.Tensor:
        x = torch.matmul(x, self.weight)
        return torch.cat([self.token.expand(len(x), -1, -1), x], 1)

    def learned(self: Function, x: torch.Tensor) -> torch.Tensor:
        queries = (self.token[0] @ self.square).softmax(-1)
        return (x @ self.weight) * queries + self.token[:, :1, :]

    parameters = {
        "weight": nn.Parameter(torch.empty(width, out)),
        "bias": nn.Parameter(torch.empty(out)),
        "square": nn.Parameter(torch.empty(out, out)),
        "token": nn.Parameter(torch.empty(1, 1, out)),
    }
    return Function(draw(st.sampled_from([product, conv1d, turned, einsum, token, learned])), **parameters), out


def _lengths(x: torch.Tensor) -> torch.Tensor:
    """A length for each sequence, which depends on its numbers."""
    return 1 + (x[:, 0, 0] > 0).long() * (x.shape[1] - 1)


def _packed(draw: st.DrawFn, width: int) -> Made:
    """Sequences of several lengths, through a recurrent layer."""
    units, kind = draw(st.integers(2, 4)), draw(st.sampled_from([nn.LSTM, nn.GRU]))

    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        given = pack_padded_sequence(self.first(x), _lengths(x), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.layer(given)[0], batch_first=True, total_length=x.shape[1])[0]

    first = nn.Linear(width, draw(st.integers(1, 4)))
    layer = kind(first.out_features, units, num_layers=draw(st.integers(1, 2)), batch_first=True)
    return Function(forward, first=first, layer=layer), units


def _placed(draw: st.DrawFn, width: int) -> Made:
    """Read and written at places that depend on data."""
    out = draw(st.integers(2, 5))

    def looked_up(self: Function, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return y[torch.arange(len(x)), _lengths(x) - 1][:, None] + y.roll(1, 1)

    def gathered(self: Function, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x).sigmoid()
        return y.gather(1, x.argsort(1)[..., :1].expand(-1, -1, y.size(-1)))

    def summed(self: Function, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return torch.zeros_like(y).index_add_(1, x[0, :, 0].argsort(), y) * y

    def masked(self: Function, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x).clone()
        y[x[..., 0] > 0] = self.shift
        y[:, 0] = y[:, -1].tanh()
        return y

    def routed(self: Function, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x).flatten(0, 1)
        result = y.new_zeros(y.shape)
        mine = (x.flatten(0, 1)[:, 0] > 0).nonzero().flatten()
        result[mine] = self.square(y[mine])
        return result.view(*x.shape[:2], -1) + self.layer(x)

    def heads(self: Function, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bhti,hio->bto", torch.einsum("btf,hfi->bhti", x, self.wide).tanh(), self.narrow)

    def normed(self: Function, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return functional.normalize(y, dim=-1) + y / (y.norm(dim=1, keepdim=True) + 0.5)

    parts = {"layer": nn.Linear(width, out), "shift": nn.Parameter(torch.empty(out)), "square": nn.Linear(out, out)}
    count, inner = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    parts["wide"] = nn.Parameter(torch.empty(count, width, inner))
    parts["narrow"] = nn.Parameter(torch.empty(count, inner, out))
    run = draw(st.sampled_from([looked_up, gathered, summed, masked, routed, heads, normed]))
    return Function(run, **parts), out


def _dense(draw: st.DrawFn, width: int) -> Made:
    out = draw(st.integers(2, 6))
    return nn.Sequential(nn.Linear(width, out), nn.GELU()), out


def _moved(draw: st.DrawFn, width: int) -> Made:
    """Time and features change places; a convolution runs along time."""
    out = draw(st.integers(2, 5))
    layer = nn.Conv1d(width, out, 3, padding=1)
    return Function(lambda self, x: self.layer(x.transpose(1, 2)).roll(1, 2).transpose(1, 2), layer=layer), out


BLOCKS = [_attention, _fused, _recurrent, _cell, _gate, _residual, _by_hand, _dense, _moved, _placed]
BESIDE_PACKED = [_packed, _gate, _residual, _dense]
"""Without sizes in their code: those would need a graph, and ``torch.export`` writes none of packed sequences."""


@st.composite
def sequences(draw: st.DrawFn, width: int) -> Made:
    """Up to three blocks that take (batch, time, ``width``), and the width that they give."""
    blocks, kinds = [], draw(st.sampled_from([BLOCKS, BLOCKS, BLOCKS, BESIDE_PACKED]))
    for _ in range(draw(st.integers(1, 3))):
        block, width = draw(st.sampled_from(kinds))(draw, width)
        blocks.append(block)
    return nn.Sequential(*blocks), width
