"""Where the time goes, step by step, and which tool is faster on the models that two of them make smaller rightly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
Rows = Sequence[Record]

OURS = "secateur"
STEPS = ("trace", "solve", "choose", "remove", "verify")
"""Of a tool, those that it has; together they take the total."""


def table(rows: Rows) -> str:
    """A line a model, a column a tool: its steps and their sum, where it made a smaller model."""
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    headings = [f"{tool}: {' + '.join(_steps(rows, tool))} = total" for tool in tools]
    lines = [["model", *headings], ["---"] * (1 + len(tools))]
    for model in dict.fromkeys(row["model"] for row in rows):
        lines.append([model, *(_sum(_found(rows, model, tool)) for tool in tools)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compared(rows: Rows) -> list[str]:
    """A sentence for each peer: on how many models Secateur is faster, and on which it is not."""
    peers = [tool for tool in dict.fromkeys(row["tool"] for row in rows) if tool != OURS]
    return [sentence for peer in peers if (sentence := _compared(rows, peer))]


def _compared(rows: Rows, peer: str) -> str:
    models = dict.fromkeys(row["model"] for row in rows)
    pairs = [(model, _found(rows, model, OURS), _found(rows, model, peer)) for model in models]
    both = [
        (model, ours["seconds"], theirs["seconds"]["total"])
        for model, ours, theirs in pairs
        if ours is not None and theirs is not None and ours["status"] == theirs["status"] == "works"
    ]
    if not both:
        return ""
    bare = sum(ours["total"] - ours.get("verify", 0.0) < theirs for _, ours, theirs in both)
    slower = [
        f"{model} ({ours['total']:.2f} s, of which verifying {ours.get('verify', 0.0):.2f} s; {peer} {theirs:.2f} s)"
        for model, ours, theirs in both
        if ours["total"] >= theirs
    ]
    return (
        f"Of the {len(both)} models that both Secateur and {peer} make smaller rightly, Secateur takes less time for "
        f"{len(both) - len(slower)} in total, and for {bare} without its verification; {peer} verifies nothing. "
        f"It takes longer for {', '.join(slower) or 'none'}."
    )


def _found(rows: Rows, model: str, tool: str) -> Record | None:
    """The result, if it has times."""
    return next((row for row in rows if (row["model"], row["tool"]) == (model, tool) and "seconds" in row), None)


def _steps(rows: Rows, tool: str) -> list[str]:
    known = {step for row in rows if row["tool"] == tool for step in row.get("seconds", ())}
    return [step for step in STEPS if step in known]


def _sum(row: Record | None) -> str:
    if row is None:
        return "–"
    parts = [f"{row['seconds'][step]:.3f}" for step in STEPS if step in row["seconds"]]
    return f"{' + '.join(parts)} = **{row['seconds']['total']:.3f}**"
