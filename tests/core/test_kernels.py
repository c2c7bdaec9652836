"""The CPU kernels against real-number arithmetic, for every cut into pieces and every number of threads."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import naive
import strategies
from secateur import kernels
from secateur.arrays import Named
from secateur.errors import InvalidTensorError
from secateur.kernels import cpu, cpu_digests, formats, limbs, transposing

KINDS = st.sampled_from(formats.KINDS)
wide = st.floats(allow_nan=False, allow_infinity=False)


def same_sums(a, b):
    pairs = ((a.limbs, b.limbs), (a.counters, b.counters))
    return a.base == b.base and all(np.array_equal(x.reshape(-1), y.reshape(-1)) for x, y in pairs)


@given(strategies.arrays(), KINDS, st.data(), strategies.cuts)
def test_exact_sums_of_every_block(array, kind, data, cut):
    block = tuple(data.draw(st.integers(1, max(1, side))) for side in array.shape)
    with strategies.cut(*cut):
        sums = cpu.exact_sums(array, kind, block)
        largest = cpu.largest_magnitudes(array, block)
    found = kernels.round_sums(sums)
    for at in np.ndindex(*found.shape):
        part = array[tuple(slice(i * side, (i + 1) * side) for i, side in zip(at, block, strict=True))]
        values = naive.numbers([part])
        terms = values if kind == "value" else [abs(value) for value in values]
        squared = [Fraction(v) ** 2 for v in terms if math.isfinite(v)]
        expected = naive.total(terms)
        if kind == "square" and math.isfinite(max(terms, default=0.0)):
            expected = naive.rounded(sum(squared, Fraction(0)))
        assert np.array_equal(found[at], expected, equal_nan=True)
        assert largest[at] == max((abs(v) for v in values), default=0.0)


@given(st.lists(wide, max_size=30), KINDS)
@example([2.0**-1074, 1.0], "value")
@example([1.7976931348623157e308] * 3 + [-1.7976931348623157e308] * 2, "value")
@example([1.0, 2.0**-53, 2.0**-300], "value")
@example([1.0, 2.0**-53], "value")
@example([-1.0, -(2.0**-53), 2.0**-900], "value")
@example([2.0**53, 1.0, 2.0**-1074], "value")
@example([5e-324, 1.5e-323], "square")
def test_sums_of_all_float64_are_exact_and_rounded_once(values, kind):
    sums = cpu.exact_sums(np.array([0.0, *values]), kind, (1 + len(values),))
    exact = naive.exact_sum([abs(v) if kind == "absolute" else v for v in values], 2 if kind == "square" else 1)
    assert Fraction(kernels.exact_integer(sums, kind)) * Fraction(2) ** formats.UNIT[kind] == exact
    assert kernels.round_sums(sums) == naive.rounded(exact)
    if kind == "square":
        assert kernels.round_sums(sums, root=True) == naive.root(exact)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50))
def test_sums_are_those_of_fsum(values):
    sums = cpu.exact_sums(np.array(values), "value", (len(values),))
    assert kernels.round_sums(sums).item() == math.fsum(values)


@given(st.lists(wide, min_size=1, max_size=20), st.randoms(use_true_random=False), st.integers(0, 20))
def test_equal_sums_have_equal_limbs_however_they_came_about(values, random, split):
    shuffled = random.sample(values, len(values))
    whole = cpu.exact_sums(np.array(values), "value", (len(values),)).limbs
    parts = [np.array(part) for part in (shuffled[:split], shuffled[split:]) if part]
    merged = sum(cpu.exact_sums(part, "value", part.shape).limbs for part in parts)
    limbs.carry(merged)
    assert np.array_equal(merged, whole)


@given(strategies.arrays().filter(np.size), strategies.cuts)
def test_counts_extremes_and_histogram(array, cut):
    values = naive.numbers([array])
    with strategies.cut(*cut):
        assert cpu.first_nan(array) == -1
        found = cpu.digest(array)
        totals = {kind: cpu.exact_sums(array, kind, array.shape) for kind in formats.KINDS}
    assert (found.smallest, found.largest, found.zeros) == (min(values), max(values), values.count(0.0))
    assert not any(np.signbit(extreme) for extreme in (found.smallest, found.largest) if extreme == 0)
    assert all(same_sums(found.sums[kind], totals[kind]) for kind in formats.KINDS)
    expected = np.zeros(formats.HISTOGRAM_BINS, np.int64)
    edges = formats.magnitude_edges()
    for value in values:
        step = min(int(np.searchsorted(edges, abs(value), side="right")), formats.MAGNITUDES)
        expected[formats.MAGNITUDES + (step if value > 0 else -step)] += 1
    assert np.array_equal(found.histogram, expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_counted_patterns_give_the_same_digest_as_widened_numbers(dtype):
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    finite = np.isfinite(every.astype(np.float32))
    narrow = np.random.default_rng(0).choice(every[finite], cpu_digests.COUNTED_FROM + 5)
    narrow[::3], narrow[1::50] = 0.0, -0.0
    for numbers in (narrow, np.append(narrow, every[~np.isnan(every.astype(np.float32))])):
        found, expected = cpu.digest(numbers), cpu.digest(numbers.astype(np.float32))
        assert (found.smallest, found.largest, found.zeros) == (expected.smallest, expected.largest, expected.zeros)
        assert all(same_sums(found.sums[kind], expected.sums[kind]) for kind in formats.KINDS)
        assert np.array_equal(found.histogram, expected.histogram)
    with_nan = cpu.digest(np.append(narrow, every))
    assert with_nan.sums["absolute"].counters.tolist() == [2, 0, np.isnan(every.astype(np.float32)).sum()]


@pytest.mark.parametrize("exponents", [(0, 30), (-40, 5), (-149, -120), (90, 127)])
def test_sums_of_any_range_are_those_of_fractions(exponents):
    """Blocks that stay whole in the lanes and blocks that do not, at both ends of float32's exponents."""
    draw = np.random.default_rng(1)
    exponent = draw.integers(*exponents, 5000)
    numbers = np.ldexp(draw.uniform(-1, 1, 5000), exponent).astype(np.float32)
    numbers[draw.random(5000) < 0.3] = 0
    for part in (numbers, numbers[3:4099], np.sort(numbers)):
        found = cpu.digest(part)
        for kind, of in (("value", part), ("absolute", abs(part)), ("square", part)):
            terms = [Fraction(float(value)) ** (2 if kind == "square" else 1) for value in of]
            assert Fraction(kernels.exact_integer(found.sums[kind], kind)) * Fraction(2) ** formats.UNIT[kind] == sum(
                terms
            )


