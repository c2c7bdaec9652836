"""Graphs in which no size can be misread: shapes follow from inputs and weights alone, whatever the code spells out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.structure.graph import Graph, Operation

_FORCED = frozenset(
    ("linear", "convolution", "bilinear", "normalize", "elementwise", "concat", "reduce", "softmax", "pool", "permute")
)
"""Operations that give the shapes that their inputs and weights have, whatever sizes the model's code spells out."""


def is_forced(graph: Graph) -> bool:
    """Whether no operation could give another shape than a plan foretells, and run."""
    return all(
        operation.kind in _FORCED or (operation.kind == "reshape" and _flattens(graph, operation))
        for operation in graph.operations
    )


def first_row(graph: Graph, example: Any) -> Any | None:
    """The first of the rows of an example, which tells as much as all of them where no size can be misread.

    Args:
        graph: the structure that was traced.
        example: an array, or a tuple, list or mapping of arrays.

    Returns:
        In the form of the example, with a first axis of size 1; None if the rows may depend on one another, if there is
        but one, or if the graph also has a pass in training mode.
    """
    ends = [graph.tensors[number][:1] for number in (*graph.inputs, *graph.outputs)]
    parts = list(example.values()) if isinstance(example, Mapping) else example
    parts = list(parts) if isinstance(parts, tuple | list) else [parts]
    rows = {tuple(getattr(part, "shape", ()))[:1] for part in parts}
    if len({*ends, *rows}) != 1 or rows & {(), (1,)} or graph.has_training or not is_forced(graph):
        return None
    if isinstance(example, Mapping):
        return {name: part[:1] for name, part in example.items()}
    return type(example)(part[:1] for part in parts) if type(example) in (tuple, list) else parts[0][:1]


def _flattens(graph: Graph, operation: Operation) -> bool:
    """Whether a reshape leaves the batch, and one axis for all the rest."""
    before, after = graph.tensors[operation.inputs[0]], graph.tensors[operation.outputs[0]]
    return len(after) == 2 and before[:1] == after[:1]
