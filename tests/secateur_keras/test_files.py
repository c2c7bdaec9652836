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
import secateur_keras as sk
from secateur import Neurons, Recipe
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


@keras.saving.register_keras_serializable("secateur_tests")
class Unnamed(keras.Model):
    """Layers to which Keras gives numbers, two of them to be confused by name: ``dense``, ``dense_1`` or the next."""

    def __init__(self, width: int = 6, depth: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.depth = width, depth
        self.inside = [layers.Dense(width, activation="relu") for _ in range(depth)]
        self.normal = layers.BatchNormalization()
        self.head = layers.Dense(width)

    def call(self, x: Any) -> Any:
        for layer in self.inside:
            x = layer(x)
        return self.head(self.normal(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "depth": self.depth}


def unnamed(*sizes: int) -> keras.Model:
    model = Unnamed(*sizes)
    model(np.zeros((1, 6), np.float32))
    return model


SAMPLE = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)


def saved_unnamed(folder: Path, **choice: Any) -> Any:
    """A pruned model on disk, after which Keras goes on counting."""
    keras.backend.clear_session()
    model = keras_models.randomize(unnamed())
    session = sk.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer", **choice), example=SAMPLE)
    session.save(folder)
    return session


@pytest.mark.parametrize("cleared", [False, True], ids=["overlapping names", "a new session"])
def test_the_numbers_that_keras_gives_to_layers_do_not_matter(cleared: bool, tmp_path: Path) -> None:
    session = saved_unnamed(tmp_path, exclude=["dense_1"])
    keras.backend.clear_session()
    if not cleared:
        layers.Dense(1)  # so that the second layer here has the name of the third there
    fresh = unnamed()
    names = [item.name for item in parameters(fresh)]
    assert (names == [item.name for item in parameters(session.model)]) == cleared
    restored = sk.load(tmp_path, fresh, example=SAMPLE)
    assert restored.model is fresh
    for old, new in zip(session.model.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each.value) for each in (old, new)))
    masks = [session.masks[item.name] for item in parameters(session.model) if item.name in session.masks]
    renamed = [restored.masks[name] for name in names if name in restored.masks]
    for ours, theirs in zip(masks, renamed, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(masks) == len(restored.masks) > 0
    assert restored.recipe.exclude == (fresh.inside[1].name,)
    small, expected = restored.compact(), session.compact()
    assert [weight.shape for weight in small.weights] == [weight.shape for weight in expected.weights]
    np.testing.assert_array_equal(outputs(small, SAMPLE)[0], outputs(expected, SAMPLE)[0])


def test_a_model_rebuilt_from_the_folder_may_count_its_layers_otherwise(tmp_path: Path) -> None:
    session = saved_unnamed(tmp_path)
    restored = sk.load(tmp_path, example=SAMPLE)
    assert restored.model.inside[0].name != session.model.inside[0].name
    np.testing.assert_array_equal(outputs(restored.model, SAMPLE)[0], outputs(session.model, SAMPLE)[0])
    assert restored.sparsity == session.sparsity > 0


@pytest.mark.parametrize("sizes", [(6, 3), (6, 1)])
def test_names_that_differ_for_another_reason_are_told_with_the_first_pair(
    sizes: tuple[int, int], tmp_path: Path
) -> None:
    saved_unnamed(tmp_path)
    other = unnamed(*sizes)
    before = keras_models.snapshot(other)
    with pytest.raises(
        FileFormatError, match=r"names that differ: first \S+ \(of a \w+\) in the folder, .* in the mod"
    ):
        sk.load(tmp_path, other)
    for old, new in zip(before, keras_models.snapshot(other), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(FileFormatError, match=r"shape \(6,"):
        sk.load(tmp_path, unnamed(4))


def test_folders_from_before_the_order_was_told_go_by_names(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = keras_models.randomize(keras_models.mlp())
    write_model(model, tmp_path)
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS)
    same(model, read_model(tmp_path, keras_models.mlp()))
    with pytest.raises(FileFormatError, match="different weights"):
        read_model(tmp_path, unnamed())