def thresholds_of(array):
    """Thresholds worth trying: elements, their neighbours, and values that no element has."""
    values = naive.numbers([array])
    return st.sampled_from([0.0, -0.0, 0.3, -1.0, math.inf, -math.inf, 1e300, *values, *np.nextafter(values, 1.0)])


@given(strategies.arrays(), st.data(), st.booleans(), strategies.cuts)
def test_equal_elements_are_kept_from_the_end(array, data, absolute, cut):
    values = [abs(value) if absolute else value for value in naive.numbers([array])]
    threshold, last = data.draw(thresholds_of(array)), data.draw(st.integers(0, array.size + 1))
    at = [i for i, value in enumerate(values) if value == threshold]
    kept = at[max(0, len(at) - last) :]
    first = array.size if not kept else 0 if len(kept) == len(at) else kept[0]
    with strategies.cut(*cut):
        assert cpu.first_kept(array, threshold, last, absolute) == (first, len(kept))


@given(strategies.arrays(), st.data(), strategies.cuts)
def test_masks_and_zeros_by_threshold(array, data, cut):
    threshold = data.draw(thresholds_of(array))
    first = data.draw(st.none() | st.integers(0, array.size))
    equal_from = np.arange(array.size).reshape(array.shape) >= (array.size if first is None else first)
    target = array.copy(order="K")
    with strategies.cut(*cut):
        mask = cpu.mask_above(array, threshold, first)
        packed = cpu.mask_above(array, threshold, first, packed=True)
        cpu.zero_at_most(target, threshold, first)
    values = array.astype(np.float64)
    assert mask.shape == array.shape and mask.flags.c_contiguous
    assert np.array_equal(mask, (values > threshold) | ((values == threshold) & equal_from))
    assert packed.tolist() == naive.packed(mask)
    stays = (abs(values) > threshold) | ((abs(values) == threshold) & equal_from)
    unsigned = f"u{array.itemsize}"
    assert np.array_equal(target.view(unsigned), np.where(stays, array.view(unsigned), 0))


@given(strategies.arrays(), st.booleans(), strategies.cuts)
def test_digit_counts_follow_the_order_of_the_numbers(array, double, cut):
    dtype = np.dtype(np.float64 if double or array.dtype == np.float64 else np.float32)
    keys: list[int] = [0]
    with strategies.cut(*cut):
        for level in range(formats.levels(dtype)):
            counts = cpu.digit_counts(array, dtype, keys, level)
            found = [
                (k << formats.DIGIT_BITS | int(d), int(c[d]))
                for k, c in zip(keys, counts, strict=True)
                for d in np.flatnonzero(c)
            ]
            keys = [key for key, _ in found]
    values = sorted(naive.numbers([array]))
    assert [formats.key_to_float(key, dtype) for key, count in found for _ in range(count)] == values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
