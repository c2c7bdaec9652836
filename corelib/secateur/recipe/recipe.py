"""The recipe: what to prune, by which score, how much, and when. Framework-free and serialisable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

from secateur.errors import FileFormatError, NoMatchError, RecipeError
from secateur.recipe.allocation import SCOPES, Array, BoolArray, allocate, budgets
from secateur.recipe.contradictions import refuse_contradictions
from secateur.recipe.costs import COST_TARGETS, ModelTarget
from secateur.recipe.granularity import COMPENSATION, GRANULARITIES, Granularity, NofM, Scales, Units, Weights, part
from secateur.recipe.regrowth import REGROWTHS, Regrowth
from secateur.recipe.score import SCORES, Score
from secateur.recipe.serial import decode, encode
from secateur.recipe.sharing import ALLOCATIONS, WORDS, Allocation, Global
from secateur.recipe.targets import TARGETS, PerLayer, Sparsity, Target
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
            sparsity, a dictionary of patterns and sparsities is a :class:`PerLayer`; or with whole units
            :class:`Parameters`, :class:`Flops`, :class:`Bytes` or :class:`Latency` of the model. None where the
            granularity tells it: :class:`NofM`.
        granularity: what is pruned as one: :class:`Weights`, :class:`Blocks`, :class:`NofM`, :class:`Neurons`,
            :class:`Heads` or :class:`Layers`; or several of these, as :class:`Scales`.
        score: what ranks the weights, :class:`Magnitude` if nothing else, or the units: one of the catalogue's, or of
            your own (:func:`secateur.register`).
        scope: ``"model"``: everything competes with everything; ``"layer"``: the target holds in each layer by itself;
            ``"row"``: in each row of each layer, the weights of one output (an entry of an embedding, a gate of a
            recurrent kernel); for a :class:`Sparsity` of :class:`Weights`.
        schedule: when, for pruning during training: one of :mod:`secateur.schedules`.
        include: patterns (``fnmatch``) of layer or parameter names that may be pruned.
        exclude: patterns of those that must not be. A pattern that matches nothing is an error.
        allocation: how the model's total is divided over its layers: ``"global"`` by one ranking, ``"uniform"``,
            ``"erk"`` (:class:`ERK`), or the :class:`Sensitivity` that an adapter's ``sensitivity`` measured.
        regrowth: which pruned weights come back in training: :class:`SET`, :class:`RigL` or :class:`DynamicSurgery`;
            None: what is pruned stays pruned.

    ``Recipe(0.9)`` prunes 90 % of the weights, by magnitude, over the whole model, at once.
    """

    target: Target | ModelTarget | PerLayer | Mapping[str, float] | float | None = None
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
        elif self.target is None:
            object.__setattr__(self, "target", _implied(self.granularity))
        if isinstance(self.allocation, str):
            object.__setattr__(self, "allocation", WORDS.get(self.allocation, self.allocation))
        for name, kinds in _PARTS.items():
            if name not in _OPTIONAL or getattr(self, name) is not None:
                _check_kind(name, getattr(self, name), kinds)
        if self.scope not in SCOPES:
            raise RecipeError(
                f"scope {self.scope!r}: use 'model' (one ranking for all layers), 'layer' (one each) or 'row'"
            )
        for name in ("include", "exclude"):
            object.__setattr__(self, name, _patterns(name, getattr(self, name)))
        refuse_contradictions(self)

    @property
    def competing(self) -> str:
        """Within what elements compete once the numbers are known: ``"model"``, ``"layer"``, ``"row"``, ``"scale"``."""
        if isinstance(self.granularity, Scales):
            return "scale"
        by_layer = isinstance(self.target, PerLayer) or not isinstance(self.allocation, Global)
        return "layer" if by_layer else self.scope

    @property
    def follows_training(self) -> bool:
        """Whether masks are made, or change, after the first training step."""
        return self.schedule != OneShot() or self.regrowth is not None

    @property
    def compensates(self) -> bool:
        """Whether the means of removed units are folded into what reads them."""
        units = part(self.granularity, Units)
        return units is not None and units.compensate

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


_PARTS: dict[str, Mapping[str, type]] = {
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


def _implied(granularity: Granularity) -> Sparsity:
    """The target that a granularity tells by itself."""
    if not isinstance(granularity, NofM):
        raise RecipeError(
            f"a recipe for {granularity} needs a target: give a number, such as 0.9; only NofM tells it by itself"
        )
    return Sparsity(granularity.sparsity)


def _check_kind(name: str, value: object, kinds: Mapping[str, type]) -> None:
    if isinstance(value, type) and value in kinds.values():
        raise RecipeError(f"{name} is the class {value.__name__}; give an instance: {value.__name__}(...)")
    if not isinstance(value, tuple(kinds.values())):
        raise RecipeError(f"{name} is {value!r}; use one of {', '.join(kinds)}")


def _patterns(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, Iterable) and not isinstance(given, str):
        patterns = tuple(given)
        if all(isinstance(pattern, str) for pattern in patterns):
            return patterns
    raise RecipeError(f"{name} must be a list of patterns, such as ['head*'], not {given!r}")


def _matches(item: Named, pattern: str) -> bool:
    return fnmatchcase(item.name, pattern) or fnmatchcase(item.layer, pattern)
