"""Smaller models: the same outputs as under masks, ordinary Keras models in every respect, the original untouched."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_models
import secateur_keras as sk
from secateur import KSigma, Neurons, Recipe
from secateur.errors import TraceError
from secateur.pruned import Pruned
from secateur.structure.cost import cost
from secateur.structure.coupling import couple
from secateur.structure.removal import plan
from secateur_keras.parameters import parameters
from secateur_keras.surgery import compact
from secateur_keras.tracing import graph, outputs

HALF = Recipe(0.5, granularity=Neurons(), scope="layer")


def pruned(model: keras.Model, recipe: Recipe = HALF, example: Any = None) -> tuple[Pruned, keras.Model]:
    session = sk.prune(model, recipe, example=example)
    return session, session.compact()


def remove(model: keras.Model, seed: int, example: Any = None) -> keras.Model:
    """The model without a random half of its units, whatever their weights: masks would be checked by the pruner."""
    traced = graph(model, example)
    coupling = couple(traced)
    gone = np.random.default_rng(seed).random(coupling.count) < 0.5
    for layer in range(len(coupling.layer_names)):
        members = np.flatnonzero(coupling.layers == layer)
        gone[members[0]] = False
    return compact(model, traced, plan(traced, coupling, gone))


@pytest.mark.parametrize("name", keras_models.NETWORKS)
def test_masked_equals_removed_and_costs_what_the_plan_says(name: str) -> None:
    model = keras_models.randomize(keras_models.NETWORKS[name]())
    session, small = pruned(model)
    assert session.max_error is not None
    assert session.max_error < 1e-5
    traced = graph(model)
    expected = cost(traced, session.plan())
    assert small.count_params() < model.count_params()
    assert sum(p.view.size for p in parameters(small) if p.trainable) == expected.parameters
    assert sum(p.view.nbytes for p in parameters(small)) == expected.bytes
    assert [p.role for p in parameters(small)] == [p.role for p in parameters(model)]
    if name in ("subclassed", "blocks"):
        assert type(small) is type(keras_models.residual())
    else:
        assert type(small) is type(model)
        assert [p.name for p in parameters(small)] == [p.name for p in parameters(model)]
        assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    np.testing.assert_array_equal(cost(graph(small)).flops, expected.flops)


def test_the_classic_network_keeps_the_neurons_that_score_highest() -> None:
    model = keras_models.randomize(keras_models.mlp(8))
    kernel, bias = (np.array(array) for array in model.get_layer("hidden").get_weights())
    head = np.array(model.get_layer("head").kernel)
    best = np.sort(np.argsort(np.abs(kernel).sum(axis=0))[4:])
    session, small = pruned(model)
    np.testing.assert_array_equal(np.array(small.get_layer("hidden").kernel), kernel[:, best])
    np.testing.assert_array_equal(np.array(small.get_layer("hidden").bias), bias[best])
    np.testing.assert_array_equal(np.array(small.get_layer("head").kernel), head[best])
    assert small.get_layer("hidden").units == 4
    assert session.masks["hidden/kernel"].shape == (16, 8)
    np.testing.assert_array_equal(np.flatnonzero(session.masks["hidden/kernel"].any(axis=0)), best)


def test_layers_have_their_new_sizes_and_every_tensor_can_be_tapped() -> None:
    model = keras_models.randomize(keras_models.separable())
    small = remove(model, 2)
    sizes = {layer.name: layer.output.shape[-1] for layer in small.layers}
    assert small.get_layer("conv").filters == sizes["conv"] < 8
    assert sizes["depthwise"] == 2 * sizes["conv"]
    assert small.get_layer("grouped").filters == sizes["grouped"] < 8
    assert small.get_layer("separable").filters == sizes["separable"] < 6
    chain = remove(keras_models.randomize(keras_models.plain_cnn()), 1)
    tapped = keras.Model(chain.inputs[0], chain.get_layer("dense").output)
    assert tapped(np.zeros((2, 8, 8, 2), np.float32)).shape == (2, chain.get_layer("dense").units)


def test_the_given_model_is_only_read() -> None:
    model = keras_models.randomize(keras_models.nested())
    model.compile("adam", "mse")
    before, config = keras_models.snapshot(model), model.get_config()
    expected = outputs(model)
    small = remove(model, 0)
    small.set_weights([np.zeros_like(array) for array in small.get_weights()])
    assert model.get_config() == config
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(outputs(model)[0], expected[0])


def test_removing_nothing_gives_a_model_of_its_own_with_the_same_weights() -> None:
    model = keras_models.randomize(keras_models.residual())
    traced = graph(model)
    coupling = couple(traced)
    copy = compact(model, traced, plan(traced, coupling, np.zeros(coupling.count, np.bool_)))
    for ours, theirs in zip(model.weights, copy.weights, strict=True):
        assert ours is not theirs
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    assert any(np.abs(array).max() > 0 for array in copy.get_weights())


def test_the_smaller_model_trains_at_once_with_what_it_was_compiled_with() -> None:
    def doubled(y_true: Any, y_pred: Any) -> Any:
        return 2.0 * keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    model, data = keras_models.randomize(keras_models.mlp()), keras_models.classification()
    metric = keras.metrics.SparseCategoricalAccuracy(name="share")
    model.compile(keras.optimizers.SGD(0.25, momentum=0.5), doubled, metrics=[metric])
    model.fit(*data, verbose=0)
    _, small = pruned(model)
    assert small.optimizer is not model.optimizer
    assert float(small.optimizer.learning_rate) == 0.25
    assert small.optimizer.momentum == 0.5
    history = small.fit(*data, epochs=8, verbose=0).history
    assert set(history) == {"loss", "share"}
    assert history["loss"][-1] < history["loss"][0]
    assert "apply" not in vars(small.optimizer)


@pytest.mark.parametrize("name", ["plain_cnn", "raw_operations", "shared_layer"])
def test_the_smaller_model_is_saved_and_loaded_as_any_other(name: str, tmp_path: Path) -> None:
    small = remove(keras_models.randomize(keras_models.NETWORKS[name]()), 3)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert [layer.output.shape for layer in loaded.layers] == [layer.output.shape for layer in small.layers]
    for ours, theirs in zip(small.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_frozen_layers_stay_frozen_and_shrink_too() -> None:
    model = keras_models.randomize(keras_models.plain_cnn())
    model.get_layer("conv").trainable = model.get_layer("norm").trainable = False
    small = remove(model, 1)
    assert {layer.name: layer.trainable for layer in small.layers} == {
        layer.name: layer.trainable for layer in model.layers
    }
    assert small.get_layer("conv").filters < 6
    assert len(small.trainable_variables) == len(model.trainable_variables)
    nested = keras_models.randomize(keras_models.nested())
    nested.get_layer("middle").trainable = False
    nested.get_layer("middle").layers[1].trainable = True
    assert len(remove(nested, 1).trainable_variables) == len(nested.trainable_variables) == 6


def test_a_layer_of_one_neuron_keeps_it() -> None:
    model = keras_models.randomize(
        keras.Sequential([keras.Input((3,)), layers.Dense(1, name="one"), layers.Dense(6), layers.Dense(2)])
    )
    session, small = pruned(model, Recipe(KSigma(0.0), granularity=Neurons(), scope="model", exclude=["one"]))
    assert small.get_layer("one").units == 1
    assert session.max_error is not None
    assert session.max_error < 1e-5
    assert small.count_params() < model.count_params()


def test_open_sizes_stay_open() -> None:
    inputs = keras.Input((None, None, 2))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    x = layers.Reshape((-1, 6))(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.GlobalAveragePooling1D()(x)))
    _, small = pruned(keras_models.randomize(model), example=np.zeros((1, 5, 4, 2), np.float32))
    assert small.input_shape == (None, None, None, 2)
    assert outputs(small, np.zeros((2, 9, 7, 2), np.float32))[0].shape == (2, 2)
    assert small.layers[2].target_shape == (-1, 3)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_precision_is_carried_over(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = keras_models.randomize(keras_models.mlp())
    finally:
        keras.config.set_dtype_policy("float32")
    session, small = pruned(model)
    assert session.max_error is not None
    assert session.max_error < (0.02 if policy == "bfloat16" else 0.005)
    assert small.get_layer("hidden").dtype_policy.name == policy
    assert [weight.dtype for weight in small.weights] == [weight.dtype for weight in model.weights]


def test_layers_and_functions_of_ones_own_are_rebuilt_unregistered() -> None:
    class Twice(layers.Layer):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor
            self.inner = layers.Dense(6)

        def call(self, x: Any) -> Any:
            return self.factor * self.inner(x)

    def cubed(x: Any) -> Any:
        return x * x * x

    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(6, activation=cubed),
            Twice(3.0),
            layers.Lambda(lambda x: x + 1.0),
            layers.Dense(8, activation="relu", name="late"),
            layers.Dense(2),
        ]
    )
    session, small = pruned(keras_models.randomize(model))
    assert session.max_error is not None
    assert session.max_error < 1e-5
    assert small.get_layer("hidden").units == small.get_layer("late").units == 4
    assert small.layers[2].factor == 3.0


GAIN = 2.0


def test_functions_of_lambdas_keep_the_names_around_them() -> None:
    factor = 3.0
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, activation="relu", name="hidden")(inputs)
    hidden = layers.Dense(6)(hidden)
    hidden = layers.Lambda(lambda x: ops.relu(x) * GAIN, output_shape=lambda shape: shape)(hidden)
    hidden = layers.Lambda(lambda x, power: x**power + factor, arguments={"power": 2})(hidden)
    session, small = pruned(keras_models.randomize(keras.Model(inputs, layers.Dense(2)(hidden))))
    assert session.max_error is not None
    assert session.max_error < 1e-5
    assert small.get_layer("hidden").units == 4


def test_a_layer_that_cannot_be_called_anew_is_told_in_words() -> None:
    class Once(layers.Layer):  # type: ignore[misc]
        used = False

        def call(self, x: Any) -> Any:
            if type(self).used:
                raise RuntimeError("once is enough")
            return x * 2.0

    inputs = keras.Input((4,))
    hidden = Once()(layers.Dense(6)(layers.Dense(8, activation="relu")(inputs)))
    model = keras_models.randomize(keras.Model(inputs, layers.Dense(2)(hidden)))
    before = [np.array(weight) for weight in model.get_weights()]
    traced = graph(model)
    coupling = couple(traced)
    removal = plan(traced, coupling, np.arange(coupling.count) < 2)
    Once.used = True
    with pytest.raises(TraceError, match="once is enough"):
        compact(model, traced, removal)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_layers_made_of_layers_are_taken_apart_only_where_something_shrinks(tmp_path: Path) -> None:
    model = keras_models.randomize(keras_models.blocks())
    model.layers[1].trainable = False
    traced = graph(model)
    coupling = couple(traced)
    gone = np.zeros(coupling.count, np.bool_)
    first = coupling.layer_names.index("block/wide/kernel")
    gone[np.flatnonzero(coupling.layers == first)[:5]] = True
    small = compact(model, traced, plan(traced, coupling, gone))
    names = [layer.name for layer in small.layers]
    assert small.get_layer("block_wide").units == 7
    assert [type(layer).__name__ for layer in small.layers].count("Tower") == 1
    assert not any(name.startswith("tower_") for name in names)
    assert not small.get_layer("block_wide").trainable
    assert len(small.trainable_variables) == len(model.trainable_variables)
    remove(model, 0).save(tmp_path / "small.keras")
    assert keras.models.load_model(tmp_path / "small.keras").count_params() < model.count_params()


def test_a_train_step_of_ones_own_is_kept() -> None:
    class Counting(keras.Model):
        steps = 0

        def train_step(self, *arguments: Any) -> Any:
            type(self).steps += 1
            return super().train_step(*arguments)

    base = keras_models.mlp()
    model = Counting(base.inputs, base.outputs)
    model.compile("sgd", "mse")
    small = remove(model, 0)
    assert isinstance(small, Counting)
    small.fit(np.zeros((4, 4, 4), np.float32), np.zeros((4, 10), np.float32), verbose=0)
    assert Counting.steps > 0

    class OwnCompile(keras.Model):
        def compile(self, rate: float) -> None:
            super().compile(keras.optimizers.SGD(rate), "mse")

    model = OwnCompile(base.inputs, base.outputs)
    model.compile(rate=0.5)
    assert not remove(model, 0).compiled


def test_a_layer_called_on_two_shapes_cannot_take_two_sizes() -> None:
    inputs = keras.Input((4, 3, 2))
    narrow, wide = layers.Conv2D(4, 1, name="a")(inputs), layers.Conv2D(4, 1, name="b")(inputs)
    shared = layers.Reshape((12, 4), name="shared")
    heads = [layers.Dense(2, name=f"head{index}")(shared(x)) for index, x in enumerate((narrow, wide))]
    model = keras_models.randomize(keras.Model(inputs, heads))
    traced = graph(model)
    coupling = couple(traced)
    gone = np.zeros(coupling.count, np.bool_)
    gone[0] = True
    with pytest.raises(TraceError, match="shared is used twice"):
        compact(model, traced, plan(traced, coupling, gone))


def test_what_cannot_be_rebuilt_or_was_not_traced_is_refused() -> None:
    class Positional(layers.Layer):
        def __init__(self, *sizes: int) -> None:
            super().__init__()
            self.sizes = sizes

        def call(self, x: Any) -> Any:
            return x

    model = keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Dense(6), Positional(1, 2), layers.Dense(2)])
    with pytest.raises(TraceError, match="get_config"):
        remove(model, 0)
    traced = graph(keras_models.mlp())
    coupling = couple(traced)
    with pytest.raises(TraceError, match="not the one that was traced"):
        compact(keras_models.residual(), traced, plan(traced, coupling, np.zeros(coupling.count, np.bool_)))


class Moody(keras.Model):
    """What it does may depend on the mode."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.hidden = layers.Dense(8, activation="relu", name="hidden")
        self.noise = layers.GaussianNoise(0.5, name="noise")
        self.drop = layers.Dropout(0.5, name="drop")
        self.extra = layers.Dense(2, name="extra")
        self.head = layers.Dense(3, name="head")

    def call(self, x: Any, training: bool = False) -> Any:
        if self.way == "noise" and training:
            x = self.noise(x, training=True)
        x = self.drop(self.hidden(x), training=training)
        if self.way == "scale":
            x = x * (0.5 if training else 1.0)
        if self.way == "unused" and training:
            self.extra(x)
        if self.way == "auxiliary" and training:
            return self.head(x), self.extra(x)
        if self.way == "swap" and training:
            return self.extra(x)
        x = keras.ops.add(self.head(x)[:, :], np.ones(3, np.float32))
        return keras.ops.clip(x, -9.0, 8.0 if self.way == "clip" and training else 9.0)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("noise", "noise only in training"),
        ("auxiliary", "extra only in training"),
        ("swap", "head only in inference; extra only in training"),
        ("scale", "hidden, drop, head"),
        ("clip", "hidden, drop, head"),
    ],
)
def test_a_model_that_does_something_else_in_training_is_not_rebuilt(way: str, words: str) -> None:
    example = np.zeros((1, 5), np.float32)
    model = Moody(way)
    model(example)
    session = sk.prune(keras_models.randomize(model), HALF, example=example + 1.0)
    with pytest.raises(TraceError, match=rf"Moody\.call does something else in training.*{words}"):
        session.compact()


