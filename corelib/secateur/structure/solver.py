"""Connected components of the element graph, and the choices that were left open.

A component is what can only be removed together; it stays if one of its nodes stays. Time is near-linear in the number
of nodes and ties: all work is on NumPy edge arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from secateur.structure.elements import FROZEN, Choice, Elements, Freeze, Nodes, Option

Flags = npt.NDArray[np.bool_]

STAYS = -1


class Components:
    """The component of every node, which components stay (``frozen``) and why (``freezes``), which are ``heads``.

    Merging renames only the components that merge: what is known about a choice stays true while none of its do.
    """

    def __init__(self, elements: Elements) -> None:
        edges = elements.ties or [(np.zeros(0, np.int64),) * 2]
        left, right = (np.concatenate(side) for side in zip(*edges, strict=True))
        count, self._first = connected(elements.count, left, right)
        self._merged = np.arange(count, dtype=np.int64)
        self.frozen = np.zeros(count, dtype=np.bool_)
        self.frozen[self.labels(np.array([FROZEN]))] = True
        self.heads = np.zeros(count, dtype=np.bool_)
        for nodes in elements.heads:
            self.heads[self.labels(nodes[nodes != FROZEN])] = True
        self.freezes: list[Freeze] = []
        for freeze in elements.freezes:
            self.freeze(freeze)

    def labels(self, nodes: Nodes) -> Nodes:
        """The component of each node."""
        return self._merged[self._first[nodes]]

    def stays(self, nodes: Nodes) -> Flags:
        """Whether each node stays."""
        return self.frozen[self.labels(nodes)]

    def freeze(self, freeze: Freeze) -> None:
        """Let whole components stay, and remember why."""
        live = freeze.nodes[freeze.nodes != FROZEN]
        if live.size:
            self.frozen[self.labels(live)] = True
            self.freezes.append(Freeze(live, freeze.operation, freeze.reason))

    def tie(self, left: Nodes, right: Nodes) -> None:
        """Merge the components of each pair of nodes; neither may be FROZEN."""
        labels = np.concatenate([self.labels(left), self.labels(right)])
        known, local = np.unique(labels, return_inverse=True)
        count, merged = connected(known.size, *np.split(local, 2))
        names = np.empty(count, dtype=np.int64)
        names[merged] = known
        renamed = np.arange(self._merged.size)
        renamed[known] = names[merged]
        for flags in (self.frozen, self.heads):
            flags[names[merged[flags[known]]]] = True
        self._merged = renamed[self._merged]

    def settle(self, choice: Choice, option: Option) -> None:
        """Let ``option`` hold."""
        left_stays, right_stays = option.left == FROZEN, option.right == FROZEN
        stays = np.concatenate([option.stays, option.left[right_stays], option.right[left_stays]])
        self.freeze(Freeze(stays[~self.stays(stays)], choice.operation, choice.reason))
        both = ~(left_stays | right_stays)
        self.tie(option.left[both], option.right[both])

    def join(self, choice: Choice) -> None:
        """Of a choice that leaves nothing to remove: what holds back any of its options is told, not of one alone."""
        left, right = (np.concatenate(side) for side in zip(*((o.left, o.right) for o in choice.options), strict=True))
        both = (left != FROZEN) & (right != FROZEN) & (self.labels(left) != self.labels(right))
        if both.any():
            self.tie(left[both], right[both])


def solve(elements: Elements, heads: bool = True) -> Components:
    """Merge what is tied, then settle the choices: first those with one option left, then the others in order.

    An open choice takes the option that leaves the most components to remove. If some of its options remove whole heads
    and others do not, ``heads`` decides between them.
    """
    components = Components(elements)
    gains = _Gains(components)
    pending = list(elements.choices)
    while pending:
        open_options = [int(np.count_nonzero(gains.of(choice))) for choice in pending]
        settled = [index for index, count in enumerate(open_options) if count < 2] or [0]
        for choice in (pending[index] for index in settled):
            known = gains.of(choice)
            components.settle(choice, _best(components, choice, known, heads))
            if not any(known):
                components.join(choice)
        pending = [choice for index, choice in enumerate(pending) if index not in set(settled)]
    return components


def _best(components: Components, choice: Choice, gains: Sequence[int], heads: bool) -> Option:
    """The first option of the largest gain, among those that remove heads or do not, as is wished."""

    def merit(number: int) -> tuple[bool, int, int]:
        kept = choice.options[number].right
        is_head = bool(components.heads[components.labels(kept[kept != FROZEN])].any())
        return gains[number] > 0 and is_head == heads, gains[number], -number

    return choice.options[max(range(len(gains)), key=merit)]


def connected(count: int, left: Nodes, right: Nodes) -> tuple[int, Nodes]:
    """Number of connected components of ``count`` nodes with these edges, and the component of each node."""
    from secateur.kernels import joining

    labels = np.empty(count, dtype=np.int64)
    return joining.connected(left.astype(np.int64), right.astype(np.int64), labels), labels


class _Gains:
    """How much each option of a choice leaves to remove, worked out again only where components changed."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._known: dict[int, tuple[Nodes, list[int]]] = {}

    def of(self, choice: Choice) -> list[int]:
        """For each option, the number of components of which it could still free a tensor."""
        parts = [part for option in choice.options for part in (option.left, option.right, option.stays)]
        nodes = np.concatenate(parts)
        labels = np.where(self._components.stays(nodes), STAYS, self._components.labels(nodes))
        known = self._known.get(id(choice))
        if known is None or not np.array_equal(known[0], labels):
            split = np.split(labels, np.cumsum([part.size for part in parts])[:-1])
            options = zip(split[::3], split[1::3], split[2::3], strict=True)
            known = self._known[id(choice)] = (labels, [_gain(*option) for option in options])
        return known[1]


def _gain(left: Nodes, right: Nodes, stays: Nodes) -> int:
    """Components that could go once ``left`` and ``right`` are tied; if none of them stays, one must."""
    known, local = np.unique(np.concatenate([left, right]), return_inverse=True)
    count, merged = connected(known.size, *np.split(local, 2))
    held = np.unique(merged[(known == STAYS) | np.isin(known, stays)])
    return int(count - held.size) if held.size else count - 1
