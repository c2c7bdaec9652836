"""The element graph: a node for every index of every axis, and what the rules say about them.

Owns the nodes, the ties between them, what must stay, and the choices left open. A tensor's layout is one array of node
numbers for each of its axes; node :data:`FROZEN` stands for whatever stays (batch, time and space, inputs, constants).
Nothing is solved here: :mod:`secateur.structure.solver` reads what was gathered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from secateur.errors import TraceError
from secateur.structure.graph import Graph, ParameterShape

Nodes = npt.NDArray[np.int64]
Layout = tuple[Nodes, ...]

FROZEN = 0
MODEL = -1


@dataclass(frozen=True)
class Freeze:
    """These nodes stay, because of what operation number ``operation`` (:data:`MODEL`: the model itself) does."""

    nodes: Nodes
    operation: int
    reason: str


@dataclass(frozen=True)
class Option:
    """One way to keep tensors rectangular: ``left`` and ``right`` are tied pairwise, ``stays`` is frozen."""

    left: Nodes
    right: Nodes
    stays: Nodes


@dataclass(frozen=True)
class Choice:
    """Exactly one of the options must hold; which one is decided when all other ties are known.

    Options of equal merit are taken in this order.
    """

    options: tuple[Option, ...]
    operation: int
    reason: str


class Elements:
    """Gathers nodes, ties, freezes and choices while the operations of ``graph`` are read one by one.

    Attributes:
        exact: whether everything stays whose removal would change the results.
        zero: (tensor, axis) along which the tensor is exactly zero at the indices of masked units, or has no units.
        groups: operation -> the nodes of its groups.
        heads: nodes of axes along which whole products lie side by side, as an attention's heads do.
        contracted: what a kernel or a product of tensors sums over.
        readers: (parameter, axis) of kernels that sum over the axis.
        products: of ``contracted``, what no kernel reads: it may go since it is zero.
    """

    def __init__(self, graph: Graph, exact: bool = True) -> None:
        self.graph = graph
        self.exact = exact
        self.operation = MODEL
        self.count = 1
        self.ties: list[tuple[Nodes, Nodes]] = []
        self.freezes: list[Freeze] = []
        self.choices: list[Choice] = []
        self.parameters: dict[tuple[str, int], Nodes] = {}
        self.groups: dict[int, Nodes] = {}
        self.zero: set[tuple[int, int]] = set()
        self.heads: list[Nodes] = []
        self.contracted: list[Nodes] = []
        self.readers: dict[tuple[str, int], None] = {}
        self.products: list[Nodes] = []
        self._free: list[tuple[int, int]] = []

    def new(self, size: int) -> Nodes:
        """``size`` nodes that nothing is tied to yet."""
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def free(self, size: int) -> Nodes:
        """The nodes of an axis that repeats one number, and so takes the size of whatever it meets."""
        if size == 1:
            return np.full(1, FROZEN, dtype=np.int64)
        self._free.append((self.count, self.count + size))
        return self.new(size)

    def is_free(self, nodes: Nodes) -> bool:
        """Whether these are nodes of such an axis."""
        return any(start <= nodes.min() and nodes.max() < stop for start, stop in self._free) if nodes.size else False

    def described(self, name: str) -> ParameterShape:
        """What the graph says about a parameter."""
        if name not in self.graph.parameters:
            self.refuse(f"uses a parameter {name!r} that the graph does not describe")
        return self.graph.parameters[name]

    def parameter(self, name: str, axis: int) -> Nodes:
        """The nodes of one axis of a parameter: the same ones wherever the parameter is used."""
        shape = self.described(name).shape
        if axis >= len(shape):
            self.refuse(f"needs axis {axis} of parameter {name!r}, whose shape is {shape}")
        if (name, axis) not in self.parameters:
            self.parameters[name, axis] = self.new(shape[axis])
        return self.parameters[name, axis]

    def tie(self, left: Nodes, right: Nodes, reason: str) -> None:
        """Each pair (arrays of nodes that broadcast) goes or stays together; what is paired with FROZEN stays."""
        if left is right:
            return
        if left.shape != right.shape or left.ndim != 1:
            try:
                left, right = (side.ravel() for side in np.broadcast_arrays(left, right))
            except ValueError:
                self.refuse(f"joins axes of {left.size} and {right.size} indices")
        both = (left != FROZEN) & (right != FROZEN)
        if not both.all():
            self.freeze(np.concatenate([left[right == FROZEN], right[left == FROZEN]]), reason)
            left, right = left[both], right[both]
        self.ties.append((left, right))

    def freeze(self, nodes: Nodes, reason: str) -> None:
        """These nodes stay."""
        live = nodes[nodes != FROZEN]
        if live.size:
            self.freezes.append(Freeze(live, self.operation, reason))

    def read(self, nodes: Nodes, kernel: tuple[str, int] | None) -> None:
        """These nodes are summed over, by this axis of a kernel or, if None, in a product of tensors."""
        self.contracted.append(nodes)
        if kernel is None:
            self.products.append(nodes)
        else:
            self.readers[kernel] = None

    def mark_zero(self, tensor: int, *axes: int) -> None:
        """The tensor is zero wherever a masked unit lies on these axes, which may be negative."""
        self.zero.update((tensor, axis % len(self.graph.tensors[tensor])) for axis in axes)

    def is_zero(self, tensor: int, axis: int) -> bool:
        """Whether the tensor is known to be zero wherever a masked unit lies on this axis, which may be negative."""
        return (tensor, axis % len(self.graph.tensors[tensor])) in self.zero

    def choose(self, options: tuple[Option, ...], reason: str) -> None:
        """Leave it open which option holds."""
        self.choices.append(Choice(options, self.operation, reason))

    def refuse(self, problem: str) -> NoReturn:
        """Raise TraceError, naming the operation that is being read."""
        if self.operation == MODEL:
            raise TraceError(f"the traced graph {problem}")
        operation = self.graph.operations[self.operation]
        where = " ".join(part for part in (operation.label or operation.kind, operation.source) if part)
        raise TraceError(
            f"operation {self.operation} ({where}) {problem}; its record in the traced graph is inconsistent: "
            "trace the model again, or record this operation as 'unknown'"
        )


def plain(shape: tuple[int, ...]) -> Layout:
    """The layout of a tensor of which nothing can go; axes of one size are one array."""
    return tuple(map(_frozen, shape))


@lru_cache(maxsize=1 << 9)
def _frozen(size: int) -> Nodes:
    nodes = np.full(size, FROZEN, dtype=np.int64)
    nodes.flags.writeable = False
    return nodes


def is_plain(nodes: Nodes) -> bool:
    """Whether every index of an axis stays for a reason known from the start."""
    return nodes is _frozen(nodes.size) or not nodes.any()
