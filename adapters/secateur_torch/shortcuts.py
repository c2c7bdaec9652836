"""Residual branches taken out of an exported graph: additions give way to what they added to, dead code goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from secateur.errors import TraceError
from secateur.structure.branches import find
from secateur.structure.bypassing import Branch, bypass
from secateur.structure.graph import Graph


def within(graph: Graph, branches: Sequence[Branch]) -> list[Branch]:
    """The same branches, which are known by their parameters, in the terms of an exported graph.

    Raises:
        TraceError: one of them is no branch there.
    """
    known = {frozenset(branch.parameters): branch for branch in find(graph)} if branches else {}
    for branch in branches:
        if frozenset(branch.parameters) not in known:
            raise TraceError(
                f"the graph that torch.export writes has no residual branch of {', '.join(branch.parameters)}"
            )
    return [known[frozenset(branch.parameters)] for branch in branches]


def remove(written: fx.GraphModule, graph: Graph, branches: Sequence[Branch], made: Mapping[fx.Node, range]) -> None:
    """Take branches out of ``written``.

    Args:
        written: the exported graph.
        graph: its structure.
        branches: what goes.
        made: which of the structure's tensors each node made.
    """
    left = bypass(graph, branches)
    staying = {tensor for operation in left.operations for tensor in operation.outputs}
    gone = {node for node, tensors in made.items() if tensors and staying.isdisjoint(tensors)}
    makers = {tensor: node for node, tensors in made.items() for tensor in tensors}
    unread = {node for node in written.graph.nodes if not node.users}
    for branch in branches:
        node = makers[graph.operations[branch.addition].outputs[0]]
        stays = [item for item in node.args if isinstance(item, fx.Node)][branch.stays]
        node.replace_all_uses_with(_unshared(written, node, stays))
    owners = {name.rpartition(".")[0] for branch in branches for name in branch.parameters}
    unread -= {node for node in unread if node.op == "get_attr" and str(node.target).rpartition(".")[0] in owners}
    _erase(written, {node for node in gone if node.op == "call_function"}, unread)


def _unshared(written: fx.GraphModule, addition: fx.Node, stays: fx.Node) -> fx.Node:
    """The operand; or a copy of it where what follows writes into the sum, as ``relu_`` does."""
    if not _is_written(addition):
        return stays
    with written.graph.inserting_before(addition):
        return written.graph.call_function(torch.ops.aten.clone.default, (stays,))


def _is_written(node: fx.Node) -> bool:
    """Whether an operation writes into a tensor, or into a view of it."""
    for user in node.users:
        shared = [
            argument.alias_info
            for argument, given in zip(_schema(user), user.args, strict=False)
            if given is node and argument.alias_info is not None
        ]
        if any(alias.is_write for alias in shared) or (shared and _is_written(user)):
            return True
    return False


def _schema(node: fx.Node) -> Sequence[Any]:
    """The declared arguments of an operation."""
    schema = getattr(node.target, "_schema", None)
    return () if schema is None else schema.arguments


def _erase(written: fx.GraphModule, gone: Collection[fx.Node], unread: Collection[fx.Node]) -> None:
    """Nodes that are gone, and what only they read; what nothing read before (a counter) stays, and what writes."""
    for node in reversed(list(written.graph.nodes)):
        is_plain = node.op in ("call_function", "get_attr", "call_method") and not node.is_impure()
        if not node.users and (node in gone or (is_plain and node not in unread)):
            written.graph.erase_node(node)
