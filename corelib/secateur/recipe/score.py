"""What a saliency score is to a recipe, and the register of all that there are.

A score is a frozen dataclass with ``needs``, the names of the statistics that must be gathered for it, and a call that
turns a weight and its statistics into one number an element. The formulas are in :mod:`secateur.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy.typing as npt

from secateur.errors import RecipeError

Array = npt.NDArray[Any]
Statistics = Mapping[str, Array]
Formula = Callable[[Array, Statistics, str], Array]


@dataclass(frozen=True)
class Score:
    """What a recipe asks of a score of single weights.

    Attributes:
        needs: statistics by their names in :data:`secateur.statistics.STATISTICS`, or of your own, which are given
            as ``statistics=``.
        words: what it ranks by, as reports tell it.
        signed: whether scores below zero count as such where those of a unit's weights are summed, not as magnitudes.
        iterations: how often weights are scored for one pruning, each time without those that went before.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    words: ClassVar[str] = ""
    signed: ClassVar[bool] = False

    @property
    def single(self) -> Score:
        """What is asked of one task: itself, unless it is of several."""
        return self

    @property
    def adjusts(self) -> bool:
        """Whether weights that stay are changed, to make up for those that go, by :meth:`adjusted`."""
        return False

    def adjusted(self, weight: Array, mask: Array, statistics: Statistics, name: str) -> Array:
        """New numbers for a weight under its new mask (True = kept), zero where that is False; arguments as below."""
        raise NotImplementedError

    def chosen(
        self, weight: Array, mask: Array, before: Array | None, statistics: Statistics, name: str, by_row: bool
    ) -> Array:
        """Which weights stay where it adjusts them: as many as under ``mask``, which its scores have made.

        ``before``: what an earlier pruning kept; nothing comes back. ``by_row``: whether each row keeps its number.
        """
        return mask

    @property
    def iterations(self) -> int:
        """See above."""
        return 1

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """One saliency an element of ``weight``; low is pruned first.

        Args:
            weight: in canonical layout, never to be written.
            statistics: those that it needs, of this weight.
            name: what errors call the weight.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class UnitScore(Score):
    """What a recipe asks of a score of whole units, for which the granularity is ``Neurons()`` or ``Heads()``.

    A unit's score is the mean, or the magnitude of the sum, of the numbers that the call gives for its slices; the
    granularity's ``norm`` and ``slices`` have no part in it.

    Attributes:
        reads: of which slices: ``"out"`` the weights that make the unit, ``"in"`` those that read it, ``"scale"`` the
            scales of its normalisations.
        summed: whether the numbers are summed, by signs, and the magnitude of the sum is the score.
    """

    reads: ClassVar[str] = "out"
    summed: ClassVar[bool] = False

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """One number an index of axis 0 of ``weight``, which is the axis of the units; of statistics it is too."""
        raise NotImplementedError


SCORES: dict[str, type[Score]] = {}
"""All scores that recipes know, by the name of their class; a saved recipe names one of them."""

ScoreT = TypeVar("ScoreT", bound=Score)


def listed(kind: type[ScoreT]) -> type[ScoreT]:
    """A class decorator: enter the score into :data:`SCORES`. Raises RecipeError if another one has its name."""
    if kind.__name__ in SCORES:
        raise RecipeError(f"there is a score named {kind.__name__} already: choose another name")
    SCORES[kind.__name__] = kind
    return kind


def register(
    needs: Sequence[str] = (), *, signed: bool = False, words: str | None = None
) -> Callable[[Formula], Score]:
    """Make a function a score: the decorated name is what a recipe takes as ``score=``, and can be saved and loaded.

    Args:
        needs: the statistics that the function reads, as for :class:`Score`.
        signed: as for :class:`Score`.
        words: what reports say; the function's name if None.

    The function gets ``(weight, statistics, name)`` as :meth:`Score.__call__` does, and its name must be new.

    Raises:
        RecipeError: there is a score of this name already.

    Example:
        >>> import numpy as np
        >>> from secateur import Recipe, register
        >>> @register(needs=["mean_square_gradient"])
        ... def sensitivity(weight, statistics, name):
        ...     return np.abs(weight) * np.sqrt(statistics["mean_square_gradient"])
        >>> Recipe(0.9, score=sensitivity).to_dict()["score"]
        {'kind': 'sensitivity'}
    """

    def decorated(formula: Formula) -> Score:
        def call(self: Score, weight: Array, statistics: Statistics, name: str) -> Array:
            return formula(weight, statistics, name)

        name = formula.__name__
        told = {"needs": tuple(needs), "signed": signed, "words": name if words is None else words}
        body = {"__call__": call, "__doc__": formula.__doc__, "__module__": formula.__module__, **told}
        kind: type[Score] = dataclass(frozen=True)(type(name, (Score,), body))
        return listed(kind)()

    return decorated
