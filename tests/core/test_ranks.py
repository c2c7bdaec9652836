"""Order statistics by every way that leads to them, against a full sort."""

from __future__ import annotations

import math
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
import strategies
from secateur import ranks
from secateur.arrays import Stream, as_arrays
from secateur.errors import InvalidTensorError
from secateur.kernels import ordering
from secateur.ranks import order_statistics

SIZE = 100_000


def normal(generator, size):
    return generator.normal(size=size)


def mostly_zero(generator, size):
    return generator.normal(size=size) * (generator.random(size) > 0.8)


def constant(generator, size):
    return np.full(size, -2.5)


def few_values(generator, size):
    return generator.integers(-3, 4, size)


def sorted_values(generator, size):
    return np.sort(generator.normal(size=size))


def periodic(generator, size):
    return np.where(np.arange(size) % 64 == 0, 100.0, generator.normal(size=size))


def two_scales(generator, size):
    return np.where(np.arange(size) < size // 2, 1e-4, 1.0) * generator.normal(size=size)


def infinite_ends(generator, size):
    return generator.choice([-np.inf, np.inf, 0.0, -0.0, 1.0, 3e38, -1e-45], size)


DATA = [normal, mostly_zero, constant, few_values, sorted_values, periodic, two_scales, infinite_ends]
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def require_right(arrays, wanted, absolute, **ways):
    """Ranks, values and counts must be those of a sorted copy of all numbers."""
    values = np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])
    values = np.sort(np.abs(values) if absolute else values)
    found = order_statistics(as_arrays(arrays), wanted, absolute)
    for rank, statistic in zip(wanted, found, strict=True):
        assert statistic.value == values[rank], ways
        assert statistic.below == np.searchsorted(values, values[rank], "left"), ways
        assert statistic.below + statistic.equal == np.searchsorted(values, values[rank], "right"), ways


@given(strategies.collections(), st.data(), st.booleans(), strategies.cuts)
def test_what_lies_below_and_what_is_equal(arrays, data, absolute, cut):
    values = [abs(value) if absolute else value for value in naive.numbers(arrays)]
    wanted = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12))
    with strategies.cut(*cut):
        statistics = order_statistics(as_arrays(arrays), wanted, absolute)
    for rank, found in zip(wanted, statistics, strict=True):
        assert found.value == sorted(values)[rank]
        assert found.below == sum(value < found.value for value in values)
        assert found.equal == values.count(found.value)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data", DATA)
