"""What to prune and how much: granularity, target, score, scope, schedule, in one frozen object."""

from secateur.recipe.costs import Bytes, Flops, Latency, Parameters
from secateur.recipe.granularity import Blocks, Heads, Layers, Neurons, Structured, Units, Weights
from secateur.recipe.recipe import Recipe
from secateur.recipe.score import Gradient, Magnitude, Taylor
from secateur.recipe.targets import KSigma, Percentile, Sparsity

__all__ = [
    "Blocks",
    "Bytes",
    "Flops",
    "Gradient",
    "Heads",
    "KSigma",
    "Latency",
    "Layers",
    "Magnitude",
    "Neurons",
    "Parameters",
    "Percentile",
    "Recipe",
    "Sparsity",
    "Structured",
    "Taylor",
    "Units",
    "Weights",
]
