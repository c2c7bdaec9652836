"""How ``reshape`` moves the indices of axes: merging axes, splitting an axis.

A merged axis repeats or tiles the nodes of its one live part, so flattening channels with space and undoing it need no
tie. Where several live axes merge, or a live axis is split, each index of the long axis belongs to a row and a column,
and only whole rows or whole columns can go if every tensor is to stay rectangular. Which of them is a :class:`Choice`
left to the solver.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from secateur.structure.elements import FROZEN, Elements, Layout, Nodes, Option, is_plain, plain

REASON = "of the axes that this reshape splits or merges only one can shrink"


def reshape(elements: Elements, layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout after a row-major reshape from ``layout`` to ``shape``."""
    source = tuple(nodes.size for nodes in layout)
    if math.prod(source) != math.prod(shape):
        elements.refuse(f"reshapes {source} to {shape}, which has another number of elements")
    if 0 in shape:
        return _empty(elements, layout, shape)
    result = list(plain(shape))
    for before, after in matching_axes(source, shape):
        merged = merge(elements, [layout[axis] for axis in before])
        for axis, nodes in zip(after, split(elements, merged, [shape[axis] for axis in after]), strict=True):
            result[axis] = nodes
    return tuple(result)


def _empty(elements: Elements, layout: Layout, shape: tuple[int, ...]) -> Layout:
    """Of nothing, as an expert gets that no token was sent to: what matches is carried, all else stays."""
    result, carried = list(plain(shape)), set()
    for (before,), (after,) in matching_axes([nodes.size for nodes in layout], shape):
        carried.add(before)
        result[after] = layout[before]
    for axis in set(range(len(layout))) - carried:
        elements.freeze(layout[axis], REASON)
    return tuple(result)


def matching_axes(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of two shapes with equal products, without the axes of size 1.

    Of tensors without elements, single axes, as far as both shapes begin or end alike.
    """
    if 0 in source:
        return _ends_alike(source, target)
    before, after = (np.cumprod(shape, dtype=np.int64) if shape else np.ones(0, np.int64) for shape in (source, target))
    ends = np.intersect1d(before, after)
    runs: list[tuple[list[int], list[int]]] = [([], []) for _ in ends]
    for side, (sizes, products) in enumerate(((source, before), (target, after))):
        for axis, run in enumerate(np.searchsorted(ends, products)):
            if sizes[axis] != 1:
                runs[run][side].append(axis)
    return [run for run in runs if run[0] and run[1]]


def _ends_alike(source: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    left, right = ([axis for axis, size in enumerate(shape) if size != 1] for shape in (source, target))
    pairs: dict[int, int] = {}
    for ends in (zip(left, right, strict=False), zip(reversed(left), reversed(right), strict=False)):
        alike = itertools.takewhile(lambda pair: source[pair[0]] == target[pair[1]], ends)
        pairs.update((before, after) for before, after in alike if before not in pairs)
    return [([before], [after]) for before, after in sorted(pairs.items())]


def merge(elements: Elements, axes: Sequence[Nodes]) -> Nodes:
    """The nodes of the axis that results from flattening ``axes``."""
    sizes = [nodes.size for nodes in axes]
    live = _live(elements, axes)
    if not live:
        return np.full(math.prod(sizes), FROZEN, dtype=np.int64)
    if len(live) == 1:
        return _spread(axes[live[0]], live[0], sizes)
    merged = elements.new(math.prod(sizes))
    elements.choose(_options(merged, axes), REASON)
    return merged


def _live(elements: Elements, axes: Sequence[Nodes]) -> list[int]:
    """The positions of axes of which something may go; beside these, what repeats one number keeps its size."""
    live = [position for position, nodes in enumerate(axes) if not is_plain(nodes)]
    if len(live) < 2:
        return live
    free = [position for position in live if elements.is_free(axes[position])]
    for position in free:
        elements.freeze(axes[position], REASON)
    return [position for position in live if position not in free]


def split(elements: Elements, merged: Nodes, sizes: Sequence[int]) -> list[Nodes]:
    """The nodes of the axes that result from unflattening ``merged``."""
    stays = [np.full(size, FROZEN, dtype=np.int64) for size in sizes]
    if is_plain(merged):
        return stays
    grid = merged.reshape(sizes)
    for axis in range(len(sizes)):
        first = np.moveaxis(grid, axis, 0).reshape(sizes[axis], -1)
        if (first == first[:, :1]).all():
            stays[axis] = first[:, 0]
            return stays
    if elements.is_free(merged):
        elements.freeze(merged, REASON)
        return stays
    axes = [elements.new(size) for size in sizes]
    elements.choose(_options(merged, axes), REASON)
    return axes


def _spread(nodes: Nodes, axis: int, sizes: Sequence[int]) -> Nodes:
    """The nodes of one axis, repeated over the grid of all ``sizes`` and flattened."""
    shape = [size if position == axis else 1 for position, size in enumerate(sizes)]
    return np.broadcast_to(nodes.reshape(shape), sizes).ravel()


def _options(merged: Nodes, axes: Sequence[Nodes]) -> tuple[Option, ...]:
    """Let one of ``axes`` shrink and the others stay; the last axis (columns) comes first."""
    sizes = [nodes.size for nodes in axes]
    return tuple(
        Option(merged, _spread(axes[axis], axis, sizes), np.concatenate([*axes[:axis], *axes[axis + 1 :]]))
        for axis in reversed(range(len(axes)))
    )
