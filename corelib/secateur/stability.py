"""Whether a recipe finds the same weights again: masks and scores of several runs, compared.

The overlap of two masks is the Jaccard index of what they keep, intersection over union. What counts is how far it is
above chance: two masks that kept as many weights of each layer, drawn at random, would share a*b/n of a layer's n
weights on average, and the overlap by chance is that of these numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur import kernels, masks
from secateur.arrays import as_mask
from secateur.errors import EmptyInputError, NoMatchError, OutOfRangeError, ShapeMismatchError
from secateur.scalars import portion, whole
from secateur.scores.catalogue import random

Rows = npt.NDArray[np.int64]
Shapes = Mapping[str, Sequence[int]]
TOTAL = "total"
HEADINGS = ("layer", "weights", "kept", "overlap", "least", "by chance", "beyond chance", "always kept")


@dataclass(frozen=True)
class LayerStability:
    """How alike the masks of one parameter are, or of all.

    Args:
        name: of the parameter; ``total`` for all.
        size: its weights.
        kept: how many each run keeps.
        overlaps: for each pair of runs, in the order of :attr:`Stability.pairs`: kept by both / kept by either.
        chances: the same of random masks with as many kept weights in each layer.
        always: how many weights every run keeps; ``ever``: how many at least one keeps.
    """

    name: str
    size: int
    kept: tuple[int, ...]
    overlaps: tuple[float, ...]
    chances: tuple[float, ...]
    always: int
    ever: int

    @property
    def overlap(self) -> float:
        """The mean over all pairs: 1.0 for the same masks."""
        return statistics.fmean(self.overlaps)

    @property
    def chance(self) -> float:
        """What chance would give, on average over the pairs."""
        return statistics.fmean(self.chances)

    @property
    def beyond_chance(self) -> float:
        """The overlap with that by chance as 0.0, and the same masks as 1.0."""
        return 1.0 if self.chance >= 1.0 else (self.overlap - self.chance) / (1.0 - self.chance)

    @property
    def always_share(self) -> float:
        """What every run keeps, of what a run keeps."""
        kept = statistics.fmean(self.kept)
        return self.always / kept if kept else 1.0

    @property
    def kept_share(self) -> float:
        """What a run keeps, of all weights."""
        return statistics.fmean(self.kept) / self.size if self.size else 1.0

    def row(self) -> dict[str, Any]:
        """One number for each heading of the table."""
        numbers = (self.kept_share, self.overlap, min(self.overlaps), self.chance, self.beyond_chance)
        return dict(zip(HEADINGS, (self.name, self.size, *numbers, self.always_share), strict=True))


@dataclass(frozen=True)
class Stability:
    """The same recipe in several runs; printed, a table.

    Args:
        layers: one for each masked parameter, in the model's order.
        total: of all of them together.
        scores: what each run reached, such as an accuracy.
        seeds: of each run.
        subsets: which subset of the data each run saw, counted from 0.
    """

    layers: tuple[LayerStability, ...]
    total: LayerStability
    scores: tuple[float, ...]
    seeds: tuple[int, ...]
    subsets: tuple[int, ...]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The places of the runs that are compared, each with each other."""
        return tuple(combinations(range(len(self.scores)), 2))

    @property
    def mean(self) -> float:
        """Of the scores."""
        return math.fsum(self.scores) / len(self.scores)

    @property
    def deviation(self) -> float:
        """The standard deviation of the scores, by n - 1."""
        return math.sqrt(math.fsum((score - self.mean) ** 2 for score in self.scores) / (len(self.scores) - 1))

    @property
    def least_stable(self) -> tuple[str, ...]:
        """The layers, from the one whose masks agree least beyond chance."""
        return tuple(layer.name for layer in sorted(self.layers, key=lambda layer: layer.beyond_chance))

    @property
    def over_seeds(self) -> float | None:
        """The overlap in all of runs that differ in their seed alone; None if there are none."""
        return self._overlap_of(self.subsets, self.seeds)

    @property
    def over_subsets(self) -> float | None:
        """The overlap in all of runs that differ in their subset of the data alone; None if there are none."""
        return self._overlap_of(self.seeds, self.subsets)

    def rows(self) -> list[dict[str, Any]]:
        """The table as plain numbers, shares from 0 to 1: one row a layer, then the total."""
        return [layer.row() for layer in (*self.layers, self.total)]

    def markdown(self) -> str:
        """The table in Markdown, below what there is to say of all runs."""
        cells = [list(HEADINGS), ["---", *["---:"] * (len(HEADINGS) - 1)], *self._cells()]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]
        return "\n\n".join((*self._remarks(), "\n".join(lines)))

    def __str__(self) -> str:
        """The table in plain text, below what there is to say of all runs."""
        cells = [list(HEADINGS), *self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
        return "\n".join((*self._remarks(), *lines))

    def _remarks(self) -> list[str]:
        spread = f"{min(self.scores):.4g} to {max(self.scores):.4g}"
        told = [f"score of {len(self.scores)} runs: {self.mean:.4g} ± {self.deviation:.2g} ({spread})"]
        if self.over_seeds is not None and self.over_subsets is not None:
            told.append(f"overlap over seeds: {self.over_seeds:.3f}, over subsets of the data: {self.over_subsets:.3f}")
        if len(self.layers) > 1:
            told.append(f"agree least: {', '.join(self.least_stable[:3])}")
        return told

    def _cells(self) -> list[list[str]]:
        found = []
        for name, size, kept, *overlaps, always in (list(row.values()) for row in self.rows()):
            words = [name, f"{size:,}", f"{100 * kept:.1f} %", *(f"{each:.3f}" for each in overlaps)]
            found.append([*words, f"{100 * always:.1f} %"])
        return found

    def _overlap_of(self, same: Sequence[int], other: Sequence[int]) -> float | None:
        found = [
            overlap
            for (i, j), overlap in zip(self.pairs, self.total.overlaps, strict=True)
            if same[i] == same[j] and other[i] != other[j]
        ]
        return statistics.fmean(found) if found else None


def compare(
    runs: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    *,
    seeds: Sequence[int] | None = None,
    subsets: Sequence[int] | None = None,
    shapes: Shapes | None = None,
) -> Stability:
    """Compare the masks and scores of runs.

    Args:
        runs: for each run, parameter name -> mask: of bool, or packed.
        scores: one number a run, such as an accuracy.
        seeds: of each run; None for 0, 1, 2 and so on.
        subsets: which subset of the data each run saw; None for one subset.
        shapes: parameter name -> shape, for packed masks, which do not tell it.

    Raises:
        OutOfRangeError: there are fewer than two runs.
        EmptyInputError: there is no mask, or one without an element.
        NoMatchError: runs have masks of other parameters.
        ShapeMismatchError: masks of one parameter differ in shape or form, packed ones come without a shape, or there
            is not one score, seed and subset for each run.
        UnsupportedDtypeError: what is given is no mask.
    """
    if len(runs) < 2:
        raise OutOfRangeError(f"{len(runs)} runs tell nothing of what stays the same: give two at least")
    seeds = range(len(runs)) if seeds is None else seeds
    subsets = (0,) * len(runs) if subsets is None else subsets
    for what, values in (("scores", scores), ("seeds", seeds), ("subsets", subsets)):
        if len(values) != len(runs):
            raise ShapeMismatchError(f"{len(values)} {what} of {len(runs)} runs: give one for each")
    for place, run in enumerate(runs):
        if different := sorted(run.keys() ^ runs[0].keys()):
            raise NoMatchError(f"run {place} and run 0 have masks of different parameters: {', '.join(different)}")
    if not runs[0]:
        raise EmptyInputError("the runs have no masks: give those of pruned models")
    counts = {name: _counts(name, [run[name] for run in runs], (shapes or {}).get(name)) for name in runs[0]}
    layers = tuple(_told(name, each) for name, each in counts.items())
    total = _told(TOTAL, _together(list(counts.values())))
    return Stability(layers, total, tuple(map(float, scores)), tuple(seeds), tuple(subsets))


def draw(examples: int, count: int, share: float = 0.8, seed: int = 0) -> list[Rows]:
    """Subsets of a data set, the same everywhere: for each the rows, ascending, that it keeps.

    Args:
        examples: rows of the data set.
        count: subsets.
        share: of the rows that each keeps, rounded to a whole number of rows.
        seed: of Philox, which draws them.

    Raises:
        RecipeError: a number is not whole.
        OutOfRangeError: there would be no subset, or an empty one, or more rows than there are.
    """
    examples, count = whole("the number of examples", examples), whole("the number of subsets", count)
    if count < 1 or examples < 1 or not 0.0 < share <= 1.0:
        raise OutOfRangeError(f"{count} subsets with {share} of {examples} examples: give 1 or more, and a share to 1")
    rows = max(1, portion(share, examples))
    orders = (np.argsort(random((examples,), seed, order), kind="stable") for order in range(count))
    return [np.sort(order[:rows]).astype(np.int64) for order in orders]


class _Counts(NamedTuple):
    """Whole numbers of one parameter, and for each pair of runs how many weights both would keep by chance."""

    size: int
    kept: list[int]
    both: list[int]
    expected: list[float]
    always: int
    ever: int


def _counts(name: str, given: Sequence[Any], shape: Sequence[int] | None) -> _Counts:
    found = [as_mask(mask, f"the mask of {name}", packed=True) for mask in given]
    for mask in found:
        masks.sparsity(mask, shape)  # refuses what does not fit the shape
    size = math.prod(found[0].shape if shape is None else shape)
    kept = [_kept(mask) for mask in found]
    pairs = list(combinations(range(len(found)), 2))
    both = [(kept[i] + kept[j] - masks.hamming(found[i], found[j])) // 2 for i, j in pairs]
    expected = [kept[i] * kept[j] / size for i, j in pairs]
    return _Counts(
        size, kept, both, expected, _kept(reduce(masks.intersection, found)), _kept(reduce(masks.union, found))
    )


def _kept(mask: Any) -> int:
    return kernels.of(mask).count_kept(mask, mask)[0]


def _together(parts: Sequence[_Counts]) -> _Counts:
    size, always, ever = (sum(numbers) for numbers in zip(*((p.size, p.always, p.ever) for p in parts), strict=True))
    kept, both = _added(part.kept for part in parts), _added(part.both for part in parts)
    expected = [math.fsum(each) for each in zip(*(part.expected for part in parts), strict=True)]
    return _Counts(size, kept, both, expected, always, ever)


def _added(numbers: Iterable[Sequence[int]]) -> list[int]:
    return [sum(each) for each in zip(*numbers, strict=True)]


def _told(name: str, counts: _Counts) -> LayerStability:
    pairs = [one + other for one, other in combinations(counts.kept, 2)]
    overlaps, chances = (
        tuple(_ratio(both, total - both) for both, total in zip(shared, pairs, strict=True))
        for shared in (counts.both, counts.expected)
    )
    return LayerStability(name, counts.size, tuple(counts.kept), overlaps, chances, counts.always, counts.ever)


def _ratio(both: float, either: float) -> float:
    return both / either if either else 1.0
