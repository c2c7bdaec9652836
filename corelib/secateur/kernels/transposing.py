"""Copies between the two orders of a matrix, by tiles that are turned in registers.

A weight that a framework stores the other way round is seen by the core as a transposed view; brought into C order
element by element, it would cost more than all that is done with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from secateur.kernels.bitwise import pointer
from secateur.kernels.compiled import compiled, generated

Array = npt.NDArray[Any]

TILE = 16
_TURNS = TILE.bit_length() - 1


def copy(source: Array, target: Array) -> None:
    """target = source, of equal shape and dtype; one of them contiguous."""
    one, other = (source, target) if target.flags.c_contiguous else (target, source)
    rows, columns = one.shape[0] if one.ndim else 1, math.prod(one.shape[1:])
    if min(rows, columns) < TILE or not _is_transposed(one):
        target[...] = source
        return
    apart = one.strides[-1] // one.itemsize
    memory = np.lib.stride_tricks.as_strided(_bits(one), ((columns - 1) * apart + rows,), (one.itemsize,))
    line = _bits(other).reshape(-1)
    if one is source:
        transpose(memory, apart, line, columns, rows, columns)
    else:
        transpose(line, columns, memory, apart, columns, rows)


def _is_transposed(x: Array) -> bool:
    """Whether an array is a matrix, its last axes taken as one, that lies densely along its first index."""
    apart = x.strides[-1]
    joined = all(x.strides[i] == x.strides[i + 1] * x.shape[i + 1] for i in range(1, x.ndim - 1))
    return joined and x.strides[0] == x.itemsize and apart >= x.shape[0] * x.itemsize and not apart % x.itemsize


def _bits(x: Array) -> Array:
    return x.view(f"uint{8 * x.itemsize}")


@compiled
def transpose(source: Array, apart: int, target: Array, target_apart: int, rows: int, columns: int) -> None:
    """target[row * target_apart + column] = source[column * apart + row], of lines of unsigned integers."""
    for column in range(0, columns, TILE):
        for row in range(0, rows, TILE):
            start, place = column * apart + row, row * target_apart + column
            if row + TILE <= rows and column + TILE <= columns:
                turn_tile(source, start, apart, target, place, target_apart)
            else:
                for i in range(min(TILE, rows - row)):
                    for j in range(min(TILE, columns - column)):
                        target[place + i * target_apart + j] = source[start + j * apart + i]


@generated
def turn_tile(_context: Any, source: Any, start: Any, apart: Any, target: Any, place: Any, target_apart: Any) -> Any:
    """target[place + i * target_apart + j] = source[start + j * apart + i], for i and j below TILE.

    To interleave the vectors of one half with those of the other turns the bits of an element's number, vector and lane
    together, by one place; after four turns vector and lane have changed places.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width = source.dtype.bitwidth
        vector = ir.VectorType(ir.IntType(width), TILE)
        places = _places(context, builder, signature.args[0], arguments[:3], vector)
        vectors = [builder.load(each, align=width // 8) for each in places]
        for _ in range(_TURNS):
            pairs = list(zip(vectors[: TILE // 2], vectors[TILE // 2 :], strict=True))
            vectors = [_interleaved(builder, *pair, half) for pair in pairs for half in (0, TILE // 2)]
        for each, found in zip(
            _places(context, builder, signature.args[3], arguments[3:], vector), vectors, strict=True
        ):
            builder.store(found, each, align=width // 8)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


def _places(context: Any, builder: Any, kind: Any, where: Any, vector: Any) -> list[Any]:
    """The addresses of a tile's vectors: in an array, from a start on, so far apart."""
    array, start, apart = where
    steps = [builder.mul(apart, ir.Constant(apart.type, i)) for i in range(TILE)]
    return [pointer(context, builder, kind, array, builder.add(start, step), vector) for step in steps]


def _interleaved(builder: Any, one: Any, other: Any, first: int) -> Any:
    """One half of the elements of two vectors, alternately, from lane ``first`` on."""
    lanes = [lane for i in range(first, first + TILE // 2) for lane in (i, TILE + i)]
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), TILE), lanes))
