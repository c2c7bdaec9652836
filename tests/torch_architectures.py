"""The architectures that tools for this get wrong or give up on, small, each in the hand in which it is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from torch_sequences import Function, RootMeanSquareNorm

Case = tuple[nn.Module, Any]

ARCHITECTURES: dict[str, Callable[[], Case]] = {}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


def architecture(build: Callable[[], Case]) -> Callable[[], Case]:
    ARCHITECTURES[build.__name__] = build
    return build


def _image(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, 4, 4, dtype=torch.float64)


@architecture
def permute_then_flatten() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu().permute(0, 2, 3, 1).flatten(1))

    return Function(forward, first=nn.Conv2d(3, 8, 3, padding=1), last=nn.Linear(128, 5)), _image()


class GroupedQueries(nn.Module):
    """LLaMA's: rotary places, fewer heads of keys and values than of queries."""

    def __init__(self, width: int, heads: int, served: int) -> None:
        super().__init__()
        self.size, self.times = width // heads, heads // served
        self.q_proj, self.o_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, served * self.size, bias=False) for _ in range(2))

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        angle = torch.outer(torch.arange(x.shape[2]), torch.arange(1, self.size // 2 + 1)).repeat(1, 2).to(x.dtype)
        first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return x * angle.cos() + torch.cat((-second, first), dim=-1) * angle.sin()

    def repeated(self, x: torch.Tensor) -> torch.Tensor:
        batch, heads, time, size = x.shape
        return x[:, :, None].expand(batch, heads, self.times, time, size).reshape(batch, -1, time, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, _ = x.shape
        q, k, v = (
            layer(x).view(batch, time, -1, self.size).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = self.rotated(q) @ self.repeated(self.rotated(k)).transpose(2, 3) * self.size**-0.5
        causal = torch.full((time, time), torch.finfo(x.dtype).min, dtype=x.dtype).triu(1)
        weights = functional.softmax(scores + causal, dim=-1)
        return self.o_proj((weights @ self.repeated(v)).transpose(1, 2).reshape(batch, time, -1))


@architecture
def llama() -> Case:
    def block(self: Function, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.before(x))
        y = self.after(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))

    def made() -> nn.Module:
        parts = {
            "before": RootMeanSquareNorm(16),
            "after": RootMeanSquareNorm(16),
            "attention": GroupedQueries(16, 4, 2),
        }
        widths = {"gate": (16, 24), "up": (16, 24), "down": (24, 16)}
        return Function(block, **parts, **{name: nn.Linear(*size, bias=False) for name, size in widths.items()})

    layers = (nn.Embedding(11, 16), made(), made(), RootMeanSquareNorm(16), nn.Linear(16, 11, bias=False))
    return nn.Sequential(*layers), IDS


@architecture
def einsum_attention() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 4)) for layer in (self.q, self.k, self.v))
        weights = torch.einsum("bthd,bshd->bhts", q, k).div(2).softmax(-1)
        return self.o(torch.einsum("bhts,bshd->bthd", weights, v).flatten(2))

    layers = {name: nn.Linear(12, 12) for name in "qkv"}
    return Function(forward, **layers, o=nn.Linear(12, 5)), torch.randn(2, 5, 12, dtype=torch.float64)


@architecture
def einsum_with_kernels_of_its_own() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        q, k, v = (torch.einsum("btd,dhe->bthe", x, kernel) for kernel in (self.q, self.k, self.v))
        weights = torch.einsum("bthd,bshd->bhts", q, k).div(2).softmax(-1)
        return self.last(torch.einsum("bhts,bshd,hde->bte", weights, v, self.o))

    kernels = {name: nn.Parameter(torch.randn(12, 3, 4)) for name in "qkv"} | {"o": nn.Parameter(torch.randn(3, 4, 8))}
    model = Function(forward, first=nn.Linear(6, 12), last=nn.Linear(8, 2), **kernels)
    return model, torch.randn(2, 5, 6, dtype=torch.float64)


@architecture
def shufflenet() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        left, right = self.first(x).chunk(2, dim=1)
        x = torch.cat((left, self.branch(right)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width)
        return self.last(torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width).mean([2, 3]))

    branch = nn.Sequential(
        *(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        *(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)),
    )
    return Function(forward, first=nn.Conv2d(3, 8, 1), branch=branch, last=nn.Linear(8, 3)), _image()


