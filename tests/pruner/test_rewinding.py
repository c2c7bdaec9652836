"""Rounds of pruning after which the weights that stay are again what they were, in both frameworks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from secateur import Iterative, Recipe
from secateur.errors import RecipeError

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=0.5),
    "rprop": lambda p: torch.optim.Rprop(p, 0.01),
}


def torch_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 2))


def train_torch(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
        optimizer.step()


def numbers(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.clone().numpy() for name, value in model.state_dict().items() if value.is_floating_point()}


def require_rewound(now: dict[str, Any], recorded: dict[str, Any], masks: dict[str, Any]) -> None:
    for name, before in recorded.items():
        mask = masks.get(name, np.ones(before.shape, np.bool_))
        assert now[name][mask].tobytes() == before[mask].tobytes(), name
        assert not now[name][~mask].any(), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rewind", [0, 3])
def test_a_torch_model_is_rewound_and_its_optimizer_starts_anew(optimizer: str, rewind: int) -> None:
    model = torch_network()
    made = OPTIMIZERS[optimizer](model.parameters())
    pruner = st.Pruner(model, Recipe(0.8, schedule=Iterative(rounds=2, every=5, rewind=rewind)), made)
    train_torch(model, made, rewind)
    recorded = numbers(model)
    train_torch(model, made, 5 - rewind)
    assert (pruner.rounds, pruner.round_step, pruner.sparsity) == (1, rewind, pytest.approx(1 - 0.2**0.5, abs=0.01))
    require_rewound(numbers(model), recorded, pruner.masks)

    twin = torch_network()  # the same weights under a new optimizer go the same way
    twin.load_state_dict(model.state_dict())
    st.prune(twin, Recipe(pruner.sparsity))
    fresh = OPTIMIZERS[optimizer](twin.parameters())
    train_torch(model, made, 4)
    train_torch(twin, fresh, 4)
    masks = pruner.masks
    for name, value in numbers(twin).items():
        same = masks.get(name, np.ones(value.shape, np.bool_))
        np.testing.assert_array_equal(numbers(model)[name][same], value[same])

    train_torch(model, made, 1)
    assert (pruner.rounds, pruner.finished, pruner.sparsity) == (2, True, pytest.approx(0.8, abs=0.01))
    require_rewound(numbers(model), recorded, pruner.masks)


def test_an_optimizer_of_two_models_forgets_one_of_them() -> None:
    model, other = torch_network(), torch_network()
    optimizer = torch.optim.Adam([*model.parameters(), *other.parameters()], 0.01)
    pruner = st.Pruner(model, Recipe(0.5, schedule=Iterative(rounds=1, every=1, rewind=0)), optimizer)
    for each in (model, other):
        nn.functional.cross_entropy(each(torch.tensor(X)), torch.tensor(Y)).backward()
    optimizer.step()
    assert pruner.rounds == 1
    assert not any(tensor in optimizer.state for tensor in model.parameters())
    assert all(tensor in optimizer.state for tensor in other.parameters())


def keras_network(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    norm = layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(12), norm, layers.Activation("tanh"), layers.Dense(2)])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def largest_slot(optimizer: keras.optimizers.Optimizer) -> float:
    """The largest momentum or average that the optimizer remembers."""
    slots = [slot for slot in optimizer.variables if "momentum" in slot.path or "velocity" in slot.path]
    assert slots
    return max(float(np.abs(keras.ops.convert_to_numpy(slot)).max()) for slot in slots)


class Recorder(keras.callbacks.Callback):
    """The weights after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, np.ndarray]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.on_train_batch_end(-1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        self.seen.append({item.name: np.array(item.view) for item in sk.parameters(self.model)})


def test_averages_of_keras_start_again_from_the_rewound_weights() -> None:
    model = keras_network(keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.5))
    averages: list[bool] = []

    def compare(_: sk.Pruner) -> None:
        pairs = zip(model.trainable_variables, model.optimizer._model_variables_moving_average, strict=True)
        averages.extend(bool(keras.ops.all(variable.value == average.value)) for variable, average in pairs)

    recipe = Recipe(0.5, schedule=Iterative(rounds=1, every=2, rewind=1))
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[sk.Pruner(recipe, after_round=compare)])
    assert averages == [True] * len(model.trainable_variables)


@pytest.mark.parametrize("rewind", [0, 3])
def test_a_keras_model_is_rewound_and_its_optimizer_starts_anew(rewind: int) -> None:
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.01, 0.02])
    model = keras_network(keras.optimizers.Adam(rate))
    first = Recorder()
    rounds: list[tuple[int, float]] = []
    pruner = sk.Pruner(
        Recipe(0.8, schedule=Iterative(rounds=2, every=5, rewind=rewind)),
        after_round=lambda pruner: rounds.append((pruner.rounds, largest_slot(model.optimizer))),
    )
    last = Recorder()
    model.fit(X, Y, batch_size=16, epochs=6, shuffle=False, verbose=0, callbacks=[first, pruner, last])
    masks = pruner.pruned.adapter.canonical(model, pruner.masks)
    require_rewound(last.seen[10], first.seen[rewind], masks)
    assert (rounds, pruner.rounds, pruner.round_step) == ([(1, 0.0), (2, 0.0)], 2, rewind + 2)
    assert largest_slot(model.optimizer) > 0.0
    assert pruner.sparsity == pytest.approx(0.8, abs=0.01)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == rewind + 2


def test_the_learning_rate_starts_again_with_each_round() -> None:
    """Renda et al. 2020: weights train on, the learning rate is rewound."""
    model = torch_network()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    ended: list[int] = []
    pruner = st.Pruner(
        model, Recipe(0.5, schedule=Iterative(rounds=2, every=4)), optimizer, after_round=lambda p: ended.append(p.step)
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5**pruner.round_step)
    rates = []
    for _ in range(10):
        rates.append(scheduler.get_last_lr()[0])
        train_torch(model, optimizer, 1)
        scheduler.step()
    assert rates == [1.0, 0.5, 0.25, 0.125] * 2 + [1.0, 0.5]
    assert ended == [4, 8]


@pytest.mark.parametrize("wrong", [3, "restart"])
def test_what_cannot_be_called_after_a_round_is_refused_before_the_training(wrong: Any) -> None:
    recipe, model = Recipe(0.5, schedule=Iterative(rounds=2, every=4)), torch_network()
    with pytest.raises(RecipeError, match=f"after_round is {wrong!r}.*give a function"):
        st.Pruner(model, recipe, torch.optim.SGD(model.parameters(), 0.1), after_round=wrong)
    with pytest.raises(RecipeError, match="after_round is"):
        sk.Pruner(recipe, after_round=wrong)


def test_epochs_in_both_frameworks() -> None:
    model = torch_network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recipe = Recipe(0.5, schedule=Iterative(rounds=2, every=2, unit="epoch"))
    with pytest.raises(RecipeError, match="steps_per_epoch=len"):
        st.Pruner(model, recipe, optimizer)
    pruner = st.Pruner(model, recipe, optimizer, steps_per_epoch=3)
    train_torch(model, optimizer, 6)
    assert (pruner.rounds, pruner.round_step) == (1, 0)
    callback, twin = sk.Pruner(recipe), keras_network("sgd")
    with pytest.raises(RecipeError, match="steps_per_epoch=len"):
        twin.fit(((X, Y) for _ in range(3)), verbose=0, callbacks=[callback])
    twin.fit(X, Y, batch_size=11, epochs=2, verbose=0, callbacks=[callback])
    assert (callback.rounds, callback.round_step, callback.step) == (1, 0, 6)
