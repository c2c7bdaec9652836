from __future__ import annotations

import math

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import strategies
from secateur import arrays, distributions, masks, memory, scores, thresholds
from secateur.errors import (
    DeviceMismatchError,
    EmptyInputError,
    ReadOnlyArrayError,
    SecateurError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)


@given(strategies.shapes(), st.integers(1, 20))
def test_partition_cuts_every_array_into_consecutive_pieces_of_limited_size(shape, limit):
    array = np.arange(math.prod(shape)).reshape(shape)
    pieces = [array[index] for index in arrays.partition(shape, limit)]
    assert [value for piece in pieces for value in piece.ravel()] == list(range(array.size))
    assert all(0 < piece.size <= limit and np.shares_memory(piece, array) for piece in pieces)


@given(strategies.arrays())
def test_stored_order_is_a_view_of_all_elements_contiguous_where_the_memory_is(array):
    stored, other = arrays.as_stored(array, np.arange(array.size).reshape(array.shape))
    assert np.shares_memory(stored, array) or array.size == 0
    assert np.array_equal(stored.ravel(), array.ravel()[other.ravel()])
    (alone,) = arrays.as_stored(np.asfortranarray(array)[::-1] if array.ndim else array)
    assert alone.ndim == 1 and alone.flags.c_contiguous


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_torch_tensors_share_their_memory_whatever_dtype_and_layout(dtype, requires_grad):
    tensor = torch.arange(6, dtype=dtype).reshape(2, 3).T.requires_grad_(requires_grad)
    array = arrays.as_array(tensor)
    assert array.shape == (3, 2) and array.dtype.name == str(dtype).removeprefix("torch.")
    assert array.astype(np.float64).tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    array[0, 1] = 7.0
    assert tensor.detach().to(torch.float64)[0, 1] == 7.0


def test_bfloat16_memory_outlives_the_tensor_that_lent_it():
    array = arrays.as_array(torch.full((1000,), 1.5, dtype=torch.bfloat16))
    torch.full((1000,), 9.0, dtype=torch.bfloat16)
    assert array.dtype == ml_dtypes.bfloat16 and (array == 1.5).all()


def test_memory_maps_are_read_and_written_in_place(tmp_path):
    stored = np.memmap(tmp_path / "weights", np.float32, "w+", shape=(3, 4))
    stored[:] = np.arange(12).reshape(3, 4)
    kept = masks.keep_largest(np.memmap(tmp_path / "weights", np.float32, "r", shape=(3, 4)), 5)
    masks.apply(stored, kept)
    stored.flush()
    assert np.fromfile(tmp_path / "weights", np.float32).tolist() == [0.0] * 7 + [7.0, 8.0, 9.0, 10.0, 11.0]


def test_jax_arrays_can_be_read_but_not_written():
    for dtype in (jnp.float32, jnp.bfloat16):
        array = jnp.array([1.0, -2.0], dtype)
        assert arrays.as_array(array).astype(np.float32).tolist() == [1.0, -2.0]
        with pytest.raises(ReadOnlyArrayError, match="the weight"):
            item = arrays.Named("the weight", arrays.as_array(array, "the weight", writable=True))
            memory.require_writable(item)


def test_floats_and_numpy_scalars_count_as_arrays_without_axes():
    assert [item.array.shape for item in arrays.as_arrays([1.5, np.float32(2.0)])] == [(), ()]
    with pytest.raises(ReadOnlyArrayError):
        arrays.as_array(1.5, writable=True)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64", "object", "longdouble"])
def test_other_dtypes_are_refused_by_name(dtype):
    with pytest.raises(UnsupportedDtypeError, match="array 1 has dtype"):
        arrays.as_arrays([np.ones(2), np.ones(2, dtype)])


def test_the_other_byte_order_is_refused():
    with pytest.raises(UnsupportedDtypeError, match="byte order"):
        arrays.as_array(np.ones(2, np.dtype(np.float32).newbyteorder()))


@pytest.mark.parametrize("value", ["weights", 3, None, [None], [[1.0, 2.0]], torch.ones(2, device="meta")])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(SecateurError):
        arrays.as_arrays(value)


@pytest.mark.parametrize(
    "call",
    [
        arrays.as_array,
        lambda x: thresholds.percentile([x], 50),
        lambda x: masks.keep_largest([x], 1),
        lambda x: masks.zero_smallest(x, 1),
        lambda x: masks.apply(x, np.ones(3, bool)),
        lambda x: masks.apply(np.ones(3), x > 1.0),
        lambda x: masks.sparsity(x > 1.0),
        lambda x: masks.unpack(x.astype(np.uint8)[:1], (8,)),
        distributions.summarize,
        scores.magnitude,
    ],
)
def test_masked_arrays_are_refused_for_their_masks_would_be_lost(call):
    masked = np.ma.MaskedArray([1.0, 2.0, 3.0], [False, True, False])
    with pytest.raises(UnsupportedDtypeError, match=r"is a masked array, .*\.filled\(.*\.compressed\(\)"):
        call(masked)
    assert masked.tolist() == [1.0, None, 3.0] and thresholds.smallest(masked.compressed(), 2) == 3.0


def test_masks_are_of_bool():
    assert arrays.as_mask(torch.tensor([True, False])).tolist() == [True, False]
    with pytest.raises(UnsupportedDtypeError, match="True where kept"):
        arrays.as_mask(np.ones(3))


def test_names_go_with_arrays():
    assert [item.name for item in arrays.as_arrays((np.ones(1), np.ones(2)), ["a", "b"])] == ["a", "b"]
    with pytest.raises(ShapeMismatchError, match="2 arrays but 1 names"):
        arrays.as_arrays([np.ones(1), np.ones(1)], ["a"])


@pytest.mark.parametrize("nothing", [[], [np.ones(0)], np.ones((3, 0))])
def test_no_element_at_all_is_an_error(nothing):
    with pytest.raises(EmptyInputError):
        arrays.total_size(arrays.as_arrays(nothing))


class OnDevice:
    """Stands for an array in a CUDA device's memory."""

    shape = (2,)

    def __init__(self, typestr: str = "<f4") -> None:
        self.__cuda_array_interface__ = {"shape": (2,), "typestr": typestr, "data": (0, True), "version": 3}


def test_arrays_of_cuda_devices_pass_untouched_and_do_not_mix_with_others():
    device = OnDevice()
    assert arrays.as_array(device) is device and arrays.dtype_of(device) == np.float32
    assert arrays.dtype_of(OnDevice("<V2")) == ml_dtypes.bfloat16
    with pytest.raises(DeviceMismatchError):
        arrays.require_alike(arrays.Named("a", device), arrays.Named("b", np.ones(2, np.float32)))
    with pytest.raises(ReadOnlyArrayError):
        memory.require_writable(arrays.Named("a", device))
