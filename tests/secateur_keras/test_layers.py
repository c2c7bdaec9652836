"""Whole residual branches of Keras models: masked equals removed, and what is left is an ordinary model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import secateur_keras as sk
from keras_models import randomize
from secateur import Flops, Layers, Parameters, Recipe
from secateur.errors import NoMatchError
from secateur.structure.branches import find, kernels
from secateur.structure.cost import cost

HALF = Recipe(0.5, Layers())


def _encoder(x: Any, block: int, width: int) -> Any:
    y = layers.LayerNormalization(name=f"norm{block}a")(x)
    x = x + layers.MultiHeadAttention(2, 4, dropout=0.1, name=f"attention{block}")(y, y)
    y = layers.LayerNormalization(name=f"norm{block}b")(x)
    y = layers.Dense(2 * width, activation="gelu", name=f"wide{block}")(y)
    return layers.Add(name=f"add{block}")([layers.Dropout(0.1)(layers.Dense(width, name=f"narrow{block}")(y)), x])


def transformer() -> keras.Model:
    inputs = keras.Input((5, 6))
    x = layers.Dense(8, name="embed")(inputs)
    for block in range(3):
        x = _encoder(x, block, 8)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))


def _basic(x: Any, name: str, channels: int, stride: int = 1) -> Any:
    y = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False, name=f"{name}a")(x)
    y = layers.ReLU()(layers.BatchNormalization(name=f"{name}b")(y))
    y = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}c")(y)
    y = layers.BatchNormalization(name=f"{name}d")(y)
    if stride > 1:
        x = layers.BatchNormalization(name=f"{name}f")(layers.Conv2D(channels, 1, stride, name=f"{name}e")(x))
    return layers.ReLU()(layers.Add()([x, y]))


def resnet() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.Conv2D(4, 3, padding="same", name="stem")(inputs))
    for name, channels, stride in (("p", 4, 1), ("q", 4, 1), ("r", 6, 2), ("s", 6, 1), ("t", 6, 1)):
        x = _basic(x, name, channels, stride)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x)))


class Block(keras.layers.Layer):
    """A layer of the user's own, which must be taken apart."""

    def __init__(self, width: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.norm = layers.LayerNormalization(name="norm")
        self.wide, self.narrow = (
            layers.Dense(2 * width, activation="relu", name="wide"),
            layers.Dense(width, name="narrow"),
        )
        self.width = width

    def build(self, shape: Any) -> None:
        self.norm.build(shape)
        self.wide.build(shape)
        self.narrow.build((*shape[:-1], 2 * self.width))

    def call(self, x: Any) -> Any:
        return x + self.narrow(self.wide(self.norm(x)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


def own_layers() -> keras.Model:
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, name="embed"), *(Block(8) for _ in range(4)), layers.Dense(3, name="head")]
    )


def nested() -> keras.Model:
    """Branches inside of a model inside of a model."""
    inputs = keras.Input((8,))
    inner = keras.Model(
        inputs, layers.Dense(8, name="second")(layers.Dense(8, name="first")(inputs) + inputs) + inputs, name="inner"
    )
    inputs = keras.Input((6,))
    x = inner(layers.Dense(8, name="embed")(inputs))
    x = layers.Add()([x, layers.Dense(8, name="outer")(x)])
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


MODELS: dict[str, tuple[Callable[[], keras.Model], int]] = {
    "transformer": (transformer, 6),
    "resnet": (resnet, 4),
    "own layers": (own_layers, 4),
    "nested": (nested, 3),
}


@dataclass(frozen=True)
class Case:
    """A model, an input, the number of its branches, and what is left without half of them."""

    model: keras.Model
    x: np.ndarray
    count: int
    pruned: sk.Pruned
    small: keras.Model


