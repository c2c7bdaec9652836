"""Scores of single weights, from weights and their statistics; computed on the host, in float64 unless said otherwise.

Each is a formula of a few elementwise operations in one order, or of sums in a defined order, so that equal numbers
give equal bits. Results are new NumPy arrays, wherever the arguments lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.arrays import Named, as_array, require_alike
from secateur.errors import OutOfRangeError, ShapeMismatchError
from secateur.scalars import whole
from secateur.scores.basic import reduce

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

LARGEST_POWER = 8


def power(weight: Any, p: int, name: str = "the weight") -> Floats:
    """|w|^p, by p - 1 multiplications: what a unit sums under an Lp norm (Li et al. 2017 for p = 1).

    Raises:
        RecipeError, OutOfRangeError: p is no whole number from 1 to 8.
    """
    p = require_power(p)
    magnitude = np.abs(_double(weight, name))
    result = magnitude
    for _ in range(p - 1):
        result = result * magnitude
    return _checked(result, name)


def fisher(weight: Any, mean_square_gradient: Any, name: str = "the weight") -> Floats:
    """w^2 E[g^2] / 2: the second-order change in loss without w, the Fisher information for the curvature.

    LeCun et al. 1990 (optimal brain damage) with the diagonal that Theis et al. 2018 put in.

    Args:
        weight: any shape.
        mean_square_gradient: of each weight, not negative.
        name: what error messages call the result.
    """
    weight, information = _alike(weight, mean_square_gradient, "the mean square gradient", name)
    return _checked(weight * weight * information * 0.5, name)


def movement(weight: Any, gradient: Any, name: str = "the weight") -> Floats:
    """-w g: positive where a step against the gradient takes w away from zero (Sanh et al. 2020); signed.

    The score of a training is the sum of these over its steps.
    """
    weight, gradient = _alike(weight, gradient, "the gradient", name)
    return _checked(-(weight * gradient), name)


def snip(weights: Sequence[Any], gradients: Sequence[Any], names: Sequence[str] | None = None) -> list[Floats]:
    """|g w| / sum |g w| over all weights of a model at its initialisation (Lee et al. 2019).

    Args:
        weights: the arrays of a model.
        gradients: dL/dw of one batch, or its mean over batches; of the same shapes.
        names: what error messages call the arrays.

    Returns:
        float64 arrays that sum to 1; zeros if all are. Each array's sum is exact and rounded once, and theirs is too.
    """
    if len(weights) != len(gradients):
        raise ShapeMismatchError(f"there are {len(weights)} weights but {len(gradients)} gradients")
    named = [f"weight {index}" for index in range(len(weights))] if names is None else list(names)
    found = [abs(movement(w, g, name)) for w, g, name in zip(weights, gradients, named, strict=True)]
    total = math.fsum(reduce(score.reshape(1, -1))[0] for score in found)
    return [score / total if total > 0 else score for score in found]


def grasp(weight: Any, hessian_gradient: Any, name: str = "the weight") -> Floats:
    """w (H g): what the gradient's flow loses without w (Wang et al. 2020, with the sign turned round); signed.

    GraSP removes the weights of the largest -w (H g), so that the lowest of these goes first, as with all scores here.
    """
    weight, product = _alike(weight, hessian_gradient, "the Hessian's product", name)
    return _checked(weight * product, name)


def synflow(weight: Any, flow_gradient: Any, name: str = "the weight") -> Floats:
    """|w| dR/d|w|: synaptic flow, R the sum of what |w| makes of an input of ones (Tanaka et al. 2020)."""
    return abs(movement(weight, flow_gradient, name))


def wanda(weight: Any, input_norm: Any, name: str = "the weight") -> Floats:
    """|w| times the Euclidean norm of the feature that it reads (Sun et al. 2023); ranked within each row.

    Args:
        weight: in canonical layout.
        input_norm: goes with ``weight`` by broadcasting, not negative: the root of the sum, or mean, of squares.
        name: what error messages call the weight.
    """
    weight, norms = _double(weight, name), _double(input_norm, f"the input norm of {name}")
    try:
        norms = np.broadcast_to(norms, weight.shape)
    except ValueError as error:
        raise ShapeMismatchError(
            f"{name} has shape {weight.shape}, but its input norm {norms.shape}: they do not go together"
        ) from error
    return _checked(np.abs(weight) * norms, name)


def lamp(weight: Any, name: str = "the weight") -> Floats:
    """w^2 over the sum of squares of all weights of the layer that are not smaller (Lee et al. 2021).

    Of equal magnitudes the earlier counts as the smaller, as in every ranking here. Squares are added from the largest
    down, in float64, after a division of all weights by the power of two that the largest reaches, so that nothing
    overflows. Zeros score 0. Infinite weights score infinity, and are left out of the sums.
    """
    magnitude = np.abs(_double(weight, name))
    _checked(magnitude, name)
    flat = magnitude.reshape(-1)
    order = np.argsort(flat, kind="stable")
    order = order[: np.count_nonzero(flat < math.inf)]
    score = np.where(flat == math.inf, math.inf, 0.0)
    if order.size and flat[order[-1]] > 0:
        scaled = np.ldexp(flat[order], -math.frexp(float(flat[order[-1]]))[1])
        squares = scaled * scaled
        sums = np.cumsum(squares[::-1])[::-1]
        score[order] = np.divide(squares, sums, out=np.zeros_like(sums), where=sums > 0)
    return score.reshape(magnitude.shape)


def init_relative(weight: Any, initial: Any, increase: bool = False, name: str = "the weight") -> Floats:
    """|w - w0|, or |w| - |w0| (signed): how far, or how much up, training has moved w (Zhou et al. 2019).

    Args:
        weight: of now.
        initial: the same when training began.
        increase: whether the second is meant.
        name: what error messages call the result.
    """
    weight, initial = _alike(weight, initial, "the initial weight", name)
    return _checked(np.abs(weight) - np.abs(initial) if increase else np.abs(weight - initial), name)


def random(shape: Sequence[int], seed: int = 0, order: int = 0) -> Floats:
    """Uniform in [0, 1), the same everywhere: by the counter-based generator Philox (Salmon et al. 2011).

    Args:
        shape: of the result, which is drawn in C order.
        seed: the one key, 0 or more.
        order: the other: the place of the array among those of a model.
    """
    seed = whole("the seed", seed)
    if not 0 <= seed < 1 << 64:
        raise OutOfRangeError(f"the seed is {seed}: give a whole number from 0 to 2^64 - 1")
    generator = np.random.Philox(key=np.array([seed, order], np.uint64))
    raw = generator.random_raw(math.prod(shape))
    found: Floats = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found.reshape(tuple(shape))


def require_power(p: int) -> int:
    """``p`` as a whole number. Raises as :func:`power`."""
    p = whole("p", p)
    if not 1 <= p <= LARGEST_POWER:
        raise OutOfRangeError(f"p is {p}: give a whole number from 1 to {LARGEST_POWER}")
    return p


def _double(value: Any, name: str) -> Floats:
    array = as_array(value, name)
    return np.asarray(kernels.of(array).to_host(array)).astype(np.float64)


def _alike(weight: Any, other: Any, what: str, name: str) -> tuple[Floats, Floats]:
    """Both on the host, in float64. Raises ShapeMismatchError."""
    weight, other = _double(weight, name), _double(other, f"{what} of {name}")
    require_alike(Named(name, weight), Named(f"{what} of {name}", other))
    return weight, other


def _checked(score: Floats, name: str) -> Floats:
    kernels.refuse_nan([Named(f"the score of {name}", score)])
    return score
