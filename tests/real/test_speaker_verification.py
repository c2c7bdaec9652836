"""Resemblyzer's speaker encoder (Wan et al. 2018) loses a third of its units, and tells voices apart again.

The voices of all parts are the same six, their recordings are not.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from real.packaged import weights
from real.speech import MELS, Speech, speech
from secateur import Neurons, Recipe

FRAMES, BATCH, STEPS = 40, 48, 30
RECIPE = Recipe(1 / 3, granularity=Neurons(relative=True))


class Encoder(nn.Module):
    """An LSTM of three layers, its last state embedded on the unit sphere, as Resemblyzer does it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.relu = nn.ReLU()

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(mels)
        embedded = self.relu(self.linear(hidden[-1]))
        return embedded / torch.norm(embedded, dim=1, keepdim=True)


class Layered(Encoder):
    """The same with a module for each layer of the LSTM, so that each can have a width of its own, as in Keras."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        stacked = encoder.lstm.state_dict()
        self.lstm = nn.Sequential(*(nn.LSTM(width, 256, batch_first=True) for width in (MELS, 256, 256)))
        for number, layer in enumerate(self.lstm):
            layer.load_state_dict({name: stacked[name.replace("l0", f"l{number}")] for name in layer.state_dict()})
        self.linear = encoder.linear

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        for layer in self.lstm:
            mels, (hidden, _) = layer(mels)
        embedded = self.relu(self.linear(hidden[-1]))
        return embedded / torch.norm(embedded, dim=1, keepdim=True)


def in_keras(encoder: Layered) -> keras.Model:
    """The same network: gates stand in the same order, and two biases are one."""
    model = keras.Sequential(
        [
            keras.Input((None, MELS)),
            keras.layers.LSTM(256, return_sequences=True),
            keras.layers.LSTM(256, return_sequences=True),
            keras.layers.LSTM(256),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.UnitNormalization(),
        ]
    )
    for layer, lstm in zip(model.layers[:3], encoder.lstm, strict=True):
        kernel, recurrent, bias, recurrent_bias = (tensor.detach().numpy() for tensor in lstm.parameters())
        layer.set_weights([kernel.T, recurrent.T, bias + recurrent_bias])
    model.layers[3].set_weights([encoder.linear.weight.detach().numpy().T, encoder.linear.bias.detach().numpy()])
    return model


@pytest.fixture
def encoder() -> Encoder:
    stored = weights("resemblyzer", "pretrained.pt")["model_state"]
    model = Encoder()
    model.load_state_dict({name: stored[name] for name in model.state_dict()})
    return model.eval()


def embed(model: nn.Module, mels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(mels)


def equal_error_rate(model: nn.Module, heard: Speech) -> float:
    """Over all pairs of excerpts: the error of the threshold that takes as many for one voice as for two by mistake."""
    embedded = embed(model, heard.mels)
    first, second = np.triu_indices(len(heard), 1)
    same = heard.speakers[first] == heard.speakers[second]
    accepted, found, _ = roc_curve(same, (embedded[first] * embedded[second]).sum(1))
    nearest = np.argmin(np.abs(1 - found - accepted))
    return float(accepted[nearest] + 1 - found[nearest]) / 2


def train(model: nn.Module, heard: Speech) -> None:
    """The supervised contrastive loss (Khosla et al. 2020) draws excerpts of one voice together."""
    order = torch.randperm(len(heard), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.1, STEPS)
    itself = torch.eye(BATCH, dtype=torch.bool)
    for batch in order[: STEPS * BATCH].split(BATCH):
        optimizer.zero_grad()
        embedded, speakers = model(heard.mels[batch]), heard.speakers[batch]
        likely = (10 * embedded @ embedded.T).masked_fill(itself, -1e9).log_softmax(1)
        same = (speakers[:, None] == speakers) & ~itself
        (-(likely * same).sum(1) / same.sum(1)).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        optimizer.step()
        rate.step()


def test_a_third_of_the_units_goes(encoder: Encoder) -> None:
    test, other = speech(range(5), 160), speech(range(5, 32), FRAMES)
    assert len(other) >= STEPS * BATCH
    dense = equal_error_rate(encoder, test)
    assert dense < 0.02
    small = st.prune(encoder, RECIPE, example=test.mels[:2]).compact()
    assert (small.lstm.hidden_size, small.linear.in_features) == (171, 171)
    expected = embed(encoder, test.mels)
    assert (embed(small, test.mels) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert equal_error_rate(small, test) > 0.1
    train(small.train(), other)
    assert equal_error_rate(small.eval(), test) < dense + 0.06


def kernel_masks(pruned: st.Pruned) -> list[np.ndarray]:
    """Without those of biases, of which PyTorch has twice as many."""
    masks = pruned.adapter.canonical(pruned.model, pruned.masks)
    return [masks[item.name] for item in pruned.parameters() if item.name in masks and "bias" not in item.name]


def outputs(model: keras.Model, mels: torch.Tensor) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(mels.numpy())))


def test_keras_and_torch_agree(encoder: Encoder) -> None:
    heard = speech(range(1), 80).mels
    ours = Layered(encoder).eval()
    theirs = in_keras(ours)
    np.testing.assert_allclose(outputs(theirs, heard), embed(ours, heard), rtol=0, atol=1e-4)
    results = st.prune(ours, RECIPE, example=heard[:2]), sk.prune(theirs, RECIPE, example=heard[:2].numpy())
    masks = [kernel_masks(pruned) for pruned in results]
    assert len(masks[0]) == 7
    for a, b in zip(*masks, strict=True):
        np.testing.assert_array_equal(a, b)
    small, small_keras = results[0].compact(), results[1].compact()
    widths = [layer.hidden_size for layer in small.lstm]
    assert widths == [layer.units for layer in small_keras.layers[:3]]
    assert sum(widths) == 512
    np.testing.assert_allclose(outputs(small_keras, heard), embed(small, heard), rtol=0, atol=1e-4)
