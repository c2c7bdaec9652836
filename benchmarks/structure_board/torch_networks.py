"""Hand-written PyTorch networks of images and features, each with something that layer-level graphs get wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.structure_board.cases import Case


class PermuteThenFlatten(nn.Module):
    """The channels are the fastest axis of what is flattened, not the slowest."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.convolution(x).relu().permute(0, 2, 3, 1).flatten(1))


class ShuffleUnit(nn.Module):
    """ShuffleNet V2: half of the channels pass by, then both halves are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, self.branch(right)], dim=1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return x.reshape(batch, channels, height, width)


class ShuffleNet(nn.Module):
    """Two units between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.units = nn.Conv2d(3, 32, 3, padding=1), nn.Sequential(ShuffleUnit(32), ShuffleUnit(32))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.units(self.stem(x)).mean((2, 3)))


class GatedLinearUnit(nn.Module):
    """``glu`` multiplies one half of the features by the sigmoid of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.middle, self.head = nn.Linear(16, 64), nn.Linear(32, 48), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.glu(self.middle(functional.glu(self.wide(x)))))


class SwiGLU(nn.Module):
    """Gate and value by two kernels, or by one that is cut in two."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.stem, self.down, self.head = nn.Linear(16, 32), nn.Linear(64, 32), nn.Linear(32, 10)
        self.fused = fused
        if fused:
            self.both = nn.Linear(32, 128)
        else:
            self.gate, self.up = nn.Linear(32, 64, bias=False), nn.Linear(32, 64, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        gate, up = self.both(x).chunk(2, dim=-1) if self.fused else (self.gate(x), self.up(x))
        return self.head(self.down(functional.silu(gate) * up))


class UNet(nn.Module):
    """Transposed convolutions on the way up, and skips that are concatenated."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.second = self._block(3, width), self._block(width, 2 * width)
        self.bottom = self._block(2 * width, 4 * width)
        self.up_second = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up_first = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.join_second, self.join_first = self._block(4 * width, 2 * width), self._block(2 * width, width)
        self.head = nn.Conv2d(width, 4, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(functional.max_pool2d(first, 2))
        x = self.up_second(self.bottom(functional.max_pool2d(second, 2)))
        x = self.up_first(self.join_second(torch.cat([x, second], dim=1)))
        return self.head(self.join_first(torch.cat([x, first], dim=1)))


class SqueezeAndExcite(nn.Module):
    """Channels are scaled by numbers that are computed from all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.project = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 48, 1)
        self.squeeze, self.excite = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(self.project(x).relu().mean((2, 3)))


class PixelShuffle(nn.Module):
    """Channels become pixels, four by four."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 64, 3, padding=1)
        self.shuffle, self.head = nn.PixelShuffle(2), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shuffle(self.second(self.first(x).relu())))


class FixedView(nn.Module):
    """The sizes of the flattened axes are written down as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(32 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.max_pool2d(self.convolution(x).relu(), 2).view(-1, 512))


class Grouped(nn.Module):
    """A convolution in groups, group normalisation, and a shortcut around both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.norm, self.last, self.head = nn.GroupNorm(8, 32), nn.Conv2d(32, 40, 1), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head(self.last(x + self.norm(self.grouped(x))).relu().mean((2, 3)))


def depthwise_separable() -> nn.Module:
    """MobileNet's first blocks."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        depth = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        norms = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        return [depth, norms[0], nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), norms[1], nn.ReLU()]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), *block(32, 48), *block(48, 64), *head)


def perceptron() -> nn.Module:
    """The plainest network."""
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 10))


def cases() -> list[Case]:
    """The networks of this module."""
    features, image, small = torch.randn(4, 16), torch.randn(2, 3, 16, 16), torch.randn(2, 3, 8, 8)
    listed = {
        "perceptron": (perceptron, features),
        "permute, then flatten": (PermuteThenFlatten, small),
        "fixed view": (FixedView, small),
        "ShuffleNet unit": (ShuffleNet, image),
        "depthwise separable": (depthwise_separable, image),
        "groups and group norm": (Grouped, image),
        "squeeze and excite": (SqueezeAndExcite, image),
        "pixel shuffle": (PixelShuffle, image),
        "U-Net": (UNet, image),
        "GLU": (GatedLinearUnit, features),
        "SwiGLU": (lambda: SwiGLU(fused=False), features),
        "SwiGLU, fused": (lambda: SwiGLU(fused=True), features),
    }
    return [Case(name, "written here", _built(make, example)) for name, (make, example) in listed.items()]


def _built(make, example):  # type: ignore[no-untyped-def]
    return lambda: (make(), example)
