"""How a total for the whole model is divided over its layers, in whole elements; the total is always met exactly.

An allocation is a frozen dataclass with one method, which tells from the layers' shapes and the number to prune how
many elements go in each layer. Which ones go is the score's affair, layer by layer. Shares are computed in integers, so
no rounding and no order of layers can change them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from secateur.errors import NoMatchError, OutOfRangeError, RecipeError, ShapeMismatchError, UnreachableTargetError
from secateur.scalars import real

Shapes = Mapping[str, tuple[int, ...]]


class Allocation(Protocol):
    """What a recipe asks of an allocation."""

    def pruned(self, shapes: Shapes, total: int) -> list[int]:
        """How many elements go in each layer, ``total`` in all.

        Args:
            shapes: layer -> shape of its scores, in the model's order.
            total: 0 to the number of all elements.
        """


@dataclass(frozen=True)
class Global:
    """One ranking of all elements decides how many go where."""

    def pruned(self, shapes: Shapes, total: int) -> list[int]:
        """Not to be asked: scores decide it."""
        raise RecipeError("a global allocation follows from the scores: use Recipe.allocate")


@dataclass(frozen=True)
class Uniform:
    """The same sparsity in every layer, to one element; unlike scope ``"layer"`` the total is exact."""

    def pruned(self, shapes: Shapes, total: int) -> list[int]:
        """As :class:`Allocation`."""
        sizes = [math.prod(shape) for shape in shapes.values()]
        return _left(sizes, share_out(sum(sizes) - total, sizes, sizes))


@dataclass(frozen=True)
class ERK:
    """Erdős–Rényi kernels (Evci et al. 2020): density in proportion to (sum of the sides) / (their product).

    Large layers become sparser than small ones. A layer whose density would exceed 1 stays dense, and the others share
    what is left.
    """

    def pruned(self, shapes: Shapes, total: int) -> list[int]:
        """As :class:`Allocation`: a layer keeps in proportion to the sum of its sides, at most all that it has."""
        sizes = [math.prod(shape) for shape in shapes.values()]
        return _left(sizes, share_out(sum(sizes) - total, [sum(shape) for shape in shapes.values()], sizes))


@dataclass(frozen=True)
class Sensitivity:
    """Every layer is pruned until the loss has grown by the same amount, as a scan of each layer by itself tells it.

    What an adapter's ``sensitivity`` returns. Between the scanned sparsities losses are interpolated; one that falls
    where more is pruned counts as the largest before it.

    Args:
        layers: names of parameters, or of layers that make units.
        sparsities: at which each was scanned, ascending, above 0 and at most 1.
        losses: for each layer the loss at each sparsity, with all other layers whole.
        dense: the loss with nothing pruned.

    Raises:
        ShapeMismatchError: losses are not one row a layer, one number a sparsity.
        OutOfRangeError: sparsities are not ascending within 0 to 1, or a loss is not finite.
    """

    layers: Sequence[str]
    sparsities: Sequence[float]
    losses: Sequence[Sequence[float]]
    dense: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "sparsities", tuple(real("a sparsity", each) for each in self.sparsities))
        object.__setattr__(self, "losses", tuple(tuple(real("a loss", x) for x in row) for row in self.losses))
        object.__setattr__(self, "dense", real("the dense loss", self.dense))
        require_ascending(self.sparsities)
        if len(self.losses) != len(self.layers) or any(len(row) != len(self.sparsities) for row in self.losses):
            raise ShapeMismatchError("losses need one row for each layer, with one number for each sparsity")
        for name, row in zip(("the dense model", *self.layers), ((self.dense,), *self.losses), strict=True):
            if not all(map(math.isfinite, row)):
                raise OutOfRangeError(f"a loss of {name} is not finite ({row}): leave out what the model cannot bear")

    def pruned(self, shapes: Shapes, total: int) -> list[int]:
        """As :class:`Allocation`.

        Raises:
            NoMatchError: a layer was not scanned.
            UnreachableTargetError: even the largest scanned sparsity of all layers is not enough.
        """
        self._require(shapes, total)
        most = max((row[-1] for row in self._increases().values()), default=0.0)
        low, high = 0.0, most
        below, above = [0] * len(shapes), self._counts(shapes, low)
        if sum(above) < total:
            while low < (middle := 0.5 * (low + high)) < high:
                low, high = (middle, high) if sum(self._counts(shapes, middle)) < total else (low, middle)
            below, above = self._counts(shapes, low), self._counts(shapes, high)
        room = [most - least for most, least in zip(above, below, strict=True)]
        return [least + more for least, more in zip(below, share_out(total - sum(below), room, room), strict=True)]

    def _require(self, shapes: Shapes, total: int) -> None:
        missing = [layer for layer in shapes if layer not in self.layers]
        if missing:
            raise NoMatchError(
                f"the sensitivity of {', '.join(missing)} was not scanned, only that of {', '.join(self.layers)}: scan "
                "this model with this recipe's include and exclude"
            )
        sizes = {layer: math.prod(shape) for layer, shape in shapes.items()}
        most = sum(_count(self.sparsities[-1], size) for size in sizes.values())
        if total > most:
            raise UnreachableTargetError(
                f"{total} of {sum(sizes.values())} elements are to go, but the sensitivity was scanned up to sparsity "
                f"{self.sparsities[-1]:g}, which is {most}: scan higher sparsities, or lower the target"
            )

    def _counts(self, shapes: Shapes, increase: float) -> list[int]:
        """How many elements of each layer can go for this increase of the loss."""
        increases = self._increases()
        places, found = (0.0, *self.sparsities), []
        for layer, shape in shapes.items():
            grown = increases[layer]
            last = bisect_right(grown, increase) - 1
            share = places[last]
            if last + 1 < len(grown):
                way = (increase - grown[last]) / (grown[last + 1] - grown[last])
                share += way * (places[last + 1] - share)
            found.append(_count(share, math.prod(shape)))
        return found

    def _increases(self) -> dict[str, list[float]]:
        """Layer -> by how much the loss has grown at sparsity 0 and at each scanned one, never falling."""
        found = {}
        for layer, row in zip(self.layers, self.losses, strict=True):
            grown = [0.0]
            for loss in row:
                grown.append(max(grown[-1], loss - self.dense))
            found[layer] = grown
        return found


def require_ascending(sparsities: Sequence[float]) -> None:
    """Raises OutOfRangeError unless there are some, each larger than the one before, above 0 and at most 1."""
    bounds = (0.0, *sparsities, math.nextafter(1.0, 2.0))
    if len(sparsities) == 0 or any(not low < high for low, high in pairwise(bounds)):
        raise OutOfRangeError(f"sparsities {tuple(sparsities)}: give ascending ones, above 0 and at most 1")


def share_out(total: int, claims: Sequence[int], capacities: Sequence[int]) -> list[int]:
    """``total`` in shares in proportion to the claims; nobody gets more than its capacity, others then get it.

    Shares are rounded by their largest remainders; of equal ones the later is rounded up.

    Args:
        total: 0 to the sum of the capacities.
        claims: not negative; positive where the capacity is.
        capacities: not negative.
    """
    shares = list(capacities)
    waiting = list(range(len(claims)))
    while True:
        rest = total - sum(capacities) + sum(capacities[index] for index in waiting)
        claimed = sum(claims[index] for index in waiting)
        left = [index for index in waiting if rest * claims[index] < capacities[index] * claimed]
        if len(left) == len(waiting):
            break
        waiting = left
    for index in waiting:
        shares[index] = rest * claims[index] // claimed
    remainders = sorted(waiting, key=lambda index: (rest * claims[index] % claimed, index), reverse=True)
    for index in remainders[: total - sum(shares)]:
        shares[index] += 1
    return shares


def _count(share: float, size: int) -> int:
    return math.floor(share * size + 0.5)


def _left(sizes: Sequence[int], kept: Sequence[int]) -> list[int]:
    return [size - keep for size, keep in zip(sizes, kept, strict=True)]


ALLOCATIONS: dict[str, type] = {"Global": Global, "Uniform": Uniform, "ERK": ERK, "Sensitivity": Sensitivity}
WORDS: dict[str, Any] = {"global": Global(), "uniform": Uniform(), "erk": ERK()}
"""What a recipe takes in place of an instance."""
