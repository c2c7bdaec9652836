"""Operations on bit patterns that Numba has no words for, in LLVM's: on integers of any width, and on 64 bools at once.

**Keys.** The pattern of a float, read as a signed integer, sorts as the float does if the sign is applied to the
magnitude's bits; so do the keys of both zeros, which are 0. For |x| the key is the magnitude's bits.

A vector of LLVM's may have any length: a processor with wide registers needs few instructions for it, others more.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from secateur.kernels.compiled import generated

LANES = 64
_WORD = ir.IntType(64)
_BYTES = ir.VectorType(ir.IntType(8), LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)


def magnitude_bits(builder: Any, value: Any, width: int) -> Any:
    """LLVM's code for the pattern without its sign, of an integer or a vector of integers of that width."""
    return builder.and_(value, constant(value.type, (1 << (width - 1)) - 1))


def signed_bits(builder: Any, value: Any, width: int) -> Any:
    """LLVM's code for the key, of an integer or a vector of integers of that width."""
    sign = builder.ashr(value, constant(value.type, width - 1))
    return builder.sub(builder.xor(magnitude_bits(builder, value, width), sign), sign)


def constant(kind: Any, value: int) -> Any:
    """A number, or a vector of it."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def every_lane(builder: Any, number: Any, lanes: int = LANES) -> Any:
    """LLVM's code for a vector of one number."""
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, target: Any) -> Any:
    """The address of an element of a contiguous array, as that of a value of type ``target``.

    Raises TypeError, when code for an array that need not be contiguous is to be made.
    """
    if kind.layout != "C":
        raise TypeError(f"{kind} need not be contiguous: vectors would read what lies beside its elements")
    memory = context.make_array(kind)(context, builder, array)
    return builder.bitcast(builder.gep(memory.data, [index]), target.as_pointer())


@generated
def magnitude(_context: Any, pattern: Any) -> Any:
    """The key of |x|."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return magnitude_bits(builder, arguments[0], arguments[0].type.width)

    return pattern(pattern), generate


@generated
def signed_key(_context: Any, pattern: Any) -> Any:
    """The key of x."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return signed_bits(builder, arguments[0], arguments[0].type.width)

    return pattern(pattern), generate


@generated
def kept_above(_context: Any, pattern: Any, limit: Any) -> Any:
    """The pattern if its magnitude is above the limit, which is at least -1, else 0; without a branch."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value, limit = arguments
        width = value.type.width
        short = builder.sub(limit, magnitude_bits(builder, value, width))
        return builder.and_(value, builder.ashr(short, constant(value.type, width - 1)))

    return pattern(pattern, limit), generate


@generated
def kept_by(_context: Any, pattern: Any, keep: Any) -> Any:
    """The pattern if the byte ``keep`` is not 0, else 0; without a branch."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value, keep = arguments
        return builder.and_(value, builder.sext(builder.icmp_unsigned("!=", keep, constant(keep.type, 0)), value.type))

    return pattern(pattern, keep), generate


@generated
def popcount(_context: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@generated
def load_word(_context: Any, line: Any, start: Any) -> Any:
    """Eight bytes of a uint8 array, from ``start`` on, as uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD), align=1)

    return types.uint64(line, types.intp), generate


@generated
def store_word(_context: Any, line: Any, start: Any, word: Any) -> Any:
    """Write a uint64 to eight bytes of a uint8 array, from ``start`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(
            arguments[2], pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD), align=1
        )
        return context.get_dummy_value()

    return types.void(line, types.intp, types.uint64), generate


@generated
def words_above(_context: Any, patterns: Any, start: Any, limit: Any, infinity: Any) -> Any:
    """Two words, whose bits i tell whether the key of patterns[start + i] is above the limit, and whether it is NaN."""
    width = patterns.dtype.bitwidth
    signature = types.UniTuple(types.uint64, 2)(patterns, types.intp, patterns.dtype, patterns.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(width), LANES)
        where = pointer(context, builder, signature.args[0], arguments[0], arguments[1], vector)
        values = builder.load(where, align=width // 8)
        limit, infinity = (every_lane(builder, number) for number in arguments[2:])
        above = builder.icmp_signed(">", signed_bits(builder, values, width), limit)
        nan = builder.icmp_signed(">", magnitude_bits(builder, values, width), infinity)
        return context.make_tuple(builder, signature.return_type, [builder.bitcast(x, _WORD) for x in (above, nan)])

    return signature, generate


@generated
def gathered(_context: Any, mask: Any, start: Any) -> Any:
    """A word whose bit i tells whether mask[start + i], of uint8, is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mask = builder.load(pointer(context, builder, signature.args[0], arguments[0], arguments[1], _BYTES), align=1)
        return builder.bitcast(builder.icmp_unsigned("!=", mask, constant(_BYTES, 0)), _WORD)

    return types.uint64(mask, types.intp), generate


@generated
def spread(_context: Any, word: Any, mask: Any, start: Any) -> Any:
    """mask[start + i] = bit i of a word, as uint8."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mask = builder.zext(builder.bitcast(arguments[0], _BITS), _BYTES)
        builder.store(mask, pointer(context, builder, signature.args[1], arguments[1], arguments[2], _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(types.uint64, mask, types.intp), generate
