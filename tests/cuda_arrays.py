"""Arrays in device memory as another library would offer them, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from numba import cuda

from secateur.kernels import cuda_compiled

Array = npt.NDArray[Any]

launch_sizes = st.tuples(st.integers(2, 4), st.integers(1, 4))
"""Blocks and threads of a launch, small enough for the simulator."""


class DeviceArray:
    """A copy of a NumPy array, gaps and layout included, in device memory: a shape, an interface, slices, no more."""

    def __init__(self, host: Array, stream: int | None = None, read_only: bool = False) -> None:
        low, high = np.lib.array_utils.byte_bounds(host)
        self._buffer = cuda.to_device(_bytes(host, low, high))
        self._base, self._host, self._stream, self._read_only = low, host, stream, read_only

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @property
    def stream(self) -> int | None:
        return self._stream

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        offset = self._host.__array_interface__["data"][0] - self._base
        address = self._buffer.__cuda_array_interface__["data"][0] + offset
        return {
            "shape": self.shape,
            "strides": None if self._host.flags.c_contiguous else self._host.strides,
            "typestr": self._host.dtype.str,
            "data": (address if self._host.size else 0, self._read_only),
            "version": 3 if self._stream else 2,
            **({"stream": self._stream} if self._stream else {}),
        }

    def __getitem__(self, index: Any) -> DeviceArray:
        part = DeviceArray.__new__(DeviceArray)
        part.__dict__ = self.__dict__ | {"_host": self._host[index]}
        return part

    def copy_to_host(self) -> Array:
        offset = self._host.__array_interface__["data"][0] - self._base
        line = self._buffer.copy_to_host()
        return np.ndarray(self.shape, self._host.dtype, line, offset if self._host.size else 0, self._host.strides)


def _bytes(host: Array, low: int, high: int) -> Array:
    """The bytes from address ``low`` to ``high``, over which the array lies."""
    offset = host.__array_interface__["data"][0] - low
    line = np.zeros(high - low, np.uint8)
    if host.size:
        np.ndarray(host.shape, host.dtype, line, offset, host.strides)[...] = host
    return line


def as_host(array: Any) -> Array:
    """What is in a device array, bfloat16 too."""
    host: Array = array.copy_to_host()
    return host


@contextmanager
def launched(blocks: int, threads: int) -> Iterator[None]:
    """Kernels are launched on so many blocks of so many threads."""
    with mock.patch.multiple(cuda_compiled, BLOCKS=blocks, THREADS=threads):
        yield


def same_bits(found: Array, expected: Array) -> bool:
    """Whether two arrays have equal shape, dtype and bits."""
    unsigned = f"u{expected.dtype.itemsize}"
    return found.dtype == expected.dtype and np.array_equal(
        np.ascontiguousarray(found).view(unsigned), np.ascontiguousarray(expected).view(unsigned)
    )
