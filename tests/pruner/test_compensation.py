"""Means of removed units folded into what reads them: exact for constant units, and better on real data."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hs
from sklearn.datasets import load_digits
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import convolutional_pair
from secateur import Cubic, Heads, Layers, Neurons, Recipe, Weights
from secateur.errors import FileFormatError, HoldError, MissingDataError, RecipeError

Array = np.ndarray[Any, Any]
HALF = Recipe(0.5, granularity=Neurons(compensate=True), scope="layer")


def torch_network(units: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(2, 2 * units, 3), nn.ReLU(), nn.Conv2d(2 * units, 2 * units, 2, bias=False)),
        *(nn.BatchNorm2d(2 * units), nn.Sigmoid(), nn.Flatten(), nn.Linear(2 * units * 9, 2 * units)),
        *(nn.Tanh(), nn.Linear(2 * units, 3)),
    ).double()


def keras_network(units: int) -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            *(keras.Input((6, 6, 2)), layers.Conv2D(2 * units, 3, activation="relu")),
            *(layers.Conv2D(2 * units, 2, use_bias=False), layers.BatchNormalization(), layers.Activation("sigmoid")),
            *(layers.Flatten(), layers.Dense(2 * units, activation="tanh"), layers.Dense(3)),
        ]
    )


def half_constant(arrays: list[Array], out_axis: int, seed: int) -> list[Array]:
    """Random weights; of each kernel but the last half of the outputs have none, so that they are what biases make."""
    generator = np.random.default_rng(seed)
    made = []
    last = max(index for index, array in enumerate(arrays) if array.ndim > 1)
    for index, array in enumerate(arrays):
        new = generator.normal(size=array.shape)
        if array.ndim > 1 and index < last:
            outputs = np.moveaxis(new, out_axis, 0)
            outputs[generator.permutation(len(outputs))[: len(outputs) // 2]] = 0.0
        made.append(np.abs(new) + 0.5 if array.ndim == 1 else new)  # variances are among the vectors
    return made


@given(units=hs.integers(1, 3), seed=hs.integers(0, 2**16))
@settings(max_examples=8, deadline=None)
def test_constant_units_go_without_a_trace_in_torch(units: int, seed: int) -> None:
    model = torch_network(units)
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.ndim}
    arrays = half_constant([tensor.numpy() for tensor in state.values()], 0, seed)
    for tensor, array in zip(state.values(), arrays, strict=True):
        tensor.copy_(torch.tensor(array))
    x = torch.tensor(np.random.default_rng(seed).normal(size=(5, 2, 6, 6)))
    dense = model.eval()(x).detach()
    pruned = st.prune(model, HALF, data=x)
    assert [layer.removed for layer in pruned.summary().coupled] == [units] * 3
    torch.testing.assert_close(model(x), dense, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(pruned.compact()(x), dense, rtol=1e-9, atol=1e-9)


def outputs(model: keras.Model, x: Array) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


@given(seed=hs.integers(0, 2**16))
@settings(max_examples=3, deadline=None)
def test_constant_units_go_without_a_trace_in_keras(seed: int) -> None:
    units = 2
    model = keras_network(units)
    model.set_weights(half_constant(model.get_weights(), -1, seed))
    x = np.random.default_rng(seed).normal(size=(5, 6, 6, 2)).astype(np.float32)
    dense = outputs(model, x)
    pruned = sk.prune(model, HALF, data=x)
    assert [layer.removed for layer in pruned.summary().coupled] == [units] * 3
    scale = np.abs(dense).max()
    np.testing.assert_allclose(outputs(model, x), dense, atol=2e-5 * scale)


@pytest.mark.parametrize("seed", range(2))
def test_both_frameworks_make_the_same_of_the_same_data(seed: int) -> None:
    pair = convolutional_pair(6, 3, seed)
    first = st.prune(pair.torch_model, HALF, data=pair.torch_example)
    second = sk.prune(pair.keras_model, HALF, data=pair.keras_example)
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_allclose(left.view, right.view, rtol=1e-5, atol=1e-5)
    assert first.summary().notes == second.summary().notes == ()


def test_the_mean_of_what_is_read_stays_what_it_was() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double(), torch.randn(50, 6).double()
    dense, bias = model(x).mean(0).detach(), model[0].bias.detach().clone()
    pruned = st.prune(model, HALF, data=[x[:7], x[7:]])
    torch.testing.assert_close(model(x).mean(0), dense, rtol=1e-9, atol=1e-9)
    kept = torch.tensor(pruned.masks["0.bias"])
    assert torch.equal(model[0].bias, torch.where(kept, bias, torch.zeros_like(bias)))
    assert pruned.max_error is None or pruned.max_error < 1e-9
    untouched = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    before = untouched[2].bias.detach().clone()
    st.prune(untouched, Recipe(0.5, granularity=Neurons()), data=x)
    assert torch.equal(untouched[2].bias, before)


def test_heads_are_made_up_for_in_the_projection() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 4, 12, dropout=0.0, batch_first=True).double()
    seen: list[torch.Tensor] = []
    model.dropout1.register_forward_hook(lambda module, given, result: seen.append(result.mean((0, 1))))
    x = torch.randn(20, 5, 8).double()
    model.eval()(x)
    dense = seen[-1]
    pruned = st.prune(model, Recipe(0.5, granularity=Heads(compensate=True)), data=x)
    model(x)
    torch.testing.assert_close(seen[-1], dense, rtol=1e-9, atol=1e-9)
    assert pruned.summary().notes == ()


class Attentive(nn.Module):
    """Queries, keys and values read the same units, by rows of one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = nn.Linear(3, 8), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return self.attention(x, x, x, need_weights=False)[0]


