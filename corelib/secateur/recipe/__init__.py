"""What to prune and how much: granularity, target, score, scope, schedule, in one frozen object."""

from secateur.recipe.costs import Bytes, Flops, Latency, Parameters
from secateur.recipe.granularity import Blocks, Heads, Layers, Neurons, Structured, Units, Weights
from secateur.recipe.recipe import Recipe
from secateur.recipe.score import Score, UnitScore, register
from secateur.recipe.targets import KSigma, Percentile, Sparsity
from secateur.recipe.unit_scores import ActivationTaylor, GeometricMedian, NormScale
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
    SynFlow,
    Taylor,
)

__all__ = [
    "ActivationTaylor",
    "Blocks",
    "Bytes",
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
    "Magnitude",
    "Movement",
    "Neurons",
    "NormScale",
    "Parameters",
    "Percentile",
    "Random",
    "Recipe",
    "Score",
    "Snip",
    "Sparsity",
    "Structured",
    "SynFlow",
    "Taylor",
    "UnitScore",
    "Units",
    "Weights",
    "register",
]
