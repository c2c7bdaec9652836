"""Runs a :class:`Graph` in NumPy, dense or after a removal plan: the oracle of the structure tests.

Slow and obvious. Kinds whose numbers the graph leaves open (which activation, which pooling) name them in
``settings["function"]``, which only this executor reads. After a removal every parameter is cut as the plan says,
settings come from the plan, and each tensor must have the shape that the plan foretells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from secateur.structure.graph import Graph
from secateur.structure.removal import Plan

Array = np.ndarray[Any, np.dtype[np.float64]]
Arrays = Mapping[int, Array]
Settings = Mapping[str, Any]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),
    "cosine": np.cos,
}
COMBINATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "multiply": np.multiply,
    "maximum": np.maximum,
}


def run(graph: Graph, parameters: Mapping[str, Array], given: Arrays, plan: Plan | None = None) -> dict[int, Array]:
    """Every tensor of the graph; ``given`` holds its inputs and constants, ``parameters`` the dense arrays."""
    parameters = parameters if plan is None else cut(parameters, plan)
    tensors = dict(given)
    for index, operation in enumerate(graph.operations):
        settings = dict(operation.settings)
        if operation.kind == "reshape":
            settings["shape"] = graph.tensors[operation.outputs[0]]
        settings.update({} if plan is None else plan.settings.get(index, {}))
        own = {part: parameters[name] for part, name in operation.parameters.items()}
        results = KINDS[operation.kind]([tensors[tensor] for tensor in operation.inputs], own, settings)
        for tensor, array in zip(operation.outputs, results, strict=True):
            assert array.shape == (graph.tensors if plan is None else plan.shapes)[tensor], (index, operation)
            tensors[tensor] = array
    return tensors


def cut(parameters: Mapping[str, Array], plan: Plan) -> dict[str, Array]:
    """The parameters without what the plan removes."""
    small = dict(parameters)
    for (name, axis), keep in plan.keep.items():
        small[name] = np.compress(keep, small[name], axis=axis)
    return small


def linear(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    moved = np.moveaxis(inputs[0], settings["axis"], -1) @ own["kernel"].T
    return [np.moveaxis(moved + own.get("bias", 0.0), -1, settings["axis"])]


def convolution(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """Stride 1, zero padding that keeps the size (odd windows), any number of space axes."""
    x, kernel, groups = np.moveaxis(inputs[0], settings["channel_axis"], 1), own["kernel"], settings.get("groups", 1)
    window = kernel.shape[2:]
    space = tuple(range(2, x.ndim))
    padded = np.pad(x, [(0, 0), (0, 0), *((size // 2, size // 2) for size in window)])
    patches = np.lib.stride_tricks.sliding_window_view(padded, window, axis=space)
    parts = zip(np.split(patches, groups, axis=1), np.split(kernel, groups, axis=0), strict=True)
    contracted = (1, *range(x.ndim, patches.ndim)), tuple(range(1, kernel.ndim))
    y = np.concatenate([np.moveaxis(np.tensordot(patch, part, contracted), -1, 1) for patch, part in parts], axis=1)
    y = y + _along(own["bias"], 1, y.ndim) if "bias" in own else y
    return [np.moveaxis(y, 1, settings["channel_axis"])]


def normalize(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    parts = {part: _along(array, settings["axis"], inputs[0].ndim) for part, array in own.items()}
    centred = (inputs[0] - parts.get("mean", 0.0)) / np.sqrt(parts.get("variance", 1.0) + 1e-3)
    return [centred * parts.get("scale", 1.0) + parts.get("shift", 0.0)]


def elementwise(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    operands = [*inputs, *own.values()]
    if settings["function"] in ACTIVATIONS:
        return [ACTIVATIONS[settings["function"]](operands[0])]
    return [reduce(COMBINATIONS[settings["function"]], operands)]


def pool(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    x = np.moveaxis(inputs[0], settings["channel_axis"], 1)
    if settings["function"] == "double":
        x = reduce(lambda array, axis: np.repeat(array, 2, axis=axis), range(2, x.ndim), x)
    elif settings["function"] == "pad":
        x = np.pad(x, [(0, 0), (0, 0), *[(1, 0)] * (x.ndim - 2)], constant_values=1.0)
    else:
        x = x.max(axis=tuple(range(2, x.ndim)), keepdims=True)
    return [np.moveaxis(x, 1, settings["channel_axis"])]


def softmax(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    powers = np.exp(inputs[0] - inputs[0].max(axis=settings["axis"], keepdims=True))
    return [powers / powers.sum(axis=settings["axis"], keepdims=True)]


def reduction(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    function = {"mean": np.mean, "sum": np.sum, "max": np.max}[settings["function"]]
    return [np.asarray(function(inputs[0], axis=tuple(settings["axes"]), keepdims=settings["keepdims"]))]


def unknown(inputs: Sequence[Array], own: Mapping[str, Array], settings: Settings) -> list[Array]:
    """Something that mixes every index with every other one."""
    seed = sum((np.cos(array).sum() for array in own.values()), 0.0)
    return [np.sin(np.cumsum(array[..., ::-1], axis=-1) + array.mean() + seed) for array in inputs]


def _along(array: Array, axis: int, rank: int) -> Array:
    return array.reshape([-1 if position == axis % rank else 1 for position in range(rank)])


KINDS: dict[str, Callable[[Sequence[Array], Mapping[str, Array], Settings], list[Array]]] = {
    "linear": linear,
    "convolution": convolution,
    "normalize": normalize,
    "elementwise": elementwise,
    "concat": lambda inputs, own, settings: [np.concatenate(inputs, axis=settings["axis"])],
    "reshape": lambda inputs, own, settings: [inputs[0].reshape(settings["shape"])],
    "permute": lambda inputs, own, settings: [inputs[0].transpose(settings["order"])],
    "pool": pool,
    "reduce": reduction,
    "softmax": softmax,
    "unknown": unknown,
}


def random_parameters(graph: Graph, seed: int) -> dict[str, Array]:
    """Float64 parameters of order one; variances positive."""
    generator = np.random.default_rng(seed)
    values = {}
    for name, parameter in graph.parameters.items():
        fan_in = max(int(np.prod(parameter.shape[1:])), 1)
        draw = generator.standard_normal(parameter.shape) / np.sqrt(fan_in)
        values[name] = np.abs(draw) + 0.1 if parameter.role == "variance" else draw
    return values


def random_tensors(graph: Graph, seed: int) -> dict[int, Array]:
    """Float64 values of the graph's inputs and constants."""
    generator = np.random.default_rng(seed)
    written = {tensor for operation in graph.operations for tensor in operation.outputs}
    return {
        tensor: generator.standard_normal(shape) for tensor, shape in enumerate(graph.tensors) if tensor not in written
    }
