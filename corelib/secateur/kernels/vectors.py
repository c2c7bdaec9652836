"""Sixty-four comparisons at a time, whose results are the bits of a word; see ``bitwise`` on keys and vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from secateur.kernels.bitwise import LANES, every_lane, magnitude_bits, pointer, signed_bits
from secateur.kernels.compiled import generated

_WORD = ir.IntType(LANES)


@generated
def lowest_bit(_context: Any, word: Any) -> Any:
    """The position of the lowest bit that is set in a uint64 other than 0."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@generated
def against(_context: Any, x: Any, start: Any, kept: Any, low: Any, high: Any, infinity: Any) -> Any:
    """Words of x < low, of x > high and of NaN, which is neither, for the elements of an array from ``start`` on.

    Args:
        x: contiguous: float32, float64, or int16 bit patterns of a 16-bit float.
        start: the first of the 64 elements.
        kept: an integer of their width: the bits of each element that count, all of them or all but the sign.
        low: of the type of ``x``; for bit patterns a key.
        high: as ``low``.
        infinity: for bit patterns that of +inf, else of no consequence.
    """
    signature = types.UniTuple(types.uint64, 3)(x, types.intp, kept, x.dtype, x.dtype, infinity)
    compare = _compare_floats if isinstance(x.dtype, types.Float) else _compare_keys
    width = x.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(width), LANES)
        where = pointer(context, builder, signature.args[0], arguments[0], arguments[1], vector)
        kept, low, high, infinity = (every_lane(builder, number) for number in arguments[2:])
        patterns = builder.and_(builder.load(where, align=width // 8), kept)
        words = compare(builder, patterns, low, high, infinity)
        return context.make_tuple(builder, signature.return_type, [builder.bitcast(each, _WORD) for each in words])

    return signature, generate


def _compare_floats(builder: Any, patterns: Any, low: Any, high: Any, _infinity: Any) -> tuple[Any, Any, Any]:
    values = builder.bitcast(patterns, low.type)
    return (
        builder.fcmp_ordered("<", values, low),
        builder.fcmp_ordered(">", values, high),
        builder.fcmp_unordered("uno", values, values),
    )


def _compare_keys(builder: Any, patterns: Any, low: Any, high: Any, infinity: Any) -> tuple[Any, Any, Any]:
    nan = builder.icmp_signed(">", magnitude_bits(builder, patterns, 16), infinity)
    keys, number = signed_bits(builder, patterns, 16), builder.not_(nan)
    return (
        builder.and_(number, builder.icmp_signed("<", keys, low)),
        builder.and_(number, builder.icmp_signed(">", keys, high)),
        nan,
    )