@pytest.mark.parametrize("way", ["same", "unused"])
def test_a_model_that_does_the_same_in_training_is_rebuilt_with_its_dropout(way: str) -> None:
    example = np.ones((4, 5), np.float32)
    model = Moody(way)
    model(example)
    _, small = pruned(keras_models.randomize(model), example=example)
    runs = [keras.ops.convert_to_numpy(small(example, training=mode)) for mode in (True, False, False)]
    assert not np.array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[1], runs[2])


@pytest.mark.parametrize("dropout", [layers.Dropout, layers.AlphaDropout])
def test_the_noise_of_dropout_takes_the_new_size(dropout: Any) -> None:
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            layers.Dense(16, name="hidden"),
            dropout(0.5, noise_shape=(None, 1, 16), name="features"),
            dropout(0.5, noise_shape=(None, 3, 1), name="places"),
            layers.Dense(2, name="head"),
        ]
    )
    keras_models.randomize(model)
    session, state = sk.prune(model, HALF), random.getstate()
    before = keras_models.snapshot(model)
    small = session.compact()
    assert random.getstate() == state
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert small.get_layer("features").noise_shape == (None, 1, 8)
    assert small.get_layer("places").noise_shape == (None, 3, 1)
    assert small(np.ones((5, 3, 4), np.float32), training=True).shape == (5, 3, 2)
    assert model.get_layer("features").noise_shape == (None, 1, 16)


def test_a_smaller_model_that_cannot_train_is_refused() -> None:
    class Fixed(layers.SpatialDropout1D):
        """In inference it is a dropout like any other; the size of its noise is written in the code."""

        def _get_noise_shape(self, inputs: Any) -> tuple[int, ...]:
            return (1, 1, 16)

    inputs = [keras.Input((3, 4)), layers.Dense(16, name="hidden"), Fixed(0.5, name="fixed"), layers.Dense(2)]
    model = keras_models.randomize(keras.Sequential(inputs))
    with pytest.raises(TraceError, match="does not run in training mode"):
        pruned(model)
    assert model(np.ones((5, 3, 4), np.float32), training=True).shape == (5, 3, 2)
