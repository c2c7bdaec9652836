"""Means are those of real numbers, rounded once: against fractions, in any order, of any types and layouts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.averaging import shares, weighted_mean

BFLOAT = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float16), BFLOAT, np.dtype(np.float32), np.dtype(np.float64)]
BITS = {np.dtype(np.float16): (10, -14), BFLOAT: (7, -126), np.dtype(np.float32): (23, -126)}
BITS[np.dtype(np.float64)] = (52, -1022)

shared = st.one_of(
    st.just([1.0, 1.0, 1.0]),
    st.just([0.7, 0.1, 0.2]),
    st.lists(st.floats(1e-9, 1.0), min_size=3, max_size=3),
    st.lists(st.integers(1, 6).map(float), min_size=3, max_size=3),
)
"""Weights of three arrays."""


def rounded(value: Fraction, dtype: np.dtype[Any]) -> Fraction:
    """The nearest number of the type, half to even, by integers alone."""
    digits, least = BITS[dtype]
    if not value:
        return value
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(least, exponent) - digits)
    return round(value / unit) * unit  # Python rounds half to even


def reference(arrays: list[Any], weights: list[float], dtype: np.dtype[Any]) -> list[Fraction]:
    exact = [Fraction(weight) for weight in weights]
    rows = zip(*(map(Fraction, map(float, array.ravel())) for array in arrays), strict=True)
    return [
        rounded(sum(w * x for w, x in zip(exact, row, strict=True)) / sum(exact), dtype)  # type: ignore[arg-type]
        for row in rows
    ]


def drawn(kind: str, dtype: np.dtype[Any], seed: int, size: int = 24) -> list[Any]:
    """Three arrays: alike to a few units in the last place (ties), of any size, cancelling, or of extremes."""
    random = np.random.default_rng(seed)
    top = 2.0**15 if dtype == np.float16 else 2.0**120 if dtype != np.float64 else 2.0**1020
    if kind == "close":
        one = random.integers(64, 128, size)
        return [((one + random.integers(-2, 3, size)) / 128).astype(dtype) for _ in range(3)]
    if kind == "wide":
        span = np.log2(top)
        return [np.ldexp(random.normal(size=size), random.integers(-span, span - 3, size)).astype(dtype) for _ in "abc"]
    if kind == "cancelling":
        one = random.normal(size=size).astype(dtype)
        return [one, -one, (random.normal(size=size) * 2.0 ** random.integers(-60, 0, size)).astype(dtype)]
    extremes = np.array([0.0, -0.0, 1.0, -1.0, top, -top, float(np.finfo(np.float16).tiny) / 8], dtype)
    return [random.choice(np.append(extremes, ml_dtypes.finfo(dtype).smallest_subnormal), size) for _ in range(3)]


@given(
    st.sampled_from(["close", "wide", "cancelling", "extreme"]),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
    shared,
)
def test_a_mean_is_that_of_real_numbers_rounded_once(kind: str, dtype: Any, seed: int, weights: list[float]) -> None:
    arrays = drawn(kind, dtype, seed)
    found = weighted_mean(arrays, weights, dtype)
    assert found.dtype == dtype and found.flags.c_contiguous
    assert [Fraction(float(x)) for x in found] == reference(arrays, weights, dtype)
    assert not np.signbit(found[found == 0]).any()


@given(st.sampled_from(DTYPES), st.integers(0, 2**32 - 1), shared, st.permutations(range(3)))
def test_order_and_layout_do_not_matter(dtype: Any, seed: int, weights: list[float], order: list[int]) -> None:
    arrays = [array.reshape(4, 6) for array in drawn("wide", dtype, seed)]
    found = weighted_mean(arrays, weights, dtype)
    turned = [np.asfortranarray(arrays[i]) for i in order]
    again = weighted_mean(turned, [weights[i] for i in order], dtype)
    assert found.tobytes() == again.tobytes()
    flipped = weighted_mean([array.T[::-1] for array in arrays], weights, dtype)
    assert flipped.tobytes() == np.ascontiguousarray(found.T[::-1]).tobytes()


@given(st.sampled_from(DTYPES), st.integers(0, 2**32 - 1), st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=9))
def test_equal_arrays_give_that_array(dtype: Any, seed: int, weights: list[float]) -> None:
    one = drawn("wide", dtype, seed)[0]
    assert weighted_mean([one] * len(weights), weights, dtype).tobytes() == (one + dtype.type(0)).tobytes()


def test_types_may_be_mixed_and_pieces_are_joined() -> None:
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(3, 70_000)).astype(dtype) for dtype in (np.float32, np.float16, np.float64)]
    found = weighted_mean(arrays, [0.5, 0.25, 0.25], np.float32)
    expected = 0.5 * arrays[0].astype(np.float64) + 0.25 * arrays[1].astype(np.float64) + 0.25 * arrays[2]
    np.testing.assert_array_equal(found, expected.astype(np.float32))  # float64 is wide enough here


def test_numbers_without_axes_and_arrays_without_elements() -> None:
    assert weighted_mean([np.float32(1), np.array(2, np.float32)], [1.0, 1.0], np.float32) == 1.5
    assert weighted_mean([np.zeros((0, 3), np.float32)] * 2, [1.0, 2.0], np.float32).shape == (0, 3)


@pytest.mark.parametrize("weights", [[0.1] * 10, [1 / 3] * 3, [0.2, 0.2]])
def test_equal_weights_are_counted(weights: list[float]) -> None:
    known = shares(weights)
    assert len(set(known.each)) == 1 and known.low == known.lost == 0.0
    assert known.high == len(weights) * known.each[0]


def test_weights_without_a_common_measure_have_a_sum_of_two_floats() -> None:
    known = shares([0.7, 0.3, 1e-9])
    parts = map(Fraction, known.each)
    assert known.low and abs(sum(parts) - Fraction(known.high) - Fraction(known.low)) <= Fraction(known.lost)