def _recurrent(kind: Any, **settings: Any) -> Case:
    layer = kind(8, 6, batch_first=True, **settings)
    out = (layer.proj_size or 6) * (1 + layer.bidirectional)
    model = Function(
        lambda self, x: self.o(self.r(self.i(x))[0][:, -1]), i=nn.Linear(5, 8), r=layer, o=nn.Linear(out, 3)
    )
    return model, torch.randn(2, 4, 5, dtype=torch.float64)


@architecture
def lstm() -> Case:
    return _recurrent(nn.LSTM)


@architecture
def lstm_with_projections() -> Case:
    return _recurrent(nn.LSTM, proj_size=2)


@architecture
def lstm_both_ways() -> Case:
    return _recurrent(nn.LSTM, num_layers=2, bidirectional=True)


@architecture
def gru() -> Case:
    return _recurrent(nn.GRU, num_layers=2)


@architecture
def cells() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.zeros(len(x), self.first.hidden_size, dtype=self.last.weight.dtype)
        cell, top = hidden.clone(), None
        for now in self.table(x).unbind(1):
            hidden, cell = self.first(now, (hidden, cell))
            top = self.second(hidden, top)
        return self.last(top)

    layers = {"first": nn.LSTMCell(7, 6), "second": nn.GRUCell(6, 5), "last": nn.Linear(5, 3)}
    return Function(forward, table=nn.Embedding(11, 7), **layers), IDS


@architecture
def vision_transformer() -> Case:
    def block(self: Function, x: torch.Tensor) -> torch.Tensor:
        batch, time, _ = x.shape
        q, k, v = self.qkv(self.before(x)).reshape(batch, time, 3, -1, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q * 0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(batch, time, -1))
        return x + self.fc2(functional.gelu(self.fc1(self.after(x))))

    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])

    def made() -> nn.Module:
        layers = {"qkv": (12, 36), "proj": (12, 12), "fc1": (12, 20), "fc2": (20, 12)}
        norms = {"before": nn.LayerNorm(12), "after": nn.LayerNorm(12)}
        return Function(block, **norms, **{name: nn.Linear(*size) for name, size in layers.items()})

    learned = {"token": nn.Parameter(torch.randn(1, 1, 12)), "places": nn.Parameter(torch.randn(1, 5, 12))}
    layers = {"patches": nn.Conv2d(3, 12, 2, 2), "norm": nn.LayerNorm(12), "head": nn.Linear(12, 3)}
    return Function(forward, blocks=nn.Sequential(made(), made()), **layers, **learned), _image()


class Conv1D(nn.Module):
    """GPT-2's linear layer, whose kernel lies (in, out)."""

    def __init__(self, out: int, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width, out)), nn.Parameter(torch.randn(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], -1)


@architecture
def gpt2() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        batch, time = x.shape
        x = self.table(x) + self.places(torch.arange(time)[None])
        q, k, v = (
            part.view(batch, time, -1, 4).transpose(1, 2) for part in self.attend(self.norms[0](x)).chunk(3, dim=2)
        )
        weights = torch.matmul(q, k.transpose(-1, -2)) / 2.0
        causal = torch.ones(1, 1, time, time).tril() == 0
        weights = weights.masked_fill(causal, torch.finfo(weights.dtype).min).softmax(-1)
        x = x + self.project(torch.matmul(weights, v).transpose(1, 2).contiguous().view(batch, time, -1))
        x = x + self.down(functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))
        return functional.linear(self.norms[2](x), self.table.weight)

    layers = {"attend": Conv1D(36, 12), "project": Conv1D(12, 12), "up": Conv1D(48, 12), "down": Conv1D(12, 48)}
    tables = {"table": nn.Embedding(11, 12), "places": nn.Embedding(6, 12)}
    return Function(forward, norms=nn.ModuleList(nn.LayerNorm(12) for _ in range(3)), **layers, **tables), IDS


@architecture
def glu() -> Case:
    return nn.Sequential(nn.Linear(6, 16), nn.GLU(), nn.Linear(8, 3)), torch.randn(2, 6, dtype=torch.float64)


@architecture
def swiglu_from_one_layer() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.both(x).chunk(2, dim=-1)
        return self.down(functional.silu(gate) * up)

    return Function(forward, both=nn.Linear(6, 16), down=nn.Linear(8, 3)), torch.randn(2, 6, dtype=torch.float64)


