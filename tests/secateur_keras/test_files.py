"""Models in folders: read back without code, refused when damaged, never half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_models
from secateur.errors import FileFormatError
from secateur_keras.files import ARCHITECTURE, WEIGHTS, read_model, write_model
from secateur_keras.parameters import parameters
from secateur_keras.tracing import outputs


def same(ours: keras.Model, theirs: keras.Model) -> None:
    pairs = list(zip(parameters(ours), parameters(theirs), strict=True))
    for a, b in pairs:
        assert (a.name, a.role, a.view.dtype) == (b.name, b.role, b.view.dtype)
        np.testing.assert_array_equal(a.view, b.view)


@pytest.mark.parametrize("name", ["mlp", "plain_cnn", "separable", "shared_layer", "raw_operations"])
def test_a_model_of_keras_layers_is_read_back_from_the_folder_alone(name: str, tmp_path: Path) -> None:
    model = keras_models.randomize(keras_models.NETWORKS[name]())
    write_model(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ARCHITECTURE, WEIGHTS]
    same(model, read_model(tmp_path))


def test_counters_and_small_types_are_written_too(tmp_path: Path) -> None:
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(size=(8, 3)))
    model = keras.Sequential([keras.Input((3,)), normalization, layers.Dense(2, dtype="bfloat16")])
    write_model(model, tmp_path)
    loaded = read_model(tmp_path)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each.value) for each in (ours, theirs)))
    np.testing.assert_array_equal(outputs(model)[0], outputs(loaded)[0])


def test_what_the_model_was_compiled_with_comes_back_if_it_is_known(tmp_path: Path) -> None:
    model = keras_models.mlp()
    model.compile("adam", "sparse_categorical_crossentropy")
    write_model(model, tmp_path)
    read_model(tmp_path).fit(*keras_models.classification(), verbose=0)

    def own(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(y_true - y_pred)

    model.compile("adam", own)
    write_model(model, tmp_path)
    loaded = read_model(tmp_path)
    same(model, loaded)
    assert not loaded.compiled


def test_a_model_of_ones_own_class_needs_a_model_which_receives_the_weights(tmp_path: Path) -> None:
    model = keras_models.randomize(keras_models.subclassed())
    write_model(model, tmp_path)
    with pytest.raises(FileFormatError, match="model="):
        read_model(tmp_path)
    fresh = keras_models.subclassed()
    assert read_model(tmp_path, fresh) is fresh
    same(model, fresh)


def test_a_model_that_keras_cannot_describe_is_written_all_the_same(tmp_path: Path) -> None:
    class Positional(layers.Layer):
        def __init__(self, *sizes: int) -> None:
            super().__init__()
            self.sizes = sizes

        def call(self, x: Any) -> Any:
            return x

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense"), Positional(1)])
    write_model(model, tmp_path)
    with pytest.raises(FileFormatError, match="holds no architecture"):
        read_model(tmp_path)
    same(model, read_model(tmp_path, keras.models.clone_model(model, clone_function=lambda layer: layer)))


def test_lambdas_are_not_run_from_a_file(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense"), layers.Lambda(lambda x: x + 1)])
    write_model(model, tmp_path)
    with pytest.raises(FileFormatError, match="cannot be rebuilt"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, ARCHITECTURE])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 64, b'{"class_name": "Nothing"}', None])
def test_damaged_and_missing_files_are_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    write_model(keras_models.mlp(), tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=name.replace(".", r"\.")):
        read_model(tmp_path)


def test_cut_off_weights_are_refused(tmp_path: Path) -> None:
    write_model(keras_models.mlp(), tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[:-8])
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_model(tmp_path)


def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path: Path) -> None:
    write_model(keras_models.randomize(keras_models.mlp(16)), tmp_path)
    for other, message in ((keras_models.mlp(8), "hidden/kernel"), (keras_models.plain_cnn(), "different weights")):
        before = keras_models.snapshot(other)
        with pytest.raises(FileFormatError, match=message):
            read_model(tmp_path, other)
        for old, new in zip(before, keras_models.snapshot(other), strict=True):
            np.testing.assert_array_equal(old, new)
    half = keras.Sequential(
        [
            keras.Input((4, 4)),
            layers.Flatten(),
            layers.Dense(16, name="hidden", dtype="float16"),
            layers.Dense(10, name="head"),
        ]
    )
    with pytest.raises(FileFormatError, match="float16"):
        read_model(tmp_path, half)


def test_an_architecture_without_weights_is_refused(tmp_path: Path) -> None:
    write_model(keras_models.mlp(), tmp_path)
    unbuilt = keras.saving.serialize_keras_object(keras.Sequential([layers.Dense(3)]))
    (tmp_path / ARCHITECTURE).write_text(json.dumps(unbuilt))
    with pytest.raises(FileFormatError, match="before it is called"):
        read_model(tmp_path)
