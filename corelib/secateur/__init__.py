"""Secateur prunes neural networks: one exact numeric core, the same masks in PyTorch and in Keras.

The core works on arrays: :mod:`~secateur.scores`, :mod:`~secateur.thresholds`, :mod:`~secateur.masks`,
:mod:`~secateur.distributions`, :mod:`~secateur.schedules`. A :class:`Recipe` says what to prune and how much; the
adapters ``secateur_torch`` and ``secateur_keras`` carry it out on models. Importing this package loads NumPy alone and
compiles nothing.
"""

from __future__ import annotations

from secateur import distributions, errors, masks, schedules, scores, thresholds
from secateur.errors import SecateurError
from secateur.recipe import (
    ERK,
    SET,
    Blocks,
    Bytes,
    DynamicSurgery,
    Flops,
    Gradient,
    Heads,
    KSigma,
    Latency,
    Layers,
    Magnitude,
    Neurons,
    Parameters,
    Percentile,
    PerLayer,
    Recipe,
    RigL,
    Sensitivity,
    Sparsity,
    Taylor,
    Uniform,
    Weights,
)
from secateur.schedules import Cosine, Cubic, Exponential, Iterative, Linear, OneCycle, OneShot, Polynomial

__version__ = "0.1.0"

__all__ = [
    "ERK",
    "SET",
    "Blocks",
    "Bytes",
    "Cosine",
    "Cubic",
    "DynamicSurgery",
    "Exponential",
    "Flops",
    "Gradient",
    "Heads",
    "Iterative",
    "KSigma",
    "Latency",
    "Layers",
    "Linear",
    "Magnitude",
    "Neurons",
    "OneCycle",
    "OneShot",
    "Parameters",
    "PerLayer",
    "Percentile",
    "Polynomial",
    "Recipe",
    "RigL",
    "SecateurError",
    "Sensitivity",
    "Sparsity",
    "Taylor",
    "Uniform",
    "Weights",
    "distributions",
    "errors",
    "masks",
    "schedules",
    "scores",
    "thresholds",
]
