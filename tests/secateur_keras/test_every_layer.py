"""Layers and operations of every kind: masked equals removed, and what is left trains, is saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_hard
import keras_models
import keras_random
from secateur.structure.coupling import couple
from secateur.structure.graph import Graph
from secateur.structure.removal import plan, unit_masks
from secateur_keras.masking import apply
from secateur_keras.surgery import compact
from secateur_keras.tracing import graph, outputs

ON_JAX = keras.backend.backend() == "jax"
NAMES = list(keras_hard.HARD)
if ON_JAX:  # which compiles each of these models for half a minute; what is read and rebuilt is the same
    NAMES = [name for name in NAMES if name in ("decoder", "grouped_queries", "unet", "picked", "tied", "own_weights")]

UNKNOWN = {"divided": {"Sqrt", "TrueDivide"}}


def half(traced: Graph, seed: int) -> Any:
    """A coupling, and a random half of its units, some of every layer left."""
    coupling = couple(traced)
    gone = np.random.default_rng(seed).random(coupling.count) < 0.5
    for units in (*coupling.units.values(), *coupling.tensors.values()):
        if gone[units[units >= 0]].all() and (units >= 0).all():
            gone[units[0]] = False
    return coupling, gone


def example(model: keras.Model, traced: Graph) -> Any:
    """Whole numbers for embeddings, else numbers of order one."""
    generator = np.random.default_rng(7)
    shapes = [(3, *traced.tensors[tensor][1:]) for tensor in traced.inputs]
    whole = [keras.backend.is_int_dtype(each.dtype) for each in getattr(model, "inputs", None) or [keras.Input(())]]
    made = [
        generator.integers(0, 11, shape) if is_whole else generator.normal(size=shape).astype(keras.config.floatx())
        for shape, is_whole in zip(shapes, whole, strict=True)
    ]
    return made if len(made) > 1 else made[0]


def removed(model: keras.Model, seed: int = 0) -> tuple[keras.Model, Any]:
    """The smaller model and an example, after both were seen to give the same outputs."""
    traced = graph(model)
    coupling, gone = half(traced, seed)
    data = example(model, traced)
    small = compact(model, traced, plan(traced, coupling, gone))
    apply(model, unit_masks(traced, coupling, gone))
    for expected, actual in zip(outputs(model, data), outputs(small, data), strict=True):
        scale = max(float(np.abs(expected).max()), 1.0)
        precision = 1e-5 if expected.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(actual, expected, rtol=0, atol=precision * scale)
    return small, data


@pytest.mark.parametrize("name", NAMES)
def test_masked_equals_removed(name: str, tmp_path: Path) -> None:
    model = keras_models.randomize(keras_hard.HARD[name]())
    traced = graph(model)
    assert {each.label for each in traced.operations if each.kind == "unknown"} == UNKNOWN.get(name, set())
    before = model.count_params()
    small, data = removed(model)
    assert small.count_params() < before
    small.compile("sgd", "mse", run_eagerly=not ON_JAX)
    target = [np.zeros_like(each) for each in outputs(small, data)]
    first = small.train_on_batch(data, target[0])
    assert small.train_on_batch(data, target[0]) < first
    small.save(tmp_path / "small.keras")
    own = {kind.__name__: kind for kind in (keras_hard.Affine, keras_hard.Mixing)}
    again = keras.models.load_model(tmp_path / "small.keras", custom_objects=own)
    for expected, actual in zip(outputs(small, data), outputs(again, data), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.skipif(ON_JAX, reason="JAX has no float64 unless told before it starts")
@pytest.mark.parametrize("name", ["encoder", "decoder", "grouped_queries", "recurrent", "unet", "products", "tied"])
def test_in_double_precision_nothing_but_rounding_is_left(name: str) -> None:
    if name not in keras_hard.HARD:
        pytest.skip("this version of Keras has no such layer")
    keras.config.set_floatx("float64")
    try:
        model = keras_hard.HARD[name]()
        generator = np.random.default_rng(0)
        for variable in model.weights:
            variable.assign(generator.normal(size=tuple(variable.shape)) / 3)
        removed(model)
    finally:
        keras.config.set_floatx("float32")


@settings(max_examples=2 if ON_JAX else 12, deadline=None)
@given(data=st.data(), seed=st.integers(0, 3))
def test_masked_equals_removed_for_random_models(data: st.DataObject, seed: int) -> None:
    model = keras_models.randomize(keras_random.model(data.draw), seed)
    before = model.count_params()
    small, given_inputs = removed(model, seed)
    assert small.count_params() <= before
    small.compile("sgd", "mse", run_eagerly=not ON_JAX)
    assert np.isfinite(small.train_on_batch(given_inputs, np.zeros_like(outputs(small, given_inputs)[0])))
