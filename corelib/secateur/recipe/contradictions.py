"""What the parts of a recipe cannot be at the same time, and the words that say so."""

from __future__ import annotations

import math
from typing import Any, Protocol

from secateur.errors import RecipeError
from secateur.recipe.costs import Latency, ModelTarget, Parameters
from secateur.recipe.granularity import Blocks, Granularity, Layers, NofM, Scales, Structured, Units, Weights
from secateur.recipe.regrowth import Regrowth
from secateur.recipe.score import Score, UnitScore
from secateur.recipe.sharing import ERK, Global
from secateur.recipe.targets import Percentile, PerLayer, Sparsity
from secateur.schedules import Schedule


class Parts(Protocol):
    """The parts of a recipe that can contradict each other."""

    @property
    def target(self) -> Any:
        """How much."""

    @property
    def granularity(self) -> Granularity:
        """What goes as one."""

    @property
    def score(self) -> Score:
        """What ranks it."""

    @property
    def scope(self) -> str:
        """What competes with what."""

    @property
    def schedule(self) -> Schedule:
        """When."""

    @property
    def allocation(self) -> Any:
        """How a total is divided over layers."""

    @property
    def regrowth(self) -> Regrowth | None:
        """What comes back."""


def refuse_contradictions(recipe: Parts) -> None:
    """Raises RecipeError for parts that cannot go together; names both, and what to do."""
    if isinstance(recipe.granularity, Scales):
        _check_scales(recipe, recipe.granularity)
    else:
        _check_costs(recipe.target, recipe.granularity, recipe.scope)
    for kind in recipe.granularity.parts if isinstance(recipe.granularity, Scales) else (recipe.granularity,):
        _check_score(recipe.score.single, kind, recipe.target)
        _check_adjusting(recipe.score, kind)
    _check_rows(recipe)
    _check_groups(recipe)
    _check_allocation(recipe)
    _check_regrowth(recipe)


def _check_rows(recipe: Parts) -> None:
    is_counted = isinstance(recipe.granularity, Weights) and isinstance(recipe.target, Sparsity)
    if recipe.scope == "row" and not is_counted:
        raise RecipeError(
            f"scope='row' takes the same number of weights of each row: use Weights() and a Sparsity, not "
            f"{recipe.granularity} and {recipe.target}"
        )


def _check_scales(recipe: Parts, scales: Scales) -> None:
    """Refuse what only one granularity by itself can give."""
    if not isinstance(recipe.target, Sparsity | Parameters):
        raise RecipeError(
            f"{recipe.target} is no total that Scales can divide: give a Sparsity (of the weights) or Parameters (of "
            "the model)"
        )
    if recipe.scope != "model":
        raise RecipeError(f"Scales divide one total over the whole model, which scope={recipe.scope!r} forbids")
    if not isinstance(recipe.allocation, Global):
        raise RecipeError(f"Scales divide the total, and so does {recipe.allocation}: use one of the two")
    if recipe.regrowth is not None:
        raise RecipeError(
            f"{type(recipe.regrowth).__name__} lets single weights come back, also those of units that Scales removed: "
            "use granularity=Weights()"
        )
    if recipe.score.single is not recipe.score:
        raise RecipeError(
            f"{type(recipe.score).__name__} joins the scores of all tasks before anything goes, and Scales score anew "
            "what coarser scales leave: use granularity=Neurons() or Weights()"
        )
    if any(isinstance(kind, Units) and kind.compensate for kind in scales.parts):
        raise RecipeError(
            "compensate=True makes up for units that go at once; in Scales weights go with them: leave it out, or "
            "prune Neurons() first and Weights() after it"
        )


def _check_groups(recipe: Parts) -> None:
    """Refuse to ask for another share of what loses the same share everywhere."""
    kind, target = recipe.granularity, recipe.target
    if not isinstance(kind, NofM):
        return
    told = f"NofM({kind.n}, {kind.m})"
    if not isinstance(target, Sparsity) or not math.isclose(target.sparsity, kind.sparsity, abs_tol=1e-9):
        raise RecipeError(
            f"{told} prunes {kind.m - kind.n} of each {kind.m} weights, and {target} asks for something else: leave "
            f"the target out, or give {kind.sparsity:g}"
        )
    if not isinstance(recipe.allocation, Global):
        raise RecipeError(
            f"{told} prunes the same share of every layer, so {recipe.allocation} has nothing to divide: leave it out"
        )
    if recipe.regrowth is not None:
        raise RecipeError(
            f"{type(recipe.regrowth).__name__} lets weights come back anywhere in a layer, and groups would no longer "
            f"be {kind.n} of {kind.m}: leave it out, or use granularity=Weights()"
        )


