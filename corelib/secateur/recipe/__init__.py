"""What to prune and how much: granularity, target, score, scope, schedule, in one frozen object."""

from secateur.recipe.costs import Bytes, Flops, Latency, Parameters
from secateur.recipe.granularity import Blocks, Heads, Layers, Neurons, Structured, Units, Weights
from secateur.recipe.recipe import Recipe
from secateur.recipe.regrowth import SET, DynamicSurgery, RigL
from secateur.recipe.score import Gradient, Magnitude, Taylor
from secateur.recipe.sharing import ERK, Global, Sensitivity, Uniform
from secateur.recipe.targets import KSigma, Percentile, PerLayer, Sparsity

__all__ = [
    "ERK",
    "SET",
    "Blocks",
    "Bytes",
    "DynamicSurgery",
    "Flops",
    "Global",
    "Gradient",
    "Heads",
    "KSigma",
    "Latency",
    "Layers",
    "Magnitude",
    "Neurons",
    "Parameters",
    "PerLayer",
    "Percentile",
    "Recipe",
    "RigL",
    "Sensitivity",
    "Sparsity",
    "Structured",
    "Taylor",
    "Uniform",
    "Units",
    "Weights",
]
