"""What the executor computes for the kinds of operations that have no weights: between tensors, and views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import numpy as np

from structure.weight_kinds import Array, Kind, Settings, sigmoid

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "silu": lambda x: x * sigmoid(x),
    "square": np.square,
    "negative": np.negative,
    "sigmoid": sigmoid,
    "cosine": np.cos,
}
COMBINATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
}
UNSCALED = 0.7


def elementwise(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    operands = [*inputs, *own.values()]
    if settings["function"] in ACTIVATIONS:
        return [ACTIVATIONS[settings["function"]](operands[0])]
    return [reduce(COMBINATIONS[settings["function"]], operands)]


def contract(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """An axis of size 1 that shares its label with a longer one is repeated, which einsum does not do by itself."""
    sizes: dict[int, int] = {}
    for labels, x in zip(settings["labels"], inputs, strict=True):
        for label, size in zip(labels, x.shape, strict=True):
            assert 1 in (size, sizes.get(label, 1)) or size == sizes[label], (settings, [x.shape for x in inputs])
            sizes[label] = max(size, sizes.get(label, 1))
    whole = [
        np.broadcast_to(x, [sizes[label] for label in labels])
        for labels, x in zip(settings["labels"], inputs, strict=True)
    ]
    pairs = [part for x, labels in zip(whole, settings["labels"], strict=True) for part in (x, list(labels))]
    return [np.einsum(*pairs, list(settings["result"]))]


def attention(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    queries, keys, values, *masks = inputs
    keys, values = (np.repeat(x, queries.shape[-3] // x.shape[-3], axis=-3) for x in (keys, values))
    factor = queries.shape[-1] ** -0.5 if settings["scaled"] else UNSCALED
    return [_softmax(sum(masks, queries @ keys.swapaxes(-1, -2) * factor), -1) @ values]


def softmax(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    return [{"softmax": _softmax, "cumsum": np.cumsum}[settings["function"]](inputs[0], settings["axis"])]


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def reduction(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    function = {"mean": np.mean, "sum": np.sum, "max": np.max}[settings["function"]]
    return [np.asarray(function(inputs[0], axis=tuple(settings["axes"]), keepdims=settings["keepdims"]))]


def pool(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    x = np.moveaxis(inputs[0], settings["channel_axis"], 1)
    if settings["function"] == "double":
        x = reduce(lambda array, axis: np.repeat(array, 2, axis=axis), range(2, x.ndim), x)
    elif settings["function"] == "pad":
        x = np.pad(x, [(0, 0), (0, 0), *[(1, 0)] * (x.ndim - 2)], constant_values=1.0)
    else:
        x = x.max(axis=tuple(range(2, x.ndim)), keepdims=True)
    return [np.moveaxis(x, 1, settings["channel_axis"])]


def unknown(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """Something that mixes every index with every other one."""
    seed = sum((np.cos(array).sum() for array in own.values()), 0.0)
    return [np.sin(np.cumsum(array[..., ::-1], axis=-1) + array.mean() + seed) for array in inputs]


def cut_out(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """After a removal what is left may be no slice, then it is picked by its indices."""
    if "indices" in settings:
        return take(inputs, own, settings)
    start, stop, step = (settings[key] for key in ("start", "stop", "step"))
    assert start >= 0, settings
    assert stop >= 0, settings
    return [np.moveaxis(np.moveaxis(inputs[0], settings["axis"], 0)[start:stop:step], 0, settings["axis"])]


def take(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    return [np.take(inputs[0], settings["indices"], axis=settings["axis"])]


def split(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """Sizes must be those of the parts, all equal where that is asked for."""
    sizes, axis = settings["sizes"], settings["axis"]
    assert sum(sizes) == inputs[0].shape[axis], (settings, inputs[0].shape)
    assert not settings.get("equal") or len(set(sizes)) == 1, settings
    return np.split(inputs[0], np.cumsum(sizes)[:-1], axis=axis)


def pad(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    widths = [(0, 0)] * inputs[0].ndim
    widths[settings["axis"]] = (settings["before"], settings["after"])
    return [np.pad(inputs[0], widths, constant_values=settings["value"])]


def gather(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """Along the one axis that is not carried; places count round, so that there is one for any number."""
    axis = settings["carried"][0].index(None)
    x, size = inputs[0], inputs[0].shape[axis]
    if settings["function"] == "along":
        return [np.take_along_axis(x, np.floor(np.abs(inputs[1]) * 7).astype(int) % size, axis)]
    places = np.asarray(settings["places"], dtype=int) % size
    if settings["function"] == "take":
        return [np.take(x, places, axis)]
    rows = np.moveaxis(x, axis, 0).copy()
    np.add.at(rows, places, np.moveaxis(inputs[1], axis, 0))
    return [np.moveaxis(rows, 0, axis)]


TENSOR_KINDS: dict[str, Kind] = {
    "elementwise": elementwise,
    "contract": contract,
    "attention": attention,
    "concat": lambda inputs, own, settings: [np.concatenate(inputs, axis=settings["axis"])],
    "reduce": reduction,
    "softmax": softmax,
    "pool": pool,
    "unknown": unknown,
    "reshape": lambda inputs, own, settings: [inputs[0].reshape(settings["shape"])],
    "permute": lambda inputs, own, settings: [inputs[0].transpose(settings["order"])],
    "slice": cut_out,
    "take": take,
    "split": split,
    "pad": pad,
    "expand": lambda inputs, own, settings: [np.broadcast_to(inputs[0], settings["shape"])],
    "gather": gather,
    "fill": lambda inputs, own, settings: [np.full(settings["shape"], settings["value"])],
}
