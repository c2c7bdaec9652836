"""What is pruned as one: weights, blocks of them, units (neurons, channels, filters, heads), or whole layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from secateur.errors import OutOfRangeError, RecipeError
from secateur.scalars import is_real, real, sides, whole

COMPENSATION = "input_mean"
"""The statistic that ``compensate=True`` is computed from."""

NORMS = (1, 2, "inf", "mean")

SLICES = ("out", "in", "bias", "norm")
"""The slices of a unit that its score can combine: what makes it, what reads it, its biases, its scales and shifts."""


@dataclass(frozen=True)
class Weights:
    """Single connections. The model's shapes change only where a whole unit is no longer read."""


@dataclass(frozen=True)
class Blocks:
    """Blocks of weights, side by side in each kernel, by their mean score; shapes do not change.

    Args:
        shape: of a block, along the ``out`` and ``in`` axes (an embedding's entries and features); a convolution's
            window is in it as a whole, a recurrent kernel's gates have blocks of their own. Blocks at the upper borders
            may be smaller.
    """

    shape: Sequence[int] = (16, 16)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", sides("the shape of Blocks", self.shape, least=1))
        if len(self.shape) != 2:
            raise RecipeError(f"Blocks({self.shape}): give two sides, along out and in, such as (16, 16)")

    def within(self, axes: Sequence[str], extents: Sequence[int]) -> tuple[int, ...]:
        """The block's sides in a parameter with these axes."""
        named = {"out": self.shape[0], "entries": self.shape[0], "in": self.shape[1], "features": self.shape[1]}
        single = dict.fromkeys(("gate", "group"), 1)
        return tuple({**named, **single}.get(axis, extent) for axis, extent in zip(axes, extents, strict=True))


@dataclass(frozen=True)
class NofM:
    """The n weights of largest score in each m consecutive ones along the input axis of a kernel (Mishra et al. 2021).

    Groups lie along the input features of a dense or recurrent kernel and the input channels of a convolution, at each
    place of its window by itself: what sparse tensor cores read. Kernels whose inputs are no multiple of m, and
    embeddings, which have none, stay dense, which the summary tells; named in ``include`` without a wildcard they are
    an error. Shapes do not change. The target follows: ``1 - n / m`` of what has groups.

    Args:
        n: how many of each group stay, at least 1.
        m: the size of a group, more than n.
        even: how a schedule gets there. False: those that n of m will not keep go in ascending order of score, over the
            whole model or each layer, so that the sparsity is what the schedule says. True: each group loses equally
            many, first one, then two, and so on (decaying N: Kao et al. 2022), in ``m - n`` steps.
    """

    n: int = 2
    m: int = 4
    even: bool = False

    def __post_init__(self) -> None:
        for side in ("n", "m"):
            object.__setattr__(self, side, whole(f"{side} of NofM", getattr(self, side)))
        if not 1 <= self.n < self.m:
            raise OutOfRangeError(f"NofM({self.n}, {self.m}): give 1 <= n < m, such as NofM(2, 4)")
        if not isinstance(self.even, bool):
            raise RecipeError(f"NofM(even={self.even!r}): use True or False")

    @property
    def sparsity(self) -> float:
        """The share of each group that goes."""
        return 1.0 - self.n / self.m


@dataclass(frozen=True)
class Structured:
    """What all structured granularities share: many weights go as one, and the model becomes smaller.

    Args:
        norm: how the scores of the weights become one score: ``1`` their sum of absolute values, ``2`` the Euclidean
            norm, ``"inf"`` the largest, ``"mean"`` the mean absolute value. Only ``"mean"`` lets what has different
            numbers of weights compete fairly in scope ``"model"``; within one layer it ranks as ``1`` does.
    """

    norm: int | str = "mean"

    def __post_init__(self) -> None:
        name = type(self).__name__
        if is_real(self.norm):
            object.__setattr__(self, "norm", whole("the norm", self.norm))
        if not isinstance(self.norm, (int, str)) or isinstance(self.norm, bool) or self.norm not in NORMS:
            raise RecipeError(f"{name}(norm={self.norm!r}): use one of {', '.join(map(repr, NORMS))}")


@dataclass(frozen=True)
class Layers(Structured):
    """Whole residual branches: where the model computes ``x + f(x)``, all of ``f`` goes, and ``x`` is left.

    Branches are those of ResNets, Transformers (attention and feed-forward, each by itself) and their like, whose
    removal is exact; a layer without a skip connection round it stays. All of them compete with one another, each with
    one score over all its kernels. A branch stays if ``include`` and ``exclude`` leave out any of its kernels.
    """


