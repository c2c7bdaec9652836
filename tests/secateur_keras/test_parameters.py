"""Weights as the core sees them: names, roles and canonical views."""

from __future__ import annotations

from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers

import keras_models
import secateur_keras as sk
from secateur import Neurons, Recipe
from secateur.errors import (
    NoMatchError,
    ParametrizationError,
    ShapeMismatchError,
    UnbuiltModelError,
    UnsupportedDtypeError,
)
from secateur_keras import tracing
from secateur_keras.parameters import parameters, to_canonical, to_native
from secateur_keras.tracing import outputs

SPACES = {1: (9, 4), 2: (7, 7, 4), 3: (5, 5, 5, 4)}


def built(layer: keras.Layer, shape: tuple[int, ...]) -> keras.Model:
    return keras_models.randomize(keras.Sequential([keras.Input(shape), layer]))


PRODUCERS = {
    "dense": (lambda: layers.Dense(3), (5,)),
    "dense over time": (lambda: layers.Dense(3), (6, 5)),
    "conv1d": (lambda: layers.Conv1D(3, 2), SPACES[1]),
    "conv2d": (lambda: layers.Conv2D(6, (2, 3)), SPACES[2]),
    "conv2d grouped": (lambda: layers.Conv2D(6, (2, 3), groups=2), SPACES[2]),
    "conv3d": (lambda: layers.Conv3D(2, (1, 2, 3)), SPACES[3]),
    "depthwise": (lambda: layers.DepthwiseConv2D((2, 3), depth_multiplier=3), SPACES[2]),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(2, depth_multiplier=2), SPACES[1]),
    "transposed": (lambda: layers.Conv2DTranspose(3, 2), SPACES[2]),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 3)), (6, 5)),
    "einsum, out first": (lambda: layers.EinsumDense("ab,cb->ac", output_shape=3), (5,)),
}


@pytest.mark.parametrize("name", PRODUCERS)
def test_zeroing_slice_k_of_the_canonical_view_silences_output_k_alone(name: str) -> None:
    make, shape = PRODUCERS[name]
    model = built(make(), shape)
    layer = model.layers[0]
    example = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    before = keras.ops.convert_to_numpy(model(example))
    kernel = next(p for p in parameters(model) if p.role == "kernel")
    assert kernel.axes[:2] == ("out", "in")
    assert kernel.view.shape[0] == before.shape[-1]
    mask = np.ones(kernel.view.shape, np.bool_)
    mask[1] = False
    native = to_native(model, {kernel.name: mask})[kernel.name]
    variable = next(v for v in layer.weights if v.name.endswith("kernel"))
    variable.assign(keras.ops.convert_to_numpy(variable) * native)
    after = keras.ops.convert_to_numpy(model(example))
    bias = float(keras.ops.convert_to_numpy(layer.bias)[1]) if getattr(layer, "bias", None) is not None else 0.0
    np.testing.assert_allclose(after[..., 1], bias, rtol=1e-6)
    rest = np.arange(before.shape[-1]) != 1
    np.testing.assert_allclose(after[..., rest], before[..., rest], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PRODUCERS)
def test_masks_return_from_the_native_layout_as_they_were(name: str) -> None:
    make, shape = PRODUCERS[name]
    model = built(make(), shape)
    masks = keras_models.random_masks(model)
    native = to_native(model, masks)
    shapes = {variable.name: tuple(variable.shape) for variable in model.weights}
    for parameter, mask in native.items():
        assert mask.flags.c_contiguous
        assert mask.shape == shapes[parameter.rsplit("/", 1)[-1]]
        np.testing.assert_array_equal(to_canonical(model, native)[parameter], masks[parameter])