def test_a_kernel_that_is_used_by_rows_is_made_up_for_once() -> None:
    torch.manual_seed(0)
    model, x = Attentive().double(), torch.randn(4, 5, 3).double()
    with torch.no_grad():
        model.first.weight[::2] = 0.0
        model.first.bias.abs_()
    dense = model.eval()(x).detach()
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(compensate=True), include=["first"]), data=x)
    assert [layer.removed for layer in pruned.summary().coupled] == [4]
    assert pruned.summary().notes == ()
    torch.testing.assert_close(model(x), dense, rtol=1e-9, atol=1e-9)


class Odd(nn.Module):
    """Consumers that no bias can make up for: a shared layer, a transposed convolution, none behind, a recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv1d(2, 8, 1), nn.Conv1d(8, 8, 1)
        self.up, self.bare, self.last = nn.ConvTranspose1d(8, 8, 2, 2), nn.Conv1d(8, 4, 1, bias=False), nn.LSTM(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.first(x).relu()
        x = self.up((x + self.twice(self.twice(x).relu())).relu()).relu()
        return self.bare(x), self.last(x.movedim(-1, 0))[0]


def test_what_cannot_take_it_is_told() -> None:
    torch.manual_seed(0)
    model, x = Odd(), torch.randn(4, 2, 5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned = st.prune(model, HALF, data=x)
    notes = "\n".join(pruned.summary().notes)
    for kernel, reason in {
        "twice.weight": "it is used in several places",
        "up.weight": "a transposed convolution adds up different numbers of its taps",
        "bare.weight": "it has no bias, and no batch normalisation right behind it",
        "last.weight_ih_l0": "it is no linear layer or convolution",
    }.items():
        assert f"What {kernel} read of removed units on average is lost: {reason}." in notes
    masks = pruned.masks
    for name, tensor in model.state_dict().items():
        kept = torch.tensor(masks.get(name, np.ones(tensor.shape, np.bool_)))
        assert torch.equal(tensor, torch.where(kept, before[name], torch.zeros_like(tensor)))


def test_a_schedule_folds_what_each_step_removes() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double(), torch.randn(50, 6).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    dense = model(x).mean(0).detach()
    recipe = Recipe(0.5, granularity=Neurons(compensate=True), schedule=Cubic(begin=1, end=3, every=1))
    pruner = st.Pruner(model, recipe, optimizer=optimizer, data=x)
    for _ in range(4):
        optimizer.step()
        torch.testing.assert_close(model(x).mean(0), dense, rtol=1e-9, atol=1e-9)
    assert pruner.finished
    assert pruner.compact()[0].out_features == 4


def test_a_keras_training_goes_on_with_it() -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(4)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    dense = model.predict(x, verbose=0).mean(0)
    recipe = Recipe(0.5, granularity=Neurons(compensate=True), schedule=Cubic(begin=1, end=3, every=1))
    pruner = sk.Pruner(recipe, data=x)
    model.fit(x, np.zeros((40, 4)), epochs=2, verbose=0, callbacks=[pruner])
    assert pruner.finished
    np.testing.assert_allclose(model.predict(x, verbose=0).mean(0), dense, atol=1e-5)
    np.testing.assert_allclose(outputs(pruner.compact(), x).mean(0), dense, atol=1e-5)


def test_saved_folders_hold_it(tmp_path: Any) -> None:
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(50, 6)
    pruned = st.prune(model, HALF, data=x)
    pruned.save(tmp_path / "saved")
    restored = st.load(tmp_path / "saved", example=x)
    assert restored.recipe == HALF
    torch.testing.assert_close(restored.compact()(x), model(x))


def test_bad_input() -> None:
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(50, 6)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(MissingDataError, match=r"Neurons\(compensate=True\) is computed from what layers read"):
        st.prune(model, HALF, example=x)
    with pytest.raises(MissingDataError, match="statistics lack input_mean"):
        st.prune(model, HALF, example=x, statistics={})
    schedule = Recipe(0.5, granularity=Neurons(compensate=True), schedule=Cubic(begin=0, end=4, every=2))
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(MissingDataError, match="a generator can be read once"):
        st.Pruner(model, schedule, optimizer=optimizer, data=iter([x]), example=x)
    with pytest.raises(HoldError, match="owns none"):
        st.prune(model, HALF, data=x, optimizer=torch.optim.SGD(nn.Linear(2, 2).parameters()))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(RecipeError, match="compensate='yes'"):
        Neurons(compensate="yes")  # type: ignore[arg-type]
    for kind in (Weights, Layers):
        with pytest.raises(TypeError, match="compensate"):
            kind(compensate=True)
    document = HALF.to_dict()
    document["granularity"] = {"kind": "Weights", "compensate": True}
    with pytest.raises(FileFormatError, match="Weights cannot be read"):
        Recipe.from_dict(document)


def test_statistics_can_be_given() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(50, 6)
    twin = copy.deepcopy(model)
    st.prune(model, HALF, example=x, statistics=st.statistics(model, x, None, ["input_mean"]))
    st.prune(twin, HALF, data=x)
    for left, right in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(left, right)


def digits() -> tuple[Array, Array]:
    """All of them in random order; the first 1200 are for training."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    return (found.images / 16).astype("float32")[order], found.target[order]


