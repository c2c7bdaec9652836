"""Masked equals removed, measured: the outputs of the masked model against those of the smaller one.

What cannot tell the two apart verifies nothing, and is refused: outputs without elements, or without a number that is
not zero. Infinities agree where both models give the same; NaN agrees with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.errors import ExampleError, VerificationError

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

# The largest difference between outputs that counts as rounding, relative to the largest number of the output.
TOLERANCES = {
    "float64": 1e-9,
    "complex128": 1e-9,
    "float32": 1e-4,
    "complex64": 1e-4,
    "float16": 1e-2,
    "bfloat16": 5e-2,
}

_FEWEST, _LOOKED_AT = 16, 1 << 14

BAKED = (
    "Does the model's code spell out a size in numbers, as in x.view(-1, 400)? Read it off the tensor, as in "
    "x.flatten(1), or exclude the layers before it."
)

BRANCHING = (
    "The model's code reads numbers off tensors: {places}. If it branches on them, only the path that the example took "
    "is known; other paths may break in the smaller model."
)

INEXACT = (
    "The recipe says exact=False: axes that a normalisation averages over may go, and the smaller model's outputs then "
    "differ from the masked one's. Fine-tune the smaller model."
)


def require_telling(expected: Sequence[Array]) -> None:
    """Check that the masked model's outputs can show a difference.

    Raises:
        ExampleError: an output has no element, or all of them hold zeros and infinities alone.
        VerificationError: an output holds NaN.
    """
    for number, output in enumerate(expected):
        if not output.size:
            raise ExampleError(
                f"output {number} of the model has shape {output.shape} for this example, no element to verify the "
                "smaller model on: give an example with at least one row, and for which every output has elements"
            )
        if (invalid := np.isnan(_wide(output))).any():
            raise VerificationError(
                f"the masked model itself gives NaN, first at {_first(invalid)} of output {number}, so nothing can be "
                "compared with it: look for infinities and NaN in the example and in the weights"
            )
    if not any((np.isfinite(wide) & (wide != 0)).any() for wide in map(_wide, expected)):
        raise ExampleError(
            "the masked model's outputs for this example are all zero or infinite, on which no difference would show: "
            "give another example, such as random numbers"
        )


def is_noise(numbers: Array) -> bool:
    """Whether an example is as telling as random numbers would be.

    That is if nearly all of up to 16,384 of its numbers differ from each other, and nearly all steps between them too
    (they do not in ramps, of which a normalisation may leave one number). Images of 256 shades are not; zeros, ones and
    single tokens are not.
    """
    looked_at = numbers.reshape(-1)[:: -(-numbers.size // _LOOKED_AT) | 1].astype(np.float64)
    return looked_at.size >= _FEWEST and all(
        np.unique(each).size > 0.9 * each.size for each in (looked_at, np.diff(looked_at))
    )


def largest_error(expected: Sequence[Array], actual: Sequence[Array], exact: bool = True, precision: str = "") -> float:
    """The largest difference between outputs, relative to the largest number of the output, if rounding explains it.

    Args:
        expected: the masked model's outputs, which :func:`require_telling` let pass.
        actual: the smaller model's.
        exact: if False, any finite difference is accepted.
        precision: the coarsest floating type that the models compute with, if it is not the outputs'.

    Raises:
        VerificationError: rounding does not explain it: another shape, NaN or infinity, or too large a difference.
    """
    if [output.shape for output in expected] != [output.shape for output in actual]:
        raise VerificationError(
            f"the smaller model's outputs have other shapes than the masked one's; it was thrown away. {BAKED}"
        )
    pairs = zip(expected, actual, strict=True)
    return max(_error(number, *pair, _tolerance(pair[0], exact, precision)) for number, pair in enumerate(pairs))


def _tolerance(output: Array, exact: bool, precision: str) -> float:
    return max(TOLERANCES.get(name, 0.0) for name in (output.dtype.name, precision)) if exact else math.inf


def _error(number: int, expected: Array, actual: Array, tolerance: float) -> float:
    wide, other = _wide(expected), _wide(actual)
    finite = np.isfinite(wide)
    strange = np.where(finite, ~np.isfinite(other), wide != other)
    if strange.any():
        kind = "NaN" if np.isnan(other).any() else "infinity"
        raise VerificationError(
            f"only one of the two models gives {kind} at {_first(strange)} of output {number} (masked: "
            f"{wide[_first(strange)]}, smaller: {other[_first(strange)]}); the smaller one was thrown away"
        )
    difference = float(np.abs(wide[finite] - other[finite]).max(initial=0.0))
    largest = float(np.abs(wide[finite]).max(initial=0.0))
    error = difference / largest if largest > 0 else difference
    if error > tolerance:
        raise VerificationError(
            f"the smaller model's outputs differ from the masked model's by {error:.2g} of the largest number of "
            f"output {number} (rounding explains {tolerance:.0e}); it was thrown away. Were masked weights changed "
            "after release()? Or does the model's code compute with a size, as in x / x.shape[-1]? Then exclude the "
            "layers before it."
        )
    return error


def _wide(output: Array) -> Array:
    """Numbers in which differences of any output's numbers can be formed."""
    return output.astype(np.complex128 if output.dtype.kind == "c" else np.float64)


def _first(flags: Flags) -> tuple[int, ...]:
    return tuple(int(at) for at in np.argwhere(flags)[0])
