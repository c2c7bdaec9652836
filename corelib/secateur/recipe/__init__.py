"""What to prune and how much: granularity, target, score, scope, schedule, in one frozen object."""

from secateur.recipe.costs import Bytes, Flops, Latency, Parameters
from secateur.recipe.granularity import Blocks, Heads, Layers, Neurons, NofM, Scales, Structured, Units, Weights
from secateur.recipe.multitask import MultiTask
from secateur.recipe.recipe import Recipe
from secateur.recipe.regrowth import SET, DynamicSurgery, RigL
from secateur.recipe.score import Score, UnitScore, register
from secateur.recipe.sharing import ERK, Global, Sensitivity, Uniform
from secateur.recipe.targets import KSigma, Percentile, PerLayer, Sparsity
from secateur.recipe.unit_scores import (
    ActivationNorm,
    ActivationTaylor,
    Apoz,
    GeometricMedian,
    MeanActivation,
    NormScale,
)
from secateur.recipe.weight_scores import (
    Fisher,
    Gradient,
    Grasp,
    InitRelative,
    Lamp,
    Magnitude,
    Movement,
    Random,
    Snip,
    SparseGpt,
    SynFlow,
    Taylor,
    Wanda,
)

__all__ = [
    "ERK",
    "SET",
    "ActivationNorm",
    "ActivationTaylor",
    "Apoz",
    "Blocks",
    "Bytes",
    "DynamicSurgery",
    "Fisher",
    "Flops",
    "GeometricMedian",
    "Global",
    "Gradient",
    "Grasp",
    "Heads",
    "InitRelative",
    "KSigma",
    "Lamp",
    "Latency",
    "Layers",
    "Magnitude",
    "MeanActivation",
    "Movement",
    "MultiTask",
    "Neurons",
    "NofM",
    "NormScale",
    "Parameters",
    "PerLayer",
    "Percentile",
    "Random",
    "Recipe",
    "RigL",
    "Scales",
    "Score",
    "Sensitivity",
    "Snip",
    "SparseGpt",
    "Sparsity",
    "Structured",
    "SynFlow",
    "Taylor",
    "Uniform",
    "UnitScore",
    "Units",
    "Wanda",
    "Weights",
    "register",
]
