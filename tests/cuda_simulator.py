"""What Numba's simulator lacks of the interface between libraries: memory at an address, as if of a device."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.cuda.cudadrv.devicearray import FakeCUDAArray
from numba.cuda.simulator.kernel import FakeCUDAKernel


class Launch(NamedTuple):
    """One launch of a kernel."""

    stream: Any
    arguments: tuple[Any, ...]


launches: list[Launch] = []
"""All launches."""
waits: list[int] = []
"""The streams that were waited for."""


class Stream:
    """A stream of another library."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def synchronize(self) -> None:
        waits.append(self.handle)

    def __int__(self) -> int:
        return self.handle


def interface(array: Any) -> dict[str, Any]:
    """The interface of a simulated array, as Numba's real ones have it."""
    memory = array._ary
    return {
        "shape": memory.shape,
        "strides": memory.strides,
        "typestr": memory.dtype.str,
        "data": (memory.ctypes.data if memory.size else 0, False),
        "version": 3,
        "stream": int(array.stream) or None,
    }


def from_cuda_array_interface(description: dict[str, Any], owner: Any, sync: bool) -> FakeCUDAArray:
    """A contiguous line of memory at an address."""
    assert not sync and len(description["shape"]) == 1
    dtype = np.dtype(description["typestr"])
    count = description["shape"][0]
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(description["data"][0] or ctypes.addressof(_NONE))
    memory.owner = owner
    handle = description["stream"]
    return FakeCUDAArray(np.frombuffer(memory, dtype, count), Stream(handle) if handle else 0)


def complete() -> None:
    """Add to the simulator what it lacks."""
    configure = FakeCUDAKernel.__getitem__

    def recorded(kernel: Any, configuration: Any) -> Any:
        configured = configure(kernel, configuration)

        def run(*arguments: Any) -> None:
            launches.append(Launch(configuration[2], arguments))
            configured(*arguments)

        return run

    FakeCUDAKernel.__getitem__ = recorded
    FakeCUDAArray.__cuda_array_interface__ = property(interface)
    cuda.from_cuda_array_interface = from_cuda_array_interface
    cuda.external_stream = Stream


_NONE = ctypes.c_char()
