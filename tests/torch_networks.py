"""Random small PyTorch modules, put together from what people write, in the styles in which they write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from torch_sequences import sequences

Forward = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: list[Forward] = [
    functional.relu,
    torch.tanh,
    nn.Sigmoid(),
    nn.ReLU(inplace=True),
    nn.GELU(),
    lambda x: torch.sin(x + 1),
    lambda x: x.relu_(),
    lambda x: x * torch.sigmoid(x),
    lambda x: (1 - x).clamp(min=-0.5, max=2) / 2,
    lambda x: functional.leaky_relu(x, 0.1).clone().add_(0.25),
    lambda x: functional.dropout(x, 0.5, training=False),
]


class Block(nn.Module):
    """Layers and what is done with them."""

    def __init__(self, forward: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self, x)


class Backwards(torch.autograd.Function):
    """Flips the channels: what no trace of PyTorch's functions shows."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1) * 0.5

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.flip(1) * 0.5


def _convolution(draw: st.DrawFn, width: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(width, out, draw(st.sampled_from([1, 3])), padding="same", bias=draw(st.booleans()))


def _plain(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    out = draw(st.integers(1, 6))
    act = draw(st.sampled_from(ACTIVATIONS))
    layers = [_convolution(draw, width, out), *([nn.BatchNorm2d(out)] if draw(st.booleans()) else [])]
    return Block(lambda self, x: act(self.body(x)), body=nn.Sequential(*layers)), out


def _residual(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    inner = draw(st.integers(2, 6))
    style = draw(
        st.sampled_from(
            [
                lambda self, x: x + self.b(functional.relu(self.a(x))),
                lambda self, x: self.b(self.a(x)).add_(x).relu_(),
                lambda self, x: torch.maximum(self.b(self.a(x).sigmoid()), x),
                lambda self, x: self.b(torch.exp(-self.a(x).square())).mul(0.5) * x,
            ]
        )
    )
    return Block(style, a=_convolution(draw, width, inner), b=_convolution(draw, inner, width)), width


def _concatenation(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    left, right = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    branches = {"a": _convolution(draw, width, left), "b": _convolution(draw, width, right)}
    if draw(st.booleans()):
        return Block(lambda self, x: torch.cat([self.a(x), x, self.b(x).relu()], dim=1), **branches), (
            left + width + right
        )
    return Block(lambda self, x: torch.concat((self.a(x), self.b(x)), axis=-3), **branches), left + right


def _separable(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    wide, multiplier, out = draw(st.integers(2, 5)), draw(st.integers(1, 3)), draw(st.integers(2, 5))
    layers = (
        *(nn.Conv2d(width, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6()),
        *(nn.Conv2d(wide, wide * multiplier, 3, padding=1, groups=wide), nn.Hardswish()),
        nn.Conv2d(wide * multiplier, out, 1),
    )
    return nn.Sequential(*layers), out


def _grouped(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    """A ShuffleNet unit: grouped convolutions with a channel shuffle between."""
    groups, taken, made = draw(st.integers(2, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def forward(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.a(x).relu())
        batch, channels, height, space = x.size()
        x = x.view(batch, self.b.groups, channels // self.b.groups, height, space)
        return self.c(x.transpose(1, 2).contiguous().view(batch, -1, height, space))

    a, b = nn.Conv2d(width, groups * taken, 1), nn.Conv2d(groups * taken, groups * made, 3, padding=1, groups=groups)
    out = draw(st.integers(1, 4))
    return Block(forward, a=a, b=b, c=nn.Conv2d(groups * made, out, 1)), out


def _squeeze(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    inner = draw(st.integers(1, 4))

    def classic(self: Block, x: torch.Tensor) -> torch.Tensor:
        batch, channels, _, _ = x.size()
        gate = functional.adaptive_avg_pool2d(x, 1).view(batch, channels)
        gate = torch.sigmoid(self.b(functional.relu(self.a(gate)))).view(batch, channels, 1, 1)
        return x * gate.expand_as(x)

    def short(self: Block, x: torch.Tensor) -> torch.Tensor:
        return x * self.b(self.a(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]

    def modern(self: Block, x: torch.Tensor) -> torch.Tensor:
        gate = self.b(self.a(x.mean(dim=(2, 3))).relu()).unsqueeze(-1).unsqueeze(-1)
        return x * gate.expand(-1, -1, *x.shape[2:]).type_as(x)

    style = draw(st.sampled_from([classic, short, modern]))
    return Block(style, a=nn.Linear(width, inner), b=nn.Linear(inner, width)), width


def _used_twice(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    layer = _convolution(draw, width, width)
    return Block(lambda self, x: self.a(torch.tanh(self.a(x))), a=layer), width


def _written(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    """In-place writes to views, and other code that must hold back what it touches."""
    out = draw(st.integers(2, 5))

    def view(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        flat = x.view(x.size(0), -1)
        flat.mul_(0.5).add_(flat.tanh())
        return x

    def item(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        x[:, 0] = x[:, 1].relu()
        return x

    def columns(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        first, rest = x[:, :1], x[:, 1:]
        rest.sub_(first)
        return x

    def copied(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        kept = torch.zeros_like(x)
        kept[:] = x
        kept.transpose(1, 2).copy_(x.transpose(1, 2).flip(2))
        return kept + x

    def custom(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return x + Backwards.apply(x)

    def number(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return x * x.abs().amax(1).mean().item() if x.sum() > 1 else x - x[:, 0].mean().item()

    def chunk(self: Block, x: torch.Tensor) -> torch.Tensor:
        left, right = torch.cat([self.a(x), self.a(x).relu()], 1).chunk(2, dim=1)
        return left * right

    style = draw(st.sampled_from([view, item, columns, copied, custom, number, chunk]))
    return Block(style, a=_convolution(draw, width, out)), out


def _stateless(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    layer = draw(
        st.sampled_from(
            [
                *(nn.AvgPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 1, 1), nn.ZeroPad2d((1, 0, 0, 1)), nn.Identity()),
                *(nn.Upsample(scale_factor=2), nn.PReLU(), nn.PReLU(width), nn.BatchNorm2d(width, affine=False)),
                *(nn.BatchNorm2d(width), nn.InstanceNorm2d(width, affine=True), nn.GroupNorm(1, width), nn.Dropout2d()),
            ]
        )
    )
    return layer, width


def _transposed(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    groups, taken, made = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    layers = (
        *(nn.Conv2d(width, groups * taken, 1), nn.ReLU()),
        *(nn.ConvTranspose2d(groups * taken, groups * made, 2, groups=groups), nn.Conv2d(groups * made, 3, 2)),
    )
    return nn.Sequential(*layers), 3


def _shuffled(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    """Views of channels: pixels, groups, halves."""
    inner = draw(st.integers(1, 3))

    def pixels(self: Block, x: torch.Tensor) -> torch.Tensor:
        return self.b(functional.pixel_unshuffle(functional.pixel_shuffle(self.a(x), 2).relu(), 2))

    def halves(self: Block, x: torch.Tensor) -> torch.Tensor:
        first, second = self.a(x).chunk(2, 1)
        return self.b(functional.channel_shuffle(torch.cat([first, second.relu()], 1), 2))

    def gated(self: Block, x: torch.Tensor) -> torch.Tensor:
        return self.b(functional.glu(self.a(x), 1).repeat(1, 2, 1, 1))

    layers = {"a": nn.Conv2d(width, 4 * inner, 1), "b": nn.Conv2d(4 * inner, 2, 1)}
    return Block(draw(st.sampled_from([pixels, halves, gated])), **layers), 2


def _padded(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    """A shortcut whose missing channels are zeros, or another constant."""
    more, value = draw(st.integers(0, 3)), draw(st.sampled_from([0.0, 0.5]))

    def forward(self: Block, x: torch.Tensor) -> torch.Tensor:
        return self.a(x).relu() + functional.pad(x, (0, 0, 0, 0, 1, more), value=value)

    return Block(forward, a=_convolution(draw, width, width + 1 + more)), width + 1 + more


def _grouped_norm(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    groups, each = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    norm = nn.GroupNorm(groups, groups * each, affine=draw(st.booleans()))
    return nn.Sequential(_convolution(draw, width, groups * each), norm, nn.SiLU()), groups * each


def _standardised(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    """A kernel less its mean, over its deviation."""

    def forward(self: Block, x: torch.Tensor) -> torch.Tensor:
        kernel = self.a.weight - self.a.weight.mean((1, 2, 3), keepdim=True)
        kernel = kernel / (kernel.std((1, 2, 3), keepdim=True, unbiased=False) + 0.1)
        return functional.conv2d(x, kernel, self.a.bias, padding=self.a.kernel_size[0] // 2).relu()

    out = draw(st.integers(2, 5))
    return Block(forward, a=nn.Conv2d(width, out, draw(st.sampled_from([1, 3])), bias=draw(st.booleans()))), out


SPATIAL = [
    *(_plain, _plain, _residual, _residual, _concatenation, _separable, _grouped, _squeeze, _used_twice, _written),
    *(_stateless, _transposed, _shuffled, _padded, _grouped_norm, _standardised),
]


def _dense(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    out, act = draw(st.integers(1, 8)), draw(st.sampled_from(ACTIVATIONS))
    layers = [nn.Linear(width, out, bias=draw(st.booleans()))] + [nn.BatchNorm1d(out)] * draw(st.integers(0, 1))
    return Block(lambda self, x: act(self.body(x)), body=nn.Sequential(*layers)), out


def _functional(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    """A learned scale and a learned scalar, weights that the forward uses by itself."""

    def forward(self: Block, x: torch.Tensor) -> torch.Tensor:
        x = functional.linear(x, self.a.weight, self.a.bias) * self.a.scale + self.a.offset
        return torch.cat([x, x * self.a.constant[: x.size(0), :1]], -1)

    layer = nn.Linear(width, draw(st.integers(2, 5)))
    layer.scale = nn.Parameter(torch.rand(layer.out_features))
    layer.offset = nn.Parameter(torch.rand(()))
    layer.register_buffer("constant", torch.rand(8, 1))
    return Block(forward, a=layer), 2 * layer.out_features


def _unflattened(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    channels, size = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    layers = (
        *(nn.Linear(width, channels * size), nn.ReLU(), nn.Unflatten(1, (channels, size))),
        *(nn.Conv1d(channels, 2, 1), nn.Flatten(), nn.ReLU(inplace=True)),
    )
    return nn.Sequential(*layers), 2 * size


def _tied(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    layers = nn.Sequential(nn.Linear(width, width), nn.Softplus(), nn.Linear(width, width))
    layers[2].weight = layers[0].weight
    return layers, width


def _normalized(draw: st.DrawFn, width: int) -> tuple[nn.Module, int]:
    return draw(st.sampled_from([nn.LayerNorm(width), nn.Softmax(-1), nn.BatchNorm1d(width), nn.PReLU(width)])), width


DENSE = [_dense, _dense, _functional, _unflattened, _tied, _normalized]

FLATTENINGS: list[tuple[Forward, bool]] = [
    (nn.Flatten(), True),
    (lambda x: x.view(x.shape[0], -1), True),
    (lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1), True),
    (lambda x: x.flatten(2).movedim(1, 2).flatten(1), True),
    (lambda x: x.mean((-2, -1)), False),
    (lambda x: functional.adaptive_max_pool2d(x, 1).squeeze(-1).squeeze(-1), False),
]


POOLINGS: list[tuple[Forward, bool]] = [
    (lambda x: x.mean(1), False),
    (lambda x: x[:, 0], False),
    (lambda x: x.flatten(1), True),
]


class Tokens(nn.Module):
    """Pixels as a sequence."""

    def __init__(self, body: nn.Module, pool: Forward) -> None:
        super().__init__()
        self.body, self.pool = body, pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.body(x.flatten(2).transpose(1, 2)))


def _flattening(draw: st.DrawFn, spatial: list[nn.Module], width: int) -> tuple[Forward, int]:
    """From images to vectors, and how wide these are."""
    if draw(st.booleans()):
        body, width = draw(sequences(width))
        pool, whole = draw(st.sampled_from(POOLINGS))
        flatten: Forward = Tokens(body, pool)
    else:
        flatten, whole = draw(st.sampled_from(FLATTENINGS))
    if whole:
        sample = nn.Sequential(*spatial, flatten if isinstance(flatten, nn.Module) else Block(lambda _, x: flatten(x)))
        width = sample.eval()(torch.zeros(1, 2, 4, 4)).numel()
    return flatten, width


class Network(nn.Module):
    """Blocks on images, a flattening, blocks on vectors, a last layer."""

    def __init__(self, spatial: list[nn.Module], flatten: Forward, dense: list[nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.spatial, self.dense, self.last = nn.Sequential(*spatial), nn.Sequential(*dense), last
        self.flatten = flatten

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.dense(self.flatten(self.spatial(x))))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A random network of float64 numbers in evaluation mode; it takes tensors of shape (batch <= 8, 2, 4, 4)."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    width, spatial, dense = 2, [], []
    for _ in range(draw(st.integers(1, 4))):
        block, width = draw(st.sampled_from(SPATIAL))(draw, width)
        spatial.append(block)
    flatten, width = _flattening(draw, spatial, width)
    for _ in range(draw(st.integers(0, 2))):
        block, width = draw(st.sampled_from(DENSE))(draw, width)
        dense.append(block)
    network = Network(spatial, flatten, dense, nn.Linear(width, 3)).double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1 if "var" in name else torch.randn_like(tensor) * 0.7)
    return network
