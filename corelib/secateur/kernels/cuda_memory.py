"""Device arrays of any library as kernels see them: a line of memory, and steps along it.

A kernel takes the memory that an array spans as one contiguous line, and for each index its place on that line; so any
layout works without a copy, and one compiled kernel serves all layouts of as many axes. Axes that lie together are
merged before, so a dense array of any shape is a line.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from secateur.arrays import dtype_of
from secateur.errors import DeviceMismatchError, InvalidTensorError, MissingDependencyError, UnsupportedDtypeError
from secateur.kernels.cuda_compiled import cuda, launch

Ints = tuple[int, ...]


class Walk(NamedTuple):
    """All positions of some arrays of one shape: ``steps`` of an array is its start, then its stride on each axis."""

    size: int
    shape: Ints
    steps: tuple[Ints, ...]


@dataclass(frozen=True)
class View:
    """Where the elements of a device array lie.

    Args:
        owner: the array, kept alive.
        address: of its lowest element; 0 where there is no element.
        span: how many elements from the lowest to the highest, gaps included.
        start: offset of the element at index (0, ..., 0) from the lowest, in elements.
        shape: of the array.
        strides: of the array, in elements.
        dtype: of the elements.
        stream_handle: the stream on which the array is made, as its interface names it.
    """

    owner: Any
    address: int
    span: int
    start: int
    shape: Ints
    strides: Ints
    dtype: np.dtype[Any]
    stream_handle: int | None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def stream(self) -> Any:
        """The stream on which to queue work, 0 for the default one."""
        return cuda.external_stream(self.stream_handle) if self.stream_handle else 0

    @property
    def is_bfloat(self) -> bool:
        """Whether :attr:`numbers` are bit patterns of bfloat16."""
        return self.dtype.name == "bfloat16"

    @property
    def numbers(self) -> Any:
        """The memory, as floats; bfloat16, which Numba does not compute with, as bit patterns."""
        return self.bits if self.is_bfloat else self._memory(self.dtype)

    @property
    def bits(self) -> Any:
        """The memory, as unsigned integers."""
        return self._memory(np.dtype(f"u{self.dtype.itemsize}"))

    def _memory(self, dtype: np.dtype[Any]) -> Any:
        interface = {"shape": (self.span,), "typestr": dtype.str, "data": (self.address, False), "version": 3}
        return cuda.from_cuda_array_interface(interface | {"stream": self.stream_handle}, self.owner, False)


def view(array: Any) -> View:
    """How the elements of a device array lie.

    Raises:
        UnsupportedDtypeError: elements are missing, or do not lie at multiples of their size.
    """
    interface, dtype = array.__cuda_array_interface__, dtype_of(array)
    if interface.get("mask") is not None:
        raise UnsupportedDtypeError("the array has missing elements (a mask): fill them first")
    shape = tuple(int(extent) for extent in interface["shape"])
    steps = interface.get("strides") or dense_strides(shape, range(len(shape)), dtype.itemsize)
    if any(step % dtype.itemsize for step in steps):
        raise UnsupportedDtypeError(f"the array's strides {steps} are no multiples of {dtype.itemsize} bytes: copy it")
    strides = tuple(int(step) // dtype.itemsize for step in steps)
    some = min(math.prod(shape), 1)
    reach = [some * (extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)]
    start = -sum(far for far in reach if far < 0)
    address = int(interface["data"][0] or 0) - start * dtype.itemsize
    span = some + start + sum(far for far in reach if far > 0)
    return View(array, address, span, start, shape, strides, dtype, interface.get("stream"))


def dense_strides(shape: Ints, order: Sequence[int], step: int) -> Ints:
    """Strides of a dense array whose axes lie in that order, outermost first; ``step`` is that of the innermost."""
    strides = [0] * len(shape)
    for axis in reversed(order):
        strides[axis] = step
        step *= max(1, shape[axis])
    return tuple(strides)


@contextmanager
def opened(*arrays: Any) -> Iterator[list[View]]:
    """Views of arrays, on whose device the body runs, in the order of the first array's stream.

    Raises:
        MissingDependencyError: there is no usable device or driver.
        DeviceMismatchError: the arrays lie on different devices.
    """
    if not cuda.is_available():
        reason = " ".join(str(cuda.cuda_error() or "no compiler").split())
        raise MissingDependencyError(
            "an array is said to lie on a CUDA device, but none can be used: install NVIDIA's driver, and the compiler "
            f"by pip install 'secateur[cuda]' ({reason})"
        )
    views = [view(array) for array in arrays]
    devices = {_device_of(one.address) for one in views if one.size}
    if len(devices) > 1:
        raise DeviceMismatchError(f"the arrays lie on the CUDA devices {sorted(devices)}: move them to one")
    with cuda.gpus[devices.pop()] if devices else nullcontext():
        for other in views[1:]:
            if other.stream_handle not in (None, views[0].stream_handle):
                other.stream.synchronize()
        yield views


def walk(first: View, *others: View, as_stored: bool = True) -> Walk:
    """The positions of arrays of one shape, in C order, or as the first array lies in memory, which is faster."""
    views = (first, *others)
    return merged(first.shape, [(one.start, *one.strides) for one in views], as_stored)


def merged(shape: Ints, steps: Sequence[Ints], as_stored: bool) -> Walk:
    """The same positions on as few axes as possible, at least one; ``as_stored``: in the order of the first steps."""
    starts = [one[0] for one in steps]
    axes = [(extent, *(one[axis + 1] for one in steps)) for axis, extent in enumerate(shape) if extent != 1]
    if as_stored:
        for at, (extent, *strides) in enumerate(axes):
            if strides[0] < 0:
                starts = [start + (extent - 1) * stride for start, stride in zip(starts, strides, strict=True)]
                axes[at] = (extent, *(-stride for stride in strides))
        axes.sort(key=lambda axis: -axis[1])
    joined: list[Ints] = []
    for extent, *strides in axes:
        if joined and all(outer == extent * inner for outer, inner in zip(joined[-1][1:], strides, strict=True)):
            extent *= joined.pop()[0]
        joined.append((extent, *strides))
    lines = list(zip(*joined, strict=True)) or [(1,), *((0,) for _ in steps)]
    return Walk(
        math.prod(shape), lines[0], tuple((start, *line) for start, line in zip(starts, lines[1:], strict=True))
    )


def launch_over(positions: Walk, kernel: Any, stream: Any, *arguments: Any) -> None:
    """Launch a kernel on all positions of a walk, if there is one."""
    if positions.size:
        launch(kernel, stream, positions.size, positions.shape, *arguments)


def launch_on(source: View, positions: Walk, kernel: Any, *arguments: Any) -> None:
    """Launch a kernel that first takes the numbers of ``source``, with which the walk begins."""
    launch_over(positions, kernel, source.stream, source.numbers, positions.steps[0], source.is_bfloat, *arguments)


def empty_like(like: View, dtype: npt.DTypeLike, stream: Any) -> Any:
    """A new dense array of that shape, its axes in the same order in memory."""
    order = sorted(range(len(like.shape)), key=lambda axis: -abs(like.strides[axis]))
    strides = dense_strides(like.shape, order, np.dtype(dtype).itemsize)
    return cuda.device_array(like.shape, dtype=np.dtype(dtype), strides=strides, stream=stream)


def to_device(array: npt.NDArray[Any], stream: Any) -> Any:
    """A copy of a host array on the current device."""
    return cuda.to_device(array, stream=stream)


def fetched(array: Any, stream: Any) -> npt.NDArray[Any]:
    """A copy in the host's memory of an array that this package made, once the stream's work is done."""
    host: npt.NDArray[Any] = array.copy_to_host(stream=stream)
    if stream:
        stream.synchronize()
    return host


def _device_of(address: int) -> int:
    """The number of the device in whose memory an address lies."""
    if len(cuda.gpus) == 1:
        return 0
    driver: Any = importlib.import_module("cuda.bindings.driver")
    ordinal = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    status, number = driver.cuPointerGetAttribute(ordinal, address)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise InvalidTensorError(f"an array claims to lie at {address:#x}, which is no CUDA memory ({status})")
    return int(number)
