"""The matrix of what holds, filled by the tests: a cell for each framework, backend, optimizer and way to train.

With ``SECATEUR_HOLD_TABLE=cells.jsonl`` in the environment, each cell that a test has finished is a line of that file,
to which several processes may append; ``benchmarks/hold.py --matrix`` makes the table of docs/hold.md from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

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
    found = {"leak": None, "steps": 0} if leaks is None else {"leak": max(leaks), "steps": len(leaks)}
    with Path(target).open("a", encoding="utf-8") as file:
        file.write(json.dumps([" | ".join((framework, backend, optimizer, mode)), found]) + "\n")
