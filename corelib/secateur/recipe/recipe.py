"""The recipe: what to prune, by which score, how much, and when. Framework-free and serialisable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

from secateur.errors import FileFormatError, NoMatchError, RecipeError
from secateur.recipe.allocation import SCOPES, Array, BoolArray, allocate, budgets
from secateur.recipe.costs import COST_TARGETS, Latency, ModelTarget
from secateur.recipe.granularity import (
    COMPENSATION,
    GRANULARITIES,
    Blocks,
    Granularity,
    Layers,
    Structured,
    Units,
    Weights,
)
from secateur.recipe.regrowth import REGROWTHS, Regrowth
from secateur.recipe.score import SCORES, Magnitude, Score
from secateur.recipe.serial import decode, encode
from secateur.recipe.sharing import ALLOCATIONS, ERK, WORDS, Allocation, Global
from secateur.recipe.targets import TARGETS, PerLayer, Sparsity, Target
from secateur.scalars import is_real
from secateur.schedules import SCHEDULES, OneShot, Schedule


class Named(Protocol):
    """What include and exclude patterns are matched against."""

    @property
    def name(self) -> str:
        """The parameter's name."""

    @property
    def layer(self) -> str:
        """The name of the layer that owns it."""


NamedT = TypeVar("NamedT", bound=Named)


