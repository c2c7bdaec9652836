"""Exact sums and digests of every span, size and layout: each way of adding gives the limbs of plain integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from secateur import kernels
from secateur.kernels import cpu, exact, exact_columns, formats, lanes

BLOCKS = [1, 5, lanes.LANES, exact.BLOCK - 1, exact.BLOCK, exact.BLOCK + lanes.LANES + 3]
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
# Octaves between the largest and the smallest, around where a way of adding no longer does, to the ends of the dtype.
SPANS = {SINGLE: [0, 8, 18, 19, 20, 21, 40, 120, 276], DOUBLE: [0, 8, 47, 51, 60, 140, 900, 2097]}
EXTREMES = {SINGLE: (-149, 127), DOUBLE: (-1074, 1023)}


@st.composite
def spread(draw, shape, dtype):
    """Numbers of both signs over so many octaves, with zeros of both signs, sometimes infinities and NaN."""
    octaves = draw(st.sampled_from(SPANS[dtype]))
    lowest, highest = EXTREMES[dtype]
    bottom = draw(st.sampled_from([lowest, min(max(-octaves, lowest), highest - octaves), highest - octaves]))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    exponents = random.integers(bottom, bottom + octaves + 1, shape)
    values = np.ldexp(random.choice([-1.0, 1.0], shape) * random.uniform(1.0, 1.99, shape), exponents).astype(dtype)
    values[random.random(shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = draw(st.sampled_from([0.0, -0.0]))
    for odd in draw(st.lists(st.sampled_from([np.inf, -np.inf, np.nan]), max_size=2)):
        values.reshape(-1)[draw(st.integers(0, values.size - 1))] = odd
    return values


def integer(values, kind):
    """The exact sum of the finite values, in units of 2**UNIT."""
    finite = [float(value) for value in values if np.isfinite(value)]
    whole = [(ratio[0] << 1074) // ratio[1] for ratio in map(float.as_integer_ratio, finite)]
    return sum(each**2 if kind == "square" else abs(each) if kind == "absolute" else each for each in whole)


def check(sums, lines, kind):
    """Each block's sum and counters are those of its line of numbers."""
    limbs, counters = sums.limbs.reshape(len(sums.limbs), -1), sums.counters.reshape(formats.COUNTERS, -1)
    assert (limbs[:-1] >= 0).all() and (limbs[:-1] < 1 << formats.LIMB_BITS).all()
    for i, values in enumerate(lines):
        one = formats.ExactSums(sums.base, limbs[:, i], counters[:, i])
        assert kernels.exact_integer(one, kind) == integer(values, kind)
        magnitudes = values if kind == "value" else np.abs(values)
        expected = [np.sum(magnitudes == np.inf), np.sum(magnitudes == -np.inf), np.sum(np.isnan(values))]
        assert counters[:, i].tolist() == expected


@given(st.data(), st.sampled_from([SINGLE, DOUBLE]), st.sampled_from(BLOCKS), st.sampled_from(formats.KINDS))
def test_sums_of_lines_of_any_span(data, dtype, size, kind):
    values = data.draw(spread(size, dtype))
    check(cpu.exact_sums(values, kind, (size,)), [values], kind)


@given(st.data(), st.sampled_from([SINGLE, DOUBLE]), st.sampled_from([1, 2, 7]))
def test_digests_of_any_span(data, dtype, threads):
    values = np.concatenate([data.draw(spread(data.draw(st.sampled_from(BLOCKS)), dtype)) for _ in range(2)])
    with strategies.cut(None, threads):
        found = cpu.digest(values)
    for kind in formats.KINDS:
        check(found.sums[kind], [values], kind)
    if not np.isnan(values).any():
        assert (found.smallest, found.largest) == (values.min(), values.max())
        assert found.zeros == np.sum(values == 0)


@given(
    st.data(),
    st.sampled_from([SINGLE, DOUBLE]),
    st.sampled_from([(64, 1), (100, 3), (2 * exact_columns.ROWS + 5, 7), (3, 40), (70, 2, 3)]),
    st.sampled_from(formats.KINDS),
    st.sampled_from([1, 2]),
)
def test_sums_of_columns_of_any_span(data, dtype, shape, kind, threads):
    """Columns are added tile by tile, narrow ones side by side; of a 3-D array the middle axis is kept."""
    values = data.draw(spread(shape, dtype))
    rows = np.moveaxis(values, 1, 0).reshape(shape[1], -1)
    with strategies.cut(None, threads):
        check(cpu.exact_sums(values, kind, [1 if axis == 1 else side for axis, side in enumerate(shape)]), rows, kind)


@pytest.mark.parametrize("kind", formats.KINDS)
@pytest.mark.parametrize("shape", [(70, exact_columns.COLUMNS + 3), (65, 20_000), (3, 600), (600, 3)])
def test_every_layout_and_number_of_threads_gives_the_same_sums(kind, shape, monkeypatch):
    values = (np.random.default_rng(5).standard_normal(shape) * 2.0 ** (np.arange(shape[1]) % 50)).astype(np.float32)
    roomy = np.zeros((shape[0], 2 * shape[1]), np.float32)
    roomy[:, ::2] = values
    layouts = [values, np.asfortranarray(values), roomy[:, ::2], values[::-1, ::-1].copy()[::-1, ::-1]]
    for block in [(1, shape[1]), (shape[0], 1), shape]:
        expected = cpu.exact_sums(roomy[:, ::2].astype(np.float64).astype(np.float32), kind, block)
        for threads in ("1", "2", "5"):
            monkeypatch.setenv("SECATEUR_THREADS", threads)
            for layout in layouts:
                found = cpu.exact_sums(layout, kind, block)
                assert np.array_equal(found.limbs, expected.limbs)
                assert np.array_equal(found.counters, expected.counters)


def test_the_largest_magnitude_of_a_block_with_nan_is_nan():
    values = np.array([[1.0, np.nan, -3.0], [np.inf, 2.0, -np.inf], [0.0, -0.0, 0.0]], np.float32)
    for dtype in strategies.FLOATS:
        assert np.array_equal(cpu.largest_magnitudes(values.astype(dtype), (1, 3))[:, 0], [np.nan, np.inf, 0.0], True)
