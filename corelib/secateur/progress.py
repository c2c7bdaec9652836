"""Where a training with a pruner stands, beside the weights and masks of a saved folder, so that it can go on.

Arrays are stored as the bits that they are, each under its part and its name, with shape and dtype as plain text:
safetensors' NumPy writer does not know every type that weights have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from secateur.errors import FileFormatError

Array = npt.NDArray[Any]

FILE = "progress.safetensors"
_PARTS, _STATE = ("kept", "recorded", "values", "initial_weight", "movement"), "state"


@dataclass
class Progress:
    """The state of a pruner.

    Args:
        step: training steps seen.
        rounds: how often the schedule has pruned.
        round_began: the step from which the running round counts.
        reached: the share of the final sparsity that is reached.
        budgets: how many elements the target prunes in each ranking; None before the first pruning.
        spared: what keeps its best element, and since which step.
        kept: layer -> which elements are kept; empty before the first pruning.
        recorded: parameter -> the numbers to which it is rewound.
        values: parameter -> what its weights would be without masks.
        initial_weight: parameter -> its numbers when the training began, for scores that compare with them.
        movement: parameter -> how it has moved so far, for scores that add it up.
    """

    step: int = 0
    rounds: int = 0
    round_began: int = 0
    reached: float = 0.0
    budgets: Sequence[int] | None = None
    spared: dict[str, int] = field(default_factory=dict)
    kept: dict[str, Array] = field(default_factory=dict)
    recorded: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    initial_weight: dict[str, Array] = field(default_factory=dict)
    movement: dict[str, Array] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Add a file to a folder."""
        from safetensors.numpy import save_file

        arrays = {f"{part}/{name}": array for part in _PARTS for name, array in getattr(self, part).items()}
        about = {name: json.dumps([array.dtype.name, array.shape]) for name, array in arrays.items()}
        about[_STATE] = json.dumps({name: value for name, value in vars(self).items() if name not in _PARTS})
        save_file({name: _bits(array) for name, array in arrays.items()}, folder / FILE, metadata=about)

    def renamed(self, names: Mapping[str, str]) -> Progress:
        """With the names of the model at hand."""
        changed = {
            part: {names.get(name, name): array for name, array in getattr(self, part).items()} for part in _PARTS
        }
        return Progress(**{**vars(self), **changed})


def read(folder: Path) -> Progress:
    """What :meth:`Progress.write` wrote.

    Raises:
        FileFormatError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    parts: dict[str, dict[str, Array]] = {part: {} for part in _PARTS}
    try:
        with safe_open(folder / FILE, framework="numpy") as file:
            about = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                part, _, name = key.partition("/")
                dtype, shape = json.loads(about[key])
                parts[part][name] = file.get_tensor(key).view(_dtype(dtype)).reshape(shape)
        return Progress(**{**json.loads(about[_STATE]), **parts})
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{folder} does not tell where a training stands ({error}): resume from what a Pruner's save() wrote in "
            "training; anything else is read by load()"
        ) from error


def _bits(array: Array) -> Array:
    """All bytes of an array, in C order."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))
