"""Steps of training, timed in turn. Imports nothing else, so that an interpreter without Secateur can run it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

SPARSITY, LAYERS, BATCH = 0.9, (784, 700, 600, 10), 128

Steps = Callable[[int], object]


def compare(ways: Mapping[str, Steps], steps: int, rounds: int, seconds: Callable[[], float]) -> dict[str, Any]:
    """Milliseconds of a step of each way, and its multiple of the first way's step.

    In each round every way makes some steps, beginning with another one each time; the multiple is the median over
    rounds of the quotient within a round, which slow drifts of the machine leave alone.

    Args:
        ways: name -> makes so many steps.
        steps: how many in a round.
        rounds: how many.
        seconds: the clock.
    """
    names, times = list(ways), {name: list[float]() for name in ways}
    for name in names:
        ways[name](max(2, steps // 4))
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = seconds()
            ways[name](steps)
            times[name].append((seconds() - start) / steps)
    first = times[names[0]]
    return {
        name: {
            "ms": 1000.0 * statistics.median(found),
            "ratio": statistics.median(each / free for each, free in zip(found, first, strict=True)),
        }
        for name, found in times.items()
    }


def clock(wall: bool) -> Callable[[], float]:
    """Seconds by the wall, or of all of this process's threads."""
    return time.perf_counter if wall else time.process_time
