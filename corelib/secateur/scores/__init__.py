"""Saliency scores: one number a weight, or one an index of an axis; low is pruned first.

All functions take NumPy arrays of float16, bfloat16, float32 or float64, CPU arrays of any library that speaks DLPack,
and CUDA arrays. Results are new: of :func:`magnitude`, :func:`gradient` and :func:`taylor` on the device of the
arguments, of all others in host memory. All but :func:`accumulate` raise InvalidTensorError if a score is NaN, naming
``name`` and the first position. All raise UnsupportedDtypeError for integers and other types.
"""

from secateur.scores.basic import Norm, accumulate, gradient, magnitude, reduce, reduce_together, taylor
from secateur.scores.catalogue import (
    fisher,
    grasp,
    init_relative,
    lamp,
    movement,
    power,
    random,
    require_power,
    snip,
    synflow,
    wanda,
)
from secateur.scores.reconstruction import choose, reconstruct, require_block, surgeon
from secateur.scores.units import geometric_median

__all__ = [
    "Norm",
    "accumulate",
    "choose",
    "fisher",
    "geometric_median",
    "gradient",
    "grasp",
    "init_relative",
    "lamp",
    "magnitude",
    "movement",
    "power",
    "random",
    "reconstruct",
    "reduce",
    "reduce_together",
    "require_block",
    "require_power",
    "snip",
    "surgeon",
    "synflow",
    "taylor",
    "wanda",
]
