"""How long a call takes, on a machine that has other things to do as well."""

from __future__ import annotations

import time
from collections.abc import Callable

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
