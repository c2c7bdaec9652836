"""Slow, obvious oracles for every function of the numeric core: real-number arithmetic, full sorts, plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def numbers(arrays: Sequence[Array]) -> list[float]:
    """All elements in C order, arrays in list order."""
    return [float(value) for array in arrays for value in np.asarray(array, np.float64).ravel(order="C")]


def rounded(value: Fraction) -> float:
    """The float64 nearest to a real number, half to even; beyond the range, infinity."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def exact_sum(values: Sequence[float], power: int = 1) -> Fraction:
    return sum((Fraction(value) ** power for value in values), Fraction(0))


def total(values: Sequence[float]) -> float:
    """The correctly rounded sum; infinities as in floating point."""
    infinite = {value for value in values if math.isinf(value)}
    if len(infinite) == 2:
        return math.nan
    return infinite.pop() if infinite else rounded(exact_sum(values))


def root(value: Fraction) -> float:
    """The square root of a real number rounded to 53 bits, whatever its exponent."""
    if value == 0:
        return 0.0
    shift = (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    return rounded(Fraction(math.sqrt(float(value / Fraction(4) ** shift))) * Fraction(2) ** shift)


def mean(values: Sequence[float]) -> float:
    return rounded(exact_sum(values) / len(values))


def std(values: Sequence[float]) -> float:
    middle = exact_sum(values) / len(values)
    return root(sum((Fraction(value) - middle) ** 2 for value in values) / len(values))


def reduce(score: Array, axis: int, norm: Any) -> list[float]:
    rows = [[abs(value) for value in numbers([row])] for row in np.moveaxis(score, axis, 0)]
    return [norm_of(row, norm) for row in rows]


def norm_of(magnitudes: list[float], norm: Any) -> float:
    if norm == math.inf:
        return max(magnitudes, default=0.0)
    if norm == 2:
        return math.inf if math.inf in magnitudes else root(exact_sum(magnitudes, 2))
    return total(magnitudes) if norm == 1 else total(magnitudes) / len(magnitudes)


def common_dtype(arrays: Sequence[Array]) -> np.dtype[Any]:
    return np.result_type(*(np.dtype(np.float32) if a.dtype.name == "bfloat16" else a.dtype for a in arrays))


def joined(arrays: Sequence[Array]) -> Array:
    """All elements, end to end, in the arrays' common dtype."""
    dtype = common_dtype(arrays)
    return np.concatenate([np.asarray(array).astype(dtype).ravel(order="C") for array in arrays])


def keep_largest(arrays: Sequence[Array], keep: int) -> list[Mask]:
    """A stable sort prunes the earlier of equal elements first."""
    values = joined(arrays).astype(np.float64)
    order = np.argsort(values, kind="stable")
    flat = np.zeros(values.size, np.bool_)
    flat[order[values.size - keep :]] = True
    ends = np.cumsum([array.size for array in arrays])
    return [part.reshape(a.shape) for part, a in zip(np.split(flat, ends[:-1]), arrays, strict=True)]


def n_of_m(score: Array, n: int, m: int, axis: int) -> Mask:
    lines = np.moveaxis(score, axis, -1)
    mask = np.zeros(lines.shape, np.bool_)
    for index in np.ndindex(*lines.shape[:-1]):
        for start in range(0, lines.shape[-1], m):
            mask[index][start : start + m] = keep_largest([lines[index][start : start + m]], n)[0]
    return np.moveaxis(mask, -1, axis)


def keep_per_row(score: Array, keep: int) -> Mask:
    rows = [keep_largest([row], keep)[0] for row in score]
    return np.array(rows, np.bool_).reshape(score.shape)


def zeroed(weight: Array, mask: Mask) -> Array:
    """The bit patterns of the weight after pruning."""
    return np.where(mask, weight.view(f"u{weight.itemsize}"), 0)


def scaled(weight: Array, scale: Array) -> Array:
    """|w| * scale of each column of the flattened rows, in float32, or float64 if either is."""
    dtype = np.result_type(np.float32, common_dtype([weight, scale]))
    columns = np.asarray(scale).astype(dtype).reshape(weight.shape[1:])
    with np.errstate(over="ignore", under="ignore"):
        return np.abs(weight.astype(dtype)) * columns


def block_mean(values: list[float]) -> float:
    return total(values) / len(values)


def blocks(score: Array, shape: Sequence[int], keep: int) -> Mask:
    grid = [range(0, extent, side) for extent, side in zip(score.shape, shape, strict=True)]
    corners = [tuple(steps[i] for steps, i in zip(grid, at, strict=True)) for at in np.ndindex(*map(len, grid))]
    cuts = [tuple(slice(c, c + side) for c, side in zip(corner, shape, strict=True)) for corner in corners]
    kept = keep_largest([np.array([block_mean(numbers([score[cut]])) for cut in cuts])], keep)[0]
    mask = np.zeros(score.shape, np.bool_)
    for cut, stays in zip(cuts, kept, strict=True):
        mask[cut] = stays
    return mask


def packed(mask: Mask) -> list[int]:
    bits = [int(bit) for bit in mask.ravel(order="C")]
    return [sum(bit << i for i, bit in enumerate(bits[start : start + 8])) for start in range(0, len(bits), 8)]


def ks_distance(cdf: Any, values: Sequence[float]) -> float:
    """The largest gap between the model and the data's steps, looked at just before and at each value."""
    gaps = []
    for value in values:
        at, before = sum(v <= value for v in values), sum(v < value for v in values)
        gaps += [abs(at / len(values) - cdf(value)), abs(before / len(values) - cdf(value))]
    return max(gaps)


def erk(shapes: Sequence[tuple[int, ...]], keep: int) -> list[float]:
    """How much each layer keeps, as the loop of Evci et al. 2020 finds it: layers above density 1 are made dense."""
    dense: set[int] = set()
    while True:
        raw = [sum(shape) / math.prod(shape) for shape in shapes]
        others = [index for index in range(len(shapes)) if index not in dense]
        divisor = sum(raw[index] * math.prod(shapes[index]) for index in others)
        left = keep - sum(math.prod(shapes[index]) for index in dense)
        epsilon = left / divisor if others else 0.0
        over = {index for index in others if raw[index] * epsilon > 1.0}
        if not over:
            return [
                float(math.prod(shape)) if index in dense else epsilon * raw[index] * math.prod(shape)
                for index, shape in enumerate(shapes)
            ]
        dense |= over


def lamp(weight: Array) -> list[Fraction]:
    """w^2 over the sum of squares of itself and of what ranks above it, by magnitude and then by position."""
    values = [Fraction(value) for value in numbers([weight])]
    ranks = sorted(range(len(values)), key=lambda index: (abs(values[index]), index))
    found = [Fraction(0)] * len(values)
    above = Fraction(0)
    for index in reversed(ranks):
        above += values[index] ** 2
        found[index] = values[index] ** 2 / above if above else Fraction(0)
    return found


def distances(rows: Array) -> list[float]:
    """The sum of each row's Euclidean distances to all rows."""
    return [math.fsum(math.dist(one.ravel(), other.ravel()) for other in rows) for one in rows]