def test_keras_kernels_are_shown_transposed_without_a_copy() -> None:
    model = keras_models.randomize(keras_models.plain_cnn())
    by_name = {parameter.name: parameter for parameter in parameters(model)}
    native = {weight.path.split("/", 1)[1]: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    np.testing.assert_array_equal(by_name["dense/kernel"].view, native["dense/kernel"].T)
    np.testing.assert_array_equal(by_name["conv/kernel"].view, native["conv/kernel"].transpose(3, 2, 0, 1))
    assert not by_name["dense/kernel"].view.flags.owndata
    assert [(p.name, p.role, p.trainable) for p in parameters(model)[1:5]] == [
        ("norm/gamma", "scale", True),
        ("norm/beta", "shift", True),
        ("norm/moving_mean", "mean", False),
        ("norm/moving_variance", "variance", False),
    ]


@pytest.mark.parametrize(
    ("make", "gates"), [(layers.LSTM, 4), (layers.GRU, 3), (layers.SimpleRNN, 1)], ids=["lstm", "gru", "simple"]
)
def test_recurrent_kernels_are_split_into_gates(make, gates: int) -> None:  # type: ignore[no-untyped-def]
    model = built(make(5), (6, 3))
    found = {p.name.rsplit("/", 1)[-1]: p for p in parameters(model)}
    assert found["kernel"].role == found["recurrent_kernel"].role == "recurrent"
    assert found["kernel"].axes == ("gate", "out", "in")
    assert found["kernel"].view.shape == (gates, 5, 3)
    assert found["recurrent_kernel"].view.shape == (gates, 5, 5)
    native = keras.ops.convert_to_numpy(next(v for v in model.weights if v.name == "kernel"))
    for gate in range(gates):
        np.testing.assert_array_equal(found["kernel"].view[gate], native[:, gate * 5 : gate * 5 + 5].T)


def test_attention_kernels_are_matrices_and_unfamiliar_weights_keep_their_shape() -> None:
    inputs = keras.Input((6, 4))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs))
    found = {p.name: p for p in parameters(model)}
    assert found["attention/query/kernel"].view.shape == (6, 4)
    assert found["attention/attention_output/kernel"].view.shape == (4, 6)
    assert {found[name].role for name in found if name.endswith("kernel")} == {"kernel"}
    assert found["attention/query/bias"].role == "bias"
    assert found["attention/query/bias"].view.shape == (6,)
    recurrent = built(layers.GRU(3), (5, 4))
    assert [(p.role, p.view.shape) for p in parameters(recurrent)][2:] == [("bias", (2, 3, 3))]
    batched = built(layers.EinsumDense("abc,bcd->abd", output_shape=(6, 3)), (6, 5))
    assert [p.role for p in parameters(batched)] == ["other"]


def test_names_are_unique_and_say_where_a_weight_lives() -> None:
    names = [p.name for p in parameters(keras_models.nested())]
    assert sorted(names) == sorted(
        f"{layer}/{part}"
        for layer in ("dense", "inner/dense", "inner/back", "middle/dense", "head")
        for part in ("kernel", "bias")
    )
    assert [p.name for p in parameters(keras_models.subclassed())] == [
        "block/kernel",
        "block/bias",
        "block_1/kernel",
        "block_1/bias",
        "head/kernel",
        "head/bias",
    ]
    assert [p.name for p in parameters(keras_models.shared_layer())] == [
        "encoder/kernel",
        "encoder/bias",
        "head/kernel",
        "head/bias",
    ]


def test_the_graph_puts_weights_in_the_order_of_use() -> None:
    inputs = keras.Input((4,))
    late, early = layers.Dense(4, name="late"), layers.Dense(4, name="early")
    late.build((None, 4))

    class Backwards(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.early = late, early

        def call(self, x):  # type: ignore[no-untyped-def]
            return self.late(self.early(x))

    model = Backwards()
    model(np.zeros((1, 4), np.float32))
    assert next(p.layer for p in parameters(model)) == "late"
    assert [p.name for p in parameters(model, tracing.graph(model))][::2] == ["early/kernel", "late/kernel"]
    functional = keras.Model(inputs, layers.Add()([early(inputs), late(inputs)]))
    assert [p.layer for p in parameters(functional, tracing.graph(functional))] == ["early", "early", "late", "late"]


def test_layers_of_a_call_come_in_the_order_of_its_program_and_ties_fall_accordingly() -> None:
    class Swapped(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.branches = [layers.Dense(6, use_bias=False, name=name) for name in "ba"]
            self.head = layers.Dense(2, use_bias=False, name="c")

        def call(self, x):  # type: ignore[no-untyped-def]
            second, first = self.branches
            u = first(x)
            v = second(x)
            return self.head(keras.ops.concatenate([v, u], axis=-1))

    model, example = Swapped(), np.ones((1, 4), np.float32)
    model(example)
    model.set_weights([np.ones(variable.shape) for variable in model.weights])
    assert [p.layer for p in parameters(model, tracing.graph(model, example))] == ["a", "b", "c"]
    masks = sk.prune(model, Recipe(0.3), example=example).masks
    assert [masks[f"{layer}/kernel"].mean() for layer in "abc"] == [pytest.approx(1 - 22 / 24), 1.0, 1.0]
    inputs = keras.Input((4,))
    u, v = layers.Dense(6, name="a")(inputs), layers.Dense(6, name="b")(inputs)
    functional = keras.Model(inputs, layers.Dense(2, name="c")(layers.Concatenate()([v, u])))
    read = [p.layer for p in parameters(functional, tracing.graph(functional))][::2]
    copy = keras.models.clone_model(functional)
    assert read == [p.layer for p in parameters(copy, tracing.graph(copy))][::2] == ["b", "a", "c"]


def test_counters_and_seeds_are_no_parameters() -> None:
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(size=(8, 3)))
    model = keras.Sequential([keras.Input((3,)), normalization, layers.Dropout(0.5), layers.Dense(2, name="head")])
    assert [p.name.rsplit("/", 1)[-1] for p in parameters(model)] == ["mean", "variance", "kernel", "bias"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_every_floating_type_is_shown_as_it_is(dtype: str) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype=dtype)])
    if keras.backend.backend() == "jax" and dtype == "float64":
        dtype = "float32"  # JAX has no float64 unless told so
    view = parameters(model)[0].view
    assert view.dtype == np.dtype(getattr(ml_dtypes, dtype, dtype))
    expected = keras.ops.convert_to_numpy(keras.ops.cast(model.weights[0], "float32")).T
    np.testing.assert_array_equal(view.astype(np.float32), expected)


