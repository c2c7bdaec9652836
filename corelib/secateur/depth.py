"""Residual branches that compete with one another: one score each, and the masks that close those that go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur import scores
from secateur.adapter import Parameter
from secateur.recipe.score import Score
from secateur.scoring import Statistics, reducible
from secateur.structure.branches import closing, kernels
from secateur.structure.bypassing import Branch
from secateur.structure.graph import Graph

BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

BRANCHES = "residual branches"
"""The one competition that branches take part in, where others have one a layer."""


@dataclass(frozen=True)
class BranchRanking:
    """Residual branches, in the order in which the model adds them up.

    Args:
        graph: the traced model.
        branches: those that may go.
        norm: as in :class:`secateur.recipe.Layers`.
    """

    graph: Graph
    branches: tuple[Branch, ...]
    norm: int | str

    def scores(self, parameters: Sequence[Parameter], score: Score, statistics: Statistics) -> dict[str, Floats]:
        """One float64 a branch: the norm over the scores of all its kernels, exact and rounded once."""
        by_name = {parameter.name: parameter for parameter in parameters}
        found = np.zeros(len(self.branches))
        for index, branch in enumerate(self.branches):
            parts = [reducible(by_name[name], score, statistics)[None] for name in kernels(self.graph, branch)]
            found[index] = scores.reduce_together(parts, norm=self.norm, signed=score.signed)[0]
        return {BRANCHES: found}

    def masks(self, kept: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """False on all parameters of the branches that go, True on those of the others."""
        return {**self._open(), **closing(self.graph, self.gone(~kept[BRANCHES]))}

    def emptied(self, kept: Mapping[str, BoolArray]) -> dict[str, dict[str, BoolArray]]:
        """Nothing: where all branches go, what they were added to is left."""
        return {}

    def layers(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """The one competition, with the numbers of the branches."""
        return [(BRANCHES, np.arange(len(self.branches)))]

    def gone(self, flags: BoolArray) -> list[Branch]:
        """The branches marked True."""
        return [self.branches[index] for index in np.flatnonzero(flags)]

    def _open(self) -> dict[str, BoolArray]:
        """Masks of the parameters of all branches, of which everything is kept."""
        return {name: np.ones_like(mask) for name, mask in closing(self.graph, self.branches).items()}
