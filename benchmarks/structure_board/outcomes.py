"""What a tool gives back for a model, and what the board says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 1e-4
"""Up to here, relative to the largest output, masked and removed count as equal. Some models compute in float32."""


@dataclass
class Outcome:
    """A smaller model.

    Args:
        small: the smaller model.
        masked: the model with zeros instead, if the tool makes one.
        seconds: step -> time; ``total`` is all that a user waits for.
        form: in words, what the smaller model is.
        max_error: what the tool itself measured.
        frozen: why something stays, what holds back the most parameters first.
    """

    small: Any
    masked: Any | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    form: str | None = None
    max_error: float | None = None
    frozen: Sequence[str] = ()


def verdict(share: float, error: float | None) -> str:
    """``works``, ``wrong``, or ``nothing`` if no parameter went."""
    if share >= 1.0:
        return "nothing"
    return "works" if error is not None and error <= TOLERANCE else "wrong"


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
