"""The matrix of what holds, filled by the tests: a cell for each framework, backend, optimizer and way to train.

With ``SECATEUR_HOLD_TABLE=results.json`` in the environment, each cell that a test has finished is kept in that file,
in place of an earlier one; ``benchmarks/hold.py`` draws the table of docs/hold.md from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NOT_OFFERED = "not offered"


def record(framework: str, backend: str, optimizer: str, mode: str, leaks: Sequence[float] | None) -> None:
    """Keep a cell.

    Args:
        framework: ``"torch"`` or ``"keras"``.
        backend: Keras's, or ``"torch"``.
        optimizer: the name of its class.
        mode: the way to train.
        leaks: the largest masked magnitude after each step; None if the optimizer does not offer the mode.
    """
    if not (target := os.environ.get("SECATEUR_HOLD_TABLE")):
        return
    path = Path(target)
    rows = kept(path)
    found = {"leak": None, "steps": 0} if leaks is None else {"leak": max(leaks), "steps": len(leaks)}
    rows[" | ".join((framework, backend, optimizer, mode))] = found
    path.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", "utf-8")


def kept(path: Path) -> dict[str, Any]:
    """The cells of a file, by framework, backend, optimizer and mode."""
    rows: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return rows