@pytest.fixture(params=MODELS, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    make, count = MODELS[request.param]
    model = randomize(make())
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    pruned = sk.prune(model, HALF)
    return Case(model, x, count, pruned, pruned.compact())


def outputs(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def test_masked_equals_removed(case: Case) -> None:
    removal = case.pruned.plan()
    graph = sk.graph(case.model)
    assert (len(find(graph)), removal.removed) == (case.count, int(0.5 * case.count + 0.5))
    assert case.pruned.max_error is not None and case.pruned.max_error < 1e-5
    np.testing.assert_allclose(outputs(case.small, case.x), outputs(case.model, case.x), rtol=1e-4, atol=1e-5)
    counted = sum(int(np.prod(weight.shape)) for weight in case.small.trainable_weights)
    assert counted == cost(graph, removal).parameters < cost(graph).parameters


def test_it_trains_and_is_saved_as_any_model(case: Case, tmp_path: Path) -> None:
    small = keras.models.clone_model(case.small)
    small.set_weights(case.small.get_weights())
    small.compile("sgd", "mse")
    before = [np.array(weight) for weight in small.get_weights()]
    small.fit(case.x, np.ones((4, 3), np.float32), verbose=0)
    assert any(not np.array_equal(old, new) for old, new in zip(before, small.get_weights(), strict=True))
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras", custom_objects={"Block": Block})
    np.testing.assert_allclose(outputs(again, case.x), outputs(small, case.x), rtol=1e-6, atol=1e-6)


def test_masks_hold_and_come_back_from_a_folder(case: Case, tmp_path: Path) -> None:
    case.model.fit(case.x, np.ones((4, 3), np.float32), verbose=0)
    case.pruned.save(tmp_path / "folder")
    again = sk.load(tmp_path / "folder", keras.models.clone_model(case.model))
    assert again.plan().branches == case.pruned.plan().branches
    np.testing.assert_allclose(
        outputs(case.pruned.compact(), case.x), outputs(case.model, case.x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", MODELS)
def test_all_branches_may_go(name: str) -> None:
    make, count = MODELS[name]
    model = randomize(make())
    pruned = sk.prune(model, Recipe(0.99, Layers()))
    small = pruned.compact()
    assert pruned.plan().removed == count
    assert find(sk.graph(small)) == []


@pytest.mark.parametrize("target", [Parameters, Flops])
def test_targets_on_costs(target: Any) -> None:
    model, recipe = randomize(transformer()), Recipe(target(0.3), Layers(), exclude=["wide0"])
    graph = sk.graph(model)
    pruned = sk.prune(model, recipe)
    assert recipe.target.of(cost(graph, pruned.plan())) <= 0.7 * recipe.target.of(cost(graph))  # type: ignore[union-attr]
    gone = {name for branch in pruned.plan().branches for name in kernels(graph, branch)}
    assert not {name for name in gone if name.startswith(("wide0", "narrow0"))}


def test_a_model_without_skips_is_refused() -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    with pytest.raises(NoMatchError, match="nowhere does the model add"):
        sk.prune(model, HALF)


def test_what_is_added_inside_of_a_wrapped_model_may_go() -> None:
    step = keras.Input((6,))
    inner = keras.Model(step, step + layers.Dense(6, name="inner")(step), name="step")
    x = keras.Input((3, 6))
    y = layers.TimeDistributed(inner, name="time_distributed")(x)
    model = keras.Model(x, layers.Dense(2, name="head")(y + layers.Dense(6, name="outer")(y)))
    graph = sk.graph(model)
    assert [kernels(graph, branch) for branch in find(graph)] == [
        ["time_distributed/step/inner/kernel"],
        ["outer/kernel"],
    ]
    pruned = sk.prune(randomize(model), Recipe(0.99, Layers()))
    small = pruned.compact()
    assert pruned.max_error is not None and pruned.max_error < 1e-5
    assert [weight.path.split("/")[-2] for weight in small.weights] == ["head", "head"]


class Gain(keras.layers.Layer):
    """A learned scale, as ConvNeXt's."""

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")

    def call(self, x: Any) -> Any:
        return x * self.gamma


def test_a_gain_of_the_users_own_closes_a_branch() -> None:
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="embed")(inputs)
    for name in "ab":
        x = x + Gain(name=f"gain_{name}")(layers.Dense(8, activation="sigmoid", name=name)(x))
    model = randomize(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    pruned = sk.prune(model, HALF)
    small = pruned.compact()
    assert len(small.weights) == len(model.weights) - 3
