"""Masks: True where kept, False where pruned; making, applying, packing and comparing them.

A mask is an array of bool of its weight's shape, or *packed*, an eighth of it: uint8[ceil(size / 8)], eight elements a
byte in C order, the first in the lowest bit, the last byte filled with zeros. Functions take either; ``packed=True``
asks for the packed one. Scores and weights are NumPy arrays of float16, bfloat16, float32 or float64, CPU arrays of any
library that speaks DLPack, or CUDA arrays; masks are NumPy arrays, or arrays on the same CUDA device. The tie rule
holds everywhere: of equal scores the earlier position (C order, arrays in list order) is pruned first.

The functions named ``zero_...`` prune weights by magnitude, in place, without a mask or a score in between.
"""

from __future__ import annotations

from secateur.masks.applying import apply
from secateur.masks.comparing import hamming, intersection, overlap, sparsity, union
from secateur.masks.forms import Bits, Mask, pack, unpack
from secateur.masks.making import blocks, keep_above, keep_largest, keep_per_row, n_of_m
from secateur.masks.zeroing import zero_below, zero_n_of_m, zero_per_row, zero_smallest

__all__ = [
    "Bits",
    "Mask",
    "apply",
    "blocks",
    "hamming",
    "intersection",
    "keep_above",
    "keep_largest",
    "keep_per_row",
    "n_of_m",
    "overlap",
    "pack",
    "sparsity",
    "union",
    "unpack",
    "zero_below",
    "zero_n_of_m",
    "zero_per_row",
    "zero_smallest",
]
