"""Sixty-four elements at a time: comparisons whose results are the bits of one machine word.

Numba has no type for vectors, so these few operations are written in LLVM's own language, in which a vector may have
any length: a processor with wide registers does them in a few instructions, any other in more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Arguments = ParamSpec("Arguments")

LANES = 64
_WORD = ir.IntType(LANES)


def _generated(function: Callable[Concatenate[Any, Arguments], Any]) -> Callable[Arguments, Any]:
    """A function that compiled code may call: ``function`` gives its types, and another that writes its code."""
    result: Callable[Arguments, Any] = intrinsic(function)
    return result


@_generated
def popcount(_context: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@_generated
def lowest_bit(_context: Any, word: Any) -> Any:
    """The position of the lowest bit that is set in a uint64 other than 0."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@_generated
def against(_context: Any, x: Any, start: Any, kept: Any, low: Any, high: Any, infinity: Any) -> Any:
    """Words of x < low, of x > high and of NaN, which is neither, for the elements of an array from ``start`` on.

    Args:
        x: contiguous: float32, float64, or int16 bit patterns of a 16-bit float.
        start: the first of the 64 elements.
        kept: an integer of their width: the bits of each element that count, all of them or all but the sign.
        low: of the type of ``x``; for bit patterns a key: the signed integer that sorts as the float does, where -0.0
            is -1 and 0.0 is 0.
        high: as ``low``.
        infinity: for bit patterns that of +inf, else of no consequence.
    """
    signature = types.UniTuple(types.uint64, 3)(x, types.intp, kept, x.dtype, x.dtype, infinity)
    compare = _compare_floats if isinstance(x.dtype, types.Float) else _compare_keys

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        patterns = _loaded(context, builder, signature.args[0], *arguments[:2])
        kept, low, high, infinity = (_spread(builder, number) for number in arguments[2:])
        words = compare(builder, builder.and_(patterns, kept), low, high, infinity)
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
    magnitude_bits = ir.Constant(patterns.type, [(1 << 15) - 1] * LANES)
    signs = builder.ashr(patterns, ir.Constant(patterns.type, [15] * LANES))
    keys = builder.xor(patterns, builder.and_(signs, magnitude_bits))
    nan = builder.icmp_signed(">", builder.and_(patterns, magnitude_bits), infinity)
    number = builder.not_(nan)
    return (
        builder.and_(number, builder.icmp_signed("<", keys, low)),
        builder.and_(number, builder.icmp_signed(">", keys, high)),
        nan,
    )


def _loaded(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> Any:
    """The bit patterns of the elements from ``start`` on."""
    width = kind.dtype.bitwidth
    pointer = builder.gep(context.make_array(kind)(context, builder, array).data, [start])
    vector = ir.VectorType(ir.IntType(width), LANES)
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=width // 8)


def _spread(builder: Any, number: Any) -> Any:
    """A vector of one number."""
    vector = ir.VectorType(number.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)