@dataclass(frozen=True)
class Recipe:
    """How a model is to be pruned.

    Args:
        target: how much: a :class:`Sparsity`, :class:`Percentile` or :class:`KSigma` of the elements, a number is a
            sparsity, a dictionary of patterns and sparsities is a :class:`PerLayer`; or with whole units
            :class:`Parameters`, :class:`Flops`, :class:`Bytes` or :class:`Latency` of the model.
        granularity: what is pruned as one: :class:`Weights`, :class:`Blocks`, :class:`Neurons`,
            :class:`Heads` or :class:`Layers`.
        score: what ranks the weights: :class:`Magnitude`, :class:`Gradient` or :class:`Taylor`.
        scope: ``"model"``: everything competes with everything; ``"layer"``: the target holds in each layer by itself.
        schedule: when, for pruning during training: one of :mod:`secateur.schedules`.
        include: patterns (``fnmatch``) of layer or parameter names that may be pruned.
        exclude: patterns of those that must not be. A pattern that matches nothing is an error.
        allocation: how the model's total is divided over its layers: ``"global"`` by one ranking, ``"uniform"``,
            ``"erk"`` (:class:`ERK`), or the :class:`Sensitivity` that an adapter's ``sensitivity`` measured.
        regrowth: which pruned weights come back in training: :class:`SET`, :class:`RigL` or :class:`DynamicSurgery`;
            None: what is pruned stays pruned.

    ``Recipe(0.9)`` prunes 90 % of the weights, by magnitude, over the whole model, at once.
    """

    target: Target | ModelTarget | PerLayer | Mapping[str, float] | float
    granularity: Granularity = field(default_factory=Weights)
    score: Score = field(default_factory=Magnitude)
    scope: str = "model"
    schedule: Schedule = field(default_factory=OneShot)
    include: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()
    allocation: Allocation | str = field(default_factory=Global)
    regrowth: Regrowth | None = None

    def __post_init__(self) -> None:
        if is_real(self.target):
            object.__setattr__(self, "target", Sparsity(self.target))  # type: ignore[arg-type]
        elif isinstance(self.target, Mapping):
            object.__setattr__(self, "target", PerLayer(self.target))
        if isinstance(self.allocation, str):
            object.__setattr__(self, "allocation", WORDS.get(self.allocation, self.allocation))
        for name, kinds in _PARTS.items():
            if name not in _OPTIONAL or getattr(self, name) is not None:
                _check_kind(name, getattr(self, name), kinds)
        if self.scope not in SCOPES:
            raise RecipeError(f"scope {self.scope!r}: use 'model' (one ranking for all layers) or 'layer' (one each)")
        for name in ("include", "exclude"):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))
        _check_costs(self.target, self.granularity, self.scope)
        _check_allocation(self)
        _check_regrowth(self)

    @property
    def competing(self) -> str:
        """Within what elements compete once the numbers are known: ``"model"``, or ``"layer"``."""
        by_layer = self.scope == "layer" or isinstance(self.target, PerLayer) or not isinstance(self.allocation, Global)
        return "layer" if by_layer else "model"

    @property
    def compensates(self) -> bool:
        """Whether the means of removed units are folded into what reads them."""
        return isinstance(self.granularity, Units) and self.granularity.compensate

    @property
    def needs(self) -> tuple[str, ...]:
        """The statistics that are gathered: those of the score, and of the compensation."""
        return (*self.score.needs, *((COMPENSATION,) if self.compensates else ()))

    def select(self, candidates: Iterable[NamedT]) -> list[NamedT]:
        """The candidates that the patterns leave to be pruned, in their order.

        Raises:
            NoMatchError: a pattern that matches no candidate, or nothing is left.
        """
        listed = list(candidates)
        for pattern in (*self.include, *self.exclude):
            if not any(_matches(item, pattern) for item in listed):
                raise NoMatchError(
                    f"pattern {pattern!r} matches no layer that can be pruned; there are: "
                    f"{', '.join(item.name for item in listed) or 'none at all'}"
                )
        chosen = [
            item
            for item in listed
            if any(_matches(item, pattern) for pattern in self.include)
            and not any(_matches(item, pattern) for pattern in self.exclude)
        ]
        if not chosen:
            raise NoMatchError("include and exclude together leave no layer to prune; loosen one of them")
        return chosen

    def budgets(self, scores: Mapping[str, Array], owners: Mapping[str, str] | None = None) -> list[int]:
        """How many elements the target prunes, in each ranking of :attr:`competing`.

        Args:
            scores: layer -> one score an element, in the model's order.
            owners: parameter -> the layer that owns it, which patterns of :class:`PerLayer` may name as well.

        Raises:
            RecipeError: the target is a share of a model's cost, which scores do not tell.
            NoMatchError: a pattern or a scanned layer that matches none of the scores.
            UnreachableTargetError: a sensitivity was scanned for less than the target.
        """
        target: Any = self.target
        if isinstance(target, ModelTarget):
            raise RecipeError(f"{target} is met on a traced model: scores alone do not tell how many units it takes")
        if isinstance(target, PerLayer):
            return target.pruned({layer: score.size for layer, score in scores.items()}, owners or {})
        found = budgets(scores, target, self.scope)
        if isinstance(self.allocation, str | Global):
            return found
        return self.allocation.pruned({layer: score.shape for layer, score in scores.items()}, sum(found))

    def allocate(
        self,
        scores: Mapping[str, Array],
        pruned: Sequence[int],
        kept: Mapping[str, BoolArray] | None = None,
        protected: Mapping[str, BoolArray] | None = None,
    ) -> dict[str, BoolArray]:
        """Layer -> which elements stay; see :func:`secateur.recipe.allocation.allocate`."""
        return allocate(scores, pruned, self.competing, kept, protected)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON."""
        parts = {name: None if (part := getattr(self, name)) is None else encode(part) for name in _PARTS}
        return {**parts, "scope": self.scope, "include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        expected = {*_PARTS, "scope", "include", "exclude"}
        if not isinstance(document, dict) or not expected - {*_LATER} <= {*document} <= expected:
            raise FileFormatError(f"a recipe needs exactly the fields {', '.join(sorted(expected))}")
        document = {**_LATER, **document}
        given = {name: kinds for name, kinds in _PARTS.items() if name not in _OPTIONAL or document[name] is not None}
        parts = {name: decode(document[name], kinds, name) for name, kinds in given.items()}
        try:
            return cls(**parts, **{name: document[name] for name in ("scope", "include", "exclude")})
        except (RecipeError, TypeError) as error:
            raise FileFormatError(f"the recipe cannot be read: {error}") from error

    def to_json(self) -> str:
        """As text, one field a line."""
        return json.dumps(self.to_dict(), indent=2)


_PARTS: dict[str, dict[str, type]] = {
    "target": TARGETS | COST_TARGETS,
    "granularity": GRANULARITIES,
    "score": SCORES,
    "schedule": SCHEDULES,
    "allocation": ALLOCATIONS,
    "regrowth": REGROWTHS,
}
_OPTIONAL = ("regrowth",)
_LATER: dict[str, Any] = {"allocation": encode(Global()), "regrowth": None}
"""What recipes of the first files did not have yet."""


def _check_kind(name: str, value: object, kinds: dict[str, type]) -> None:
    if isinstance(value, type) and value in kinds.values():
        raise RecipeError(f"{name} is the class {value.__name__}; give an instance: {value.__name__}(...)")
    if not isinstance(value, tuple(kinds.values())):
        raise RecipeError(f"{name} is {value!r}; use one of {', '.join(kinds)}")


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


def _check_allocation(recipe: Recipe) -> None:
    """Refuse to divide a total that there is not, or over what has no sides or no number to be divided."""
    kind, target, allocation = recipe.granularity, recipe.target, recipe.allocation
    divided = isinstance(target, PerLayer) or not isinstance(allocation, Global)
    if not divided:
        return
    told = f"{type(target).__name__}" if isinstance(target, PerLayer) else f"allocation {type(allocation).__name__}"
    if recipe.scope == "layer":
        raise RecipeError(f"{told} tells how much goes in each layer, and so does scope='layer': leave the scope out")
    if isinstance(target, PerLayer) and not isinstance(allocation, Global):
        raise RecipeError(f"PerLayer leaves nothing to divide by {allocation}: give a number, or no allocation")
    if isinstance(target, ModelTarget):
        raise RecipeError(f"{target} is met unit by unit, so {told} has no total to divide: give a Sparsity")
    if isinstance(kind, Layers) or (isinstance(kind, Units) and kind.is_limited):
        raise RecipeError(f"{told} divides numbers of elements over layers, which {kind} does not have to give")
    if isinstance(allocation, ERK) and isinstance(kind, Units):
        raise RecipeError(f"{told} goes by the sides of kernels: use granularity=Weights() or Blocks()")


def _check_regrowth(recipe: Recipe) -> None:
    if recipe.regrowth is None:
        return
    name = type(recipe.regrowth).__name__
    if not isinstance(recipe.granularity, Weights | Blocks):
        raise RecipeError(
            f"{name} lets single weights or blocks come back: a unit of {recipe.granularity} has neither inputs nor "
            "readers once it is pruned, so that no gradient reaches it; use granularity=Weights()"
        )
    if recipe.schedule.rewind is not None:
        raise RecipeError(f"{name} changes the masks that rewinding has just made: use one of the two")


def _patterns(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, Iterable) and not isinstance(given, str):
        patterns = tuple(given)
        if all(isinstance(pattern, str) for pattern in patterns):
            return patterns
    raise RecipeError(f"{name} must be a list of patterns, such as ['head*'], not {given!r}")


def _matches(item: Named, pattern: str) -> bool:
    return fnmatchcase(item.name, pattern) or fnmatchcase(item.layer, pattern)
