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
    ActivationNorm,
    ActivationTaylor,
    Apoz,
    Blocks,
    Bytes,
    Fisher,
    Flops,
    GeometricMedian,
    Gradient,
    Grasp,
    Heads,
    InitRelative,
    KSigma,
    Lamp,
    Latency,
    Layers,
    Magnitude,
    MeanActivation,
    Movement,
    Neurons,
    NormScale,
    Parameters,
    Percentile,
    Random,
    Recipe,
    Snip,
    SparseGpt,
    Sparsity,
    SynFlow,
    Taylor,
    Wanda,
    Weights,
    register,
)
from secateur.schedules import Cubic, Linear, OneShot

__version__ = "0.1.0"

__all__ = [
    "ActivationNorm",
    "ActivationTaylor",
    "Apoz",
    "Blocks",
    "Bytes",
    "Cubic",
    "Fisher",
    "Flops",
    "GeometricMedian",
    "Gradient",
    "Grasp",
    "Heads",
    "InitRelative",
    "KSigma",
    "Lamp",
    "Latency",
    "Layers",
    "Linear",
    "Magnitude",
    "MeanActivation",
    "Movement",
    "Neurons",
    "NormScale",
    "OneShot",
    "Parameters",
    "Percentile",
    "Random",
    "Recipe",
    "SecateurError",
    "Snip",
    "SparseGpt",
    "Sparsity",
    "SynFlow",
    "Taylor",
    "Wanda",
    "Weights",
    "distributions",
    "errors",
    "masks",
    "register",
    "schedules",
    "scores",
    "thresholds",
]
