"""All heads of ``GroupQueryAttention`` have one number of features: queries, keys and values lose them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import secateur_keras as sk
from keras_models import randomize
from secateur import Neurons, Recipe
from secateur.structure.coupling import couple

DIMS = Recipe(0.5, granularity=Neurons(heads=False), scope="layer")
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "without biases": ({"use_bias": False}, {}),
    "gated": ({"use_gate": True}, {}),
    "dropout": ({"dropout": 0.1}, {}),
    "causal": ({}, {"use_causal_mask": True}),
    "masked": ({}, {"attention_mask": np.tril(np.ones((1, 5, 5), np.bool_))}),
}


def attending(name: str, dtype: str, **call: Any) -> keras.Model:
    settings, given = CASES[name]
    inputs = keras.Input((5, 6), dtype=dtype)
    x = layers.Dense(6, name="stem", dtype=dtype)(inputs)
    attention = layers.GroupQueryAttention(6, 4, 2, name="attention", dtype=dtype, **settings)
    result = attention(x, x, **given, **call)
    outputs = result if isinstance(result, (tuple, list)) else [result]
    head = layers.Dense(3, name="head", dtype=dtype)
    return randomize(keras.Model(inputs, [head(outputs[0]), *outputs[1:]]))


def array(tensor: Any) -> np.ndarray[Any, Any]:
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("name", CASES)
def test_heads_lose_features(name: str) -> None:
    """Queries are multiplied by what the scale, a root of the number of features, becomes larger by."""
    is_precise = keras.backend.backend() == "tensorflow"  # the others make products of 32 bits, unless told otherwise
    pruned = sk.prune(attending(name, "float64" if is_precise else "float32"), DIMS)
    layer = pruned.compact().get_layer("attention")
    assert pruned.max_error is not None and pruned.max_error < (1e-12 if is_precise else 1e-5)
    assert (layer.head_dim, layer.num_query_heads, layer.num_key_value_heads) == (3, 4, 2)


def test_it_lives_on(tmp_path: Path) -> None:
    model = attending("gated", "float32")
    pruned = sk.prune(model, DIMS)
    small, x = pruned.compact(), np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    expected = array(small(x))
    np.testing.assert_allclose(expected, array(model(x)), rtol=0, atol=1e-5 * np.abs(expected).max())
    pruned.save(tmp_path / "saved")
    np.testing.assert_array_equal(array(sk.load(tmp_path / "saved").compact()(x)), expected)
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(array(keras.models.load_model(tmp_path / "small.keras")(x)), expected)
    small.compile("sgd", "mse")
    small.train_on_batch(x, np.zeros((2, 5, 3), np.float32))
    assert np.isfinite(array(small(x))).all() and not np.array_equal(array(small(x)), expected)


def test_products_that_the_backend_rounds_keep_their_features() -> None:
    if keras.backend.backend() != "torch":
        pytest.skip("this backend computes products of 64 bits in 64 bits, or has none")
    pruned = sk.prune(attending("plain", "float64"), DIMS)
    assert pruned.compact().get_layer("attention").head_dim == 6


def test_whole_heads_go_by_default() -> None:
    small = sk.prune(attending("plain", "float32"), Recipe(0.5, granularity=Neurons(), scope="layer")).compact()
    layer = small.get_layer("attention")
    assert (layer.head_dim, layer.num_query_heads, layer.num_key_value_heads) == (6, 2, 1)


def test_features_stay_where_the_weights_are_given() -> None:
    frozen = couple(sk.graph(attending("plain", "float32", return_attention_scores=True)), heads=False).frozen
    assert "head_dim" in {each.label for each in frozen if "attention/value/kernel" in each.parameters}
