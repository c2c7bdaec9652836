"""One table: every row at one size, dtype and number of threads, all in turn, round after round."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.kernel_table.loads import Load
from benchmarks.kernel_table.operations import Prepare
from benchmarks.kernel_table.peers import Peer
from benchmarks.kernel_table.rows import Row
from benchmarks.kernel_table.timing import Clock, Series

Record = dict[str, Any]
Peers = Literal["none", "quick", "all"]

TRIAL = 1_000_000
"""Elements on which a peer is tried before, to learn how long it will take."""
LONG = 1.0
"""A peer that takes so many seconds is timed once, in the first table only; others are, until they have taken them."""
HOARDER = "tensorflow"
"""Keeps the memory of earlier calls for later ones, so that the process does not show how much a call needs."""


@dataclass(frozen=True)
class Units:
    """The loops of which the fastest is R, and those of which the fastest is S."""

    read: Mapping[str, Prepare]
    write: Mapping[str, Prepare]


@dataclass(frozen=True)
class Plan:
    """How a table is measured.

    Args:
        threads: of the kernels; 0 where that means nothing.
        rounds: how often everything is timed.
        peers: "none"; "quick", those that take less than a second; "all".
        first: whether this is the first table of its dtype, for which long peers are called.
        clock: what stands around a timed call.
        processor: whether times are the processor's, not the wall's.
        memory: whether the peak of the host's memory is measured.
        trial: makes the load on which peers are tried.
    """

    threads: int
    rounds: int
    peers: Peers
    first: bool
    clock: Clock
    processor: bool
    memory: bool
    trial: Callable[[int], Load]


def measure(rows: Sequence[Row], load: Load, units: Units, plan: Plan, tell: Callable[[str], None]) -> Record:
    """Time all rows on a load.

    Returns:
        What is kept as JSON: the units in nanoseconds an element, and for each row its time, its multiple of the unit,
        its target, its memory and the same of its peers.
    """
    read = [Series(name, prepare, load) for name, prepare in units.read.items()]
    write = [Series(name, prepare, load) for name, prepare in units.write.items()]
    ours = [Series(row.key, row.ours, load) for row in rows]
    tell("compiling, and measuring memory")
    for series in (*read, *write, *ours):
        series.prepare(load)()
    for series in ours:
        if plan.memory:
            series.weigh()
    others = [_peers(row.peers, load, plan, tell) for row in rows]
    for number in range(plan.rounds):
        tell(f"round {number + 1} of {plan.rounds}")
        for series in (*read, *write):
            series.time(plan.clock)
        for series, group in zip(ours, others, strict=True):
            series.time(plan.clock)
            for other in group:
                if other.spent < LONG:
                    other.time(plan.clock)
    best = {unit: min(group, key=lambda series: _seconds(series, plan)) for unit, group in (("R", read), ("S", write))}
    unit_times = {unit: _per_element(series, plan) for unit, series in best.items()}
    return {
        "elements": load.size,
        "dtype": load.dtype,
        "arrays": len(load.cuts),
        "threads": plan.threads,
        "clock": "processor" if plan.processor else "wall",
        "rounds": plan.rounds,
        "units": {unit: {"loop": best[unit].name, "ns": unit_times[unit]} for unit in best},
        "rows": [
            _record(row, series, group, unit_times[row.unit], plan)
            for row, series, group in zip(rows, ours, others, strict=True)
        ],
    }


def _peers(peers: Sequence[Peer], load: Load, plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """Those that are to be timed; long ones have had their only call."""
    if plan.peers == "none":
        return []
    chosen = []
    for peer in peers:
        if importlib.util.find_spec(peer.library) is None:
            tell(f"{peer.name} is left out: {peer.library} is not installed")
            continue
        trial = Series(peer.name, peer.prepare, plan.trial(min(TRIAL, load.size)))
        for _ in range(2):
            trial.time(plan.clock)
        series = Series(peer.name, peer.prepare, load)
        weighed = plan.memory and peer.library != HOARDER
        if trial.wall * load.size / trial.load.size < LONG:
            series.prepare(load)()
            if weighed:
                series.weigh()
        elif plan.first and plan.peers == "all":
            tell(f"{peer.name}, once")
            series.once = True
            if weighed:
                series.time_and_weigh(plan.clock)
            else:
                series.time(plan.clock)
        else:
            continue
        chosen.append(series)
    return chosen


def _seconds(series: Series, plan: Plan) -> float:
    return series.processor if plan.processor else series.wall


def _per_element(series: Series, plan: Plan) -> float:
    """Nanoseconds an element."""
    return 1e9 * _seconds(series, plan) / series.load.size


def _record(row: Row, series: Series, others: Sequence[Series], unit: float, plan: Plan) -> Record:
    target = None if row.target is None else row.target(series.load.size)
    result = _figures(series, unit, plan)
    return {
        "name": row.name,
        "data": row.data,
        "short": row.short,
        "unit": row.unit,
        "target": target,
        "met": None if target is None else result["ratio"] <= target,
        "memory_target": row.memory,
        **result,
        "peers": [{"name": other.name, **_figures(other, unit, plan)} for other in others],
    }


def _figures(series: Series, unit: float, plan: Plan) -> Record:
    ns = _per_element(series, plan)
    return {
        "ns": ns,
        "ratio": ns / unit,
        "wall_seconds": series.wall,
        "processor_seconds": series.processor,
        "calls": series.calls,
        "once": series.once,
        "memory": series.memory,
    }
