"""The compiled loops of N:M sparsity: of each m elements the n largest stay; of equal ones, the later.

An element stays if fewer than n of its m - 1 rivals beat it: compares, and no sort. Where the members of a group lie
side by side, whole groups fill a vector, and the rivals are its elements turned around within each group; the votes are
counted in bit planes. Where members lie apart, each fills a vector with its neighbours in other groups. n and m are
told by the lengths of tuples: so they are known where the code is made.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from secateur.kernels.bitwise import constant, magnitude_bits, pointer, signed_bits
from secateur.kernels.compiled import compiled, generated

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Length = tuple[int, ...]

LARGEST = 16
"""The largest m whose groups are compared so."""
_REGISTER_BITS = 512


def lanes(m: int, width: int) -> int:
    """How many elements of that width are taken at once: whole groups that fill whole registers."""
    return math.lcm(m, _REGISTER_BITS // width)


@generated
def zero_groups(_context: Any, line: Any, start: Any, kept: Any, members: Any) -> Any:
    """Zero all but the largest magnitudes of the groups in the :func:`lanes` from ``start`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width, vector = _vector(signature.args[0], members.count)
        place = pointer(context, builder, signature.args[0], arguments[0], arguments[1], vector)
        found = builder.load(place, align=width // 8)
        keys = magnitude_bits(builder, found, width)
        votes = [builder.sub(keys, rival) for rival in _rivals(builder, keys, members.count)]
        stays = builder.ashr(_fewer(builder, votes, kept.count), constant(vector, width - 1))
        builder.store(builder.and_(found, stays), place, align=width // 8)
        return context.get_dummy_value()

    return types.void(line, types.intp, kept, members), generate


@generated
def mask_groups(_context: Any, line: Any, start: Any, kept: Any, members: Any, mask: Any) -> Any:
    """mask = 1 at the largest elements of the groups in the :func:`lanes` from ``start`` on, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width, vector = _vector(signature.args[0], members.count)
        found = builder.load(
            pointer(context, builder, signature.args[0], arguments[0], arguments[1], vector), align=width // 8
        )
        keys = signed_bits(builder, found, width)
        wins = [builder.icmp_signed(">", rival, keys) for rival in _rivals(builder, keys, members.count)]
        stays = builder.zext(_fewer(builder, wins, kept.count), ir.VectorType(ir.IntType(8), vector.count))
        target = pointer(context, builder, signature.args[4], arguments[4], arguments[1], stays.type)
        builder.store(stays, target, align=1)
        return context.get_dummy_value()

    return types.void(line, types.intp, kept, members, mask), generate


@generated
def zero_columns(_context: Any, line: Any, start: Any, apart: Any, kept: Any, members: Any) -> Any:
    """Zero all but the largest magnitudes of the groups whose first members fill a register, the others ``apart``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width, vector = _vector(signature.args[0], 1)
        places = _places(context, builder, signature.args[0], arguments, members.count, vector)
        found = [builder.load(place, align=width // 8) for place in places]
        keys = [magnitude_bits(builder, each, width) for each in found]
        for member, place in enumerate(places):
            rivals = _others(builder, keys, member)
            votes = [builder.sub(keys[member], rival) for rival in rivals]
            stays = builder.ashr(_fewer(builder, votes, kept.count), constant(vector, width - 1))
            builder.store(builder.and_(found[member], stays), place, align=width // 8)
        return context.get_dummy_value()

    return types.void(line, types.intp, types.intp, kept, members), generate


@generated
def mask_columns(_context: Any, line: Any, start: Any, apart: Any, kept: Any, members: Any, mask: Any) -> Any:
    """mask = 1 at the largest of the groups whose first members fill a register, the others ``apart``; else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width, vector = _vector(signature.args[0], 1)
        places = _places(context, builder, signature.args[0], arguments, members.count, vector)
        keys = [signed_bits(builder, builder.load(place, align=width // 8), width) for place in places]
        bytes_ = ir.VectorType(ir.IntType(8), vector.count)
        out = (arguments[5], *arguments[1:])
        for member, place in enumerate(_places(context, builder, signature.args[5], out, members.count, bytes_)):
            wins = [builder.icmp_signed(">", rival, keys[member]) for rival in _others(builder, keys, member)]
            builder.store(builder.zext(_fewer(builder, wins, kept.count), bytes_), place, align=1)
        return context.get_dummy_value()

    return types.void(line, types.intp, types.intp, kept, members, mask), generate


def _places(context: Any, builder: Any, kind: Any, arguments: Any, m: int, vector: Any) -> list[Any]:
    """The addresses of the members' vectors: from ``start`` on, ``apart``."""
    array, start, apart = arguments[:3]
    steps = [builder.mul(apart, ir.Constant(apart.type, member)) for member in range(m)]
    return [pointer(context, builder, kind, array, builder.add(start, step), vector) for step in steps]


def _others(builder: Any, keys: list[Any], member: int) -> list[Any]:
    """The keys of a member's rivals; one more for those after it, who win when equal."""
    return [
        builder.add(key, constant(key.type, int(other > member))) for other, key in enumerate(keys) if other != member
    ]


def _vector(kind: Any, m: int) -> tuple[int, Any]:
    width = kind.dtype.bitwidth
    return width, ir.VectorType(ir.IntType(width), lanes(m, width))


def _rivals(builder: Any, keys: Any, m: int) -> list[Any]:
    """What each element must not stay below: its rivals' keys; one more for those after it, who win when equal."""
    nothing = ir.Constant(keys.type, ir.Undefined)
    result = []
    for step in range(1, m):
        turned = [lane - lane % m + (lane % m + step) % m for lane in range(keys.type.count)]
        later = [int(other > lane) for lane, other in enumerate(turned)]
        order = ir.Constant(ir.VectorType(ir.IntType(32), keys.type.count), turned)
        rivals = builder.shuffle_vector(keys, nothing, order)
        result.append(builder.add(rivals, ir.Constant(keys.type, later)))
    return result


def _fewer(builder: Any, votes: list[Any], limit: int) -> Any:
    """Whether fewer than ``limit`` votes are set, bit by bit: votes are added as columns of binary digits."""
    none = constant(votes[0].type, 0)
    planes: list[Any] = []
    for vote in votes:
        for digit, plane in enumerate(planes):
            planes[digit], vote = builder.xor(plane, vote), builder.and_(plane, vote)
        if len(planes) < len(votes).bit_length():
            planes.append(vote)
    fewer, equal = none, constant(votes[0].type, -1)
    for digit in reversed(range(max(len(planes), limit.bit_length()))):
        plane = planes[digit] if digit < len(planes) else none
        without = builder.and_(equal, builder.not_(plane))
        if limit >> digit & 1:
            fewer, equal = builder.or_(fewer, without), builder.and_(equal, plane)
        else:
            equal = without
    return fewer


@compiled
def zero_line(line: Array, kept: Length, members: Length, step: int) -> None:
    """Zero all but the largest magnitudes of groups that lie side by side, ``step`` (of :func:`lanes`) at once."""
    whole = line.size - line.size % step
    for start in range(0, whole, step):
        zero_groups(line, start, kept, members)
    if whole < line.size:
        rest = np.zeros(step, line.dtype)
        rest[: line.size - whole] = line[whole:]
        zero_groups(rest, 0, kept, members)
        line[whole:] = rest[: line.size - whole]


@compiled
def mask_line(line: Array, kept: Length, members: Length, step: int, mask: Bytes) -> None:
    """mask = 1 at the largest elements of groups that lie side by side."""
    whole = line.size - line.size % step
    for start in range(0, whole, step):
        mask_groups(line, start, kept, members, mask)
    if whole < line.size:
        rest, stays = np.zeros(step, line.dtype), np.empty(step, np.uint8)
        rest[: line.size - whole] = line[whole:]
        mask_groups(rest, 0, kept, members, stays)
        mask[whole:] = stays[: line.size - whole]


@compiled
def zero_planes(line: Array, inner: int, first: int, last: int, kept: Length, members: Length, step: int) -> None:
    """Zero all but the largest magnitudes of groups whose members lie ``inner`` apart, in the columns first to last.

    ``step`` columns (those of a register) go at once; the last may go twice, for an element that is zeroed was beaten
    by those that stay, so it decides about no other.
    """
    m = len(members)
    spare = np.zeros(m * step, line.dtype)
    for group in range(0, line.size, m * inner):
        for column in range(first, last, step):
            if last - first >= step:
                start = group + min(column, last - step)
                zero_columns(line, start, inner, kept, members)
            else:
                _copy_columns(line, group + first, inner, spare, 0, step, m, last - first)
                zero_columns(spare, 0, step, kept, members)
                _copy_columns(spare, 0, step, line, group + first, inner, m, last - first)


@compiled
def mask_planes(line: Array, inner: int, kept: Length, members: Length, step: int, mask: Bytes) -> None:
    """mask = 1 at the largest of groups whose members lie ``inner`` apart, else 0."""
    m = len(members)
    spare, stays = np.zeros(m * step, line.dtype), np.empty(m * step, np.uint8)
    for group in range(0, line.size, m * inner):
        for column in range(0, inner, step):
            if inner >= step:
                mask_columns(line, group + min(column, inner - step), inner, kept, members, mask)
            else:
                _copy_columns(line, group, inner, spare, 0, step, m, inner)
                mask_columns(spare, 0, step, kept, members, stays)
                _copy_columns(stays, 0, step, mask, group, inner, m, inner)


@compiled
def _copy_columns(
    source: Array, source_start: int, source_step: int, target: Array, start: int, step: int, m: int, columns: int
) -> None:
    for member in range(m):
        for column in range(columns):
            target[start + member * step + column] = source[source_start + member * source_step + column]
