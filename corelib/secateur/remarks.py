"""What a pruner has to say besides its result: warned of when it happens, and told by the summary from then on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from secateur.ranking import remedy
from secateur.recipe import Recipe
from secateur.report.words import first_of, what


@dataclass
class Remarks:
    """The remarks on one training.

    Args:
        recipe: what is carried out.
        spared: what kept its best element instead of being emptied, and since which step.
        lost: kernel -> why the mean of what it read of removed units could not be made up for.
    """

    recipe: Recipe
    spared: dict[str, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def add(self, step: int, spared: Iterable[str], lost: Mapping[str, str]) -> None:
        """Take what happened at a step, and warn of what was spared for the first time."""
        self.lost |= lost
        for name in spared:
            if name not in self.spared:
                self.spared[name] = step
                warnings.warn(self._spared_words(name), stacklevel=2)

    def lines(self) -> tuple[str, ...]:
        """All remarks, in words."""
        return (*map(self._spared_words, self.spared), *self._lost_words())

    def _spared_words(self, name: str) -> str:
        best = what(self.recipe).removesuffix("s")
        return (
            f"At step {self.spared[name]} the recipe would have emptied {name}. Its best {best} stays, and others are "
            f"pruned in its place. To avoid that, {remedy(self.recipe.competing)}."
        )

    def _lost_words(self) -> Iterator[str]:
        """One line for all kernels that have the same reason."""
        for reason in dict.fromkeys(self.lost.values()):
            kernels = [kernel for kernel, why in self.lost.items() if why == reason]
            yield f"The means of removed units are lost where {reason}: {first_of(kernels, 8)}."
