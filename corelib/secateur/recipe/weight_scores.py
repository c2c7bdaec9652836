"""The catalogue's scores of single weights; what each computes is said by its function in :mod:`secateur.scores`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secateur import scores
from secateur.errors import OutOfRangeError, RecipeError
from secateur.recipe.score import Array, Score, Statistics, listed
from secateur.scalars import real, whole


@listed
@dataclass(frozen=True)
class Magnitude(Score):
    """``|w|^p`` (Han et al. 2015): small weights matter least. Needs no data.

    Args:
        p: a whole number from 1 to 8. It ranks single weights as 1 does; the sum over a unit, or the mean over a block,
            is that of an Lp norm.
    """

    p: int = 1
    words: ClassVar[str] = "|weight|"

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", scores.require_power(self.p))

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.magnitude` and :func:`secateur.scores.power`."""
        return scores.magnitude(weight, name) if self.p == 1 else scores.power(weight, self.p, name)


@listed
@dataclass(frozen=True)
class Gradient(Score):
    """Mean ``|dL/dw|`` over batches: what the loss hardly feels matters least. Needs labelled data and a loss."""

    needs: ClassVar[tuple[str, ...]] = ("mean_abs_gradient",)
    words: ClassVar[str] = "mean |gradient|"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.gradient`."""
        return scores.gradient(statistics["mean_abs_gradient"], f"the gradient of {name}")


@listed
@dataclass(frozen=True)
class Taylor(Score):
    """``|w * dL/dw|``, first-order estimate of the loss change (Molchanov et al. 2017). Needs data and a loss."""

    needs: ClassVar[tuple[str, ...]] = ("mean_gradient",)
    words: ClassVar[str] = "|weight × gradient|"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.taylor`."""
        return scores.taylor(weight, statistics["mean_gradient"], name)


@listed
@dataclass(frozen=True)
class Fisher(Score):
    """``w^2 E[(dL/dw)^2] / 2``, second-order estimate of the loss change (LeCun 1990, Theis 2018). Needs data, a loss.

    The expectation is over batches, whose mean losses are differentiated: it is the empirical Fisher information where
    a batch is one example, as in ``data=[(x[i:i + 1], y[i:i + 1]) for i in range(len(x))]``. In larger batches the
    examples' gradients partly cancel before they are squared, which makes it smaller by a factor up to the batch's
    size, alike for all weights where examples are independent.
    """

    needs: ClassVar[tuple[str, ...]] = ("mean_square_gradient",)
    words: ClassVar[str] = "½ weight² × mean gradient²"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.fisher`."""
        return scores.fisher(weight, statistics["mean_square_gradient"], name)


@listed
@dataclass(frozen=True)
class Movement(Score):
    """Sum of ``-w * dL/dw`` over a training (Sanh et al. 2020): what moves towards zero matters least.

    Needs labelled data, a loss, and a ``Pruner`` with a schedule: at each of its prunings, and when it is made, the
    gradient is gathered over ``data`` and the product is added up; ``every`` of the schedule says how often. What has
    been pruned is zero, so that nothing more is added.
    """

    needs: ClassVar[tuple[str, ...]] = ("movement",)
    words: ClassVar[str] = "movement −Σ weight × gradient"
    signed: ClassVar[bool] = True

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """The sum so far; see :func:`secateur.scores.movement` for its terms."""
        return statistics["movement"]


@dataclass(frozen=True)
class Iterated(Score):
    """What scores share that rank weights several times for one pruning, each time without what went before.

    Args:
        iterations: how many times. Of the share k that stays in the end, k^(i/n) stays after i of n.
    """

    iterations: int = 1

    def __post_init__(self) -> None:
        name = type(self).__name__
        object.__setattr__(self, "iterations", whole(f"{name}'s iterations", self.iterations))
        if self.iterations < 1:
            raise OutOfRangeError(f"{name}(iterations={self.iterations}): give 1 or more")


