"""The public functions on device arrays: the same results as on NumPy arrays, arrays staying on the device."""

from __future__ import annotations

import math
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from cuda_arrays import DeviceArray, as_host, launch_sizes, launched, same_bits
from secateur import distributions, masks, ranks, scores, thresholds
from secateur.arrays import is_cuda
from secateur.errors import DeviceMismatchError, InvalidTensorError, ReadOnlyArrayError, UnsupportedDtypeError
from secateur.kernels import slabs

arrays = strategies.arrays(shape=strategies.shapes(max_side=4), infinities=False)
collections = strategies.collections(shape=strategies.shapes(max_side=3), infinities=False)
few = settings(max_examples=12)
"""For functions that launch many kernels, or whose blocks clear large tables, which the simulator is slow at."""


@given(arrays, launch_sizes)
def test_scores_stay_on_the_device(array, size):
    device = DeviceArray(array)
    with launched(*size), np.errstate(over="ignore"):
        for function in (scores.magnitude, scores.gradient):
            assert same_bits(as_host(function(device)), function(array))
        assert same_bits(as_host(scores.taylor(device, device)), scores.taylor(array, array))
        total, device_total = np.zeros(array.shape), DeviceArray(np.zeros(array.shape))
        assert scores.accumulate(device_total, device) is device_total
        assert same_bits(as_host(device_total), scores.accumulate(total, array))


def test_the_catalogue_s_scores_come_to_the_host():
    weight, gram = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32), np.eye(4) + 0.5
    device, alike = DeviceArray(weight), [scores.fisher, scores.movement, scores.grasp, scores.synflow]
    with launched(2, 1):
        for function in (scores.lamp, scores.geometric_median, lambda w: scores.power(w, 2)):
            assert same_bits(function(device), function(weight))
        for function in (*alike, scores.init_relative, scores.wanda):
            assert same_bits(function(device, device), function(weight, weight))
        assert same_bits(scores.surgeon(device, DeviceArray(gram)), scores.surgeon(weight, gram))


@few
@given(
    strategies.arrays(shape=strategies.shapes(min_dims=1, min_side=1, max_side=4), infinities=False),
    st.data(),
    st.sampled_from([1, 2, math.inf, "mean"]),
    launch_sizes,
)
def test_neuron_scores_are_equal_for_any_slab_and_layout(array, data, norm, size):
    axis = data.draw(st.integers(-array.ndim, array.ndim - 1))
    with launched(*size), mock.patch.object(slabs, "SLAB_BYTES", data.draw(st.sampled_from([1, 5000, 1 << 24]))):
        assert same_bits(scores.reduce(DeviceArray(array), axis, norm), scores.reduce(array, axis, norm))


@few
@given(collections, st.floats(0, 100), st.floats(-3, 3), st.booleans(), st.booleans(), launch_sizes)
def test_thresholds(arrays, q, k, absolute, by_sorting, size):
    devices = [DeviceArray(array) for array in arrays]
    count = 1 + int(q / 100 * (sum(array.size for array in arrays) - 1))
    with launched(*size), mock.patch.object(ranks, "SORTED", ranks.SORTED if by_sorting else 0):
        for threshold, amount in ((thresholds.percentile, q), (thresholds.smallest, count), (thresholds.k_sigma, k)):
            assert same_bits(
                threshold(devices, amount, absolute=absolute), threshold(arrays, amount, absolute=absolute)
            )


@few
@given(collections, st.data(), st.booleans(), launch_sizes)
def test_masks_of_competing_arrays(arrays, data, by_sorting, size):
    keep = data.draw(st.integers(0, sum(array.size for array in arrays)))
    with launched(*size), mock.patch.object(ranks, "SORTED", ranks.SORTED if by_sorting else 0):
        found = masks.keep_largest([DeviceArray(array) for array in arrays], keep)
    assert all(is_cuda(mask) for mask in found)
    for mask, expected in zip(found, masks.keep_largest(arrays, keep), strict=True):
        assert same_bits(as_host(mask), expected)


@few
@given(strategies.arrays(shape=(3, 4), infinities=False), st.floats(-2, 2), launch_sizes)
def test_masks_of_one_array(array, threshold, size):
    device = DeviceArray(array)
    with launched(*size):
        found = masks.keep_above(device, threshold), masks.n_of_m(device, 2, 4), masks.blocks(device, (2, 3), keep=2)
        assert all(is_cuda(mask) for mask in found)
        assert same_bits(as_host(found[0]), masks.keep_above(array, threshold))
        assert same_bits(as_host(found[1]), masks.n_of_m(array, 2, 4))
        assert same_bits(as_host(found[2]), masks.blocks(array, (2, 3), keep=2))
        assert masks.apply(device, found[1]) is device
        assert same_bits(as_host(device), masks.apply(array.copy(), masks.n_of_m(array, 2, 4)))
        assert masks.sparsity(list(found)) == masks.sparsity([as_host(mask) for mask in found])
        assert masks.overlap(found[0], found[1]) == masks.overlap(as_host(found[0]), as_host(found[1]))
        assert same_bits(as_host(masks.unpack(masks.pack(found[2]), (3, 4))), as_host(found[2]))
        assert masks.hamming(found[0], found[1]) == masks.hamming(as_host(found[0]), as_host(found[1]))


