"""The graph of symbolic calls that a functional model and a ``Sequential`` carry, and the order in which to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras

from secateur.errors import TraceError


@dataclass(frozen=True)
class Symbolic:
    """Symbolic inputs and outputs, flat and in the structure in which the model takes and gives them.

    ``made`` holds the nodes in the order in which they were made, if that is known, others perhaps among them;
    ``baked`` the variables whose numbers a ``call`` computed with at once, for which the graph has constants.
    """

    inputs: list[Any]
    outputs: list[Any]
    input_structure: Any
    output_structure: Any
    made: Sequence[Any] = ()
    baked: Sequence[keras.Variable] = ()

    @cached_property
    def nodes(self) -> list[Any]:
        """The calls between inputs and outputs, as they were made if that is known, else in :func:`operand_order`."""
        nodes = operand_order(self.inputs, self.outputs)
        needed = set(map(id, nodes))
        return [node for node in self.made if id(node) in needed] or nodes


def own_graph(layer: Any) -> Symbolic | None:
    """The graph that a model carries; None if it has none, or runs a ``call`` of its own instead."""
    if isinstance(layer, keras.Sequential):
        model = layer._functional if type(layer).call is keras.Sequential.call else None
    else:
        carried = hasattr(layer, "_nodes_by_depth") and type(layer).call.__module__.startswith("keras.")
        model = layer if carried else None
    return None if model is None else Symbolic(model.inputs, model.outputs, model.input, model.output)


def operand_order(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The nodes between inputs and outputs: first what the first output's first operand needs, as one would write it.

    A functional model does not remember in which order its layers were called. Unlike Keras's order by depth this is
    the order of a program that computes one operand after the other; it does not change when a model is saved and
    loaded.
    """
    known = {id(tensor) for tensor in inputs}
    done: set[int] = set()
    order: list[Any] = []
    pending: list[tuple[Any, bool]] = [
        (_node(tensor), False) for tensor in reversed(outputs) if id(tensor) not in known
    ]
    while pending:
        node, ready = pending.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        if node.is_input:
            raise TraceError(f"the model's outputs depend on {node.operation.name!r}, which is not one of its inputs")
        pending.append((node, True))
        needed = [tensor for tensor in node.input_tensors if id(tensor) not in known]
        pending += [(_node(tensor), False) for tensor in reversed(needed)]
    return order


def _node(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def arguments_of(node: Any) -> list[Any]:
    """What a node's operation was called with, flat, without the mode."""
    named = sorted(node.arguments.kwargs.items())
    return keras.tree.flatten((node.arguments.args, [value for key, value in named if key != "training"]))
