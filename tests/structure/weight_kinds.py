"""What the executor computes for the kinds of operations that have weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
Settings = Mapping[str, Any]
Kind = Callable[[Sequence[Array], Mapping[str, Array], Settings], list[Array]]
Step = Callable[[Array, Array, Array, Array], tuple[Array, Array]]

EPSILON = 1e-3


def linear(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    rows = slice(*settings.get("rows", (None,)))
    bias = own["bias"][rows] if "bias" in own else 0.0
    moved = np.moveaxis(inputs[0], settings["axis"], -1) @ own["kernel"][rows].T + bias
    return [np.moveaxis(moved, -1, settings["axis"])]


def convolution(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """Stride 1, zero padding that keeps the size (odd windows), any number of space axes."""
    x, groups = np.moveaxis(inputs[0], settings["channel_axis"], 1), settings.get("groups", 1)
    kernel = _as_plain_convolution(own["kernel"], x.ndim) if settings.get("transposed") else own["kernel"]
    window = kernel.shape[2:]
    space = tuple(range(2, x.ndim))
    padded = np.pad(x, [(0, 0), (0, 0), *((size // 2, size // 2) for size in window)])
    patches = np.lib.stride_tricks.sliding_window_view(padded, window, axis=space)
    parts = zip(np.split(patches, groups, axis=1), np.split(kernel, groups, axis=0), strict=True)
    contracted = (1, *range(x.ndim, patches.ndim)), tuple(range(1, kernel.ndim))
    y = np.concatenate([np.moveaxis(np.tensordot(patch, part, contracted), -1, 1) for patch, part in parts], axis=1)
    y = y + _along(own["bias"], [1], y.ndim) if "bias" in own else y
    return [np.moveaxis(y, 1, settings["channel_axis"])]


def _as_plain_convolution(kernel: Array, rank: int) -> Array:
    """With stride 1 a transposed convolution is one with the window turned round."""
    merged = kernel.reshape(-1, *kernel.shape[2:]) if kernel.ndim > rank else kernel
    return np.flip(merged, tuple(range(2, rank)))


def bilinear(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    return [np.einsum("...i,oij,...j->...o", inputs[0], own["kernel"], inputs[1]) + own["bias"]]


def embedding(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """Any number is made the number of an entry."""
    return [own["table"][np.abs(inputs[0] * 100).astype(np.int64) % len(own["table"])]]


def recurrent(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """The sequence of states, and the last ones; a sequence is (batch, time, features) but for ``axis``."""
    sequence = np.moveaxis(inputs[0], settings["axis"], -1).swapaxes(0, 1)
    bias, again = own.get("bias", np.zeros(1)), own.get("recurrent_bias", np.zeros(1))
    bias, again = bias if bias.ndim == 3 else (bias, again)
    given, shared = inputs[1:], own.get("projection")
    batch, units, made = sequence.shape[1], own["kernel"].shape[1], own["recurrent"].shape[2]
    hidden = given[0] if given else np.zeros((batch, made))
    cell = given[1] if len(given) > 1 else np.zeros((batch, units))
    states = []
    for x in sequence[::-1] if settings["reverse"] else sequence:
        taken = np.einsum("bi,goi->gbo", x, own["kernel"]) + _by_gate(bias)
        fed = np.einsum("bi,goi->gbo", hidden, own["recurrent"]) + _by_gate(again)
        hidden, cell = CELLS[settings["cell"]](taken, fed, hidden, cell)
        hidden = hidden if shared is None else hidden @ shared.T
        states.append(hidden)
    stacked = np.stack(states[::-1] if settings["reverse"] else states, axis=1)
    return [stacked, hidden, *([cell] if settings["cell"] == "lstm" else [])]


def _by_gate(bias: Array) -> Array:
    return bias[:, None, :] if bias.ndim == 2 else bias


def _lstm(taken: Array, fed: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    enter, forget, new, leave = taken + fed
    cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
    return sigmoid(leave) * np.tanh(cell), cell


def _gru(taken: Array, fed: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    reset, update = sigmoid(taken[:2] + fed[:2])
    return (1 - update) * np.tanh(taken[2] + reset * fed[2]) + update * hidden, cell


def _rnn(taken: Array, fed: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    return np.tanh(taken[0] + fed[0]), cell


CELLS: dict[str, Step] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def normalize(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    parts = {part: _along(array, [settings["axis"]], inputs[0].ndim) for part, array in own.items()}
    centred = (inputs[0] - parts.get("mean", 0.0)) / np.sqrt(parts.get("variance", 1.0) + EPSILON)
    return [centred * parts.get("scale", 1.0) + parts.get("shift", 0.0)]


def standardize(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    x, axes, ratio = inputs[0], settings["axes"], settings.get("rescale", 1.0)
    parts = {part: _along(array, axes, x.ndim) for part, array in own.items()}
    if "groups" in settings:
        moved = np.moveaxis(x, axes[0], 1)
        grouped = moved.reshape(len(moved), settings["groups"], -1)
        y = np.moveaxis(_standardized(grouped, (2,), False, 1.0).reshape(moved.shape), 1, axes[0])
    else:
        y = _standardized(x, tuple(axes), settings.get("rms", False), ratio)
    return [y * math.sqrt(ratio) * parts.get("scale", 1.0) + parts.get("shift", 0.0)]


def _standardized(x: Array, axes: tuple[int, ...], rms: bool, ratio: float) -> Array:
    centred = x if rms else x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=axes, keepdims=True) + EPSILON * ratio)


def _along(array: Array, axes: Sequence[int], rank: int) -> Array:
    """With axes of size 1 for all others of a tensor of this rank."""
    places = sorted(axis % rank for axis in axes)
    return array.reshape([array.shape[places.index(axis)] if axis in places else 1 for axis in range(rank)])


WEIGHT_KINDS: dict[str, Kind] = {
    "linear": linear,
    "convolution": convolution,
    "bilinear": bilinear,
    "embedding": embedding,
    "recurrent": recurrent,
    "weight": lambda inputs, own, settings: [own["weight"]],
    "normalize": normalize,
    "standardize": standardize,
}
