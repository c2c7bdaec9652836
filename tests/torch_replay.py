"""Runs a graph by what its kinds are documented to mean, so that a reader's settings are compared with real numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from secateur.structure.graph import Graph, Operation

Tensors = Sequence[torch.Tensor]
Weights = Mapping[str, torch.Tensor]


def replay(
    graph: Graph, inputs: Tensors, constants: Mapping[int, torch.Tensor], weights: Weights
) -> list[torch.Tensor]:
    """The outputs of a graph of views, products and attention; ``weights`` in canonical layout, by name.

    Raises KeyError for a kind whose numbers the graph does not tell.
    """
    known = dict(zip(graph.inputs, inputs, strict=True)) | dict(constants)
    for operation in graph.operations:
        given = [known[number] for number in operation.inputs]
        own = {part: weights[name] for part, name in operation.parameters.items()}
        made = KINDS[operation.kind](operation, given, own, graph.tensors[operation.outputs[0]])
        for number, tensor in zip(operation.outputs, made, strict=True):
            assert tuple(tensor.shape) == graph.tensors[number]
            known[number] = tensor
    return [known[number] for number in graph.outputs]


def _linear(operation: Operation, given: Tensors, own: Weights, shape: tuple[int, ...]) -> Tensors:
    start, stop = operation.settings.get("rows", (0, None))
    result = given[0] @ own["kernel"][start:stop].T
    return [result + own["bias"][start:stop] if "bias" in own else result]


def _contract(operation: Operation, given: Tensors, own: Weights, shape: tuple[int, ...]) -> Tensors:
    """Labels are any whole numbers; torch.einsum wants them small and not negative."""
    labels, result = operation.settings["labels"], operation.settings["result"]
    small = {label: number for number, label in enumerate(dict.fromkeys(sum(map(tuple, labels), ())))}
    arguments = [item for pair in zip(given, labels, strict=True) for item in (pair[0], [small[x] for x in pair[1]])]
    return [torch.einsum(*arguments, [small[label] for label in result])]


def _slice(operation: Operation, given: Tensors, own: Weights, shape: tuple[int, ...]) -> Tensors:
    settings = operation.settings
    positions = torch.arange(given[0].shape[settings["axis"]])
    chosen = positions[settings["start"] : settings["stop"] : settings["step"]]
    return [given[0].index_select(settings["axis"], chosen)]


def _pad(operation: Operation, given: Tensors, own: Weights, shape: tuple[int, ...]) -> Tensors:
    settings = operation.settings
    behind = given[0].ndim - 1 - settings["axis"]
    return [functional.pad(given[0], (*(0, 0) * behind, settings["before"], settings["after"]))]


def _elementwise(operation: Operation, given: Tensors, own: Weights, shape: tuple[int, ...]) -> Tensors:
    """Only the sums that readers put in themselves: a bias that is no parameter."""
    if len(given) != 2 or operation.label not in ("linear", "addmm", "baddbmm", "multi_head_attention_forward"):
        raise KeyError(operation.label)
    return [given[0] + given[1]]


KINDS: dict[str, Callable[..., Tensors]] = {
    "linear": _linear,
    "contract": _contract,
    "slice": _slice,
    "pad": _pad,
    "elementwise": _elementwise,
    "weight": lambda o, given, own, shape: [own["weight"]],
    "reshape": lambda o, given, own, shape: [given[0].reshape(shape)],
    "permute": lambda o, given, own, shape: [given[0].permute(o.settings["order"])],
    "take": lambda o, given, own, shape: [
        given[0].index_select(o.settings["axis"], torch.tensor(o.settings["indices"]))
    ],
    "split": lambda o, given, own, shape: given[0].split(o.settings["sizes"], o.settings["axis"]),
    "expand": lambda o, given, own, shape: [given[0].expand(shape)],
    "concat": lambda o, given, own, shape: [torch.cat(list(given), o.settings["axis"])],
    "pool": lambda o, given, own, shape: [given[0]],
    "embedding": lambda o, given, own, shape: [own["table"][given[0]]],
    "softmax": lambda o, given, own, shape: [given[0].softmax(o.settings["axis"])],
    "reduce": lambda o, given, own, shape: [given[0].sum(o.settings["axes"], o.settings["keepdims"])],
    "attention": lambda o, given, own, shape: [
        functional.scaled_dot_product_attention(*given[:3], *given[3:], enable_gqa=True)
    ],
}


def constants(model: Any, graph: Graph) -> dict[int, torch.Tensor]:
    """The model's buffers, by the tensors that nothing writes, in order."""
    written = {number for operation in graph.operations for number in operation.outputs} | set(graph.inputs)
    free = [number for number in range(len(graph.tensors)) if number not in written]
    read = {number for operation in graph.operations for number in operation.inputs}
    return dict(zip([number for number in free if number in read], model.buffers(), strict=True))
