"""What a case of the scoreboard is, and where all of them are found."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MODULES = {
    "torch": ("torch_networks", "torch_sequences", "torch_language", "torch_vision"),
    "keras": ("keras_networks", "keras_applications"),
}
"""Modules of this package whose ``cases()`` list the cases of a framework, the quickest first."""


@dataclass(frozen=True)
class Case:
    """A model to prune.

    Args:
        name: what it is called on the board.
        source: whose model it is: ``"written here"``, or the package that it comes from.
        build: makes the model and an example input.
    """

    name: str
    source: str
    build: Callable[[], tuple[Any, Any]]


def cases(framework: str, pattern: str | None = None) -> list[Case]:
    """The cases of a framework whose names ``pattern`` finds; those of packages that are not installed are left out."""
    found = [case for module in MODULES[framework] for case in _module(module).cases()]
    return [case for case in found if pattern is None or re.search(pattern, case.name)]


def case(framework: str, name: str) -> Case:
    """The case of this name."""
    return next(case for case in cases(framework) if case.name == name)


def _module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.structure_board.{name}")
