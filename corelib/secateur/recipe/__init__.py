"""What to prune and how much: granularity, target, score, scope, schedule, in one frozen object."""

from secateur.recipe.granularity import Heads, Neurons, Units, Weights
from secateur.recipe.recipe import Recipe
from secateur.recipe.score import Gradient, Magnitude, Taylor
from secateur.recipe.targets import KSigma, Percentile, Sparsity

__all__ = [
    "Gradient",
    "Heads",
    "KSigma",
    "Magnitude",
    "Neurons",
    "Percentile",
    "Recipe",
    "Sparsity",
    "Taylor",
    "Units",
    "Weights",
]