@architecture
def bert() -> Case:
    def forward(self: Function, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        bias = (1.0 - attended[:, None, None, :].double()) * torch.finfo(torch.float32).min
        x = self.norm(self.table(x))
        q, k, v = (layer(x).view(*x.shape[:-1], -1, 4).permute(0, 2, 1, 3) for layer in (self.q, self.k, self.v))
        weights = nn.Softmax(dim=-1)(torch.matmul(q, k.transpose(-1, -2)) / 2.0 + bias)
        context = torch.matmul(weights, v).permute(0, 2, 1, 3).contiguous()
        x = self.first(x + self.o(context.view((*context.size()[:-2], -1))))
        x = self.second(x + self.down(functional.gelu(self.up(x))))
        return self.last(torch.tanh(self.pooler(x[:, 0])))

    layers = {name: nn.Linear(12, 12) for name in ("q", "k", "v", "o", "pooler")}
    layers |= {"up": nn.Linear(12, 20), "down": nn.Linear(20, 12), "last": nn.Linear(12, 2)}
    norms = {name: nn.LayerNorm(12) for name in ("norm", "first", "second")}
    attended = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    return _TwoInputs(forward, table=nn.Embedding(11, 12), **layers, **norms), (IDS, attended)


class _TwoInputs(Function):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.run(self, x, y)


@architecture
def swin() -> Case:
    def windows(x: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, channels)

    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        y = windows(torch.roll(self.norm(x), shifts=(-1, -1), dims=(1, 2)))
        qkv = self.qkv(y).reshape(len(y), 4, 3, -1, 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        bias = self.table[self.positions.view(-1)].view(4, 4, -1).permute(2, 0, 1).contiguous()
        y = (((q * 0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1) @ v).transpose(1, 2)
        y = self.proj(y.reshape(-1, 4, self.proj.in_features)).view(batch, height // 2, width // 2, 2, 2, channels)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)
        return self.head((x + torch.roll(y, shifts=(1, 1), dims=(1, 2))).mean((1, 2)))

    layers = {"patches": nn.Conv2d(3, 12, 1), "norm": nn.LayerNorm(12), "qkv": nn.Linear(12, 36)}
    layers |= {"proj": nn.Linear(12, 12), "head": nn.Linear(12, 3)}
    model = Function(forward, table=nn.Parameter(torch.randn(9, 3)), **layers)
    model.register_buffer("positions", torch.arange(16).view(4, 4) % 9)
    return model, _image()


@architecture
def unet() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        across = self.norm(self.first(x)).relu()
        below = self.thin(self.up(self.down(across).relu()).relu())
        return self.last(torch.cat([across, below], 1))

    layers = {"first": nn.Conv2d(3, 8, 3, padding=1), "norm": nn.GroupNorm(4, 8), "down": nn.Conv2d(8, 12, 3, 2, 1)}
    layers |= {"up": nn.ConvTranspose2d(12, 8, 2, 2), "thin": nn.ConvTranspose2d(8, 8, 1, groups=2)}
    return Function(forward, **layers, last=nn.Conv2d(16, 3, 1)), _image()


@architecture
def super_resolution() -> Case:
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.PixelShuffle(2), nn.Conv2d(4, 2, 1))
    return nn.Sequential(*layers), _image()


@architecture
def padded_shortcut() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0)
        return self.last((self.b(self.a(x).relu()) + shortcut).mean((2, 3)))

    layers = {"first": nn.Conv2d(3, 4, 1), "a": nn.Conv2d(4, 6, 3, 2, 1), "b": nn.Conv2d(6, 8, 3, padding=1)}
    return Function(forward, **layers, last=nn.Linear(8, 3)), _image()


@architecture
def tied_autoencoder() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.code(self.first(x).tanh()).relu() @ self.code.weight)

    return Function(forward, first=nn.Linear(6, 8), code=nn.Linear(8, 8), last=nn.Linear(8, 3)), torch.randn(
        2, 6, dtype=torch.float64
    )


@architecture
def bilinear() -> Case:
    def forward(self: Function, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.both(self.a(x).relu(), self.b(x)))

    layers = {"a": nn.Linear(6, 8), "b": nn.Linear(6, 4), "both": nn.Bilinear(8, 4, 6), "last": nn.Linear(6, 3)}
    return Function(forward, **layers), torch.randn(2, 6, dtype=torch.float64)
