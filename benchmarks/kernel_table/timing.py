"""How calls are timed, and how much memory they take beside their input."""

from __future__ import annotations

import ctypes
import gc
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kernel_table.loads import Load
from benchmarks.kernel_table.operations import Prepare

_RESET_PEAK = "5"  # see proc(5), clear_refs


@dataclass(frozen=True)
class Clock:
    """What stands around a timed call.

    Args:
        finish: waits until queued work is done; the host has none.
        mark: gives a context that marks a call of that name for a profiler.
    """

    finish: Callable[[], Any] = lambda: None
    mark: Callable[[str], AbstractContextManager[Any]] = lambda name: nullcontext()

    def seconds(self, name: str, call: Callable[[], Any]) -> tuple[float, float]:
        """Wall time and processor time (of all of this process's threads) of one call, and of freeing its result."""
        self.finish()
        with self.mark(name):
            wall, processor = time.perf_counter(), time.process_time()
            call()
            self.finish()
            return time.perf_counter() - wall, time.process_time() - processor


@dataclass
class Series:
    """The best of many calls of one operation on one load.

    Args:
        name: of the operation.
        prepare: the operation.
        load: what it works on.
        once: whether it takes so long that it is called once only.
        wall: the shortest wall time, in seconds.
        processor: the shortest processor time, in seconds.
        calls: how many calls were timed.
        spent: how long they took together, in seconds.
        memory: the peak of memory beside the input, in bytes; None if not measured.
    """

    name: str
    prepare: Prepare
    load: Load
    once: bool = False
    wall: float = math.inf
    processor: float = math.inf
    calls: int = 0
    spent: float = 0.0
    memory: int | None = None

    def time(self, clock: Clock) -> None:
        """Time one more call."""
        self._add(clock, self.prepare(self.load))

    def weigh(self) -> None:
        """Measure the memory of a call of its own."""
        self.memory = peak_memory(self.prepare(self.load))

    def time_and_weigh(self, clock: Clock) -> None:
        """Both in one call, for those that take long."""
        call = self.prepare(self.load)
        self.memory = peak_memory(lambda: self._add(clock, call))

    def _add(self, clock: Clock, call: Callable[[], Any]) -> None:
        wall, processor = clock.seconds(self.name, call)
        self.wall, self.processor = min(self.wall, wall), min(self.processor, processor)
        self.calls += 1
        self.spent += wall


def peak_memory(call: Callable[[], Any]) -> int | None:
    """How far the process's resident memory rises during a call, in bytes, by the operating system's own mark.

    Memory that an earlier call has freed and the allocator still holds is given back first. None where the mark cannot
    be set back (elsewhere than on Linux).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, "ascii")
    except OSError:
        return None
    before = _high_water()
    call()
    return max(0, _high_water() - before)


def _high_water() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])
