"""What can be said of a smaller module besides its outputs for the user's example: its shapes, and another input.

An example that shows no difference in numbers (zeros, ones, a single token) hides a wrong one: heads of another width
give the same there. They have other shapes, and give something else for random numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.errors import EmptyLayerError, ExampleError, TraceError
from secateur.structure.graph import Graph, Operation
from secateur.structure.removal import Plan, producer
from secateur_torch import tracing
from secateur_torch.correspondence import within
from secateur_torch.inference import arguments, tensors


def misfit(small: nn.Module, model: nn.Module, graph: Graph, plan: Plan, example: Any) -> str:
    """In words, the first tensor that has another shape in the smaller module than the plan foretells; else empty.

    Shapes are compared where both modules do the same operations, in number and kind. Where they do not, or where the
    smaller one does not run, nothing is said: its outputs will tell.

    Args:
        small: the smaller module.
        model: the module that was traced.
        graph: its structure, perhaps for another example.
        plan: which indices of which weights stay.
        example: an input, as for :func:`secateur_torch.tracing.graph`.
    """
    try:
        whole, found = tracing.graph(model, example), tracing.graph(small, example)
        shapes = plan.shapes if whole.tensors == graph.tensors else within(whole, plan).shapes
    except (ExampleError, TraceError, EmptyLayerError):
        return ""
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


def _form(operation: Operation) -> tuple[str, int]:
    return operation.kind, len(operation.outputs)


def made_up(model: nn.Module, graph: Graph, example: Any) -> Any:
    """Reproducible random numbers in the place of the example's: see :meth:`secateur.adapter.Adapter.made_up`."""
    positional, named = arguments(model, example)
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
