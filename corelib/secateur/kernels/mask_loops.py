"""The compiled inner loops of the mask kernels, over contiguous lines.

Patterns are int16, int32 or int64; masks are uint8, 1 where kept (given ones: not 0); packed masks are uint8, eight
elements a byte, the first in the lowest bit, the last byte filled with zeros. Limits are keys (``bitwise``) of the type
of the patterns. Packed masks of thresholds are made by words of comparisons; what others are made of, and what any is
applied from, stands for a moment in a line of bools that stays in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.kernels.bitwise import (
    LANES,
    gathered,
    kept_above,
    kept_by,
    load_word,
    magnitude,
    popcount,
    signed_key,
    spread,
    store_word,
    words_above,
)
from secateur.kernels.compiled import compiled

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

_AT_ONCE = 4096
_ONE = np.uint64(1)
_WORD_BYTES = 8


@compiled
def above(patterns: Array, before: Any, after: Any, split: int, out: Bytes) -> None:
    """out = key > before, for the first ``split`` elements; key > after, for the rest."""
    split = min(max(split, 0), patterns.size)
    head, tail = patterns[:split], patterns[split:]
    out_head, out_tail = out[:split], out[split:]
    for i in range(head.size):
        out_head[i] = signed_key(head[i]) > before
    for i in range(tail.size):
        out_tail[i] = signed_key(tail[i]) > after


@compiled
def bool_above(patterns: Array, before: Any, after: Any, split: int, out: Bytes) -> Any:
    """As :func:`above`; the largest magnitude, too, which tells of NaN while the elements are in the cache."""
    largest = patterns.dtype.type(0)
    for start in range(0, patterns.size, _AT_ONCE):
        part = patterns[start : start + _AT_ONCE]
        largest = max(largest, largest_magnitude(part))
        above(part, before, after, split - start, out[start : start + _AT_ONCE])
    return largest


@compiled
def packed_above(patterns: Array, before: Any, after: Any, split: int, infinity: Any, bits: Bytes) -> Any:
    """bits = :func:`above`, packed, by words of comparisons; the result tells of NaN."""
    whole = patterns.size // LANES
    first = min(max(split, 0) // LANES, whole)
    nan = np.uint64(0)
    for word in range(whole):
        kept, odd = words_above(patterns, word * LANES, before if word < first else after, infinity)
        store_word(bits, word * _WORD_BYTES, kept)
        nan |= odd
    few = np.empty(LANES, np.uint8)
    for word in (first, whole):  # where the split lies, and what is left
        part = patterns[word * LANES : word * LANES + LANES]
        above(part, before, after, split - word * LANES, few[: part.size])
        pack(few[: part.size], bits[word * _WORD_BYTES :])
    return nan != 0 or largest_magnitude(patterns[whole * LANES :]) > infinity


@compiled
def pack(mask: Bytes, bits: Bytes) -> None:
    """bits = mask, packed."""
    whole = mask.size // LANES
    for word in range(whole):
        store_word(bits, word * _WORD_BYTES, gathered(mask, word * LANES))
    rest = mask[whole * LANES :]
    for byte in range((rest.size + 7) // 8):
        value = 0
        for i in range(byte * 8, min(byte * 8 + 8, rest.size)):
            value |= (rest[i] != 0) << (i - byte * 8)
        bits[whole * _WORD_BYTES + byte] = value


@compiled
def unpack(bits: Bytes, mask: Bytes) -> None:
    """mask = bits, unpacked."""
    whole = mask.size // LANES
    for word in range(whole):
        spread(load_word(bits, word * _WORD_BYTES), mask, word * LANES)
    for i in range(whole * LANES, mask.size):
        mask[i] = (bits[i // 8] >> (i % 8)) & 1


@compiled
def place_bits(part: Bytes, start: int, bits: Bytes) -> None:
    """Write a packed part into the zeros that stand in ``bits`` from element ``start`` on."""
    shift = start % 8
    first = start // 8
    for i in range(part.size):
        both = np.int64(part[i]) << shift
        bits[first + i] |= np.uint8(both & 255)
        if both > 255:
            bits[first + i + 1] |= np.uint8(both >> 8)


@compiled
def cut_bits(bits: Bytes, start: int, part: Bytes) -> None:
    """part = as many bytes of a packed mask from element ``start`` on; beyond its end are zeros."""
    shift = start % 8
    first = start // 8
    for i in range(part.size):
        both = np.int64(bits[first + i]) >> shift
        if first + i + 1 < bits.size:
            both |= np.int64(bits[first + i + 1]) << (8 - shift)
        part[i] = np.uint8(both & 255)


@compiled
def zero_where_false(patterns: Array, mask: Bytes) -> None:
    """patterns = 0 where the mask is 0."""
    for i in range(patterns.size):
        patterns[i] = kept_by(patterns[i], mask[i])


@compiled
def zero_where_clear(patterns: Array, bits: Bytes) -> None:
    """patterns = 0 where the packed mask is 0."""
    kept = np.empty(_AT_ONCE, np.uint8)
    for start in range(0, patterns.size, _AT_ONCE):
        part = patterns[start : start + _AT_ONCE]
        unpack(bits[start // 8 :], kept[: part.size])
        zero_where_false(part, kept)


@compiled
def zero_at_most(patterns: Array, before: Any, after: Any, split: int) -> None:
    """patterns = 0 where the magnitude is at most ``before``, for the first ``split``; ``after``, for the rest."""
    split = min(max(split, 0), patterns.size)
    head, tail = patterns[:split], patterns[split:]
    for i in range(head.size):
        head[i] = kept_above(head[i], before)
    for i in range(tail.size):
        tail[i] = kept_above(tail[i], after)


@compiled
def count_equal(patterns: Array, key: Any, absolute: bool) -> Any:
    """How many elements, or magnitudes, have that key."""
    count = np.int64(0)
    for start in range(0, patterns.size, _AT_ONCE):
        count += np.int64(_count_few(patterns[start : start + _AT_ONCE], key, absolute))
    return count


@compiled
def _count_few(patterns: Array, key: Any, absolute: bool) -> Any:
    """As :func:`count_equal`, of so few that the narrowest integer holds their number, which is fast."""
    number = patterns.dtype.type
    count = number(0)
    if absolute:
        for i in range(patterns.size):
            count = number(count + (magnitude(patterns[i]) == key))
    else:
        for i in range(patterns.size):
            count = number(count + (signed_key(patterns[i]) == key))
    return count


@compiled
def find_equal(patterns: Array, key: Any, absolute: bool, earlier: Any) -> Any:
    """The position of the element of that key that has so many of them before it, or the size."""
    for start in range(0, patterns.size, _AT_ONCE):
        part = patterns[start : start + _AT_ONCE]
        count = _count_few(part, key, absolute)
        if count <= earlier:
            earlier -= np.int64(count)
            continue
        for i in range(part.size):
            if (magnitude(part[i]) if absolute else signed_key(part[i])) == key:
                if earlier == 0:
                    return start + i
                earlier -= 1
    return patterns.size


@compiled
def combine(a: Bytes, b: Bytes, union: bool, out: Bytes) -> None:
    """out = a | b, or a & b, of packed masks."""
    if union:
        for i in range(a.size):
            out[i] = a[i] | b[i]
    else:
        for i in range(a.size):
            out[i] = a[i] & b[i]


@compiled
def combine_bools(a: Bytes, b: Bytes, union: bool, out: Bytes) -> None:
    """out = a or b, or a and b, of masks."""
    if union:
        for i in range(a.size):
            out[i] = (a[i] | b[i]) != 0
    else:
        for i in range(a.size):
            out[i] = np.uint8(a[i] != 0) & np.uint8(b[i] != 0)


@compiled
def count_bits(a: Bytes, b: Bytes) -> tuple[Any, Any, Any]:
    """How many bits are set in a, in b, and in both."""
    in_a, in_b, in_both = np.uint64(0), np.uint64(0), np.uint64(0)
    whole = a.size // _WORD_BYTES
    for word in range(whole):
        of_a, of_b = load_word(a, word * _WORD_BYTES), load_word(b, word * _WORD_BYTES)
        in_a += popcount(of_a)
        in_b += popcount(of_b)
        in_both += popcount(of_a & of_b)
    for i in range(whole * _WORD_BYTES, a.size):
        in_a += popcount(np.uint64(a[i]))
        in_b += popcount(np.uint64(b[i]))
        in_both += popcount(np.uint64(a[i] & b[i]))
    return in_a, in_b, in_both


@compiled
def count_bools(a: Bytes, b: Bytes) -> tuple[Any, Any, Any]:
    """How many bytes are not 0 in a, in b, and in both."""
    in_a, in_b, in_both = np.uint64(0), np.uint64(0), np.uint64(0)
    whole = a.size // LANES
    for word in range(whole):
        of_a, of_b = gathered(a, word * LANES), gathered(b, word * LANES)
        in_a += popcount(of_a)
        in_b += popcount(of_b)
        in_both += popcount(of_a & of_b)
    for i in range(whole * LANES, a.size):
        in_a += np.uint64(a[i] != 0)
        in_b += np.uint64(b[i] != 0)
        in_both += np.uint64(a[i] != 0 and b[i] != 0)
    return in_a, in_b, in_both


@compiled
def largest_magnitude(patterns: Array) -> Any:
    """The largest key of |x|; 0 of no elements. That of a NaN is above that of infinity."""
    largest = patterns.dtype.type(0)
    for i in range(patterns.size):
        largest = max(largest, magnitude(patterns[i]))
    return largest
