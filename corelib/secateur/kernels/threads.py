"""The thread pool that all CPU kernels share.

Kernels release the interpreter's lock, so plain threads are enough. Numba's own layers are not used: one aborts when
several Python threads call it at once, another kills a forked child, as PyTorch's data loaders are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from secateur.errors import OutOfRangeError

Item = TypeVar("Item")
Result = TypeVar("Result")

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def thread_count() -> int:
    """``SECATEUR_THREADS`` if set, else what ``numba.set_num_threads`` was told, else the processors that Numba counts.

    No result depends on it.

    Raises:
        OutOfRangeError: ``SECATEUR_THREADS`` is not a whole number from 1.
    """
    wanted = os.environ.get("SECATEUR_THREADS")
    if wanted is None:
        from numba import config
        from numba.np.ufunc import parallel

        # Asking would start Numba's own thread layer, which runs if a number has been set.
        started = getattr(parallel, "_is_initialized", False)
        return int(parallel.get_num_threads() if started else config.NUMBA_NUM_THREADS)
    if not wanted.isdecimal() or int(wanted) < 1:
        raise OutOfRangeError(f"SECATEUR_THREADS is {wanted!r}: set it to a whole number from 1, or unset it")
    return int(wanted)


def mapped(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``[function(item) for item in items]`` on the shared threads; one item, or one thread, runs in the caller."""
    workers = min(thread_count(), len(items)) if len(items) > 1 else 1
    if workers == 1:
        return [function(item) for item in items]
    return list(_pool(workers).map(function, items))


def _pool(workers: int) -> ThreadPoolExecutor:
    with _lock:
        if workers not in _pools:
            _pools[workers] = ThreadPoolExecutor(workers, thread_name_prefix="secateur")
        return _pools[workers]


def _forget_pools() -> None:
    """In a forked child the threads are gone and the lock may be held by one of them: start afresh."""
    global _lock
    _pools.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_pools)
