"""What holds units back is told by the operation that does, in words that are true of it."""

from __future__ import annotations

import keras
import pytest
from keras import layers, ops

import secateur_keras as sk
from keras_models import randomize
from secateur import Bytes, Neurons, Parameters, Recipe
from secateur.errors import UnreachableTargetError
from secateur.recipe.costs import CostTarget
from secateur.structure.coupling import couple


@keras.saving.register_keras_serializable("reasons")
class Mixed(layers.Layer):
    """A weight whose size stands in the code."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.mix = self.add_weight(shape=(10, 4), name="mix")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.matmul(x, self.mix)


def reasons(last: layers.Layer) -> set[tuple[str, str, str]]:
    """What holds back ``hidden``, which ``last`` reads."""
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(3, name="head")(last(layers.Dense(10, name="hidden")(inputs))))
    found = couple(sk.graph(model)).frozen
    return {(each.source, each.label, each.reason) for each in found if "hidden/kernel" in each.parameters}


def test_a_weight_of_fixed_size() -> None:
    told = ("own", "add_weight of 'mix'", "the size of this axis does not follow the layer's input")
    assert reasons(Mixed(name="own")) == {told}


def test_a_normalisation_still_normalises() -> None:
    assert {reason for _, _, reason in reasons(layers.Softmax(name="soft"))} == {"it normalises over this axis"}


@pytest.mark.parametrize(("target", "unit"), [(Parameters(0.9), 1), (Bytes(0.9), 4)])
def test_weights_of_unknown_layers_are_among_what_stays(target: CostTarget, unit: int) -> None:
    inputs = keras.Input((4, 8, 3))
    x = layers.Flatten(name="flat")(layers.ConvLSTM1D(6, 3, name="lstm")(inputs))
    x = layers.Dense(4, name="more")(layers.Dense(10, name="hidden")(x))
    model = randomize(keras.Model(inputs, layers.Dense(3, name="head")(x)))
    with pytest.raises(UnreachableTargetError) as caught:
        sk.prune(model, Recipe(target, granularity=Neurons()))
    kernel = model.get_layer("lstm").cell.recurrent_kernel
    count = unit * int(kernel.shape[0] * kernel.shape[1] * kernel.shape[2])
    assert f"stays, largest first: lstm/conv_lstm_cell/recurrent_kernel ({count:,} {target.noun}: " in str(caught.value)
    assert "lstm ConvLSTM1D: Secateur does not know what it does" in str(caught.value)
    assert "lstm/conv_lstm_cell/bias" in str(caught.value)
