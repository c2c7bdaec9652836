"""Connected components of a graph, by joining trees: near-linear, without the conversions of a sparse matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secateur.kernels.compiled import compiled

Nodes = npt.NDArray[np.int64]


@compiled
def connected(left: Nodes, right: Nodes, labels: Nodes) -> int:
    """Write the component of each node to ``labels``, numbered by their first nodes; returns how many there are.

    ``left`` and ``right`` are the ends of the edges. While trees are joined (by Rem's algorithm, see Patwary, Blair and
    Manne, "Experiments on Union-Find Algorithms for the Disjoint-Set Data Structure", 2010), ``labels`` holds parents,
    none of which is larger than its node; so the root of a component is its first node.
    """
    for node in range(labels.size):
        labels[node] = node
    for edge in range(left.size):
        one, other = left[edge], right[edge]
        while labels[one] != labels[other]:
            if labels[one] < labels[other]:
                one, other = other, one
            parent = labels[one]
            labels[one] = labels[other]
            if parent == one:
                break
            one = parent
    count = 0
    for node in range(labels.size):
        if labels[node] == node:
            labels[node] = count
            count += 1
        else:
            labels[node] = labels[labels[node]]
    return count
