"""One score a unit, from the rows of scores that make it, wherever these lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import scores

Array = npt.NDArray[Any]


class Rows:
    """Rows of scores and the units that they make; a unit that several rows make has one norm over all of them.

    Args:
        makers: for each kernel the unit of each row, -1 where it makes none.
        count: number of units.
        norm: as in :class:`secateur.recipe.Units`.
        signed: as :func:`secateur.scores.reduce` takes it.
    """

    def __init__(
        self, makers: Sequence[npt.NDArray[np.int64]], count: int, norm: int | str, signed: bool = False
    ) -> None:
        self._norm, self._signed = norm, signed
        self._counts = np.zeros((len(makers), count), np.int64)
        for row, units in zip(self._counts, makers, strict=True):
            row += np.bincount(units[units >= 0], minlength=count)
        self._times = self._counts.sum(axis=0)
        self._total = np.zeros(count)
        self._shared: list[tuple[Array, npt.NDArray[np.int64]]] = []

    def lack(self, units: npt.NDArray[np.int64]) -> bool:
        """Whether any of these units has no row."""
        return bool((self._times[units] == 0).any())

    def add(self, rows: Array, units: npt.NDArray[np.int64]) -> None:
        """Take the next kernel's scores; only rows of units that other rows make too are kept."""
        single, several = (units >= 0) & (self._times[units] == 1), (units >= 0) & (self._times[units] > 1)
        if single.any():
            self._total[units[single]] = scores.reduce(rows, axis=0, norm=self._norm, signed=self._signed)[single]
        self._shared.append((rows, units) if several.all() else (rows[several], units[several]))

    def reduced(self) -> npt.NDArray[np.float64]:
        """float64[count]: exact, and rounded once, however the rows are spread."""
        for members in self._alike():
            parts = self._parts(self._counts[:, members[0]], members)
            self._total[members] = scores.reduce_together(parts, norm=self._norm, signed=self._signed)
        return self._total

    def _alike(self) -> Iterator[npt.NDArray[np.int64]]:
        """The units of several rows, those together of which each kernel makes equally many."""
        several = np.flatnonzero(self._times > 1)
        if not several.size:
            return
        counts = self._counts[:, several]
        starts = np.flatnonzero(np.append(True, (counts[:, 1:] != counts[:, :-1]).any(axis=0)))
        kinds = np.unique(counts[:, starts], axis=1, return_inverse=True)[1].ravel()  # neighbours are mostly alike
        kinds = np.repeat(kinds, np.diff(np.append(starts, several.size)))
        yield from (several[kinds == kind] for kind in range(kinds.max() + 1))

    def _parts(self, pattern: npt.NDArray[np.int64], members: npt.NDArray[np.int64]) -> list[Array]:
        """Arrays with one row for each of the units ``members``, of which kernel i makes ``pattern[i]`` rows."""
        parts = []
        for (rows, units), times in zip(self._shared, pattern, strict=True):
            if times:
                order = np.argsort(units, kind="stable")
                own = order[np.isin(units[order], members)]
                is_whole = np.array_equal(own, np.arange(len(rows)))
                chosen = rows if is_whole else rows[own]
                parts.append(chosen if times == 1 else chosen.reshape(len(members), -1))
        return parts