def _check_score(score: Score, granularity: Granularity, target: object) -> None:
    """Refuse a score of units where none are pruned, and magnitudes of scores that have signs."""
    name, kind = type(score).__name__, type(granularity).__name__
    if isinstance(score, UnitScore) and not isinstance(granularity, Units):
        raise RecipeError(
            f"{name} tells how much a whole unit matters, but {kind}() prunes something else: use "
            "granularity=Neurons(), or a score of single weights"
        )
    if score.signed and isinstance(granularity, Structured) and granularity.norm not in (1, "mean"):
        raise RecipeError(
            f"{name} has signs, which {kind}(norm={granularity.norm!r}) would lose: use norm=1 or norm='mean'"
        )
    if score.signed and isinstance(granularity, Units) and granularity.relative:
        raise RecipeError(f"{name} has signs, so that no mean of a layer is there to divide by: use relative=False")
    if score.signed and isinstance(target, Percentile) and target.distribution:
        raise RecipeError(f"{name} has signs, but {target} fits a distribution of magnitudes: leave distribution= out")


def _check_adjusting(score: Score, granularity: Granularity) -> None:
    """Refuse two ways of making up for the same loss."""
    if score.adjusts and isinstance(granularity, Units) and granularity.compensate:
        raise RecipeError(
            f"{type(score).__name__} adjusts the kernels that read removed units, so that their means are not lost: "
            "use compensate=False"
        )


def _check_costs(target: object, granularity: Granularity, scope: str) -> None:
    """Refuse what would say nothing: a cost of single weights, or a layer's own share of the model's cost."""
    share = 0.5 if not isinstance(target, ModelTarget) or target.fraction is None else target.fraction
    if isinstance(target, ModelTarget) and not isinstance(granularity, Structured):
        raise RecipeError(
            f"{target} needs whole units: a single weight that is pruned stays stored and computed with, as a zero; "
            f"use granularity=Neurons(), or Sparsity({share}) for so many zeros"
        )
    if isinstance(target, ModelTarget) and scope == "layer":
        raise RecipeError(
            f"{target} is about the whole model's {target.noun}, of which no layer has a share of its own: use "
            f"scope='model', or Sparsity({share}) for that fraction of each layer's units"
        )
    if isinstance(granularity, Layers) and isinstance(target, Latency):
        raise RecipeError(
            f"{target} is met by timing models with fewer units: use granularity=Neurons() or Heads(), or "
            f"Flops({share}) for residual branches"
        )
    if isinstance(granularity, Layers) and scope == "layer":
        raise RecipeError(
            "Layers() ranks whole layers with one another, which scope='layer' forbids: use scope='model'"
        )
    if isinstance(granularity, Units) and granularity.is_limited and scope == "layer":
        raise RecipeError(
            f"{granularity} lets layers make up for each other, which scope='layer' forbids: use scope='model'"
        )


def _check_allocation(recipe: Parts) -> None:
    """Refuse to divide a total that there is not, or over what has no sides or no number to be divided."""
    kind, target, allocation = recipe.granularity, recipe.target, recipe.allocation
    divided = isinstance(target, PerLayer) or not isinstance(allocation, Global)
    if not divided:
        return
    told = f"{type(target).__name__}" if isinstance(target, PerLayer) else f"allocation {type(allocation).__name__}"
    if recipe.scope != "model":
        raise RecipeError(
            f"{told} tells how much goes in each layer, and so does scope={recipe.scope!r}: leave the scope out"
        )
    if isinstance(target, PerLayer) and not isinstance(allocation, Global):
        raise RecipeError(f"PerLayer leaves nothing to divide by {allocation}: give a number, or no allocation")
    if isinstance(target, ModelTarget):
        raise RecipeError(f"{target} is met unit by unit, so {told} has no total to divide: give a Sparsity")
    if isinstance(kind, Layers) or (isinstance(kind, Units) and kind.is_limited):
        raise RecipeError(f"{told} divides numbers of elements over layers, which {kind} does not have to give")
    if isinstance(allocation, ERK) and isinstance(kind, Units):
        raise RecipeError(f"{told} goes by the sides of kernels: use granularity=Weights() or Blocks()")


def _check_regrowth(recipe: Parts) -> None:
    if recipe.regrowth is None:
        return
    name = type(recipe.regrowth).__name__
    if not isinstance(recipe.granularity, Weights | Blocks):
        raise RecipeError(
            f"{name} lets single weights or blocks come back: a unit of {recipe.granularity} has neither inputs nor "
            "readers once it is pruned, so that no gradient reaches it; use granularity=Weights()"
        )
    if recipe.scope == "row":
        raise RecipeError(f"{name} lets weights come back anywhere in a layer, which scope='row' forbids: use 'layer'")
    if recipe.schedule.rewind is not None:
        raise RecipeError(f"{name} changes the masks that rewinding has just made: use one of the two")
