"""Features of values may go without those of keys: whatever Keras calls, the smaller layer gives the same."""

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

DIMS = Recipe(0.5, granularity=Neurons(heads=False), scope="layer")
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"call": {"use_causal_mask": True}},
    "masked": {"call": {"attention_mask": np.tril(np.ones((1, 5, 5), np.bool_))}},
    "scores": {"call": {"return_attention_scores": True}},
    "output shape": {"layer": {"output_shape": 7}},
    "wider values": {"layer": {"value_dim": 6}},
    "two axes": {"layer": {"attention_axes": (1, 2)}, "shape": (3, 4, 6)},
    "second axis": {"layer": {"attention_axes": (2,)}, "shape": (3, 4, 6)},
}


def attending(case: dict[str, Any]) -> keras.Model:
    inputs = keras.Input(case.get("shape", (5, 6)))
    attention = layers.MultiHeadAttention(2, 4, name="attention", **case.get("layer", {}))
    result = attention(inputs, inputs, **case.get("call", {}))
    outputs = result if isinstance(result, (tuple, list)) else [result]
    return randomize(keras.Model(inputs, [layers.Dense(3, name="head")(outputs[0]), *outputs[1:]]))


@pytest.mark.parametrize("name", CASES)
def test_values_lose_features_and_nothing_else_changes(name: str, tmp_path: Path) -> None:
    model = attending(CASES[name])
    if name == "wider values" and keras.backend.backend() == "jax":
        with pytest.raises(TypeError, match="reshape"):
            model(np.zeros((1, *model.input_shape[1:]), np.float32))
        pytest.skip("Keras on JAX runs no values wider than keys")
    pruned = sk.prune(model, DIMS)
    small = pruned.compact()
    assert pruned.max_error is not None and pruned.max_error < 1e-5
    old, new = model.get_layer("attention"), small.get_layer("attention")
    assert new.value_dim == old.value_dim // 2
    assert (new.num_heads, new.key_dim) == (old.num_heads, old.key_dim)
    assert [tuple(each.shape) for each in small.outputs] == [tuple(each.shape) for each in model.outputs]
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    for expected, actual in zip(keras.tree.flatten(small(x)), keras.tree.flatten(again(x)), strict=True):
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each) for each in (expected, actual)))


def test_whole_heads_go_by_default_and_flash_attention_keeps_the_width_of_values() -> None:
    model = attending({})
    small = sk.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer")).compact()
    new = small.get_layer("attention")
    assert (new.num_heads, new.key_dim, new.value_dim) == (1, 4, 4)
    try:
        model = attending({"layer": {"flash_attention": True}})
    except Exception:
        pytest.skip("this backend has no flash attention")
    assert "value_dim" in {each.label for each in sk.graph(model).operations}