@dataclass(frozen=True)
class Units(Structured):
    """What the granularities of units share; use :class:`Neurons` or :class:`Heads`.

    Args:
        norm: see :class:`Structured`, over the weights of a unit.
        slices: which of a unit's slices its score combines: ``"out"`` the weights that make it, ``"in"`` those that
            read it, ``"bias"`` its biases, ``"norm"`` the scales and shifts of its normalisations.
        relative: whether a score is divided by the mean score of its layer, so that layers whose weights are small
            throughout compete fairly.
        exact: whether everything stays whose removal changes the outputs: the axes that a layer or group normalisation
            averages over, as a Transformer's residual stream. If False these may go; the smaller model then differs
            from the masked one, by ``pruned.max_error``.
        minimum: so many units of each layer stay, or all if it has fewer.
        multiple: the width of each layer stays a multiple of this (8 or 16 suit fast kernels), or the dense one: more
            stays than the target asks for in one layer, and others lose more. Layers that share some of their units
            are rounded together.
        compensate: whether the mean of what a removed unit gave, times the weights that read it, goes into the bias of
            what reads it, or into the running mean of the batch normalisation right behind: the model then loses only
            what varied. Needs data; rows without labels are enough. What cannot take it is told by the summary.

    ``minimum`` and ``multiple`` need scope ``"model"``.
    """

    slices: Sequence[str] = ("out",)
    relative: bool = False
    exact: bool = True
    minimum: int = 1
    multiple: int = 1
    compensate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        listed = tuple(self.slices) if isinstance(self.slices, Iterable) and not isinstance(self.slices, str) else ()
        if not listed or any(part not in SLICES for part in listed):
            raise RecipeError(f"{name}(slices={self.slices!r}): give a list of some of {', '.join(map(repr, SLICES))}")
        object.__setattr__(self, "slices", listed)
        for option in ("relative", "exact", "compensate"):
            if not isinstance(getattr(self, option), bool):
                raise RecipeError(f"{name}({option}={getattr(self, option)!r}): use True or False")
        for option in ("minimum", "multiple"):
            value = whole(f"{name}'s {option}", getattr(self, option))
            object.__setattr__(self, option, value)
            if value < 1:
                raise OutOfRangeError(f"{name}({option}={value}): give a number of units, 1 or more")

    @property
    def is_limited(self) -> bool:
        """Whether layers must keep more than one unit, or round numbers of them."""
        return (self.minimum, self.multiple) != (1, 1)

    @property
    def whole_heads(self) -> bool:
        """Where either whole heads or the same features of all heads can go: whether heads do."""
        return True


@dataclass(frozen=True)
class Neurons(Units):
    """Every unit that can go: neurons of dense and recurrent layers, channels (filters) of convolutions, features.

    An attention loses whole heads or, with ``heads=False``, the same features of every head where that is exact.

    Args:
        norm: see :class:`Units`, as for all but ``heads``.
        heads: whether an attention loses whole heads, which then compete with all other units.
    """

    heads: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.heads, bool):
            raise RecipeError(f"Neurons(heads={self.heads!r}): use True (whole heads) or False (features of all heads)")

    @property
    def whole_heads(self) -> bool:
        """See :class:`Units`."""
        return self.heads


@dataclass(frozen=True)
class Heads(Units):
    """Whole heads of attention layers, and nothing else; heads that share keys and values (grouped queries) as one."""


@dataclass(frozen=True, init=False)
class Scales:
    """Several granularities in one recipe, with one total: ``Scales(Layers(), Neurons(), Weights())``.

    From coarse to fine each scale prunes what the coarser ones left, ranked by the scores of the model without what
    these took. The coarser ones take whole units, as many as fit into their share of the total, and the next one makes
    up for what did not fit; the weights fill up to the total exactly. Under a schedule the total grows, and each
    scale's part with it, in the same proportion; a unit that goes may then be ahead of the schedule until this catches
    up, and in the end the total is exact.

    Args:
        parts: in this order: :class:`Layers` or none, :class:`Neurons` or :class:`Heads` or none, and
            :class:`Weights`.
        shares: how much of the total each of the coarser ones carries, in their order: above 0, and less than 1
            together. None: equal parts for all scales.

    Raises:
        RecipeError: other parts, another order, or not one share for each of the coarser ones.
        OutOfRangeError: a share that is not above 0, or shares that leave nothing to the weights.
    """

    parts: tuple[Weights | Neurons | Heads | Layers, ...]
    shares: tuple[float, ...]

    def __init__(self, *parts: Weights | Neurons | Heads | Layers, shares: Sequence[float] | None = None) -> None:
        ranks = [[isinstance(part, kind) for kind in _COARSE_TO_FINE] for part in parts]
        order = [rank.index(True) if any(rank) else -1 for rank in ranks]
        if len(parts) < 2 or order != sorted(set(order)) or order[0] < 0 or order[-1] != len(_COARSE_TO_FINE) - 1:
            raise RecipeError(
                f"Scales({', '.join(map(repr, parts))}): give two or three, from coarse to fine: Layers() first, then "
                "Neurons() or Heads(), and Weights() last"
            )
        coarse = len(parts) - 1
        given = [1.0 / len(parts)] * coarse if shares is None else shares
        if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != coarse:
            raise RecipeError(f"Scales(shares={given!r}): give {coarse}, one for each but Weights()")
        checked = tuple(real("a share of Scales", each) for each in given)
        if not all(each > 0.0 for each in checked) or not sum(checked) < 1.0:
            raise OutOfRangeError(f"Scales(shares={checked}): give shares above 0 that leave some to Weights()")
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "shares", checked)

    def __repr__(self) -> str:
        return f"Scales({', '.join(map(repr, self.parts))}, shares={self.shares})"


_COARSE_TO_FINE = (Layers, Neurons | Heads, Weights)

Granularity = Weights | Blocks | NofM | Neurons | Heads | Layers | Scales
GRANULARITIES: dict[str, type] = {
    "Weights": Weights,
    "Blocks": Blocks,
    "NofM": NofM,
    "Neurons": Neurons,
    "Heads": Heads,
    "Layers": Layers,
    "Scales": Scales,
}

KindT = TypeVar("KindT")


def part(granularity: Granularity, kind: type[KindT]) -> KindT | None:
    """The granularity, or the one of its scales, that is of this kind; None if there is none."""
    scales = granularity.parts if isinstance(granularity, Scales) else (granularity,)
    return next((each for each in scales if isinstance(each, kind)), None)
