"""The two units of the table: R, the fastest reading of the data that we know, and S, the fastest change in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from benchmarks.kernel_table.loads import Load
from secateur.kernels.threads import mapped, thread_count

Prepare = Callable[[Load], Callable[[], Any]]


@njit(nogil=True, fastmath=True, cache=True)
def sum_1(x: Any, zero: Any) -> Any:
    total = zero
    for i in range(x.size):
        total += x[i]
    return total


@njit(nogil=True, fastmath=True, cache=True)
def sum_2(x: Any, zero: Any) -> Any:
    size = x.size // 2
    a, b = x[:size], x[size : 2 * size]
    s = t = zero
    for i in range(size):
        s += a[i]
        t += b[i]
    return s + t


@njit(nogil=True, fastmath=True, cache=True)
def sum_4(x: Any, zero: Any) -> Any:
    size = x.size // 4
    a, b, c, d = x[:size], x[size : 2 * size], x[2 * size : 3 * size], x[3 * size : 4 * size]
    s = t = u = v = zero
    for i in range(size):
        s += a[i]
        t += b[i]
        u += c[i]
        v += d[i]
    return s + t + u + v


@njit(nogil=True, cache=True)
def scale(x: Any, factor: Any) -> None:
    for i in range(x.size):
        x[i] *= factor


@njit(nogil=True, cache=True)
def flip(x: Any, bits: Any) -> None:
    for i in range(x.size):
        x[i] ^= bits


def _over(line: Any, loop: Callable[[Any, Any], Any], constant: Any) -> Callable[[], Any]:
    """The loop over equal parts of a line, one for each thread."""
    return lambda: mapped(lambda part: loop(part, constant), np.array_split(line, thread_count()))


def _words(line: Any) -> Any:
    """The line's bytes as int64, a last incomplete word left out."""
    return line[: line.size // 4 * 4].view(np.int64)


def read_passes() -> dict[str, Prepare]:
    """The loops of which the fastest is R: sums of the floats (of float32), or of the same bytes as whole words."""

    def floats(loop: Any) -> Prepare:
        return lambda load: _over(load.case().view(np.float32), loop, np.float32(0))

    def words(loop: Any) -> Prepare:
        return lambda load: _over(_words(load.case()), loop, np.int64(0))

    sums = {"1 stream": sum_1, "2 streams": sum_2, "4 streams": sum_4}
    return {f"sum of floats, {name}": floats(loop) for name, loop in sums.items()} | {
        f"sum of words, {name}": words(loop) for name, loop in sums.items()
    }


def write_passes() -> dict[str, Prepare]:
    """The loops of which the fastest is S; they leave the data as they are."""
    return {
        "scaling by 1": lambda load: _over(load.fresh().view(np.float32), scale, np.float32(1)),
        "exclusive or with 0": lambda load: _over(_words(load.fresh()), flip, np.int64(0)),
    }
