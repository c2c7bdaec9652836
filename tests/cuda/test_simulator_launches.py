"""What a launch is given, as only the simulator can tell: the stream, the types of arguments, and no copies of data."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from numba.cuda.cudadrv.devicearray import FakeCUDAArray

import cuda_simulator
from cuda_arrays import DeviceArray, as_host, launched
from secateur.kernels import cuda, cuda_memory

X = np.float32([[1.5, -2.0, 0.0, -0.0], [-4.0, 5.0, 2.0, 2.0]])
FLOAT32 = np.dtype(np.float32)
SCALE = DeviceArray(np.float32([1.0, 0.5, 2.0, 1.0]))

CALLS: dict[str, Callable[[DeviceArray], object]] = {
    "absolute": cuda.absolute,
    "product_absolute": lambda x: cuda.product_absolute(x, x),
    "accumulate": lambda x: cuda.accumulate(x, x, "product", x),
    "first_nan": cuda.first_nan,
    "digest": cuda.digest,
    "digit_counts": lambda x: cuda.digit_counts(x, FLOAT32, [0xC080, 0xBFC0], 1),
    "first_nan_product": lambda x: cuda.first_nan_product(x, SCALE),
    "first_kept": lambda x: cuda.first_kept(x, np.float32(2.0), np.int64(1), True),
    "mask_above": lambda x: cuda.mask_above(x, 2, np.int64(1)),
    "packed_above": lambda x: cuda.mask_above(x, 2, None, packed=True),
    "mask_n_of_m": lambda x: cuda.mask_n_of_m(x, np.int64(2), 4, 1),
    "packed_n_of_m": lambda x: cuda.mask_n_of_m(x, 2, 4, 1, packed=True),
    "mask_per_row": lambda x: cuda.mask_per_row(x, np.int64(2)),
    "packed_per_row": lambda x: cuda.mask_per_row(x, 2, packed=True),
    "zero_at_most": lambda x: cuda.zero_at_most(x, 2, np.int64(5)),
    "zero_n_of_m": lambda x: cuda.zero_n_of_m(x, 2, 4, 1),
    "zero_per_row": lambda x: cuda.zero_per_row(x, 2, SCALE),
    "zero_where_false": lambda x: cuda.zero_where_false(x, DeviceArray(X > 0)),
    "zero_where_clear": lambda x: cuda.zero_where_false(x, DeviceArray(np.array([0b1010], np.uint8))),
    "pack": lambda x: cuda.pack(DeviceArray(X > 0, stream=x.stream)),
    "unpack": lambda x: cuda.unpack(DeviceArray(np.array([0b1010], np.uint8), stream=x.stream), (2, 4)),
    "combine": lambda x: cuda.combine(DeviceArray(X > 0, stream=x.stream), DeviceArray(X > 1), True),
    "count_kept": lambda x: cuda.count_kept(DeviceArray(X > 0, stream=x.stream), DeviceArray(X > 1)),
    "exact_sums": lambda x: cuda.exact_sums(x, "square", (2, 3)),
    "largest_magnitudes": lambda x: cuda.largest_magnitudes(x, (1, 3)),
    "to_host": lambda x: cuda.to_host(x[:, ::3]),
}


@pytest.fixture(autouse=True)
def small_launches():
    cuda_simulator.launches.clear()
    cuda_simulator.waits.clear()
    with launched(2, 2):
        yield


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("handle", [None, 1, 4711])
def test_work_is_queued_on_the_arrays_own_stream(name, handle):
    CALLS[name](DeviceArray(X, stream=handle))
    assert cuda_simulator.launches
    assert {int(launch.stream) for launch in cuda_simulator.launches} == {handle or 0}
    assert set(cuda_simulator.waits) <= {handle}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_of_the_types_that_kernels_are_compiled_for(name):
    """Integers, flags, floats, tuples of integers, and contiguous lines of memory; see cuda_ptx.type_of."""
    CALLS[name](DeviceArray(X))
    for launch in cuda_simulator.launches:
        for argument in launch.arguments:
            if isinstance(argument, FakeCUDAArray):
                assert argument._ary.ndim == 1 and argument._ary.flags.c_contiguous
            else:
                assert type(argument) in (int, float, bool, tuple), argument
                assert not isinstance(argument, tuple) or {type(each) for each in argument} == {int}


@pytest.mark.parametrize("name", [name for name in CALLS if name != "to_host"])
def test_data_stays_on_the_device(name):
    """What comes to the host are counts and sums, in memory of their own."""
    array = DeviceArray(X)
    fetched = []
    copy = FakeCUDAArray.copy_to_host

    def spied(self, *arguments, **options):
        fetched.append(self._ary)
        return copy(self, *arguments, **options)

    with mock.patch.object(FakeCUDAArray, "copy_to_host", spied):
        CALLS[name](array)
    assert not any(np.shares_memory(each, array._buffer._ary) for each in fetched)


def test_other_arrays_streams_are_waited_for():
    target, mask = DeviceArray(X, stream=7), DeviceArray(X > 0, stream=8)
    cuda.zero_where_false(target, mask)
    assert cuda_simulator.waits == [8]
    cuda.zero_where_false(target, DeviceArray(X > 0))
    cuda.zero_where_false(target, DeviceArray(X > 0, stream=7))
    assert cuda_simulator.waits == [8]
    assert np.array_equal(as_host(target), np.where(X > 0, X, 0))


def test_results_tell_their_stream():
    result = cuda.absolute(DeviceArray(X, stream=9))
    assert cuda_memory.view(result).stream_handle == 9
    assert cuda_memory.view(cuda.absolute(DeviceArray(X))).stream_handle is None
