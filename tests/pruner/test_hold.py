"""While masks hold, nothing that reads the model sees weights that loading brought back; and what release() leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from secateur import Neurons, OneShot, Recipe
from secateur.errors import HoldError, SecateurError

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class TorchSide:
    """A pruned PyTorch model, and its weights of before."""

    adapter: Any = st

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        self.dense = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.pruned = st.prune(self.model, recipe, example=X)

    def revive(self) -> None:
        self.model.load_state_dict(self.dense)


class KerasSide:
    """The same in Keras."""

    adapter: Any = sk

    def __init__(self, recipe: Recipe) -> None:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)]
        self.model = keras.Sequential([keras.Input((6,)), *layers])
        self.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self.dense = [np.array(weight) for weight in self.model.get_weights()]
        self.pruned = sk.prune(self.model, recipe, example=X)

    def revive(self) -> None:
        self.model.set_weights(self.dense)


def leaks(pruned: Any) -> int:
    """How many weights that the masks prune are not zero."""
    views = {parameter.name: parameter.view for parameter in pruned.parameters()}
    canonical = pruned.adapter.canonical(pruned.model, pruned.masks)
    return sum(int(np.count_nonzero(views[name][~mask])) for name, mask in canonical.items())


@pytest.fixture(params=[TorchSide, KerasSide])
def side(request: pytest.FixtureRequest) -> Any:
    return request.param(Recipe(0.5, granularity=Neurons(), scope="layer"))


@pytest.mark.parametrize("read", ["save", "compact", "summary", "report"])
def test_loaded_weights_are_masked_before_the_model_is_read(side: Any, read: str, tmp_path: Path) -> None:
    side.revive()
    assert leaks(side.pruned) > 0
    getattr(side.pruned, read)(*{"save": [tmp_path / "p"], "report": [tmp_path / "p.html"]}.get(read, []))
    assert leaks(side.pruned) == 0


def test_a_saved_folder_agrees_with_itself_after_loading(side: Any, tmp_path: Path) -> None:
    side.revive()
    side.pruned.save(tmp_path / "p")
    stored = side.adapter.load(tmp_path / "p")
    raw = stored.adapter.read_model(tmp_path / "p", None)
    saved = {item.name: item.view for item in stored.adapter.parameters(raw)}
    masks = stored.adapter.canonical(stored.model, stored.masks)
    assert not any(saved[name][~mask].any() for name, mask in masks.items())


def test_after_release_a_folder_is_written_only_while_masks_and_weights_agree(side: Any, tmp_path: Path) -> None:
    side.pruned.release()
    side.pruned.save(tmp_path / "p")
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "p").iterdir())
    side.revive()
    with pytest.raises(HoldError, match=r"not zero any more \(24 of .*prune it again"):
        side.pruned.save(tmp_path / "p")
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "p").iterdir()) == before
    assert leaks(side.pruned) > 0, "release() lets weights be what they are"
    assert "note: weights that the masks prune are not zero any more" in str(side.pruned.summary())


def zeros(model: Any) -> int:
    """How many weights of the first layer's kernel are zero."""
    kernel = model.layers[0].kernel if isinstance(model, keras.Model) else model[0].weight.detach()
    return int(np.count_nonzero(keras.ops.convert_to_numpy(kernel) == 0.0))


def train(side: Any) -> None:
    if isinstance(side, KerasSide):
        side.model.fit(X, Y, verbose=0)
    else:
        optimizer = torch.optim.SGD(side.model.parameters(), 0.1, momentum=0.9)
        torch.nn.functional.cross_entropy(side.model(torch.tensor(X)), torch.tensor(Y)).backward()
        optimizer.step()


@pytest.fixture(params=[TorchSide, KerasSide])
def sparse(request: pytest.FixtureRequest) -> Any:
    return request.param(Recipe(0.5))


def test_of_two_prunings_on_one_model_the_second_adds_to_the_first(sparse: Any) -> None:
    """Each holds its own masks until it is released."""
    side, first = sparse, zeros(sparse.model)
    second = side.adapter.prune(side.model, Recipe(0.7), example=X)
    both = zeros(side.model)
    assert both > first
    train(side)
    assert leaks(side.pruned) == leaks(second) == 0
    assert zeros(side.model) == both
    second.release()
    train(side)
    assert leaks(side.pruned) == 0 < leaks(second)
    assert first <= zeros(side.model) < both


def test_a_model_is_released_when_nobody_has_kept_what_prune_returned(sparse: Any) -> None:
    held = zeros(sparse.model)
    sparse.adapter.release(sparse.model)
    train(sparse)
    assert zeros(sparse.model) < held


def test_masks_of_one_model_are_not_written_into_another(side: Any) -> None:
    other = (
        torch.nn.Linear(6, 3) if side.adapter is st else keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    )
    with pytest.raises(SecateurError):
        side.pruned.enforce(other)


def test_a_released_pruner_prunes_no_further() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pruner = sk.Pruner(Recipe(0.5, schedule=OneShot(at=6)))
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[pruner])
    pruner.release()
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[pruner])
    assert pruner.step == 12
    assert pruner.sparsity == 0.0
    assert all(np.array(layer.kernel).all() for layer in model.layers)
