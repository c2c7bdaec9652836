"""One small rule for each kind of operation: which indices of its tensors and parameters go together.

A rule gets the layouts of its inputs and returns those of its outputs; on the way it ties and freezes nodes, and notes
along which axes outputs are zero at the indices of masked units. To teach the solver a new kind, add a rule to
:data:`RULES`; nothing else knows the kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secateur.structure.elements import Elements, Layout, is_plain, plain
from secateur.structure.graph import Operation
from secateur.structure.rules import between, moving, norms, weights
from secateur.structure.rules.common import Rule, parameter_layout

__all__ = ["RULES", "UNKNOWN", "read"]

UNKNOWN = "Secateur does not know what it does"


def unknown(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes all that it touches: unknown is never wrong, only unpruned."""
    reason = str(operation.settings.get("reason", UNKNOWN))
    layouts = [*inputs, *(parameter_layout(elements, name) for name in operation.parameters.values())]
    for nodes in (nodes for layout in layouts for nodes in layout):
        elements.freeze(nodes, reason)
    return [plain(elements.graph.tensors[output]) for output in operation.outputs]


RULES: Mapping[str, Rule] = {
    "linear": weights.linear,
    "convolution": weights.convolution,
    "bilinear": weights.bilinear,
    "embedding": weights.embedding,
    "recurrent": weights.recurrent,
    "weight": weights.weight,
    "normalize": norms.normalize,
    "standardize": norms.standardize,
    "elementwise": between.elementwise,
    "contract": between.contract,
    "attention": between.attention,
    "concat": between.concat,
    "reduce": between.reduce,
    "softmax": between.softmax,
    "pool": between.pool,
    "reshape": moving.reshape,
    "permute": moving.permute,
    "slice": moving.take,
    "take": moving.take,
    "split": moving.split,
    "pad": moving.pad,
    "expand": moving.expand,
    "gather": moving.gather,
    "fill": moving.fill,
    "unknown": unknown,
}


def read(elements: Elements) -> list[Layout]:
    """Apply the rules in execution order; returns the layout of every tensor. Inputs and constants are plain.

    Raises TraceError if the layouts do not fit the shapes that were traced.
    """
    graph = elements.graph
    layouts = [plain(shape) for shape in graph.tensors]
    written = {tensor for operation in graph.operations for tensor in operation.outputs}
    for tensor in set(range(len(layouts))) - written:
        _without_units(elements, tensor, layouts[tensor])
    for elements.operation, operation in enumerate(graph.operations):
        rule = RULES.get(operation.kind, unknown)
        results = rule(elements, operation, [layouts[tensor] for tensor in operation.inputs])
        for tensor, layout in zip(operation.outputs, results, strict=True):
            shape = tuple(nodes.size for nodes in layout)
            if shape != graph.tensors[tensor]:
                elements.refuse(f"should give shape {shape}, traced was {graph.tensors[tensor]}")
            layouts[tensor] = layout
            _without_units(elements, tensor, layout)
    return layouts


def _without_units(elements: Elements, tensor: int, layout: Layout) -> None:
    """An axis of which nothing can go has no index at which a tensor would have to be zero."""
    elements.mark_zero(tensor, *(axis for axis, nodes in enumerate(layout) if is_plain(nodes)))
