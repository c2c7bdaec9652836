"""Copies of what ``prune`` returned hold their own copy of the model; pruners and pickles are refused in words."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from secateur import Cubic, Gradient, Recipe
from secateur.errors import CopyError, SecateurError

X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 64)


@dataclass(frozen=True)
class Framework:
    """One adapter, models for it, and how one of them trains."""

    adapter: Any
    models: dict[str, Callable[[], Any]]
    train: Callable[[Any], None]
    weights: Callable[[Any], dict[str, np.ndarray]]


def torch_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


def train_torch(model: torch.nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(3):
        torch.nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
        optimizer.step()


def sequential() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def functional() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Concatenate()([hidden, inputs])))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


FRAMEWORKS = {
    "torch": Framework(
        st,
        {"sequential": torch_model},
        train_torch,
        lambda model: {name: tensor.detach().numpy().copy() for name, tensor in model.named_parameters()},
    ),
    "keras": Framework(
        sk,
        {"sequential": sequential, "functional": functional},
        lambda model: model.fit(X, Y, verbose=0),
        lambda model: {p.name: p.view.T.copy() for p in sk.parameters(model)},
    ),
}
CASES = [(name, model) for name, framework in FRAMEWORKS.items() for model in framework.models]


def leaks(framework: Framework, pruned: Any, masks: dict[str, np.ndarray]) -> bool:
    before = framework.weights(pruned.model)
    framework.train(pruned.model)
    after = framework.weights(pruned.model)
    assert all((before[name][mask] != after[name][mask]).any() for name, mask in masks.items()), "it trains"
    return any(after[name][~mask].any() for name, mask in masks.items())


@pytest.mark.parametrize(("name", "build"), CASES)
def test_a_deep_copy_holds_its_own_model(name: str, build: str) -> None:
    framework = FRAMEWORKS[name]
    model = framework.models[build]()
    framework.train(model)
    pruned = framework.adapter.prune(model, Recipe(0.5))
    masks, before = pruned.masks, framework.weights(model)
    twin = copy.deepcopy(pruned)
    assert twin.model is not model
    assert not leaks(framework, twin, masks)
    for key, array in framework.weights(model).items():
        np.testing.assert_array_equal(array, before[key])
    twin.release()
    assert leaks(framework, twin, masks)
    assert not leaks(framework, pruned, masks)


@pytest.mark.parametrize(("name", "build"), CASES)
def test_the_original_is_released_by_itself(name: str, build: str) -> None:
    framework = FRAMEWORKS[name]
    pruned = framework.adapter.prune(framework.models[build](), Recipe(0.5))
    masks, twin = pruned.masks, copy.deepcopy(pruned)
    pruned.release()
    assert leaks(framework, pruned, masks)
    assert not leaks(framework, twin, masks)
    assert leaks(framework, copy.deepcopy(pruned), masks), "the copy of a free model is free"


@pytest.mark.parametrize(("name", "build"), CASES)
def test_model_and_pruned_are_copied_together(name: str, build: str) -> None:
    framework = FRAMEWORKS[name]
    model = framework.models[build]()
    both = copy.deepcopy({"pruned": framework.adapter.prune(model, Recipe(0.5)), "model": model})
    assert both["model"] is both["pruned"].model is not model
    assert both["pruned"].sparsity == 0.5
    assert both["pruned"].compact(X[:2]) is not both["model"]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_pickle_is_refused_in_words(name: str) -> None:
    framework = FRAMEWORKS[name]
    pruned = framework.adapter.prune(framework.models["sequential"](), Recipe(0.5))
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(CopyError, match=r"save\(folder\).*load\(folder\).*copy\.deepcopy") as caught:
            attempt(pruned)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, SecateurError)


@pytest.mark.parametrize("recipe", [Recipe(0.5), Recipe(0.5, schedule=Cubic(begin=0, end=4, every=1))])
def test_a_pruner_of_a_training_loop_is_refused_in_words(recipe: Recipe) -> None:
    model = torch_model()
    pruner = st.Pruner(model, recipe, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    callback, compiled = sk.Pruner(recipe), sequential()
    compiled.fit(X, Y, verbose=0, callbacks=[callback])
    for each in (pruner, callback):
        with pytest.raises(CopyError, match="new pruner with the optimizer"):
            copy.deepcopy(each)
        with pytest.raises(CopyError):
            pickle.dumps(each)


def test_a_callback_that_has_no_model_yet_is_copied() -> None:
    twin = copy.deepcopy(sk.Pruner(Recipe(0.5)))
    sequential().fit(X, Y, verbose=0, callbacks=[twin])
    assert twin.sparsity == 0.5


def test_data_that_cannot_be_copied_does_not_matter() -> None:
    batches = ((X[:8], Y[:8]) for _ in range(2))
    pruned = st.prune(torch_model(), Recipe(0.5, score=Gradient()), data=batches, loss=torch.nn.CrossEntropyLoss())
    assert copy.deepcopy(pruned).sparsity == 0.5
