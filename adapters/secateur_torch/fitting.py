"""What can be said of a smaller module besides its outputs for the user's example: its shapes, and another input.

An example that shows no difference in numbers (zeros, ones, a single token) hides a wrong one: heads of another width
give the same there. They have other shapes, and give something else for random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.errors import EmptyLayerError, ExampleError, TraceError
from secateur.structure.forced import is_forced
from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import Plan, producer
from secateur.verification import is_noise
from secateur_torch import tracing
from secateur_torch.arrays import array
from secateur_torch.correspondence import within
from secateur_torch.inference import arguments, tensors


def misfit(small: nn.Module, model: nn.Module, graph: Graph, plan: Plan, example: Any) -> str:
    """In words, the first tensor that has another shape in the smaller module than the plan foretells; else empty.

    Shapes are compared where both modules do the same operations, in number and kind. Where they do not, or where the
    smaller one does not run, nothing is said: its outputs will tell. Nor is anything looked at where the weights alone
    say what shapes there are, as in most convolutional networks.

    Args:
        small: the smaller module.
        model: the module that was traced.
        graph: its structure, perhaps for another example.
        plan: which indices of which weights stay.
        example: an input, as for :func:`secateur_torch.tracing.graph`.
    """
    if is_forced(graph):
        return ""
    try:
        found = tracing.graph(small, example)
        if _is_of(graph, model, example) and not _apart(graph, plan.shapes, found):
            return ""
        # The trace is older than the masks: where numbers decide on shapes (tokens of an expert), others may be right.
        whole = tracing.graph(model, example)
        shapes = plan.shapes if whole.tensors == graph.tensors else within(whole, plan).shapes
    except (ExampleError, TraceError, EmptyLayerError):
        return ""
    return _apart(whole, shapes, found)


def _apart(whole: Graph, shapes: Sequence[tuple[int, ...]], found: Graph) -> str:
    """In words, the first tensor that has another shape than foretold; empty if operations do not correspond."""
    if [_form(operation) for operation in whole.operations] != [_form(operation) for operation in found.operations]:
        return ""
    for operation, other in zip(whole.operations, found.operations, strict=True):
        for wanted, number in zip(operation.outputs, other.outputs, strict=True):
            if shapes[wanted] != found.tensors[number]:
                return (
                    f"in your own module with smaller weights, {producer(whole, wanted)} gives the shape "
                    f"{found.tensors[number]} instead of {shapes[wanted]}: its code reads another size there, as the "
                    "-1 in x.view(batch, time, 3, heads, -1) does. Exclude the layers before it."
                )
    return ""


def _is_of(graph: Graph, model: nn.Module, example: Any) -> bool:
    """Whether a graph is that of this example: of its shapes, and the model's code does not read its numbers."""
    shapes = [tuple(tensor.shape) for tensor in tensors(list(arguments(model, example)))]
    traced = [graph.tensors[number] for number in graph.inputs]
    return traced[: len(shapes)] == shapes and not graph.readings


def _form(operation: Operation) -> tuple[str, int]:
    return operation.kind, len(operation.outputs)


def made_up(model: nn.Module, graph: Graph, example: Any) -> Any:
    """Reproducible random numbers in the place of the example's: see :meth:`secateur.adapter.Adapter.made_up`."""
    positional, named = arguments(model, example)
    if all(tensor.is_floating_point() and is_noise(array(tensor)) for tensor in tensors([positional, named])):
        return None
    numbers = zip(tensors([positional, named]), graph.inputs, strict=False)
    entries = graph.entries
    tables = {id(tensor): entries[number] for tensor, number in numbers if number in entries}
    generator = np.random.default_rng(0)

    def draw(tensor: torch.Tensor) -> torch.Tensor:
        shape = tuple(tensor.shape)
        if tensor.is_floating_point():
            drawn = torch.from_numpy(np.asarray(generator.standard_normal(shape)))
        elif id(tensor) in tables:
            drawn = torch.from_numpy(np.asarray(generator.integers(0, tables[id(tensor)], shape)))
        else:
            return tensor
        return drawn.to(tensor.device, tensor.dtype)

    return torch.utils._pytree.tree_map_only(torch.Tensor, draw, named or positional)
