"""How long a call takes, on a machine that has other things to do as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

_CALLS, _SECONDS = 9, 0.05


def some_calls(run: Callable[[], object]) -> list[float]:
    """Seconds of up to 9 calls that together take about 50 ms, after one that is not counted."""
    run()
    some: list[float] = []
    while len(some) < _CALLS and sum(some) < _SECONDS:
        start = time.perf_counter()
        run()
        some.append(time.perf_counter() - start)
    return some


def undisturbed(times: Sequence[float]) -> float:
    """The lower quartile: other programs only add time, but the shortest of all is a stroke of luck."""
    return float(np.quantile(times, 0.25))
