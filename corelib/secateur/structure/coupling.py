"""Which slices of which parameters can only be removed together: the units of a traced model.

A unit is a connected component of the element graph (:mod:`secateur.structure.elements`) that some kernel produces,
that some kernel or product sums over, and of which nothing must stay. Its removal is exact: with all its slices at
zero, the model gives the same outputs as the model without them. What must stay is explained, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from secateur.structure.elements import FROZEN, MODEL, Elements, Freeze, Layout, Nodes
from secateur.structure.graph import Graph, producing_axes
from secateur.structure.rules import read
from secateur.structure.solver import Components, solve

Units = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Frozen:
    """What stays, and why.

    Args:
        source: where the operation that holds it back stands in the user's code, as far as the tracer knows.
        label: the framework's name of that operation, or of the part of the model.
        reason: what this operation does to it.
        parameters: the kernels, recurrent kernels and embeddings of which an output index stays because of it.
    """

    source: str
    label: str
    reason: str
    parameters: tuple[str, ...]

    @property
    def where(self) -> str:
        """Source and label, as far as they are known."""
        return " ".join(filter(None, (self.source, self.label)))


@dataclass(frozen=True, eq=False)
class Coupling:
    """The removable units of a graph, numbered by first appearance on the ``out`` axes of kernels in execution order.

    Args:
        count: number of removable units.
        units: (parameter, axis) -> int64 array, the unit of every index of that axis, -1 where it stays; axes of which
            nothing can go are absent.
        layers: int64[count], for each unit the index into ``layer_names`` of the first kernel that produces it.
        layer_names: kernels that produce units, in execution order.
        explain: tells what stays, and why: it takes a while, and few ask.
        tensors: (tensor, axis) -> like ``units``, for the graph's tensors.
        groups: operation index -> unit of each group of a convolution or normalisation, -1 where it stays; where any
            can go.
        readers: (parameter, axis) of the kernels that sum over the axis: what they read of a removed unit is masked.
        heads: bool[count], units that are heads of an attention, or of any products that lie side by side.
        products: bool[count], units that are also summed over where no kernel reads them.
    """

    count: int
    units: Mapping[tuple[str, int], Units]
    layers: Units
    layer_names: tuple[str, ...]
    explain: Callable[[], tuple[Frozen, ...]] = tuple
    tensors: Mapping[tuple[int, int], Units] = field(default_factory=dict)
    groups: Mapping[int, Units] = field(default_factory=dict)
    readers: tuple[tuple[str, int], ...] = ()
    heads: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))
    products: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))

    @cached_property
    def frozen(self) -> tuple[Frozen, ...]:
        """What stays, and why."""
        return self.explain()


def couple(graph: Graph, exclude: Collection[str] = (), heads: bool = True, exact: bool = True) -> Coupling:
    """Find the units of a graph.

    Args:
        graph: the traced model.
        exclude: parameters whose features must stay; names that the graph does not use have no effect.
        heads: where either whole heads or the same features of all heads can go, whether heads do.
        exact: whether everything stays whose removal would change the results: axes that a layer or group
            normalisation averages over. Else these units can go, but masked does not equal removed.

    Returns:
        The units, near-linear in the number of indices of all axes.

    Raises:
        TraceError: the graph contradicts itself (shapes, unknown parameters).
    """
    elements = Elements(graph, exact)
    layouts = read(elements)
    elements.operation = MODEL
    _freeze_ends(elements, layouts, exclude)
    components = solve(elements, heads)
    _freeze_last(components, elements, layouts)
    producers = _producers(elements)
    _freeze_unread(components, elements, producers)
    return _number(components, elements, layouts, producers)


def only(coupling: Coupling, chosen: Flags, reason: str) -> Coupling:
    """The same with none but the chosen units, numbered anew; the layers of the others are told to be held back.

    Args:
        coupling: the units of a graph.
        chosen: bool, one for each unit.
        reason: why the others stay.
    """
    numbers = np.append(np.where(chosen, np.cumsum(chosen) - 1, -1), -1)

    def chosen_of(units: Mapping[Key, Units]) -> dict[Key, Units]:
        renumbered = {key: numbers[each] for key, each in units.items()}
        return {key: each for key, each in renumbered.items() if (each >= 0).any()}

    used, layers = np.unique(coupling.layers[chosen], return_inverse=True)
    others = np.setdiff1d(coupling.layers, used)
    held = Frozen("", "recipe", reason, tuple(coupling.layer_names[index] for index in others))
    return Coupling(
        count=int(chosen.sum()),
        units=chosen_of(coupling.units),
        layers=layers.astype(np.int64),
        layer_names=tuple(coupling.layer_names[index] for index in used),
        explain=lambda: (*coupling.frozen, held) if others.size else coupling.frozen,
        tensors=chosen_of(coupling.tensors),
        groups=chosen_of(coupling.groups),
        readers=coupling.readers,
        heads=coupling.heads[chosen],
        products=coupling.products[chosen],
    )


def _freeze_ends(elements: Elements, layouts: Sequence[Layout], exclude: Collection[str]) -> None:
    for tensor in elements.graph.outputs:
        for nodes in layouts[tensor]:
            elements.freeze(nodes, "it is an output of the model")
    for name in sorted(set(exclude) & set(elements.graph.parameters)):
        described = elements.graph.parameters[name]
        for axis in producing_axes(described.role, described.axes):
            elements.freeze(elements.parameter(name, axis), "it is excluded")


def _freeze_last(components: Components, elements: Elements, layouts: Sequence[Layout]) -> None:
    """A component that is all there is of some axis stays: no axis may become empty."""
    seen: set[int] = set()
    for index, nodes in _axes_by_operation(elements, layouts):
        if id(nodes) in seen or not nodes.size:
            continue
        seen.add(id(nodes))
        labels = components.labels(nodes)
        if not components.frozen[labels[0]] and (labels == labels[0]).all():
            components.freeze(Freeze(nodes[:1], index, "without it an axis would be empty"))


def _axes_by_operation(elements: Elements, layouts: Sequence[Layout]) -> Iterator[tuple[int, Nodes]]:
    for index, operation in enumerate(elements.graph.operations):
        yield from ((index, nodes) for tensor in operation.outputs for nodes in layouts[tensor])
        for name in operation.parameters.values():
            rank = len(elements.graph.parameters[name].shape)
            keys = ((name, axis) for axis in range(rank))
            yield from ((index, elements.parameters[key]) for key in keys if key in elements.parameters)


def _producers(elements: Elements) -> dict[str, tuple[int, Nodes]]:
    """Whatever makes features, the operation that first uses it, and the nodes of these features; in that order."""
    found: dict[str, tuple[int, Nodes]] = {}
    for index, operation in enumerate(elements.graph.operations):
        for name in operation.parameters.values():
            axes = producing_axes(elements.graph.parameters[name].role, elements.graph.parameters[name].axes)
            known = [elements.parameters[name, axis] for axis in axes if (name, axis) in elements.parameters]
            if known and name not in found:
                found[name] = (index, np.concatenate(known))
    return found


def _freeze_unread(components: Components, elements: Elements, producers: Mapping[str, tuple[int, Nodes]]) -> None:
    """What nothing sums over stays: no mask could make its removal exact."""
    is_read = _flagged(components, elements.contracted)
    for operation, nodes in producers.values():
        unread = nodes[~is_read[components.labels(nodes)] & ~components.stays(nodes)]
        components.freeze(Freeze(unread, operation, "no later kernel reads it, so no mask stands for its removal"))


def _flagged(components: Components, groups: Sequence[Nodes]) -> Flags:
    """Components of which one of these has a node."""
    flags = np.zeros(components.frozen.size, dtype=np.bool_)
    for nodes in groups:
        flags[components.labels(nodes[nodes != FROZEN])] = True
    return flags


def _number(
    components: Components, elements: Elements, layouts: Sequence[Layout], producers: Mapping[str, tuple[int, Nodes]]
) -> Coupling:
    """Number the live components, and translate nodes into units everywhere."""
    names = tuple(producers)
    outs = [nodes for _, nodes in producers.values()]
    owner = np.repeat(np.arange(len(names)), [nodes.size for nodes in outs])
    produced = components.labels(np.concatenate([np.zeros(0, np.int64), *outs]))
    live = ~components.frozen[produced]
    labels, first = np.unique(produced[live], return_index=True)
    order = np.argsort(first)
    unit = np.full(components.frozen.size, -1, dtype=np.int64)
    unit[labels[order]] = np.arange(labels.size)
    used, layers = np.unique(owner[live][first[order]], return_inverse=True)
    of_node = unit[components.labels(np.arange(elements.count))]
    return Coupling(
        count=int(labels.size),
        units=_translate(of_node, elements.parameters),
        layers=layers.astype(np.int64),
        layer_names=tuple(names[index] for index in used),
        explain=partial(_explain, components, elements, producers),
        tensors=_translate(
            of_node, {(i, axis): nodes for i, layout in enumerate(layouts) for axis, nodes in enumerate(layout)}
        ),
        groups=_translate(of_node, elements.groups),
        readers=tuple(elements.readers),
        heads=components.heads[labels[order]],
        products=_flagged(components, elements.products)[labels[order]],
    )


def _translate(of_node: Units, axes: Mapping[Key, Nodes]) -> dict[Key, Units]:
    """The units of each axis that has any; axes with the same nodes share one array."""
    known: dict[int, Units] = {}
    for nodes in axes.values():
        if id(nodes) not in known:
            known[id(nodes)] = of_node[nodes]
    has_units = {key: bool((units >= 0).any()) for key, units in known.items()}
    return {key: known[id(nodes)] for key, nodes in axes.items() if has_units[id(nodes)]}


def _explain(
    components: Components, elements: Elements, producers: Mapping[str, tuple[int, Nodes]]
) -> tuple[Frozen, ...]:
    """One entry for each operation and reason that hold back features that a parameter makes, in execution order."""
    from scipy.sparse import coo_array

    freezes, names = components.freezes, tuple(producers)
    pairs = sorted(((f.operation, f.reason) for f in freezes), key=lambda pair: (pair[0] == MODEL, pair[0]))
    causes = {pair: row for row, pair in enumerate(dict.fromkeys(pairs))}
    if not causes or not names:
        return ()
    cause = np.repeat([causes[f.operation, f.reason] for f in freezes], [f.nodes.size for f in freezes])
    touched = components.labels(np.concatenate([freeze.nodes for freeze in freezes]))
    owner = np.repeat(np.arange(len(names)), [nodes.size for _, nodes in producers.values()])
    produced = components.labels(np.concatenate([nodes for _, nodes in producers.values()]))
    width = components.frozen.size
    by_cause = coo_array((np.ones(cause.size), (cause, touched)), shape=(len(causes), width)).tocsr()
    by_label = coo_array((np.ones(owner.size), (produced, owner)), shape=(width, len(names))).tocsr()
    held = (by_cause @ by_label).tocsr()
    rows = [held.indices[held.indptr[row] : held.indptr[row + 1]] for row in range(len(causes))]
    entries = (
        _entry(elements.graph, operation, reason, tuple(names[index] for index in np.sort(row)))
        for (operation, reason), row in zip(causes, rows, strict=True)
        if row.size
    )
    return tuple(dict.fromkeys(entries))  # code that runs twice is told once


def _entry(graph: Graph, operation: int, reason: str, parameters: tuple[str, ...]) -> Frozen:
    if operation == MODEL:
        return Frozen("", "model", reason, parameters)
    return Frozen(graph.operations[operation].source, graph.operations[operation].label, reason, parameters)