@listed
@dataclass(frozen=True)
class Snip(Iterated):
    """``|w * dL/dw|`` at initialisation (Lee et al. 2019); with ``iterations`` as de Jorge et al. 2021 repeat it.

    Needs labelled data and a loss. SNIP divides by the sum over all weights, which changes no rank and is left out.
    """

    needs: ClassVar[tuple[str, ...]] = ("mean_gradient",)
    words: ClassVar[str] = "connection sensitivity |weight × gradient|"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.snip`, of which this is the numerator."""
        return scores.taylor(weight, statistics["mean_gradient"], name)


@listed
@dataclass(frozen=True)
class Grasp(Score):
    """``w * (H g)`` at initialisation (Wang et al. 2020): keeps what the gradient flows through.

    Needs labelled data, which is read twice, and a loss. GraSP divides the model's outputs by 200 in its loss:
    ``loss=lambda outputs, labels: cross_entropy(outputs / 200, labels)``.
    """

    needs: ClassVar[tuple[str, ...]] = ("hessian_gradient",)
    words: ClassVar[str] = "gradient flow weight × Hessian × gradient"
    signed: ClassVar[bool] = True

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.grasp`."""
        return scores.grasp(weight, statistics["hessian_gradient"], name)


@listed
@dataclass(frozen=True)
class SynFlow(Iterated):
    """``|w| * dR/d|w|``, R what ``|w|`` makes of ones (Tanaka et al. 2020). Needs an example's shape, no data."""

    iterations: int = 100
    needs: ClassVar[tuple[str, ...]] = ("flow_gradient",)
    words: ClassVar[str] = "synaptic flow"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.synflow`."""
        return scores.synflow(weight, statistics["flow_gradient"], name)


@listed
@dataclass(frozen=True)
class Lamp(Score):
    """``w^2`` over the sum of the squares that are not smaller in the layer (Lee et al. 2021). Needs no data.

    With scope ``"model"`` the layers' sparsities follow by themselves.
    """

    words: ClassVar[str] = "weight² / Σ of squares as large"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.lamp`."""
        return scores.lamp(weight, name)


@listed
@dataclass(frozen=True)
class InitRelative(Score):
    """``|w - w0|``, or with ``increase`` ``|w| - |w0|`` (Zhou et al. 2019): what training hardly moved matters least.

    Needs the weights of the beginning: a ``Pruner`` takes those that it finds when it is made; else give
    ``statistics={"initial_weight": {name: array}}``.
    """

    increase: bool = False
    needs: ClassVar[tuple[str, ...]] = ("initial_weight",)
    words: ClassVar[str] = "change since initialisation"

    def __post_init__(self) -> None:
        if not isinstance(self.increase, bool):
            raise RecipeError(f"InitRelative(increase={self.increase!r}): use True or False")

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Magnitudes can shrink."""
        return self.increase

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.init_relative`."""
        return scores.init_relative(weight, statistics["initial_weight"], self.increase, name)


@listed
@dataclass(frozen=True)
class Random(Score):
    """Chance, by a seed: what every other score must beat. The same in every framework and at every step."""

    seed: int = 0
    needs: ClassVar[tuple[str, ...]] = ("order",)
    words: ClassVar[str] = "chance"

    def __post_init__(self) -> None:
        scores.random((), self.seed)

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.random`."""
        return scores.random(weight.shape, self.seed, int(statistics["order"]))


@listed
@dataclass(frozen=True)
class Wanda(Score):
    """``|w|`` times the norm of what it reads (Sun et al. 2023). Needs rows of data, without labels.

    Wanda compares the weights of one output with one another: that is scope ``"row"`` of the recipe.
    """

    needs: ClassVar[tuple[str, ...]] = ("input_square",)
    words: ClassVar[str] = "|weight| × norm of its input"

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.wanda`, with the root of the mean square."""
        return scores.wanda(weight, np.sqrt(statistics["input_square"]), name)


@listed
@dataclass(frozen=True)
class SparseGpt(Score):
    """The error of a layer's outputs without a weight, with the others adjusted to it, as they then are.

    Scores are those of optimal brain surgeon (Hassibi and Stork 1993), and tell how many weights of each layer go.
    Which ones, and how the others are adjusted, is told column after column as SparseGPT does (Frantar and Alistarh
    2023). Needs rows of data, without labels. For kernels of dense and recurrent layers and of convolutions, except
    transposed ones; leave out others by ``exclude``.

    Args:
        damping: what is added to the mean products of the inputs along their diagonal, in parts of its mean.
        block: so many columns are chosen from at a time, after what went before them has been made up for; each block
            loses the same share. None: all are chosen at once, by the scores. Blocks, units and layers always are.
    """

    damping: float = 0.01
    block: int | None = 128
    needs: ClassVar[tuple[str, ...]] = ("input_gram",)
    words: ClassVar[str] = "weight² / inverse Hessian of the layer's outputs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "damping", real("SparseGpt's damping", self.damping))
        if not self.damping >= 0:
            raise OutOfRangeError(f"SparseGpt(damping={self.damping}): give 0 or more")
        if self.block is not None:
            object.__setattr__(self, "block", scores.require_block(self.block))

    @property
    def adjusts(self) -> bool:
        """It does."""
        return True

    def __call__(self, weight: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.surgeon`."""
        return scores.surgeon(weight, statistics["input_gram"], self.damping, name)

    def chosen(
        self, weight: Array, mask: Array, before: Array | None, statistics: Statistics, name: str, by_row: bool
    ) -> Array:
        """See :func:`secateur.scores.choose`."""
        if self.block is None:
            return mask
        return scores.choose(weight, mask, statistics["input_gram"], self.damping, self.block, by_row, before, name)

    def adjusted(self, weight: Array, mask: Array, statistics: Statistics, name: str) -> Array:
        """See :func:`secateur.scores.reconstruct`."""
        found = scores.reconstruct(weight, mask, statistics["input_gram"], self.damping, name)
        return found.astype(weight.dtype)
