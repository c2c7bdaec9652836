"""Where CUDA kernels run and what they touch: streams, devices, layouts, and no copy of the data to the host."""

from __future__ import annotations

import importlib
import math
from contextlib import nullcontext
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import cuda as numba_cuda

import strategies
from cuda_arrays import DeviceArray, as_host, launched
from secateur.errors import DeviceMismatchError, InvalidTensorError, MissingDependencyError, UnsupportedDtypeError
from secateur.kernels import cuda, cuda_memory


@given(strategies.arrays(), st.booleans())
def test_a_walk_meets_every_element_once(array, as_stored):
    one = cuda_memory.view(DeviceArray(array))
    size, shape, (steps,) = cuda_memory.walk(one, as_stored=as_stored)
    assert size == math.prod(shape) == array.size
    places = [steps[0] + int(np.dot(index, steps[1:])) for index in np.ndindex(*shape)]
    strides = [stride // array.itemsize for stride in array.strides]
    expected = [one.start + int(np.dot(index, strides)) for index in np.ndindex(*array.shape)]
    assert sorted(places) == sorted(expected) if as_stored else places == expected
    assert not places or 0 <= min(places) <= max(places) < one.span


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5)])
def test_dense_arrays_are_one_line(shape):
    for array in (np.zeros(shape), np.zeros(shape, order="F"), np.zeros(shape)[::-1].T):
        walk = cuda_memory.walk(cuda_memory.view(DeviceArray(array)))
        assert walk.shape == (math.prod(shape),) and walk.steps == ((0, 1),)


def test_elements_that_kernels_cannot_reach_are_refused():
    records = np.zeros(3, [("flag", "i1"), ("value", "f4")])
    with pytest.raises(UnsupportedDtypeError, match="strides"):
        cuda.absolute(DeviceArray(records["value"]))
    masked = SimpleNamespace(
        __cuda_array_interface__=DeviceArray(np.zeros(3)).__cuda_array_interface__ | {"mask": object()}
    )
    with pytest.raises(UnsupportedDtypeError, match="missing elements"):
        cuda.absolute(masked)


def test_without_a_device_the_error_tells_what_to_install():
    with (
        mock.patch.object(numba_cuda, "is_available", lambda: False),
        pytest.raises(MissingDependencyError, match=r"NVIDIA's driver.*pip install 'secateur\[cuda\]'"),
    ):
        cuda.absolute(DeviceArray(np.zeros(3)))


def test_arrays_on_two_devices_do_not_mix():
    first, second = DeviceArray(np.ones(3, np.float32)), DeviceArray(np.zeros(3, bool))
    with (
        mock.patch.object(cuda_memory, "_device_of", mock.Mock(side_effect=[0, 1])),
        pytest.raises(DeviceMismatchError, match=r"devices \[0, 1\]"),
    ):
        cuda.zero_where_false(first, second)
    assert as_host(first).all()


def test_work_is_done_on_the_device_of_the_array():
    """The driver tells where an address lies; on a machine with one device it is not asked."""
    entered: list[int] = []

    class Devices(list):
        def __getitem__(self, number):
            entered.append(number)
            return nullcontext()

    driver = importlib.import_module("cuda.bindings.driver")
    answer = mock.Mock(side_effect=[(driver.CUresult.CUDA_SUCCESS, 2), (driver.CUresult.CUDA_ERROR_INVALID_VALUE, 0)])
    array = DeviceArray(np.float32([-1.0]))
    with (
        launched(2, 2),
        mock.patch.object(numba_cuda, "gpus", Devices([0, 1, 2])),
        mock.patch.object(driver, "cuPointerGetAttribute", answer),
    ):
        assert as_host(cuda.absolute(array)).tolist() == [1.0]
        assert entered == [2]
        with pytest.raises(InvalidTensorError, match="no CUDA memory"):
            cuda.absolute(array)
    ordinal = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    assert answer.call_args_list[0].args == (ordinal, array.__cuda_array_interface__["data"][0])