PERCEPTRON = (nn.Flatten(), nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 10))
CONVOLUTIONAL = (
    *(nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
    *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Linear(512, 10)),
)


@pytest.mark.parametrize(("layers", "epochs"), [(PERCEPTRON, 10), (CONVOLUTIONAL, 4)], ids=["mlp", "cnn"])
def test_digits_before_fine_tuning_in_torch(layers: tuple[nn.Module, ...], epochs: int) -> None:
    x, y = map(torch.tensor, digits())
    gains = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = nn.Sequential(*copy.deepcopy(layers))
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        optimizer = torch.optim.AdamW(model.parameters(), 0.005, weight_decay=1.0)
        for batch in [rows for _ in range(epochs) for rows in torch.randperm(1200).split(64)]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        dense, found = model.eval()(x[1200:]).detach(), []
        for compensate in (False, True):
            twin = copy.deepcopy(model)
            st.prune(twin, Recipe(0.35, granularity=Neurons(compensate=compensate), scope="layer"), data=x[:1200])
            logits = twin(x[1200:]).detach()
            found.append(
                (float((logits - dense).square().mean()), float((logits.argmax(1) == y[1200:]).float().mean()))
            )
        assert found[1][0] < 0.9 * found[0][0]
        gains.append(found[1][1] - found[0][1])
    assert np.mean(gains) > 0.02


def test_digits_before_fine_tuning_in_keras() -> None:
    x, y = digits()
    layers, gains = keras.layers, []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [keras.Input((8, 8)), layers.Flatten(), layers.Dense(64, activation="sigmoid"), layers.Dense(10)]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(0.005, weight_decay=1.0), loss, metrics=["accuracy"])
        model.fit(x[:1200], y[:1200], batch_size=64, epochs=8, verbose=0)
        weights, found = model.get_weights(), []
        for compensate in (False, True):
            model.set_weights(weights)
            recipe = Recipe(0.35, granularity=Neurons(compensate=compensate), scope="layer")
            pruned = sk.prune(model, recipe, data=x[:1200])
            found.append(model.evaluate(x[1200:], y[1200:], verbose=0)[1])
            pruned.release()
        gains.append(found[1] - found[0])
    assert np.mean(gains) > 0.02
