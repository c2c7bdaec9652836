"""The graph that is read off Keras models: kinds, shapes, parameters, order, and what is not known."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_models
import secateur_keras as sk
from secateur import Neurons, Recipe
from secateur.errors import ExampleError, TraceError, UnbuiltModelError
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from secateur_keras.adapter import KerasAdapter
from secateur_keras.tracing import graph, outputs


def kinds(traced: Graph) -> list[str]:
    return [operation.kind for operation in traced.operations]


def unknown(traced: Graph) -> list[tuple[str, str]]:
    return [(each.source, each.label) for each in traced.operations if each.kind == "unknown"]


def of_layer(layer: Any, shape: tuple[int, ...] = (6,)) -> Graph:
    return graph(keras.Sequential([keras.Input(shape), layer]))


def test_the_classic_network_is_read_line_by_line() -> None:
    traced = graph(keras_models.mlp())
    assert kinds(traced) == ["reshape", "linear", "elementwise", "linear", "softmax"]
    assert traced.tensors == ((1, 4, 4), (1, 16), (1, 16), (1, 16), (1, 10), (1, 10))
    assert (traced.inputs, traced.outputs) == ((0,), (5,))
    first = traced.operations[1]
    assert dict(first.parameters) == {"kernel": "hidden/kernel", "bias": "hidden/bias"}
    assert (first.source, first.label) == ("hidden", "Dense")
    assert (traced.operations[2].source, traced.operations[2].label) == ("hidden", "relu")
    assert list(traced.parameters) == ["hidden/kernel", "hidden/bias", "head/kernel", "head/bias"]
    kernel = traced.parameters["hidden/kernel"]
    assert (kernel.shape, kernel.axes, kernel.role, kernel.itemsize) == ((16, 16), ("out", "in"), "kernel", 4)
    assert couple(traced).count == 16


@pytest.mark.parametrize("name", keras_models.NETWORKS)
def test_every_network_is_known_and_consistent(name: str) -> None:
    model = keras_models.NETWORKS[name]()
    traced = graph(model)
    assert unknown(traced) == []
    coupling = couple(traced)  # raises if a shape contradicts another
    assert coupling.count > 0
    assert "head/kernel" not in coupling.layer_names
    if hasattr(model, "outputs"):
        assert [traced.tensors[tensor][1:] for tensor in traced.outputs] == [each.shape[1:] for each in model.outputs]
    assert set(traced.parameters) == {
        weight for operation in traced.operations for weight in operation.parameters.values()
    }


def test_convolutions_tell_groups_and_channels() -> None:
    traced = graph(keras_models.separable())
    found = [
        (each.source, each.settings["groups"], each.settings["channel_axis"])
        for each in traced.operations
        if each.kind == "convolution"
    ]
    assert found == [("conv", 1, 3), ("depthwise", 8, 3), ("grouped", 2, 3), ("separable", 8, 3), ("separable", 1, 3)]
    shapes = {name: shape.shape for name, shape in traced.parameters.items() if name.endswith("kernel")}
    assert shapes["depthwise/kernel"] == (16, 1, 3, 3)
    assert shapes["grouped/kernel"] == (8, 8, 1, 1)
    assert shapes["separable/depthwise_kernel"] == (16, 1, 3, 3)
    assert shapes["separable/pointwise_kernel"] == (6, 16, 1, 1)


def test_branches_are_read_one_after_the_other_as_a_program_runs_them() -> None:
    sources = [each.source for each in graph(keras_models.residual()).operations if each.kind == "convolution"]
    assert sources == ["stem", "reduce", "expand", "side"]
    sources = [each.source for each in graph(keras_models.concatenated()).operations if each.kind == "convolution"]
    assert sources == ["left", "right", "mix"]


def test_the_order_outlives_saving(tmp_path: Any) -> None:
    model = keras_models.residual()
    model.save(tmp_path / "model.keras")
    assert graph(keras.models.load_model(tmp_path / "model.keras")) == graph(model)


def test_nested_models_are_read_through_and_shared_ones_twice() -> None:
    traced = graph(keras_models.nested())
    sources = [each.source for each in traced.operations if each.kind == "linear"]
    inner = ["inner/dense", "inner/back"]
    assert sources == ["dense", *inner, *inner, "middle/dense", "head"]
    assert list(traced.parameters)[:3] == ["dense/kernel", "dense/bias", "inner/dense/kernel"]


def test_a_subclassed_model_is_called_once_on_symbolic_inputs() -> None:
    model = keras_models.subclassed()
    expected = ["linear", "elementwise", "elementwise"] * 2 + ["linear", "elementwise"]
    assert kinds(graph(model)) == kinds(graph(model, np.zeros((7, 5)))) == expected
    assert graph(model).tensors[0] == (1, 5)

    class Foreign(keras.Model):
        def call(self, x):  # type: ignore[no-untyped-def]
            return keras.ops.convert_to_tensor(np.tanh(np.asarray(x)))

    foreign = Foreign()
    foreign.built = True
    with pytest.raises(TraceError, match="symbolic inputs"):
        graph(foreign, np.zeros((2, 5)))
    with pytest.raises(ExampleError, match="pass example="):
        graph(foreign)


def test_open_sizes_come_from_the_example_alone() -> None:
    inputs = keras.Input((None, None, 3), name="image")
    x = layers.MaxPooling2D()(layers.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ExampleError, match="'image'"):
        graph(model)
    with pytest.raises(ExampleError, match="'image'"):
        outputs(model)
    traced = graph(model, np.zeros((5, 20, 10, 3)))
    assert traced.tensors[:3] == ((1, 20, 10, 3), (1, 18, 8, 4), (1, 9, 4, 4))
    assert outputs(model, np.zeros((5, 20, 10, 3), np.float32))[0].shape == (5, 2)


@pytest.mark.parametrize("example", [np.zeros((2, 5)), np.zeros((4, 4)), [np.zeros((2, 4, 4))] * 2, "text"])
def test_an_example_that_does_not_fit_is_refused(example: Any) -> None:
    for call in (graph, outputs):
        with pytest.raises(ExampleError, match="example"):
            call(keras_models.mlp(), example)


def test_examples_of_several_inputs_may_be_lists_or_go_by_name() -> None:
    model = keras_models.randomize(keras_models.shared_layer())
    left, right = np.ones((3, 5), np.float32), np.zeros((3, 5), np.float32)
    assert graph(model, [left, right]) == graph(model, {"right": right, "left": left}) == graph(model)
    listed, named = outputs(model, [left, right]), outputs(model, {"right": right, "left": left})
    np.testing.assert_array_equal(listed[0], named[0])
    np.testing.assert_allclose(listed[0], -outputs(model, [right, left])[0] + 2 * model.get_weights()[-1], rtol=1e-4)


def test_a_fixed_batch_is_kept() -> None:
    model = keras.Sequential([keras.Input(batch_shape=(3, 4)), layers.Dense(2)])
    assert graph(model).tensors[0] == (3, 4)
    assert outputs(model)[0].shape == (3, 2)


class OwnDense(layers.Dense):
    def call(self, inputs: Any, training: Any = None) -> Any:
        return super().call(inputs)[..., ::-1]


class PlainHeir(layers.Dense):
    pass


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.ConvLSTM1D(3, 2), (3, 6, 2)),
        (lambda: layers.SpectralNormalization(layers.Dense(3)), (6,)),
        (lambda: layers.Activation(lambda x: x[..., ::-1]), (6,)),
        (lambda: layers.Lambda(lambda x: x * 2), (6,)),
        (lambda: OwnDense(6), (6,)),
        (lambda: layers.Rescaling([1.0, 2.0], 0.0, name="scale"), (4, 2)),
    ],
    ids=["convolutional recurrence", "spectral norm", "own function", "lambda", "own call", "rescaling"],
)
def test_what_is_not_known_freezes_what_it_touches_and_is_listed(layer: Any, shape: tuple[int, ...]) -> None:
    made = layer()
    model = keras.Sequential(
        [keras.Input(shape), layers.Dense(shape[-1], name="before"), made, layers.Dense(2, name="after")]
    )
    traced = graph(model)
    coupling = couple(traced)
    assert "before/kernel" not in coupling.layer_names
    known = isinstance(made, layers.Rescaling)
    assert [source for source, _ in unknown(traced)] == ([] if known else [made.name])
    assert any(frozen.source == made.name for frozen in coupling.frozen)
    own = [name for name in traced.parameters if name.startswith(f"{made.name}/")]
    assert len(own) == len(made.weights)


def test_heirs_of_a_layer_without_a_call_of_their_own_are_that_layer() -> None:
    assert kinds(of_layer(PlainHeir(3))) == ["linear"]


def test_scalars_tie_nothing_and_arrays_freeze() -> None:
    inputs = keras.Input((4,))
    for constant, count in ((2.0, 6), (np.ones(6, np.float32), 0)):
        hidden = layers.Dense(6)(inputs)
        model = keras.Model(inputs, layers.Dense(2)(keras.ops.multiply(hidden, constant)))
        assert couple(graph(model)).count == count


@pytest.mark.parametrize(
    ("operation", "known"),
    [
        (lambda x: x / 2.0, True),
        (lambda x: x**2, True),
        (lambda x: 1.0 / (x + 3.0), False),
        (lambda x: x / keras.ops.abs(x), False),
        (lambda x: keras.ops.sqrt(keras.ops.relu(x)), False),
        (lambda x: keras.ops.log(keras.ops.relu(x)), False),
        (lambda x: x**0.5, False),
    ],
)
def test_units_that_would_be_singular_at_zero_stay(operation: Any, known: bool) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(operation(layers.Dense(6)(inputs))))
    assert couple(graph(model)).count == (6 if known else 0)


def test_weights_outside_of_layers_shrink_with_what_they_meet() -> None:
    class Scaled(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(4, name="dense")
            self.gain = self.add_weight(shape=(4,), name="gain")
            self.head = layers.Dense(2, name="head")

        def call(self, x):  # type: ignore[no-untyped-def]
            return self.head(self.dense(x) * self.gain)

    model = Scaled()
    model(np.zeros((1, 3), np.float32))
    traced = graph(model)
    assert unknown(traced) == []
    coupling = couple(traced)
    assert coupling.count == 4
    np.testing.assert_array_equal(coupling.units["gain", 0], coupling.units["dense/kernel", 0])


def test_layers_made_of_layers_are_read_through_unless_training_runs_otherwise() -> None:
    sources = [each.source for each in graph(keras_models.blocks()).operations if each.kind == "linear"]
    blocks = [f"{block}/{layer}" for block in ("block", "tower/block", "tower/block_1") for layer in ("wide", "narrow")]
    assert sources == ["stem", *blocks, "head"]

    class Stochastic(keras_models.Block):
        def call(self, x: Any, training: bool | None = None) -> Any:
            return super().call(x) if not training else x

    class Weighted(keras_models.Block):
        def build(self, shape: Any) -> None:
            self.gain = self.add_weight(shape=(6,), name="gain")

        def call(self, x: Any, training: bool | None = None) -> Any:
            return super().call(x) * self.gain

    for block in (Stochastic(6), Weighted(6)):
        assert [label for _, label in unknown(of_layer(block))] == [type(block).__name__]


def test_reading_a_call_leaves_no_record_on_the_layers() -> None:
    model = keras_models.blocks()
    inner = [*model.layers[1].inside, *model.layers[3].blocks, *keras_models.subclassed().blocks]
    counts = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in inner]
    subclassed = keras_models.subclassed()
    graph(model)
    graph(subclassed)
    assert [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in inner] == counts
    assert not any(layer._inbound_nodes for layer in subclassed.layers)


def test_tracing_needs_a_built_model_and_changes_nothing() -> None:
    with pytest.raises(UnbuiltModelError):
        graph(keras.Sequential([layers.Dense(2)]), np.zeros((1, 3)))
    model = keras_models.randomize(keras_models.plain_cnn())
    before, config = keras_models.snapshot(model), model.get_config()
    graph(model)
    outputs(model)
    assert model.get_config() == config
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_outputs_are_those_of_inference_and_reproducible() -> None:
    model = keras_models.randomize(keras_models.plain_cnn())
    example = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(model(example, training=False))
    np.testing.assert_allclose(outputs(model, example)[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outputs(model)[0], outputs(model)[0])
    assert np.ptp(outputs(model)[0]) > 0


def test_inputs_are_made_up_in_shape_and_type() -> None:
    tokens, kinds_of = keras.Input((50,), name="b"), keras.Input((50,), dtype="int32", name="a")
    features, numbers = keras.Input((6,), name="c"), keras.Input((4,), dtype="int32", name="d")
    hidden = layers.Embedding(30, 8)(tokens) + layers.Embedding(2, 8)(kinds_of)
    hidden = layers.GlobalAveragePooling1D()(hidden) + layers.Dense(8)(features)
    hidden = layers.concatenate([hidden, layers.Rescaling(0.5)(numbers)])
    given = {"b": tokens, "a": kinds_of, "d": numbers, "c": features}
    model, adapter = keras.Model(given, layers.Dense(2)(hidden)), KerasAdapter()
    shapes = {"b": (3, 50), "a": (3, 50), "c": (3, 6), "d": (3, 4)}
    example = {key: np.full(shapes[key], 1, given[key].dtype) for key in given}
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    drawn, again = (adapter.made_up(model, adapter.graph(model, example), example) for _ in range(2))
    assert np.array_equal(state, np.random.get_state()[1])
    assert {key: value.shape for key, value in drawn.items()} == shapes
    assert all(drawn[key].dtype == example[key].dtype and np.array_equal(drawn[key], again[key]) for key in drawn)
    assert 20 < drawn["b"].max() < 30 and np.array_equal(drawn["b"], drawn["b"].round())
    assert sorted(np.unique(drawn["a"])) == [0, 1] and np.array_equal(drawn["d"], example["d"])
    assert drawn["c"].std() > 0.3
    assert np.isfinite(adapter.outputs(model, drawn)[0]).all()
    assert adapter.made_up(model, adapter.graph(model), None) is None


class Positions(layers.Layer):
    """What is called on constants: as such its weights would be a constant of the graph."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.places = layers.Embedding(6, 8, name="places")

    def call(self, x: Any) -> Any:
        return x + self.places(keras.ops.arange(x.shape[1]))