def test_bad_models_and_masks_are_refused() -> None:
    with pytest.raises(UnbuiltModelError, match=r"keras\.Input"):
        parameters(keras.Sequential([layers.Dense(3)]))
    quantized = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="dense")])
    quantized.quantize("int8")
    with pytest.raises(UnsupportedDtypeError, match="dense/kernel has dtype int8"):
        parameters(quantized)
    model = keras_models.mlp()
    with pytest.raises(NoMatchError, match="nowhere"):
        to_native(model, {"nowhere": np.ones(3, np.bool_)})
    with pytest.raises(ShapeMismatchError, match="hidden/bias"):
        to_canonical(model, {"hidden/bias": np.ones(3, np.bool_)})


def test_complex_weights_are_refused() -> None:
    class Phases(layers.Layer):
        def build(self, shape) -> None:  # type: ignore[no-untyped-def]
            self.phases = self.add_weight(shape=(3,), dtype="complex64", initializer="zeros", name="phases")

        def call(self, x):  # type: ignore[no-untyped-def]
            return x

    with pytest.raises(UnsupportedDtypeError, match="phases has dtype complex64"):
        parameters(keras.Sequential([keras.Input((3,)), Phases()]))


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_a_kernel_under_lora_is_refused_with_a_remedy_that_works(kind: str, tmp_path: Path) -> None:
    first = {"dense": lambda: layers.Dense(6, name="low"), "convolution": lambda: layers.Conv2D(6, 2, name="low")}[kind]

    def network() -> keras.Model:
        return keras.Sequential([keras.Input((3, 3, 4)), first(), layers.Flatten(), layers.Dense(2, name="head")])

    adapted = network()
    adapted.get_layer("low").enable_lora(2)
    keras_models.randomize(adapted)
    before = keras_models.snapshot(adapted)
    for recipe in (Recipe(0.5), Recipe(0.5, granularity=Neurons()), Recipe(0.5, include=["low"])):
        with pytest.raises(ParametrizationError, match=r"low/kernel.*LoRA.*save_weights.*exclude=\['low'\]"):
            sk.prune(adapted, recipe)
    for old, new in zip(before, keras_models.snapshot(adapted), strict=True):
        np.testing.assert_array_equal(old, new)
    assert sk.prune(adapted, Recipe(0.5, exclude=["low"])).masks.keys() == {"head/kernel"}
    adapted.save_weights(tmp_path / "merged.weights.h5")
    merged = network()
    merged.load_weights(tmp_path / "merged.weights.h5")
    np.testing.assert_allclose(outputs(merged)[0], outputs(adapted)[0], rtol=1e-5, atol=1e-6)
    sk.prune(merged, Recipe(0.5))
    assert np.mean(keras.ops.convert_to_numpy(merged.get_layer("low").kernel) == 0) > 0.2
