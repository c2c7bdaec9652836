"""Connected components of the element graph, and the choices that were left open.

A component is what can only be removed together; it stays if one of its nodes stays. Time is near-linear in the number
of nodes and ties: all work is on NumPy edge arrays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secateur.structure.elements import FROZEN, Choice, Elements, Freeze, Nodes, Option

Flags = npt.NDArray[np.bool_]


class Components:
    """The component of every node (``labels``), which components stay (``frozen``), and why (``freezes``)."""

    def __init__(self, elements: Elements) -> None:
        self.labels = np.arange(elements.count, dtype=np.int64)
        self.frozen = np.zeros(elements.count, dtype=np.bool_)
        self.frozen[FROZEN] = True
        self.freezes: list[Freeze] = []
        if elements.ties:
            left, right = (np.concatenate(side) for side in zip(*elements.ties, strict=True))
            self.tie(left, right)
        for freeze in elements.freezes:
            self.freeze(freeze)

    def tie(self, left: Nodes, right: Nodes) -> None:
        """Merge the components of each pair of nodes; neither may be FROZEN."""
        count, merged = connected(self.frozen.size, self.labels[left], self.labels[right])
        frozen = np.zeros(count, dtype=np.bool_)
        frozen[merged[self.frozen]] = True
        self.labels, self.frozen = merged[self.labels], frozen

    def freeze(self, freeze: Freeze) -> None:
        """Let whole components stay, and remember why."""
        live = freeze.nodes[freeze.nodes != FROZEN]
        if live.size:
            self.frozen[self.labels[live]] = True
            self.freezes.append(Freeze(live, freeze.operation, freeze.reason))

    def stays(self, nodes: Nodes) -> Flags:
        """Whether each node stays."""
        return self.frozen[self.labels[nodes]]

    def settle(self, choice: Choice, option: Option) -> None:
        """Let ``option`` hold."""
        left_stays, right_stays = option.left == FROZEN, option.right == FROZEN
        stays = np.concatenate([option.stays, option.left[right_stays], option.right[left_stays]])
        self.freeze(Freeze(stays, choice.operation, choice.reason))
        both = ~(left_stays | right_stays)
        self.tie(option.left[both], option.right[both])


def solve(elements: Elements) -> Components:
    """Merge what is tied, then settle the choices: first those with one option left, then the others in order.

    An open choice takes the option that leaves the most components to remove.
    """
    components = Components(elements)
    pending = list(elements.choices)
    while pending:
        forced = [choice for choice in pending if len(_open(components, choice)) < 2]
        for choice in forced or pending[:1]:
            components.settle(choice, _best(components, choice))
        settled = {id(choice) for choice in forced or pending[:1]}
        pending = [choice for choice in pending if id(choice) not in settled]
    return components


def connected(count: int, left: Nodes, right: Nodes) -> tuple[int, Nodes]:
    """Number of connected components of ``count`` nodes with these edges, and the component of each node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(left.size), (left, right)), shape=(count, count))
    number, labels = connected_components(edges.tocsr(), directed=False)
    return int(number), labels.astype(np.int64)


def _open(components: Components, choice: Choice) -> list[Option]:
    """The options by which anything could still be removed, judged without the ties that they would add."""
    return [
        option
        for option in choice.options
        if not (components.stays(option.left) | components.stays(option.right)).all()
    ]


def _best(components: Components, choice: Choice) -> Option:
    options = _open(components, choice) or choice.options[:1]
    return options[0] if len(options) == 1 else max(options, key=lambda option: _removable(components, option))


def _removable(components: Components, option: Option) -> int:
    """Number of components to remove among the nodes that ``option`` ties."""
    labels = [components.labels[side] for side in (option.left, option.right)]
    known, local = np.unique(np.concatenate(labels), return_inverse=True)
    count, merged = connected(known.size, *np.split(local, 2))
    stays = np.zeros(count, dtype=np.bool_)
    stays[merged[components.frozen[known] | np.isin(known, components.labels[option.stays])]] = True
    return int(count - stays.sum())
