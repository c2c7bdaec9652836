"""Means of what kernels read: against plain NumPy, however the data is cut into batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from secateur.activations import Activations, along, grouped_features
from secateur.batches import batches
from secateur.errors import InvalidTensorError, MissingDataError, ShapeMismatchError
from secateur.statistics import ACTIVATIONS, of_origin, takes_loss

BOTH = ("input_mean", "input_square")


@settings(deadline=None, max_examples=30)
@given(
    shape=hs.lists(hs.integers(1, 5), min_size=1, max_size=4),
    axis=hs.integers(0, 3),
    cuts=hs.lists(hs.integers(0, 12), max_size=3),
    dtype=hs.sampled_from([np.float16, np.float32, np.float64]),
    seed=hs.integers(0, 2**16),
)
def test_means_are_over_all_rows_however_they_are_cut(
    shape: list[int], axis: int, cuts: list[int], dtype: type, seed: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(12, *shape)).astype(dtype)
    axis = 1 + axis % len(shape)
    gathered = Activations(BOTH)
    features = along(1, 3, x.shape[axis])
    for number, piece in enumerate(np.split(x, sorted(cuts))):
        gathered.add("kernel", np.moveaxis(piece, 0, -1), axis - 1, features, number)
    found = gathered.means()
    wide = np.moveaxis(x.astype(np.float64), axis, 0).reshape(x.shape[axis], -1)
    for name, expected in zip(BOTH, (wide.mean(1), np.square(wide).mean(1)), strict=True):
        assert found[name]["kernel"].shape == (1, x.shape[axis], 1)
        np.testing.assert_allclose(found[name]["kernel"][0, :, 0], expected, rtol=1e-12, atol=1e-14)


def test_a_grouped_kernel_has_the_features_of_its_group() -> None:
    features = grouped_features(outputs=6, inputs=4, groups=2, space=2)
    assert features.shape == (6, 2, 1, 1)
    assert features[:, :, 0, 0].tolist() == [[0, 1]] * 3 + [[2, 3]] * 3
    assert grouped_features(6, 4, 1, 1).tolist() == [[[0], [1], [2], [3]]]


def test_several_uses_are_one_mean_unless_they_read_in_different_ways() -> None:
    gathered = Activations(["input_mean"])
    gathered.add("shared", np.ones((3, 2)), -1, along(1, 2, 2), 0)
    gathered.add("shared", np.zeros((1, 2)), -1, along(1, 2, 2), 0)
    gathered.add("torn", np.ones((3, 2)), -1, along(1, 2, 2), 0)
    gathered.add("torn", np.ones((3, 2)), -1, along(0, 2, 2), 0)
    gathered.add("torn", np.ones((3, 2)), -1, along(1, 2, 2), 1)
    gathered.add("idle", np.ones((0, 2)), -1, along(1, 2, 2), 0)
    assert {name: mean.tolist() for name, mean in gathered.means()["input_mean"].items()} == {"shared": [[0.75, 0.75]]}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_named(value: float) -> None:
    x = np.ones((4, 3))
    x[1, 2] = value
    x[2, 2] = -value
    with pytest.raises(InvalidTensorError, match=rf"fc reads is {value} at \(1, 2\) in batch 7"):
        Activations(["input_mean"]).add("fc", x, -1, along(1, 2, 3), 7)


def test_needs_are_sorted_by_what_they_take() -> None:
    needs = ["input_square", "mean_gradient", "input_square", "hessian_gradient"]
    assert of_origin(needs, "gradients") == ["mean_gradient"]
    assert of_origin(needs, "activations") == ["input_square"]
    assert takes_loss(needs)
    assert not takes_loss([*ACTIVATIONS, "flow_gradient"])
    with pytest.raises(MissingDataError, match="curvature cannot be gathered, only mean_abs_gradient"):
        of_origin(["curvature"], "flow")


def test_rows_without_labels() -> None:
    x = np.arange(10.0).reshape(5, 2)
    assert [(len(inputs), labels) for inputs, labels in batches(x, 2, labelled=False)] == [
        (2, None),
        (2, None),
        (1, None),
    ]
    named = list(batches({"a": x, "b": x[:, 0]}, 3, labelled=False))
    assert [inputs["b"].tolist() for inputs, _ in named] == [[0, 2, 4], [6, 8]]
    assert [labels for _, labels in batches([x, (x, 1), {"a": x}], labelled=False)] == [None, 1, None]
    assert next(batches((x, x[:, 0]), labelled=False))[1].tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(ShapeMismatchError, match="different length"):
        list(batches({"a": x, "b": x[1:]}, labelled=False))
    with pytest.raises(MissingDataError, match="data is a int"):
        list(batches(3, labelled=False))
    with pytest.raises(MissingDataError, match="no batch"):
        list(batches(x[:0], labelled=False))
