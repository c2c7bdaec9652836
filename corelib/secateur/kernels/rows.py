"""The compiled loops that keep so many elements of each row of a matrix, exactly.

A row's threshold is found by counting: how many keys are at most a guess, which a row in the cache tells fast. The
first guess is the threshold of the row before, the next ones come by the Illinois method, and halving makes sure of an
end. The search ends when a limit has just as many keys at or below it as are pruned, or when only equal keys are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.bitwise import kept_by, signed_key
from secateur.kernels.compiled import compiled

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_INTERPOLATED = 12
"""So many guesses are interpolated; then each second one halves."""
_TURNS = 2 * 64 + _INTERPOLATED + 1
"""More than halving needs."""
_LEARNED_FROM = 4.0
"""By how many elements the first guess must miss to tell how far keys lie apart."""


@compiled
def zero_rows(values: Array, scale: Array, keep: int, patterns: Array, scores: Array, keys: Array) -> None:
    """Of each row of ``patterns`` (rows, columns), zero all but the ``keep`` largest |values| * scale.

    ``scores`` is room for those of one row, of the dtype of ``scale``; ``keys`` is the same memory as integers.
    """
    guess, spacing = np.int64(0), 0.0
    for row in range(values.shape[0]):
        score(values[row], scale, scores)
        limit, equal_pruned, spacing = select(keys, keys.size - keep, guess, spacing)
        guess = limit
        split = after_equal(keys, limit + 1, equal_pruned)
        zero_part(keys[:split], limit + 1, patterns[row, :split])
        zero_part(keys[split:], limit, patterns[row, split:])


@compiled
def mask_rows(patterns: Array, keep: int, mask: Array, keys: Array) -> None:
    """Of each row, mask = 1 at the ``keep`` largest, else 0; ``keys``, int32 or int64, is room for those of one row."""
    guess, spacing = np.int64(0), 0.0
    for row in range(patterns.shape[0]):
        widen(patterns[row], keys)
        limit, equal_pruned, spacing = select(keys, keys.size - keep, guess, spacing)
        guess = limit
        split = after_equal(keys, limit + 1, equal_pruned)
        mask_part(keys[:split], limit + 1, mask[row, :split])
        mask_part(keys[split:], limit, mask[row, split:])


@compiled
def first_nan_product(values: Array, scale: Array) -> Any:
    """Position of the first NaN in values (rows, columns) times scale (columns), or -1."""
    for row in range(values.shape[0]):
        line, bad = values[row], False
        for i in range(line.size):
            product = line[i] * scale[i]
            bad |= product != product
        if bad:
            for i in range(line.size):
                product = line[i] * scale[i]
                if product != product:
                    return row * line.size + i
    return -1


@compiled
def score(values: Array, scale: Array, scores: Array) -> None:
    """scores = |values| * scale."""
    for i in range(scores.size):
        scores[i] = abs(values[i] * scale[i])


@compiled
def widen(patterns: Array, keys: Array) -> None:
    """keys = those of the patterns."""
    for i in range(keys.size):
        keys[i] = signed_key(patterns[i])


@compiled
def count_at_most(keys: Array, limit: Any) -> Any:
    """How many keys are at most the limit."""
    count = keys.dtype.type(0)
    for i in range(keys.size):
        count = keys.dtype.type(count + (keys[i] <= limit))
    return count


@compiled
def bracket(keys: Array, pruned: int) -> tuple[Any, Any, Any, Any]:
    """(low, count, high, count): two limits between which ``pruned`` keys lie, and how many are at most each.

    The extremes and both sides of zero are looked at, for many rows hold many zeros: those that were pruned before.
    """
    number = keys.dtype.type
    smallest = largest = keys[0]
    negative = at_most_zero = number(0)
    for i in range(keys.size):
        smallest, largest = min(smallest, keys[i]), max(largest, keys[i])
        negative = number(negative + (keys[i] < 0))
        at_most_zero = number(at_most_zero + (keys[i] <= 0))
    if pruned < negative:
        return np.int64(smallest) - 1, 0, np.int64(-1), np.int64(negative)
    if pruned < at_most_zero:
        return np.int64(-1), np.int64(negative), np.int64(0), np.int64(at_most_zero)
    if smallest > 0:
        return np.int64(smallest) - 1, 0, np.int64(largest), keys.size
    return np.int64(0), np.int64(at_most_zero), np.int64(largest), keys.size


@compiled
def select(keys: Array, pruned: int, guess: Any, spacing: float) -> tuple[Any, int, float]:
    """(limit, equal, spacing): pruned are all keys up to the limit, and ``equal`` of those that equal limit + 1.

    0 <= pruned < keys.size. ``spacing`` is the distance from key to key at the threshold, as the row before taught.
    """
    low, low_count, high, high_count = bracket(keys, pruned)
    below, beyond, side = float(low_count - pruned), float(high_count - pruned), 0
    first, first_missing = guess, 0.0
    for turn in range(_TURNS):
        if pruned == low_count or low + 1 >= high:
            break
        if turn == 0:
            middle = guess
        elif turn == 1 and spacing > 0.0:
            aim = float(first) + spacing * (1.3 * first_missing + (1.0 if first_missing > 0 else -1.0))
            middle = np.int64(min(max(aim, float(low)), float(high)))
        else:
            middle = between(low, high, below / (below - beyond), turn > _INTERPOLATED and turn % 2 == 0)
        middle = min(max(middle, low + 1), high - 1)
        count = count_at_most(keys, keys.dtype.type(middle))
        if turn == 0:
            first, first_missing = middle, float(pruned - count)
        if count <= pruned:
            low, low_count, below = middle, count, float(count - pruned)
            beyond, side = (beyond * 0.5 if side < 0 else beyond), -1
        else:
            high, beyond = middle, float(count - pruned)
            below, side = (below * 0.5 if side > 0 else below), 1
    if abs(first_missing) >= _LEARNED_FROM:
        spacing = abs((float(low) - float(first)) / first_missing)
    return low, pruned - low_count, spacing


@compiled
def between(low: Any, high: Any, share: float, halve: bool) -> Any:
    """The key at that share of the way, or half way."""
    if halve:
        return (low >> 1) + (high >> 1) + (low & high & 1)
    return low + np.int64((float(high) - float(low)) * share)


@compiled
def after_equal(keys: Array, key: Any, count: int) -> int:
    """The position after the ``count``-th of the elements that equal the key; 0 if count is 0."""
    if count == 0:
        return 0
    for i in range(keys.size):
        if keys[i] == key:
            count -= 1
            if count == 0:
                return i + 1
    return keys.size


@compiled
def zero_part(keys: Array, limit: Any, patterns: Array) -> None:
    """patterns = 0 where the key is at most the limit."""
    limit = keys.dtype.type(limit)
    for i in range(keys.size):
        patterns[i] = kept_by(patterns[i], np.uint8(keys[i] > limit))


@compiled
def mask_part(keys: Array, limit: Any, mask: Bytes) -> None:
    """mask = 1 where the key is above the limit, else 0."""
    limit = keys.dtype.type(limit)
    for i in range(keys.size):
        mask[i] = keys[i] > limit
