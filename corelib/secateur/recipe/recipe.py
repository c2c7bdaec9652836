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
from secateur.recipe.granularity import GRANULARITIES, Granularity, Layers, Structured, Units, Weights
from secateur.recipe.score import SCORES, Score, UnitScore
from secateur.recipe.serial import decode, encode
from secateur.recipe.targets import TARGETS, Percentile, Sparsity, Target
from secateur.recipe.weight_scores import Magnitude
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
            sparsity; or with whole units :class:`Parameters`, :class:`Flops`, :class:`Bytes` or :class:`Latency` of the
            model.
        granularity: what is pruned as one: :class:`Weights`, :class:`Blocks`, :class:`Neurons`,
            :class:`Heads` or :class:`Layers`.
        score: what ranks the weights, :class:`Magnitude` if nothing else, or the units: one of the catalogue's, or of
            your own (:func:`secateur.register`).
        scope: ``"model"``: everything competes with everything; ``"layer"``: the target holds in each layer by itself;
            ``"row"``: in each row of each layer, the weights of one output (an entry of an embedding, a gate of a
            recurrent kernel); for a :class:`Sparsity` of :class:`Weights`.
        schedule: when, for pruning during training: :class:`OneShot`, :class:`Linear` or :class:`Cubic`.
        include: patterns (``fnmatch``) of layer or parameter names that may be pruned.
        exclude: patterns of those that must not be. A pattern that matches nothing is an error.

    ``Recipe(0.9)`` prunes 90 % of the weights, by magnitude, over the whole model, at once.
    """

    target: Target | ModelTarget | float
    granularity: Granularity = field(default_factory=Weights)
    score: Score = field(default_factory=Magnitude)
    scope: str = "model"
    schedule: Schedule = field(default_factory=OneShot)
    include: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        if is_real(self.target):
            object.__setattr__(self, "target", Sparsity(self.target))  # type: ignore[arg-type]
        for name, kinds in _PARTS.items():
            _check_kind(name, getattr(self, name), kinds)
        if self.scope not in SCOPES:
            raise RecipeError(
                f"scope {self.scope!r}: use 'model' (one ranking for all layers), 'layer' (one each) or 'row'"
            )
        for name in ("include", "exclude"):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))
        _check_costs(self.target, self.granularity, self.scope)
        _check_score(self.score, self.granularity, self.target)
        _check_adjusting(self.score, self.granularity)
        if self.scope == "row" and not (isinstance(self.granularity, Weights) and isinstance(self.target, Sparsity)):
            raise RecipeError(
                f"scope='row' takes the same number of weights of each row: use Weights() and a Sparsity, not "
                f"{self.granularity} and {self.target}"
            )

    @property
    def compensates(self) -> bool:
        """Whether the means of removed units are folded into what reads them."""
        return isinstance(self.granularity, Units) and self.granularity.compensate

    @property
    def needs(self) -> tuple[str, ...]:
        """The statistics that are gathered: those of the score, and of the compensation."""
        return (*self.score.needs, *(("input_mean",) if self.compensates else ()))

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

    def budgets(self, scores: Mapping[str, Array]) -> list[int]:
        """How many elements the target prunes, for each of the rankings that the scope makes of the layers' scores.

        Raises:
            RecipeError: the target is a share of a model's cost, which scores do not tell.
        """
        target = Sparsity(self.target) if isinstance(self.target, (int, float)) else self.target
        if isinstance(target, ModelTarget):
            raise RecipeError(f"{target} is met on a traced model: scores alone do not tell how many units it takes")
        return budgets(scores, target, self.scope)

    def allocate(
        self,
        scores: Mapping[str, Array],
        pruned: Sequence[int],
        kept: Mapping[str, BoolArray] | None = None,
        protected: Mapping[str, BoolArray] | None = None,
    ) -> dict[str, BoolArray]:
        """Layer -> which elements stay; see :func:`secateur.recipe.allocation.allocate`."""
        return allocate(scores, pruned, self.scope, kept, protected)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON."""
        parts = {name: encode(getattr(self, name)) for name in _PARTS}
        return {**parts, "scope": self.scope, "include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        expected = {*_PARTS, "scope", "include", "exclude"}
        if not isinstance(document, dict) or set(document) != expected:
            raise FileFormatError(f"a recipe needs exactly the fields {', '.join(sorted(expected))}")
        parts = {name: decode(document[name], kinds, name) for name, kinds in _PARTS.items()}
        try:
            return cls(**parts, **{name: document[name] for name in ("scope", "include", "exclude")})
        except (RecipeError, TypeError) as error:
            raise FileFormatError(f"the recipe cannot be read: {error}") from error

    def to_json(self) -> str:
        """As text, one field a line."""
        return json.dumps(self.to_dict(), indent=2)


_PARTS: dict[str, Mapping[str, type]] = {
    "target": TARGETS | COST_TARGETS,
    "granularity": GRANULARITIES,
    "score": SCORES,
    "schedule": SCHEDULES,
}


def _check_kind(name: str, value: object, kinds: Mapping[str, type]) -> None:
    if isinstance(value, type) and value in kinds.values():
        raise RecipeError(f"{name} is the class {value.__name__}; give an instance: {value.__name__}(...)")
    if not isinstance(value, tuple(kinds.values())):
        raise RecipeError(f"{name} is {value!r}; use one of {', '.join(kinds)}")


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


def _patterns(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, Iterable) and not isinstance(given, str):
        patterns = tuple(given)
        if all(isinstance(pattern, str) for pattern in patterns):
            return patterns
    raise RecipeError(f"{name} must be a list of patterns, such as ['head*'], not {given!r}")


def _matches(item: Named, pattern: str) -> bool:
    return fnmatchcase(item.name, pattern) or fnmatchcase(item.layer, pattern)