class Positioned(keras.Model):
    """Embeds tokens and their positions, in the way that ``where`` says."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.tokens = layers.Embedding(20, 8, name="tokens")
        self.positions = Positions(name="positions") if where == "layer" else layers.Embedding(6, 8, name="positions")
        self.wide = layers.Dense(16, activation="relu", name="wide")
        self.head = layers.Dense(3, name="head")

    def call(self, x: Any) -> Any:
        y = self.tokens(x)
        if self.where == "layer":
            y = self.positions(y)
        elif self.where == "input":
            y = y + self.positions(keras.ops.cumsum(keras.ops.ones_like(x), axis=1) - 1)
        elif self.where == "weights":
            y = y + self.positions.embeddings[: x.shape[1]]
        elif self.where == "function":
            y = y + keras.ops.tanh(self.positions.embeddings)
        else:
            y = y + self.positions(keras.ops.arange(x.shape[1]))
        return self.head(self.wide(y))


TOKENS = np.arange(24).reshape(4, 6) % 20


def positioned(where: str) -> keras.Model:
    model = Positioned(where)
    if where in ("weights", "function"):
        model.positions.build((1, 6))
    model(TOKENS)
    return keras_models.randomize(model)


def test_weights_that_would_become_a_constant_are_refused_by_name() -> None:
    model = positioned("function")
    before = keras_models.snapshot(model)
    with pytest.raises(TraceError, match=r"positions/embeddings apart from its inputs.*ones_like"):
        graph(model, TOKENS)
    for old, new in zip(before, keras_models.snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("where", ["input", "layer", "constant", "weights"])
def test_positions_are_part_of_the_graph_however_they_are_looked_up(where: str) -> None:
    model = positioned(where)
    before = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    traced = graph(model, TOKENS)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == before
    assert {name.split("/")[0] for name in traced.parameters} == {"tokens", "positions", "wide", "head"}
    assert {"wide/kernel", "tokens/embeddings"} <= set(couple(traced).layer_names)
    assert unknown(traced) == []


def test_tracing_a_call_that_counts_does_not_count() -> None:
    class Counting(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(4)
            self.count = self.add_weight(shape=(), name="count", initializer="zeros", trainable=False)

        def call(self, x: Any) -> Any:
            self.count.assign(keras.ops.ones(()))
            return self.dense(x)

    model = Counting()
    model(np.zeros((1, 3), np.float32))
    model.count.assign(0.0)
    assert kinds(graph(model, np.zeros((1, 3)))) == ["linear"]
    assert float(model.count.value) == 0.0


@pytest.mark.parametrize("rest", [(6 * 16,), (-1,), (-1, 16)])
def test_the_open_size_of_a_batch_may_stand_in_a_reshape(rest: tuple[int, ...]) -> None:
    """``keras.ops.shape(x)[0]`` is None while a call is read, which only a reshape to -1 can mean."""

    class Reshaping(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = layers.Dense(8, activation="relu", name="hidden")
            self.wide, self.head = layers.Dense(16, name="wide"), layers.Dense(3, name="head")

        def call(self, x: Any) -> Any:
            y = self.wide(self.hidden(x))
            return self.head(keras.ops.reshape(y, (keras.ops.shape(y)[0], *rest)))

    example = np.random.default_rng(0).normal(size=(4, 6, 5)).astype("float32")
    model = Reshaping()
    expected = tuple(model(example).shape)
    pruned = sk.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer", include=["hidden"]), example=example)
    small = pruned.compact()
    assert small.get_layer("hidden").units == 4
    assert pruned.max_error is not None
    assert pruned.max_error < 1e-5
    assert tuple(small(example[:3]).shape) == (3, *expected[1:])


def test_two_open_sizes_in_a_reshape_are_refused_with_the_remedy() -> None:
    class Reshaping(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.head = layers.Dense(16, activation="relu"), layers.Dense(3)

        def call(self, x: Any) -> Any:
            y = self.wide(x)
            size = keras.ops.shape(y)[0]
            return self.head(keras.ops.reshape(y, (size, size, 8)))

    model, example = Reshaping(), np.ones((2, 1, 5), np.float32)
    model(example)
    with pytest.raises(TraceError, match="write -1"):
        graph(model, example)
