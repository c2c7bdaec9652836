"""Every CUDA kernel gives the bits of its CPU twin, for any shape, layout, dtype and size of launch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from cuda_arrays import DeviceArray, as_host, launch_sizes, launched, same_bits
from secateur.kernels import cpu, cuda, formats

KINDS = st.sampled_from(formats.KINDS)
arrays = strategies.arrays(shape=strategies.shapes(max_side=4))
few = settings(max_examples=20)
"""For kernels whose blocks wait for one another often, which the simulator is slow at."""


@st.composite
def pairs(draw):
    """Two arrays of one shape, each of its own dtype and layout; float64 uses all of its bits."""
    shape = draw(strategies.shapes(max_side=4))
    both = [draw(strategies.arrays(shape=shape, layouts=False)) for _ in range(2)]
    for each in both:
        if each.dtype == np.float64:
            each *= 1 + 2.0**-30
    return tuple(draw(strategies.laid_out(each)) for each in both)


@given(arrays, launch_sizes)
def test_absolute(array, size):
    with launched(*size):
        assert same_bits(as_host(cuda.absolute(DeviceArray(array))), cpu.absolute(array))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator's threads do not inherit numpy.errstate
@given(pairs(), launch_sizes)
def test_product_absolute(pair, size):
    with launched(*size):
        found = as_host(cuda.product_absolute(*map(DeviceArray, pair)))
        assert same_bits_but_nan(found, cpu.product_absolute(*pair))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(pairs(), st.booleans(), st.sampled_from(["value", "absolute", "square", "product"]), st.data(), launch_sizes)
def test_accumulate(pair, double, kind, data, size):
    total, x = pair[0].astype(np.float64 if double else np.float32), pair[1]
    weight = (data.draw(strategies.arrays(shape=x.shape)),) if kind == "product" else ()
    device = DeviceArray(total)
    with launched(*size):
        cuda.accumulate(device, DeviceArray(x), kind, *map(DeviceArray, weight))
        cpu.accumulate(total, x, kind, *weight)
    assert same_bits_but_nan(as_host(device), total)


def test_what_is_accumulated_is_first_converted_to_the_dtype_of_the_total():
    total = DeviceArray(np.float32([1.0]))
    with launched(2, 1):
        cuda.accumulate(total, DeviceArray(np.array([2.0**-24 + 2.0**-50])), "value")
    assert as_host(total) == 1.0  # the exact sum would round to the next float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_rounded_before_they_are_added(dtype):
    one = 1 + np.finfo(dtype).eps
    total, x = np.full(1, -one * one, dtype), np.full(1, one, dtype)
    device = DeviceArray(total)
    with launched(2, 1):
        cuda.accumulate(device, DeviceArray(x), "square")
    cpu.accumulate(total, x, "square")
    assert as_host(device) == total == 0.0  # with one rounding, eps**2


@given(strategies.arrays(shape=strategies.shapes(max_side=4), layouts=False), st.data(), launch_sizes)
def test_first_nan(array, data, size):
    somewhere = st.integers(0, max(0, array.size - 1))
    positions = data.draw(st.sets(somewhere, min_size=min(array.size, 1), max_size=3)) if array.size else set()
    clean = DeviceArray(data.draw(strategies.laid_out(array)))
    array.reshape(-1)[list(positions)] = np.nan
    with launched(*size):
        assert cuda.first_nan(clean) == -1
        assert cuda.first_nan(DeviceArray(data.draw(strategies.laid_out(array)))) == min(positions, default=-1)


@given(arrays.filter(np.size), launch_sizes)
def test_digest(array, size):
    with launched(*size):
        found = cuda.digest(DeviceArray(array))
    expected = cpu.digest(array)
    assert (found.smallest, found.largest, found.zeros) == (expected.smallest, expected.largest, expected.zeros)
    assert all(math.copysign(1.0, value) == 1.0 for value in (found.smallest, found.largest) if value == 0)
    assert all(same_sums(found.sums[kind], expected.sums[kind]) for kind in formats.KINDS)
    assert np.array_equal(found.histogram, expected.histogram)


@given(arrays, st.booleans(), st.data(), launch_sizes)
def test_digit_counts(array, double, data, size):
    dtype = np.dtype(np.float64 if double or array.dtype == np.float64 else np.float32)
    device, prefixes = DeviceArray(array), [0]
    with launched(*size):
        for level in range(formats.levels(dtype)):
            counts = cpu.digit_counts(array, dtype, prefixes, level)
            assert np.array_equal(cuda.digit_counts(device, dtype, prefixes, level), counts)
            keys = [
                (prefix << formats.DIGIT_BITS) + int(digit)
                for prefix, row in zip(prefixes, counts, strict=True)
                for digit in np.flatnonzero(row)
            ]
            prefixes = data.draw(st.lists(st.sampled_from(keys), max_size=3, unique=True)) if keys else []


@given(arrays, st.data(), st.booleans(), launch_sizes)
def test_masks_and_zeros_by_threshold(array, data, absolute, size):
    numbers = [float(x) for x in array.astype(np.float64).flat]
    threshold = data.draw(st.sampled_from([0.0, 0.3, math.inf, -math.inf, *numbers]))
    last = data.draw(st.integers(0, numbers.count(threshold) + 1))
    first = data.draw(st.none() | st.integers(0, array.size))
    device = DeviceArray(array)
    with launched(*size):
        assert cuda.first_kept(device, threshold, last, absolute) == cpu.first_kept(array, threshold, last, absolute)
        mask = as_host(cuda.mask_above(device, threshold, first))
        packed = as_host(cuda.mask_above(device, threshold, first, packed=True))
        cuda.zero_at_most(device, threshold, first)
    assert mask.flags.c_contiguous
    assert same_bits(mask, cpu.mask_above(array, threshold, first))
    assert same_bits(packed, cpu.mask_above(array, threshold, first, packed=True))
    expected = array.copy()
    cpu.zero_at_most(expected, threshold, first)
    assert same_bits(as_host(device), expected)


@pytest.mark.parametrize("packed", [False, True])
def test_no_mask_is_made_of_nan(packed):
    with launched(2, 2):
        assert cuda.mask_above(DeviceArray(np.float32([1.0, 2.0, np.nan])), 0.0, packed=packed) is None


@given(st.data(), st.sampled_from([(0, 1), (1, 1), (1, 2), (2, 4), (3, 5)]), launch_sizes)
def test_n_of_m(data, counts, size):
    n, m = counts
    shape = data.draw(strategies.shapes(min_dims=1, max_dims=3, max_side=3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    shape = (*shape[:axis], shape[axis] * m, *shape[axis + 1 :])
    array = data.draw(strategies.arrays(shape=shape))
    device, expected = DeviceArray(array), array.copy()
    with launched(*size):
        mask = as_host(cuda.mask_n_of_m(device, n, m, axis))
        packed = as_host(cuda.mask_n_of_m(device, n, m, axis, packed=True))
        cuda.zero_n_of_m(device, n, m, axis)
    cpu.zero_n_of_m(expected, n, m, axis)
    assert mask.flags.c_contiguous
    assert same_bits(mask, cpu.mask_n_of_m(array, n, m, axis))
    assert same_bits(packed, cpu.mask_n_of_m(array, n, m, axis, packed=True))
    assert same_bits(as_host(device), expected)


@few
@given(strategies.arrays(shape=strategies.shapes(min_dims=1, max_dims=3, max_side=4)), st.data(), launch_sizes)
def test_rows(array, data, size):
    columns = math.prod(array.shape[1:])
    keep = data.draw(st.integers(0, columns))
    double = array.dtype == np.float64 or data.draw(st.booleans())
    scale = np.array(data.draw(st.lists(st.sampled_from([0.25, 1.0, 3.0]), min_size=columns, max_size=columns)))
    scale = scale.astype(np.float64 if double else np.float32)
    device, expected = DeviceArray(array), array.copy()
    with launched(2, size[1]):
        mask = as_host(cuda.mask_per_row(device, keep))
        packed = as_host(cuda.mask_per_row(device, keep, packed=True))
        cuda.zero_per_row(device, keep, DeviceArray(scale))
    cpu.zero_per_row(expected, keep, scale)
    assert same_bits(mask, cpu.mask_per_row(array, keep))
    assert same_bits(packed, cpu.mask_per_row(array, keep, packed=True))
    assert same_bits(as_host(device), expected)


@given(arrays.filter(lambda x: x.ndim and x.size), st.data(), launch_sizes)
def test_first_nan_of_a_product(array, data, size):
    columns = math.prod(array.shape[1:])
    scale = np.float32(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=columns, max_size=columns)))
    with launched(*size), np.errstate(invalid="ignore"):
        absent = np.flatnonzero(np.isnan(array.astype(np.float64).reshape(len(array), -1) * scale))
        assert cuda.first_nan_product(DeviceArray(array), DeviceArray(scale)) == (absent[0] if absent.size else -1)


@given(arrays, st.data(), launch_sizes)
def test_zero_where_false(array, data, size):
    size_of_mask = st.lists(st.booleans(), min_size=array.size, max_size=array.size)
    mask = data.draw(strategies.laid_out(np.array(data.draw(size_of_mask), bool).reshape(array.shape)))
    expected = array.copy()
    cpu.zero_where_false(expected, mask)
    for form in (mask, data.draw(strategies.laid_out(cpu.pack(mask)))):
        device = DeviceArray(array)
        with launched(*size):
            cuda.zero_where_false(device, DeviceArray(form))
        assert same_bits(as_host(device), expected)


@given(pairs(), st.booleans(), st.booleans(), launch_sizes)
def test_masks_of_both_forms(pair, packed, union, size):
    a, b = (np.asarray(each > 0) for each in pair)
    with launched(*size):
        bits = cuda.pack(DeviceArray(a))
        assert same_bits(as_host(bits), cpu.pack(a))
        assert same_bits(as_host(cuda.unpack(bits, a.shape)), np.array(a, order="C"))
        first, second = (cpu.pack(a), cpu.pack(b)) if packed else (a, b)
        pair = DeviceArray(first), DeviceArray(second)
        assert same_bits(as_host(cuda.combine(*pair, union)), cpu.combine(first, second, union))
        assert cuda.count_kept(*pair) == cpu.count_kept(first, second)


@given(arrays, KINDS, st.data(), launch_sizes)
def test_exact_sums(array, kind, data, size):
    block = tuple(data.draw(st.integers(1, max(1, side))) for side in array.shape)
    with launched(2, size[1]):
        found = cuda.exact_sums(DeviceArray(array), kind, block)
    assert same_sums(found, cpu.exact_sums(array, kind, block))


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20), KINDS, launch_sizes)
def test_exact_sums_of_all_float64(values, kind, size):
    array = np.array(values)
    with launched(2, size[1]):
        found = cuda.exact_sums(DeviceArray(array), kind, array.shape)
    assert same_sums(found, cpu.exact_sums(array, kind, array.shape))


@given(arrays, st.data(), launch_sizes)
def test_largest_magnitudes(array, data, size):
    block = tuple(data.draw(st.integers(1, max(1, side))) for side in array.shape)
    with launched(2, size[1]):
        found = cuda.largest_magnitudes(DeviceArray(array), block)
    assert same_bits(found, cpu.largest_magnitudes(array, block))


@given(arrays, st.booleans(), launch_sizes)
def test_to_host_and_from_host(array, boolean, size):
    array = array > 0 if boolean else array
    device = DeviceArray(array)
    with launched(*size):
        assert same_bits(cuda.to_host(device), array)
        assert same_bits(as_host(cuda.from_host(np.array(array, order="C"), device)), array)


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_broadcast_views_are_read_as_they_appear(shape):
    array = np.broadcast_to(np.float32([[2.0], [-3.0]]) if len(shape) == 2 else np.float32(-2.5), shape)
    device = DeviceArray(array)
    with launched(2, 2):
        assert same_bits(as_host(cuda.absolute(device)), np.abs(array))
        assert same_bits(cuda.to_host(device), array)
        assert same_sums(cuda.exact_sums(device, "square", shape), cpu.exact_sums(array, "square", shape))


def same_sums(found, expected):
    return (
        found.base == expected.base
        and same_bits(found.limbs, expected.limbs)
        and same_bits(found.counters, expected.counters)
    )


def same_bits_but_nan(found, expected):
    """As same_bits, where a NaN may have any payload: that of arithmetic's NaN differs between devices."""
    absent = np.isnan(expected)
    return np.array_equal(np.isnan(found), absent) and same_bits(
        np.where(absent, 0, found).astype(found.dtype), np.where(absent, 0, expected).astype(expected.dtype)
    )
