"""The Free Spoken Digit Dataset as mel spectra, made as Resemblyzer makes them but for its detection of silences."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import resample_poly

from secateur.demo import data

Array = npt.NDArray[Any]

RATE, WINDOW, HOP, MELS = 16_000, 400, 160, 40
LOUDNESS = 10 ** (-30 / 20)  # quieter recordings are made as loud as this


@dataclass(frozen=True)
class Speech:
    """Excerpts, float32 of shape (n, frames, mels), and who speaks, int64 of shape (n,)."""

    mels: torch.Tensor
    speakers: torch.Tensor

    def __len__(self) -> int:
        return len(self.speakers)


def speech(takes: range, frames: int) -> Speech:
    """All of each speaker's recordings of these numbers, one after the other, cut into excerpts without overlap."""
    path = Path(os.environ.get(data.ENVIRONMENT, "")) / "fsdd.npz"
    if not path.is_file():
        pytest.skip(
            f"the spoken digits are not on this machine: name the folder of fsdd.npz in {data.ENVIRONMENT} (a NumPy "
            "archive of the Free Spoken Digit Dataset: samples, lengths, digit, speaker, index)"
        )
    with np.load(path) as file:
        stored = {name: file[name] for name in ("samples", "lengths", "digit", "speaker", "index")}
    excerpts = [_mels(_spoken(stored, who, takes)).unfold(0, frames, frames).mT for who in np.unique(stored["speaker"])]
    labels = torch.arange(len(excerpts)).repeat_interleave(torch.tensor([len(each) for each in excerpts]))
    return Speech(torch.cat(excerpts).contiguous(), labels)


def _spoken(stored: dict[str, Array], speaker: int, takes: range) -> Array:
    """One speaker's digits, 0 to 9 of each take in turn, at 16 kHz."""
    chosen = np.flatnonzero((stored["speaker"] == speaker) & np.isin(stored["index"], takes))
    chosen = chosen[np.lexsort((stored["digit"][chosen], stored["index"][chosen]))]
    ends = np.cumsum(stored["lengths"])
    recordings = (stored["samples"][ends[take] - stored["lengths"][take] : ends[take]] for take in chosen)
    waves = [resample_poly(recording / 32768, 2, 1) for recording in recordings]
    return np.concatenate([wave * max(1.0, LOUDNESS / np.sqrt(np.mean(wave**2))) for wave in waves])


def _mels(wave: Array) -> torch.Tensor:
    """The power in 40 mel bands, every 10 ms; shape (frames, mels)."""
    spectrum = torch.stft(
        torch.tensor(wave, dtype=torch.float32),
        WINDOW,
        HOP,
        window=torch.hann_window(WINDOW),
        pad_mode="constant",
        return_complex=True,
    )
    return (torch.tensor(_bands(), dtype=torch.float32) @ spectrum.abs() ** 2).T


def _bands() -> Array:
    """Triangles of equal area on Slaney's mel scale: linear up to 1 kHz, logarithmic above; shape (mels, bins)."""
    per_mel = np.log(6.4) / 27
    mels = np.linspace(0, 15 + np.log(RATE / 2 / 1000) / per_mel, MELS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(per_mel * (mels - 15)))[:, None]
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