@few
@given(collections, st.data(), launch_sizes)
def test_the_smallest_of_competing_arrays_are_zeroed_in_place(arrays, data, size):
    keep = data.draw(st.integers(0, sum(array.size for array in arrays)))
    devices, expected = [DeviceArray(array) for array in arrays], [array.copy(order="K") for array in arrays]
    with launched(*size):
        assert masks.zero_smallest(devices, keep) is devices
    masks.zero_smallest(expected, keep)
    assert all(same_bits(as_host(device), array) for device, array in zip(devices, expected, strict=True))


@few
@given(strategies.arrays(shape=(3, 4), infinities=False), st.floats(0, 2), st.booleans(), launch_sizes)
def test_weights_are_pruned_in_place(array, threshold, scale_on_device, size):
    scale = np.float32([0.5, 1.0, 2.0, 0.0])
    calls = [
        lambda x: masks.zero_below(x, threshold),
        lambda x: masks.zero_n_of_m(x, 1, 3, axis=0),
        lambda x: masks.zero_per_row(x, 2),
        lambda x: masks.zero_per_row(x, 2, DeviceArray(scale) if is_cuda(x) and scale_on_device else scale),
    ]
    for call in calls:
        device, expected = DeviceArray(array), array.copy(order="K")
        with launched(2, size[1]):
            assert call(device) is device
        assert same_bits(as_host(device), call(expected))


@few
@given(strategies.arrays(shape=(3, 4), infinities=False), launch_sizes)
def test_packed_masks_stay_on_the_device(array, size):
    calls = [
        lambda x: masks.keep_above(x, 0.5, packed=True),
        lambda x: masks.keep_largest([x], 5, packed=True)[0],
        lambda x: masks.n_of_m(x, packed=True),
        lambda x: masks.keep_per_row(x, 3, packed=True),
        lambda x: masks.blocks(x, (2, 3), keep=2, packed=True),
    ]
    device = DeviceArray(array)
    with launched(2, size[1]):
        found, expected = [call(device) for call in calls], [call(array) for call in calls]
        assert all(is_cuda(bits) for bits in found)
        assert all(same_bits(as_host(bits), other) for bits, other in zip(found, expected, strict=True))
        both = masks.intersection(found[0], found[1]), masks.union(found[0], found[1])
        assert same_bits(as_host(both[0]), masks.intersection(expected[0], expected[1]))
        assert same_bits(as_host(both[1]), masks.union(expected[0], expected[1]))
        assert masks.overlap(found[2], found[3], (3, 4)) == masks.overlap(expected[2], expected[3], (3, 4))
        assert same_bits(as_host(masks.apply(device, found[1])), masks.apply(array.copy(), expected[1]))
        with pytest.raises(DeviceMismatchError):
            masks.hamming(found[0], expected[0])


def test_nan_is_refused_before_a_device_array_changes():
    bad = DeviceArray(np.float32([[1.0, 2.0], [np.nan, 4.0]]))
    calls = [
        lambda: masks.zero_below(bad, 3.0, name="fc1"),
        lambda: masks.zero_n_of_m(bad, 1, 2, name="fc1"),
        lambda: masks.zero_per_row(bad, 1, name="fc1"),
        lambda: masks.keep_above(bad, 3.0, name="fc1"),
    ]
    for call in calls:
        with launched(2, 2), pytest.raises(InvalidTensorError, match=r"fc1 holds NaN at index \(1, 0\)"):
            call()
    assert np.nansum(as_host(bad)) == 7.0


@few
@given(collections, launch_sizes)
def test_summaries(arrays, size):
    devices = [DeviceArray(array) for array in arrays]
    with launched(*size):
        assert distributions.summarize(devices) == distributions.summarize(arrays)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_nan_is_named_with_its_place(dtype):
    array = np.ones((2, 3), dtype)
    array.T[1, 1] = np.nan
    with launched(2, 2), pytest.raises(InvalidTensorError, match=r"fc1 holds NaN at index \(1, 1\)"):
        scores.magnitude(DeviceArray(array), name="fc1")


def test_bad_arrays_are_refused_before_anything_changes():
    weight = DeviceArray(np.ones(4, np.float32), read_only=True)
    mask = DeviceArray(np.zeros(4, bool))
    with launched(2, 2):
        with pytest.raises(ReadOnlyArrayError):
            masks.apply(weight, mask)
        with pytest.raises(DeviceMismatchError):
            masks.apply(np.ones(4, np.float32), mask)
        with pytest.raises(UnsupportedDtypeError):
            scores.magnitude(DeviceArray(np.ones(4, np.int32)))
        assert as_host(weight).all()


def test_a_tensor_of_a_gradients_graph_is_taken_without_its_graph():
    """PyTorch's CUDA parameters offer their interface only once detached."""

    class Parameter:
        requires_grad = True
        shape = (2,)

        @property
        def __cuda_array_interface__(self):
            raise RuntimeError("use var.detach()")

        def detach(self):
            return DeviceArray(np.float32([-1.5, 2.0]))

    with launched(2, 2):
        assert as_host(scores.magnitude(Parameter())).tolist() == [1.5, 2.0]


@few
@given(st.integers(1, 40), st.integers(0, 1 << 32), launch_sizes)
def test_any_byte_but_0_is_true(size, seed, launch):
    one, other = np.random.default_rng(seed).choice(np.uint8([0, 1, 2, 255]), (2, size))
    odd, plain = (one.view(np.bool_), other.view(np.bool_)), (one != 0, other != 0)
    with launched(*launch):
        devices = [DeviceArray(mask) for mask in odd]
        assert masks.hamming(*devices) == masks.hamming(*plain)
        for combine in (masks.union, masks.intersection):
            assert same_bits(as_host(combine(*devices)), combine(*plain))