@pytest.mark.parametrize("shape", [(16, 16), (47, 33), (32, 100), (5, 40)])
def test_transposed_matrices_are_copied_by_tiles_both_ways(dtype, shape):
    matrix = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    roomy = np.zeros((shape[1], shape[0] + 3), dtype)
    for stored in (np.zeros(shape[::-1], dtype), roomy[:, : shape[0]], roomy[:, 1 : shape[0] + 1]):
        transposing.copy(matrix, stored.T)
        assert np.array_equal(stored.T, matrix)
        back = np.empty(shape, dtype)
        transposing.copy(stored.T, back)
        assert np.array_equal(back, matrix)
    assert not roomy[:, shape[0] + 1 :].any()


def test_the_last_equal_elements_of_long_lines_are_found():
    array = np.zeros(30_000, np.float16)
    array[::7] = 1.0
    at = np.flatnonzero(array == 0)
    for last in (1, 5_000, at.size - 1):
        assert cpu.first_kept(array, 0.0, last) == (at[-last], last)


@given(strategies.arrays(layouts=False), st.data(), st.booleans(), strategies.cuts)
def test_no_mask_is_made_of_nan(array, data, packed, cut):
    if array.size:
        array.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from([np.nan, -np.nan]))
    with strategies.cut(*cut):
        mask = cpu.mask_above(data.draw(strategies.laid_out(array)), 0.0, packed=packed)
    assert (mask is None) == (array.size > 0)


@given(strategies.arrays(layouts=False), st.data(), strategies.cuts)
def test_the_first_nan_is_found_in_c_order(array, data, cut):
    positions = data.draw(st.sets(st.integers(0, max(0, array.size - 1)), max_size=3)) if array.size else set()
    array.reshape(-1)[list(positions)] = np.nan
    array = data.draw(strategies.laid_out(array))
    with strategies.cut(*cut):
        assert cpu.first_nan(array) == min(positions, default=-1)
    if positions:
        index = tuple(int(i) for i in np.unravel_index(min(positions), array.shape))
        with pytest.raises(InvalidTensorError) as caught:
            kernels.refuse_nan([Named("fc1.weight", array)])
        assert f"fc1.weight holds NaN at index {index}" in str(caught.value)


@pytest.mark.parametrize("dtype", strategies.FLOATS)
def test_every_nan_pattern_counts_as_nan_and_no_infinity_does(dtype):
    bits = np.arange(1 << 16, dtype=np.uint16)
    array = (
        bits.view(dtype)
        if dtype.itemsize == 2
        else (bits.astype(f"u{dtype.itemsize}") << (dtype.itemsize * 8 - 16)).view(dtype)
    )
    with np.errstate(invalid="ignore"):
        array = array[~np.isnan(array)]
    assert cpu.first_nan(array) == -1
    assert cpu.first_nan(np.append(array, array.dtype.type(np.nan))) == array.size


@given(strategies.arrays(layouts=False), st.data(), st.booleans(), strategies.cuts)
def test_zeroing_leaves_every_other_bit(array, data, packed, cut):
    if array.size:
        array.reshape(-1)[data.draw(st.integers(0, array.size - 1))] = np.nan
    mask = data.draw(
        strategies.laid_out(
            np.array(data.draw(st.lists(st.booleans(), min_size=array.size, max_size=array.size)), bool).reshape(
                array.shape
            )
        )
    )
    target = data.draw(strategies.laid_out(array).filter(lambda x: x.flags.writeable)).copy(order="K")
    with strategies.cut(*cut):
        cpu.zero_where_false(target, np.array(naive.packed(mask), np.uint8) if packed else mask)
    expected = np.where(mask, array.view(f"u{array.itemsize}"), 0)
    assert np.array_equal(target.view(f"u{array.itemsize}"), expected)


def test_digits_and_sums_of_many_elements_need_several_carries():
    array = np.full(3_000_000, -3.0e38, np.float32)
    assert kernels.round_sums(cpu.exact_sums(array, "value", array.shape)).item() == 3_000_000 * float(array[0])
    assert cpu.digit_counts(array, np.dtype(np.float32), [0], 0).sum() == array.size


def test_infinities_of_one_sign_win_and_of_both_are_no_number():
    for values, expected in [([np.inf, 1.0], np.inf), ([-np.inf, 1.0], -np.inf), ([np.inf, -np.inf], np.nan)]:
        sums = cpu.exact_sums(np.array(values), "value", (2,))
        assert np.array_equal(kernels.round_sums(sums), [expected], equal_nan=True)
        squares = cpu.exact_sums(np.array(values), "square", (2,))
        assert kernels.round_sums(squares, root=True).item() == np.inf