def test_large_arrays_of_every_kind(data, dtype, absolute):
    with np.errstate(over="ignore"):
        array = data(np.random.default_rng(0), SIZE).astype(dtype)
    shares = (0.0, 1e-5, 0.01, 0.1, 0.5, 0.79, 0.8, 0.81, 0.9, 0.999, 1.0)
    for rank in sorted({int(share * (SIZE - 1)) for share in shares}):
        require_right([array], [rank, min(rank + 1, SIZE - 1)], absolute)
    require_right([array], list(range(0, SIZE, SIZE // 9)), absolute)


@pytest.mark.parametrize("count", [13, 101, 1001])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data", DATA)
def test_many_ranks_at_once(data, dtype, count):
    with np.errstate(over="ignore"):
        array = data(np.random.default_rng(1), SIZE).astype(dtype)
    require_right([array[: SIZE // 3], array[SIZE // 3 :]], np.linspace(0, SIZE - 1, count).astype(int).tolist(), True)


@pytest.mark.parametrize("count", [13, 101, 1001])
def test_many_ranks_take_few_passes(count):
    """One for each bracket that holds a tenth, and brackets within brackets; no histograms."""
    array = np.random.default_rng(0).normal(size=5 * SIZE).astype(np.float32)
    passes = []

    def split(arrays, *arguments, **options):
        passes.append(sum(part.size for part in arrays))
        return ordering.split(arrays, *arguments, **options)

    with (
        mock.patch("secateur.kernels.split", split),
        mock.patch.object(ranks, "_by_digits", side_effect=AssertionError("brackets were of no use")),
    ):
        require_right([array], np.linspace(0, array.size - 1, count).astype(int).tolist(), absolute=False)
    assert sum(passes) < 40 * array.size


@settings(max_examples=30)
@given(st.data(), st.sampled_from(DATA), st.booleans(), st.sampled_from(["1", "2", "7"]))
def test_mixed_dtypes_layouts_and_sizes(data, kind, absolute, threads):
    generator = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    arrays = []
    for _ in range(data.draw(st.integers(1, 5))):
        shape = data.draw(st.sampled_from([(0, 5), (), (1,), (63,), (65, 3), (130, 201), (3, 7, 999), (40_000,)]))
        dtype = data.draw(st.sampled_from(DTYPES))
        with np.errstate(over="ignore"):
            values = kind(generator, math.prod(shape)).reshape(shape)
            arrays.append(data.draw(strategies.laid_out(values.astype(dtype))))
    arrays.append(kind(generator, 70_000).astype(np.float32))
    size = sum(array.size for array in arrays)
    wanted = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3))
    with mock.patch.dict("os.environ", {"SECATEUR_THREADS": threads}):
        require_right(arrays, wanted, absolute)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [20_000, 70_000, 140_000, 600_000])
def test_one_array_that_is_spread_out(size, dtype):
    """Every other element, backwards, a column, a corner: one line of strides, alone in its piece."""
    base = np.random.default_rng(size).normal(size=2 * size).astype(dtype)
    columns, square = base.reshape(-1, 2), base[: 400 * (size // 400)].reshape(-1, 400)
    for view in (base[::2], base[::-1], columns[:, 1], square[:, ::2], square[::-1, ::-1]):
        assert not view.flags.c_contiguous
        require_right([view], [0, view.size // 3, view.size - 1], absolute=True)
        require_right([view, base[:3]], [7, view.size - 1], absolute=False)
    hidden = base.copy()
    hidden[2 * (size // 2)] = np.nan
    with pytest.raises(InvalidTensorError, match=rf"array 0 holds NaN at index \({size // 2},\)"):
        order_statistics(as_arrays([hidden[::2]], ["array 0"]), [size // 2])


def test_a_sample_that_misleads_costs_time_and_no_bit():
    """Every sampled place holds a number from elsewhere."""
    array = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    with mock.patch("secateur.kernels.sample", lambda *_: np.full(1000, 5.0, np.float32)):
        require_right([array], [100, SIZE // 2], absolute=False)


@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_arrays_that_are_sampled_find_room_for_what_is_inside_their_bracket(seed):
    """They are what is left of large ones too: without room, the search in all numbers would begin again."""
    array = np.random.default_rng(seed).normal(size=ranks.SORTED + 1).astype(np.float32)
    with (
        mock.patch.object(ranks, "_STANDARD_ERRORS", ranks._STANDARD_ERRORS[:1]),
        mock.patch.object(ranks, "_by_digits", side_effect=AssertionError("the bracket was of no use")),
    ):
        require_right([array], [array.size // 2], absolute=False)


def test_no_more_is_collected_than_memory_allows():
    """The sample sees only the ends, so that everything lies inside the bracket."""
    array = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    misled = np.repeat(np.array([-9.0, 9.0], np.float32), 500)
    with mock.patch("secateur.kernels.sample", lambda *_: misled.copy()):
        require_right([array], [SIZE // 2], absolute=False)


def test_both_ways_give_the_same_statistics():
    arrays = as_arrays([mostly_zero(np.random.default_rng(i), SIZE).astype(np.float32) for i in range(3)])
    wanted = [0, 1000, SIZE, 2 * SIZE, 3 * SIZE - 1]
    by_digits = ranks._by_digits(arrays, wanted, absolute=True)
    assert order_statistics(arrays, wanted, absolute=True) == [by_digits[rank] for rank in wanted]
    assert order_statistics(Stream(lambda: (item.array for item in arrays)), wanted, absolute=True) == [
        by_digits[rank] for rank in wanted
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data", [normal, constant, mostly_zero])
@pytest.mark.parametrize("at", [0, 81_007, SIZE - 1])
def test_nan_is_found_wherever_it_hides(data, dtype, at):
    for sign in (1, -1):
        array = data(np.random.default_rng(0), SIZE).astype(dtype)
        array[at] = sign * np.nan
        for rank in (0, 200, SIZE // 2, SIZE - 1):
            with pytest.raises(InvalidTensorError, match=rf"array 1 holds NaN at index \({at},\)"):
                order_statistics(as_arrays([np.ones(20_000, dtype), array]), [rank])
            with pytest.raises(InvalidTensorError, match="NaN"):
                order_statistics(as_arrays([array]), [rank], absolute=True)


def test_ten_thousand_small_arrays():
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=generator.integers(0, 40)).astype(np.float32) for _ in range(10_000)]
    size = sum(array.size for array in arrays)
    require_right(arrays, [0, size // 3, size - 1], absolute=True)
