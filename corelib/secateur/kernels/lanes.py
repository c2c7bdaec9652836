"""What Numba has no words for, as LLVM instructions: fused products, and the one loop over lanes of vectors.

Vectors are LLVM's own, which lowers them to whatever the machine has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from secateur.kernels.bitwise import every_lane, pointer
from secateur.kernels.compiled import generated

LANES = 16
TABLES = 4
_AHEAD = 1024  # elements: far enough for memory, as the counting keeps the processor from looking ahead itself

_INT32, _INT64, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()
_INTS, _LONGS, _DOUBLES = (ir.VectorType(kind, LANES) for kind in (_INT32, _INT64, _DOUBLE))
_SUFFIX = {_INTS: f"v{LANES}i32", _LONGS: f"v{LANES}i64", _DOUBLES: f"v{LANES}f64", _DOUBLE: "f64"}


@generated
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float64, rounded once if the machine can, else twice: for products that are exact."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.fmuladd", _DOUBLE, *arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@generated
def digest_lanes(typing_context: Any, patterns: Any, magics: Any, tables: Any, stride: Any) -> Any:
    """Everything that a summary needs of a line of float32, given by its patterns, in one look; see ``digests``.

    patterns: uint32, of a multiple of LANES elements, at least one. magics: three float64, whose last bits are the
    units of what each lane adds: of numbers and of magnitudes; of squares, rounded to it; of what that cut off. tables:
    uint32; element i is counted at the top 14 bits of its pattern in the table that begins at (i % TABLES) * stride:
    with one table, equal numbers would wait for each other.

    The result is (smallest key, largest key, smallest magnitude's pattern less 1, number of zeros, sums): a key is the
    pattern with the other bits of negative numbers flipped, so that as int32 it sorts as the numbers do; the sums, in
    their units, are those of numbers, of magnitudes, and of both parts of the squares. They are exact if no lane's
    exceeds 2**51 units and all that it adds is whole.
    """
    sums = types.UniTuple(types.int64, 4)
    result = types.Tuple([types.int32, types.int32, types.uint32, types.int32, sums])

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        data = pointer(context, builder, signature.args[0], arguments[0], _INT64(0), _INT32)
        table = pointer(context, builder, signature.args[2], arguments[2], _INT64(0), _INT32)
        starts = [builder.gep(table, [builder.mul(arguments[3], _INT64(i))]) for i in range(TABLES)]
        count = cgutils.unpack_tuple(builder, array.shape, 1)[0]
        units = [every_lane(builder, magic, LANES) for magic in cgutils.unpack_tuple(builder, arguments[1], 3)]
        found = _loop(builder, data, count, units, starts)
        return context.make_tuple(builder, result, [*found[:4], context.make_tuple(builder, sums, found[4:])])

    return result(patterns, types.UniTuple(types.float64, 3), tables, types.intp), generate


def _loop(builder: Any, data: Any, count: Any, units: list[Any], tables: list[Any]) -> list[Any]:
    """The loop over the line, with a running value for each result in each lane."""
    starts = [_INTS([value] * LANES) for value in (2**31 - 1, -(2**31), -1, 0)]
    starts += [units[0], units[0], units[1], units[2]]
    before, loop, done = builder.block, builder.append_basic_block("lanes"), builder.append_basic_block("reduced")
    builder.branch(loop)
    builder.position_at_end(loop)
    position = builder.phi(_INT64)
    running = [builder.phi(start.type) for start in starts]
    _prefetch(builder, builder.gep(data, [builder.add(position, _INT64(_AHEAD))]))
    vector = builder.load(builder.bitcast(builder.gep(data, [position]), _INTS.as_pointer()), align=4)
    updated = _update(builder, running, vector)
    _count(builder, data, position, tables)
    following = builder.add(position, _INT64(LANES))
    for phi, start, after in zip([position, *running], [_INT64(0), *starts], [following, *updated], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(after, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    builder.position_at_end(done)
    return [
        *(_reduced(builder, how, each) for how, each in zip(["smin", "smax", "umin", "add"], updated, strict=False)),
        *(_whole(builder, each, start) for each, start in zip(updated[4:], starts[4:], strict=True)),
    ]


def _update(builder: Any, running: list[Any], patterns: Any) -> list[Any]:
    """The running values after one more vector."""
    smallest, largest, least, zeros, total, magnitudes, heads, tails = running
    flips = builder.and_(builder.ashr(patterns, _ints(31)), _ints(0x7FFFFFFF))
    keys = builder.xor(patterns, flips)
    bare = builder.and_(patterns, _ints(0x7FFFFFFF))
    is_zero = builder.zext(builder.icmp_unsigned("==", bare, _ints(0)), _INTS)
    values = builder.fpext(builder.bitcast(patterns, ir.VectorType(ir.FloatType(), LANES)), _DOUBLES)
    more = _call(builder, "llvm.fmuladd", _DOUBLES, values, values, heads)
    taken = builder.fsub(heads, more)
    return [
        _call(builder, "llvm.smin", _INTS, smallest, keys),
        _call(builder, "llvm.smax", _INTS, largest, keys),
        _call(builder, "llvm.umin", _INTS, least, builder.sub(bare, _ints(1))),
        builder.add(zeros, is_zero),
        builder.fadd(total, values),
        builder.fadd(magnitudes, _call(builder, "llvm.fabs", _DOUBLES, values)),
        more,
        builder.fadd(tails, _call(builder, "llvm.fmuladd", _DOUBLES, values, values, taken)),
    ]


def _count(builder: Any, data: Any, position: Any, tables: list[Any]) -> None:
    """Count the elements from ``position`` in their tables, while the vectors' arithmetic is under way."""
    for lane in range(0, LANES, 2):  # two at a time, which LLVM does not turn into a vector taken apart again
        place = builder.gep(data, [builder.add(position, _INT64(lane))])
        pair = builder.load(builder.bitcast(place, _INT64.as_pointer()), align=4)
        low = builder.lshr(builder.and_(pair, _INT64(0xFFFFFFFF)), _INT64(18))
        for cell, table in ((low, lane), (builder.lshr(pair, _INT64(50)), lane + 1)):
            counter = builder.gep(tables[table % TABLES], [cell])
            builder.store(builder.add(builder.load(counter, align=4), _INT32(1)), counter, align=4)


def _prefetch(builder: Any, place: Any) -> None:
    """Ask for what will be read soon; a place beyond the end is no error."""
    address = builder.bitcast(place, ir.IntType(8).as_pointer())
    declared = ir.FunctionType(ir.VoidType(), [address.type, _INT32, _INT32, _INT32])
    function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0")
    builder.call(function, [address, _INT32(0), _INT32(3), _INT32(1)])


def _ints(value: int) -> Any:
    return _INTS([value] * LANES)


def _call(builder: Any, name: str, kind: Any, *arguments: Any) -> Any:
    """An LLVM intrinsic that works lane by lane."""
    declared = ir.FunctionType(kind, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, declared, f"{name}.{_SUFFIX[kind]}")
    return builder.call(function, arguments)


def _whole(builder: Any, sums: Any, start: Any) -> Any:
    """What was added to magic numbers, in units of their last bits: one int64 of all lanes."""
    patterns = [builder.bitcast(each, _LONGS) for each in (sums, start)]
    return _reduced(builder, "add", builder.sub(*patterns))


def _reduced(builder: Any, how: str, vector: Any) -> Any:
    """One integer of all lanes."""
    declared = ir.FunctionType(vector.type.element, [vector.type])
    function = cgutils.get_or_insert_function(
        builder.module, declared, f"llvm.vector.reduce.{how}.{_SUFFIX[vector.type]}"
    )
    return builder.call(function, [vector])
