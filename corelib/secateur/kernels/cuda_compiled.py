"""How CUDA kernels are compiled and launched.

Compiled at the first call for each combination of types, kept on disk where there is a place to keep them; no
fast-math, so that a product or sum is rounded once, as on the CPU. Kernels walk their elements in strides of the whole
grid, so results do not depend on the numbers here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from secateur.errors import MissingDependencyError

try:
    importlib.import_module("numba_cuda")  # without it, the next line would find an older target
    from numba import cuda as cuda
except ImportError as reason:
    raise MissingDependencyError("arrays on CUDA devices need numba-cuda: pip install 'secateur[cuda]'") from reason

Function = TypeVar("Function", bound=Callable[..., object])

BLOCKS = 2048
"""Blocks of a launch: some for each multiprocessor of the largest devices, and enough for Numba not to warn of few."""
THREADS = 256
"""Threads of a block."""
LANES = 32
"""Threads of a block that add to cells of their own in shared memory: one warp."""


def kernel(function: Callable[..., None]) -> Any:
    """``function`` as a kernel, launched by :func:`launch`."""
    try:
        return cuda.jit(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cuda.jit(function)


def device(function: Function) -> Function:
    """``function`` as a part of kernels."""
    result: Function = cuda.jit(device=True)(function)
    return result


def launch(function: Any, stream: Any, *arguments: Any, blocks: int = 0, shared_bytes: int = 0) -> None:
    """Queue a kernel on a stream, on as many blocks as it needs, or on as many as do well."""
    function[blocks or BLOCKS, THREADS, stream, shared_bytes](*arguments)
