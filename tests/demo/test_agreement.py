"""Masks are compared bit by bit, pair by pair, from the files that the processes left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secateur.demo.agreement import (
    OWN_GRADIENTS,
    OWN_TRAINING,
    SAME_ARRAYS,
    Made,
    MaskComparison,
    different_bits,
    largest_difference,
)
from secateur.demo.exchange import Exchange
from secateur.demo.plan import Choice
from secateur.errors import ShapeMismatchError

BY_MAGNITUDE = Choice("weights", "magnitude", "percentile", "static")
BY_GRADIENT = Choice("neurons", "gradient", "percentile", "static")


def test_every_differing_bit_is_counted() -> None:
    first = {"a.kernel": np.array([[True, False], [True, True]]), "a.bias": np.array([True, True])}
    second = {"a.kernel": np.array([[True, True], [True, False]]), "a.bias": np.array([True, False])}
    assert different_bits(first, second) == (6, 3)
    assert different_bits(first, first) == (6, 0)


@pytest.mark.parametrize("other", [{}, {"a": np.ones((1, 4), np.bool_)}, {"b": np.ones((2, 2), np.bool_)}])
def test_masks_of_other_parameters_are_not_compared(other: dict[str, np.ndarray]) -> None:
    with pytest.raises(ShapeMismatchError):
        different_bits({"a": np.ones((2, 2), np.bool_)}, other)


def test_the_largest_difference_is_relative_to_its_own_parameter() -> None:
    first = {"a": np.array([100.0, 1.0], np.float32), "b": np.array([0.5], np.float32), "c": np.zeros(2, np.float32)}
    second = {"a": np.array([101.0, 1.0], np.float32), "b": np.array([0.25], np.float32), "c": np.zeros(2, np.float32)}
    assert largest_difference(first, second) == 0.5
    assert largest_difference({}, {}) == 0.0


def leave(exchange: Exchange, platform: str, flipped: dict[str, int]) -> None:
    """What a process of one platform writes: masks of both recipes, with some bits flipped in each kind."""
    for kind in ("shared-masks", "own-masks", "trained-masks"):
        mask = np.ones((4, 5), np.bool_)
        mask.flat[: flipped.get(kind, 0)] = False
        masks = {f"{choice.label}/hidden.kernel": mask for choice in (BY_MAGNITUDE, BY_GRADIENT)}
        exchange.write(kind, "mlp", masks, platform)
    gradients = np.full(3, 2.0 if platform == "torch" else 1.5, np.float32)
    exchange.write("own-statistics", "mlp", {"hidden.kernel": gradients}, platform)


def test_each_pair_of_one_recipe_is_compared_in_every_way_that_applies(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path)
    leave(exchange, "torch", {})
    leave(exchange, "keras/jax", {"own-masks": 2, "trained-masks": 7})
    runs = [
        Made(platform, "mlp", choice) for choice in (BY_MAGNITUDE, BY_GRADIENT) for platform in ("torch", "keras/jax")
    ]
    records = MaskComparison(exchange, "torch").every_pair(runs)
    assert [(record.first, record.second, record.inputs, record.bits, record.different) for record in records] == [
        (0, 1, SAME_ARRAYS, 20, 0),
        (0, 1, OWN_TRAINING, 20, 7),
        (2, 3, SAME_ARRAYS, 20, 0),
        (2, 3, OWN_GRADIENTS, 20, 2),
        (2, 3, OWN_TRAINING, 20, 7),
    ]
    assert [bool(record.reason) for record in records] == [False, True, False, True, True]
    assert "2.5e-01 of the largest, which decides" in records[3].reason


def test_gradients_that_differ_without_effect_are_told_too(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path)
    leave(exchange, "torch", {})
    leave(exchange, "keras/jax", {})
    runs = [Made(platform, "mlp", BY_GRADIENT) for platform in ("torch", "keras/jax")]
    (record,) = [found for found in MaskComparison(exchange, "torch").every_pair(runs) if found.inputs == OWN_GRADIENTS]
    assert record.different == 0
    assert "2.5e-01 of the largest, but no score" in record.reason


def test_one_platform_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    runs = [Made("torch", "mlp", BY_MAGNITUDE), Made("torch", "cnn", BY_MAGNITUDE)]
    assert MaskComparison(Exchange(tmp_path), "torch").every_pair(runs) == []
