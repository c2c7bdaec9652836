"""The rounds of a schedule: how many there were, and the weights to which a model goes back after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Adapter, Hold, Masks, Parameter

Array = npt.NDArray[Any]


@dataclass
class Rounds:
    """Counts prunings of a schedule, and rewinds.

    Args:
        rewind: the step to whose weights each round goes back; None if weights train on.
        count: rounds so far.
        began: the step from which the running round counts.
        recorded: parameter -> its numbers after ``rewind`` steps.
    """

    rewind: int | None
    count: int = 0
    began: int = 0
    recorded: Mapping[str, Array] = field(default_factory=dict)

    def record(self, step: int, parameters: Callable[[], Sequence[Parameter]]) -> None:
        """Remember weights and running statistics, if this is the step to go back to."""
        if step == self.rewind:
            stored = (parameter for parameter in parameters() if not parameter.refusal)
            self.recorded = {parameter.name: np.array(parameter.view, order="C") for parameter in stored}

    def end(self, step: int, adapter: Adapter, model: Any, masks: Masks, hold: Hold | None) -> None:
        """The schedule has just pruned: count it, and go back where that is asked for."""
        self.count += 1
        self.began = step - (self.rewind or 0)
        if self.rewind is not None and hold is not None:
            adapter.assign(model, self.recorded)
            adapter.apply(model, masks)
            hold.forget(self.rewind)
