"""Mean gradients over batches: against closed forms, and with nothing changed in the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_models
from secateur.errors import InvalidTensorError, MissingDataError, UnbuiltModelError
from secateur_keras.statistics import statistics

BOTH = ["mean_abs_gradient", "mean_gradient"]


def linear() -> keras.Model:
    return keras_models.randomize(keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense")]))


def regression(count: int = 70) -> tuple[Any, Any]:
    generator = np.random.default_rng(3)
    return generator.normal(size=(count, 3)).astype(np.float32), generator.normal(size=(count, 2)).astype(np.float32)


def by_hand(model: keras.Model, data: Any, size: int = 32) -> dict[str, Any]:
    """Gradients of the mean squared error of a dense layer, batch after batch; kernel in (out, in)."""
    (x, y), (kernel, bias) = data, model.get_weights()
    gradients = []
    for start in range(0, len(x), size):
        inputs, wanted = x[start : start + size], y[start : start + size]
        error = inputs @ kernel + bias - wanted
        gradients.append(2.0 * error.T @ inputs / error.size)
    return {"mean_abs_gradient": np.mean(np.abs(gradients), axis=0), "mean_gradient": np.mean(gradients, axis=0)}


def as_generator(data: Any) -> Iterator[Any]:
    for start in range(0, len(data[0]), 32):
        yield data[0][start : start + 32], data[1][start : start + 32]


def as_loader(data: Any) -> Any:
    """The loader that users of this backend have: tf.data, or PyTorch's; elsewhere a list."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices(data).batch(32)
    if keras.backend.backend() == "torch":
        import torch

        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*map(torch.tensor, data)), batch_size=32)
    return list(as_generator(data))


@pytest.mark.parametrize("form", [tuple, as_generator, as_loader, lambda data: list(as_generator(data))])
def test_means_equal_the_closed_form_for_every_kind_of_data(form) -> None:  # type: ignore[no-untyped-def]
    model, data = linear(), regression()
    found = statistics(model, form(data), "mse", BOTH)
    for name, expected in by_hand(model, data).items():
        assert found[name]["dense/kernel"].dtype == np.float32
        np.testing.assert_allclose(found[name]["dense/kernel"], expected, rtol=1e-4, atol=1e-6)


def test_a_loss_can_be_given_in_every_way_that_compile_takes() -> None:
    model, data = linear(), regression()
    expected = statistics(model, data, "mse", BOTH)
    losses = [
        keras.losses.MeanSquaredError(),
        keras.losses.mean_squared_error,
        lambda y_true, y_pred: keras.ops.mean(keras.ops.square(y_true - y_pred)),
    ]
    model.compile("sgd", "mse")
    for loss in [*losses, None]:
        found = statistics(model, data, loss, BOTH)
        np.testing.assert_allclose(found["mean_gradient"]["dense/kernel"], expected["mean_gradient"]["dense/kernel"])


def test_several_losses_are_weighted_as_compiled() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [layers.Dense(2, name="a")(inputs), layers.Dense(2, name="b")(inputs)])
    keras_models.randomize(model)
    model.compile("sgd", loss=["mse", "mse"], loss_weights=[1.0, 3.0])
    x, y = regression(20)
    found = statistics(model, [(x, [y, y])], None, ["mean_gradient"])["mean_gradient"]
    for name, weight in (("a", 1.0), ("b", 3.0)):
        alone = keras.Model(inputs, model.get_layer(name).output)
        expected = statistics(alone, [(x, y)], "mse", ["mean_gradient"])["mean_gradient"][f"{name}/kernel"]
        np.testing.assert_allclose(found[f"{name}/kernel"], weight * expected, rtol=1e-5)
    model.fit(x, [y, y], verbose=0)


def test_gathering_changes_nothing_and_ignores_dropout() -> None:
    model = keras_models.randomize(keras_models.plain_cnn())
    model.compile(keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = keras_models.classification(20, (8, 8, 2), 3)
    model.fit(*data, verbose=0)
    before = keras_models.snapshot(model), [np.array(v) for v in model.optimizer.variables]
    first, second = (statistics(model, data, None, BOTH) for _ in range(2))
    after = keras_models.snapshot(model), [np.array(v) for v in model.optimizer.variables]
    for old, new in zip(before[0] + before[1], after[0] + after[1], strict=True):
        np.testing.assert_array_equal(old, new)
    for name in BOTH:
        for weight, array in first[name].items():
            np.testing.assert_array_equal(array, second[name][weight])
    assert set(first["mean_gradient"]) >= {"conv/kernel", "norm/gamma", "norm/beta", "dense/kernel", "head/bias"}
    assert "norm/moving_mean" not in first["mean_gradient"]


def test_frozen_layers_and_later_changes_of_what_is_frozen_are_respected() -> None:
    model = keras_models.mlp()
    data = keras_models.classification()
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.get_layer("hidden").trainable = False
    assert list(statistics(model, data, loss, BOTH)["mean_gradient"]) == ["head/kernel", "head/bias"]
    model.get_layer("hidden").trainable, model.get_layer("head").trainable = True, False
    found = statistics(model, data, loss, BOTH)["mean_gradient"]
    assert {name: array.shape for name, array in found.items()} == {"hidden/kernel": (16, 16), "hidden/bias": (16,)}


def test_half_precision_is_summed_in_single() -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="bfloat16", name="dense")])
    keras_models.randomize(model)
    data = regression()
    found = statistics(model, data, "mse", BOTH)["mean_gradient"]["dense/kernel"]
    assert found.dtype == np.float32
    expected = by_hand(model, data)["mean_gradient"]
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())


def test_nan_is_found_in_its_batch() -> None:
    model, (x, y) = linear(), regression()
    x[40, 1] = np.nan
    with pytest.raises(InvalidTensorError, match=r"dense/kernel is NaN at .* in batch 1"):
        statistics(model, (x, y), "mse", BOTH)


def test_missing_data_labels_loss_and_statistics_are_named() -> None:
    model, (x, y) = linear(), regression()
    with pytest.raises(MissingDataError, match="without labels"):
        statistics(model, x, "mse", BOTH)
    with pytest.raises(MissingDataError, match="data"):
        statistics(model, None, "mse", BOTH)
    with pytest.raises(MissingDataError, match="not compiled with one"):
        statistics(model, (x, y), None, BOTH)
    with pytest.raises(MissingDataError, match="mean_squared_gradient"):
        statistics(model, (x, y), "mse", ["mean_squared_gradient"])
    with pytest.raises(UnbuiltModelError):
        statistics(keras.Sequential([layers.Dense(2)]), (x, y), "mse", BOTH)
