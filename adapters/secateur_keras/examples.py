"""Inputs of a model: what the user gave as an example, or what the model itself knows about its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from secateur.errors import ExampleError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

BATCH = 4
"""Examples in an input that is made up to compare outputs."""


def input_shapes(model: keras.Model, inputs: Sequence[Any], example: Any | None) -> list[Shape]:
    """The shapes to trace with: those of the inputs, open sizes taken from the example, and a batch of 1.

    Args:
        model: the model, for messages.
        inputs: its symbolic inputs.
        example: an input, or None.

    Raises:
        ExampleError: the example does not fit, or none was given although sizes are open.
    """
    given = [None] * len(inputs) if example is None else [tuple(part.shape) for part in matched(inputs, example)]
    return [_shape(model, symbolic, shape) for symbolic, shape in zip(inputs, given, strict=True)]


def matched(inputs: Sequence[Any], example: Any) -> list[Any]:
    """The parts of an example in the order of the model's inputs.

    Raises:
        ExampleError: another number of parts, or a part whose shape does not fit.
    """
    names = [symbolic.name for symbolic in inputs]
    if isinstance(example, dict) and set(names) <= set(example):
        parts = [example[name] for name in names]
    else:
        parts = keras.tree.flatten(example)
    parts = [part if hasattr(part, "shape") else np.asarray(part) for part in parts]
    if len(parts) != len(inputs):
        raise ExampleError(f"the example has {len(parts)} parts, but the model has the inputs {', '.join(names)}")
    for symbolic, part in zip(inputs, parts, strict=True):
        _require_fit(symbolic, tuple(part.shape))
    return parts


def made_up(model: keras.Model, inputs: Sequence[Any]) -> list[Array]:
    """Reproducible random inputs: standard normal numbers, and zeros and ones where the model wants integers.

    Raises:
        ExampleError: the model leaves sizes open.
    """
    generator = np.random.default_rng(0)
    arrays = []
    for symbolic in inputs:
        shape = _shape(model, symbolic, None)
        shape = (BATCH if symbolic.shape[0] is None else shape[0], *shape[1:])
        dtype = keras.backend.standardize_dtype(symbolic.dtype)
        drawn = generator.normal(size=shape) if "float" in dtype else generator.integers(0, 2, shape)
        arrays.append(drawn.astype("float32" if "float" in dtype else dtype))
    return arrays


def drawn_like(parts: Sequence[Any], entries: Sequence[int | None]) -> list[Any]:
    """Reproducible random arrays of the shapes and types of these; whole numbers only below ``entries``, where given.

    Other whole numbers and booleans stay as they are.
    """
    generator = np.random.default_rng(0)
    drawn: list[Any] = []
    for part, limit in zip(parts, entries, strict=True):
        dtype = keras.backend.standardize_dtype(part.dtype)
        if limit is not None:
            drawn.append(generator.integers(0, limit, tuple(part.shape)).astype(dtype))
        elif "float" in dtype:
            drawn.append(generator.normal(size=tuple(part.shape)).astype("float32"))
        else:
            drawn.append(part)
    return drawn


def _shape(model: keras.Model, symbolic: Any, given: Shape | None) -> Shape:
    shape = tuple(symbolic.shape)
    batch = 1 if shape[:1] in ((), (None,)) else shape[0]
    if given is None and None in shape[1:]:
        raise ExampleError(
            f"input {symbolic.name!r} of model {model.name!r} has the open shape {shape}: pass example=, an input"
        )
    return (batch, *(shape if given is None else given)[1:])


def _require_fit(symbolic: Any, shape: Shape) -> None:
    expected = tuple(symbolic.shape)
    fits = len(shape) == len(expected) and all(
        wanted in (None, size) for wanted, size in zip(expected[1:], shape[1:], strict=True)
    )
    if not fits:
        raise ExampleError(
            f"the example for input {symbolic.name!r} has shape {shape}, the model takes {expected}, the batch first"
        )
