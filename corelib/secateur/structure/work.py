"""How much an operation computes, as products of the sizes of axes.

Only contractions count, at two floating-point operations for each multiply-add: every weight is multiplied once at each
position to which it is applied. Activations, normalisations, pooling and lookups are a few per cent and left out, as is
usual. To count a new kind, add a rule to :data:`RULES`; the sizes then follow it through every removal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from secateur.structure.graph import Graph, Operation

Axis = tuple[str | int, int]


@dataclass(frozen=True)
class Term:
    """``factor`` times the product of the sizes of ``axes``.

    Args:
        factor: a whole number.
        axes: (parameter, axis) or (number of a tensor, axis).
        weight: the parameter that is multiplied; None where tensors are.
    """

    factor: int
    axes: tuple[Axis, ...]
    weight: str | None = None


Rule = Callable[[Graph, Operation], Iterator[Term]]


def work(graph: Graph, operation: Operation) -> list[Term]:
    """The floating-point operations of one pass in inference, over all traced examples."""
    rule = RULES.get(operation.kind)
    return list(rule(graph, operation)) if rule is not None and operation.in_inference else []


def _linear(graph: Graph, operation: Operation) -> Iterator[Term]:
    """Each element of the output, of which there are only ``rows``, reads the whole of the kernel's ``in`` axis."""
    kernel = operation.parameters["kernel"]
    yield Term(2, (*_tensor(graph, operation.outputs[0]), (kernel, _named(graph, kernel, "in", 1))), kernel)


def _convolution(graph: Graph, operation: Operation) -> Iterator[Term]:
    """Each element of the output reads, or of a transposed one's input writes, one slice of the kernel."""
    kernel = operation.parameters["kernel"]
    if operation.settings.get("transposed", False):
        grouped = cast(int, operation.settings.get("groups", 1)) > 1
        tensor, apart = operation.inputs[0], {0, 2} if grouped else {_named(graph, kernel, "in", 1)}
    else:
        tensor, apart = operation.outputs[0], {_named(graph, kernel, "out", 0)}
    taken = [axis for axis in _parameter(graph, kernel) if axis[1] not in apart]
    yield Term(2, (*_tensor(graph, tensor), *taken), kernel)


def _bilinear(graph: Graph, operation: Operation) -> Iterator[Term]:
    """Each element of the output reads both ``in`` axes."""
    kernel = operation.parameters["kernel"]
    yield Term(2, (*_tensor(graph, operation.outputs[0]), (kernel, 1), (kernel, 2)), kernel)


def _recurrent(graph: Graph, operation: Operation) -> Iterator[Term]:
    """At each step of each sequence every weight of all gates, of both kernels and of the projection."""
    sequence = _tensor(graph, operation.inputs[0])
    features = cast(int, operation.settings["axis"]) % len(sequence)
    steps = sequence[:features] + sequence[features + 1 :]
    for part in ("kernel", "recurrent", "projection"):
        if part in operation.parameters:
            weight = operation.parameters[part]
            yield Term(2, (*steps, *_parameter(graph, weight)), weight)


def _contract(graph: Graph, operation: Operation) -> Iterator[Term]:
    """All operands at once: for each product that is added, one operation an operand. What adds nothing up is free."""
    sizes: dict[int, Axis] = {}
    labels = cast(Sequence[Sequence[int]], operation.settings["labels"])
    for tensor, own in zip(operation.inputs, labels, strict=True):
        for axis, label in enumerate(own):
            known = sizes.get(label)
            if known is None or _size(graph, known) < graph.tensors[tensor][axis]:
                sizes[label] = (tensor, axis)
    if len(operation.inputs) > 1 and not sizes.keys() <= set(cast(Sequence[int], operation.settings["result"])):
        yield Term(len(operation.inputs), tuple(sizes.values()))


def _attention(graph: Graph, operation: Operation) -> Iterator[Term]:
    """Queries with keys, then the weights of all times with values; fewer keys than queries are used again."""
    queries, keys, *_ = operation.inputs
    result = _tensor(graph, operation.outputs[0])
    time = (keys, len(graph.tensors[keys]) - 2)
    yield Term(2, (*result[:-1], time, (queries, len(graph.tensors[queries]) - 1)))
    yield Term(2, (*result, time))


RULES: Mapping[str, Rule] = {
    "linear": _linear,
    "convolution": _convolution,
    "bilinear": _bilinear,
    "recurrent": _recurrent,
    "contract": _contract,
    "attention": _attention,
}


def _tensor(graph: Graph, tensor: int) -> tuple[Axis, ...]:
    return tuple((tensor, axis) for axis in range(len(graph.tensors[tensor])))


def _parameter(graph: Graph, name: str) -> tuple[Axis, ...]:
    return tuple((name, axis) for axis in range(len(graph.parameters[name].shape)))


def _named(graph: Graph, name: str, label: str, default: int) -> int:
    """The axis of a kernel that has this name; of tied embeddings the first is ``out``, the second ``in``."""
    axes = graph.parameters[name].axes
    return axes.index(label) if label in axes else default


def _size(graph: Graph, axis: Axis) -> int:
    owner, index = axis
    return graph.tensors[owner][index] if isinstance(owner, int) else graph.parameters[owner].shape[index]
