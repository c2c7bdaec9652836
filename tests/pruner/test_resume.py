"""A training that was interrupted and resumed ends as one that was not, bit for bit, whatever the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from secateur import (
    SET,
    Cubic,
    DynamicSurgery,
    InitRelative,
    Iterative,
    KSigma,
    Movement,
    Neurons,
    Recipe,
    RigL,
    progress,
    storage,
)
from secateur.errors import FileFormatError, HoldError
from secateur.progress import Progress

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
RECIPES: dict[str, Recipe] = {
    "cubic": Recipe(KSigma(0.3), schedule=Cubic(begin=2, end=12, every=2)),
    "neurons": Recipe(0.5, granularity=Neurons(), scope="layer", schedule=Cubic(begin=0, end=12, every=3)),
    "rewound": Recipe(0.8, schedule=Iterative(rounds=3, every=4, rewind=1)),
    "set": Recipe(0.75, regrowth=SET(begin=0, end=14, every=2), schedule=Cubic(begin=0, end=9, every=3)),
    "rigl": Recipe(0.75, regrowth=RigL(begin=0, end=14, every=2)),
    "surgery": Recipe(0.75, regrowth=DynamicSurgery(begin=0, end=14, every=1, rate=4.0)),
    "from the start": Recipe(0.6, score=InitRelative(), schedule=Cubic(begin=2, end=12, every=2)),
    "movement": Recipe(0.6, score=Movement(), scope="layer", schedule=Cubic(begin=2, end=12, every=5)),
    "epochs": Recipe(0.6, allocation="erk", schedule=Cubic(begin=0, end=3, unit="epoch")),
}


def torch_training() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 2))
    return model, torch.optim.Adam(model.parameters(), 0.02)


def train_torch(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(X)), torch.tensor(Y)).backward()
        optimizer.step()


def torch_pruner(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, **options: Any) -> st.Pruner:
    return st.Pruner(model, recipe, optimizer, example=torch.tensor(X[:2]), steps_per_epoch=4, **options)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop", [1, 7])
def test_torch_goes_on_where_it_stopped(name: str, stop: int, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    model, optimizer = torch_training()
    whole = torch_pruner(model, optimizer, recipe)
    train_torch(model, optimizer, stop)
    whole.save(tmp_path / "saved")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    train_torch(model, optimizer, 16 - stop)

    other, new = torch_training()
    train_torch(other, torch.optim.SGD(other.parameters(), 0.5), 2)  # whatever it holds is replaced
    resumed = torch_pruner(other, new, recipe, resume=tmp_path / "saved")
    assert resumed.step == stop
    new.load_state_dict(torch.load(tmp_path / "optimizer.pt"))
    train_torch(other, new, 16 - stop)
    assert (resumed.step, resumed.rounds, resumed.round_step) == (whole.step, whole.rounds, whole.round_step)
    assert resumed.finished and resumed.sparsity == whole.sparsity
    for key, mask in whole.masks.items():
        np.testing.assert_array_equal(resumed.masks[key], mask)
    for key, value in model.state_dict().items():
        if "num_batches" not in key:
            assert torch.equal(other.state_dict()[key], value), key
    assert resumed.compact() is not None and str(resumed.summary())


def keras_training() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((6,)), layers.Dense(12, activation="tanh"), layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(model: keras.Model, pruner: sk.Pruner, epochs: int) -> None:
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[pruner])


@pytest.mark.parametrize("name", ["cubic", "rewound", "rigl", "surgery", "from the start", "movement", "epochs"])
def test_keras_goes_on_where_it_stopped(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    data = (X, Y) if recipe.regrowth is not None or name == "movement" else None
    model, whole = keras_training(), sk.Pruner(recipe, data=data)
    fit(model, whole, 2)
    model.save(tmp_path / "model.keras")
    whole.save(tmp_path / "saved")
    fit(model, whole, 2)

    other, resumed = (
        keras.models.load_model(tmp_path / "model.keras"),
        sk.Pruner(recipe, data=data, resume=tmp_path / "saved"),
    )
    fit(other, resumed, 2)
    assert (resumed.step, resumed.rounds, resumed.round_step) == (whole.step, whole.rounds, whole.round_step)
    assert resumed.finished and resumed.sparsity == whole.sparsity
    for mask, expected in zip(resumed.masks.values(), whole.masks.values(), strict=True):
        np.testing.assert_array_equal(mask, expected)
    for value, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_layers_that_keras_numbered_otherwise_are_found(tmp_path: Path) -> None:
    model, whole = keras_training(), sk.Pruner(RECIPES["rewound"])
    fit(model, whole, 1)
    whole.save(tmp_path / "saved")
    other, resumed = keras_training(), sk.Pruner(RECIPES["rewound"], resume=tmp_path / "saved")
    assert [layer.name for layer in other.layers] != [layer.name for layer in model.layers]
    fit(other, resumed, 2)
    assert resumed.finished and resumed.rounds == 3


def test_what_cannot_be_resumed_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    model, optimizer = torch_training()
    pruner = torch_pruner(model, optimizer, RECIPES["cubic"])
    train_torch(model, optimizer, 3)
    pruner.save(tmp_path / "saved")
    st.prune(torch_training()[0], Recipe(0.5)).save(tmp_path / "static")
    (tmp_path / "empty").mkdir()
    other, new = torch_training()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    for folder, recipe, words in (
        ("saved", RECIPES["rigl"], "under another recipe"),
        ("static", Recipe(0.5), "does not tell where a training stands"),
        ("empty", RECIPES["cubic"], "cannot be read"),
    ):
        with pytest.raises(FileFormatError, match=words):
            torch_pruner(other, new, recipe, resume=tmp_path / folder)
    narrow = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
    with pytest.raises(FileFormatError, match=r"mask of shape \(12, 6\)"):
        torch_pruner(narrow, torch.optim.SGD(narrow.parameters(), 0.1), RECIPES["cubic"], resume=tmp_path / "saved")
    foreign = torch.optim.SGD(narrow.parameters(), 0.1)
    with pytest.raises(HoldError, match="owns none"):
        torch_pruner(other, foreign, RECIPES["cubic"], resume=tmp_path / "saved")
    (tmp_path / "saved" / progress.FILE).write_bytes(b"no tensors")
    with pytest.raises(FileFormatError, match=r"progress\.safetensors is damaged"):
        torch_pruner(other, new, RECIPES["cubic"], resume=tmp_path / "saved")
    (tmp_path / "saved" / storage.MANIFEST).unlink()
    with pytest.raises(FileFormatError, match="does not tell"):
        torch_pruner(other, new, RECIPES["cubic"], resume=tmp_path / "saved")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in before.items())


def test_a_training_saved_without_its_beginning_is_not_resumed_by_a_score_that_looks_back(tmp_path: Path) -> None:
    model, optimizer = torch_training()
    torch_pruner(model, optimizer, RECIPES["from the start"]).save(tmp_path / "saved")
    state = progress.read(tmp_path / "saved")
    assert state.initial_weight.keys() >= {"0.weight", "3.weight"}
    state.initial_weight = {}
    state.write(tmp_path / "saved")
    (tmp_path / "saved" / storage.MANIFEST).unlink()
    other, new = torch_training()
    with pytest.raises(FileFormatError, match="lacks the weights of its beginning"):
        torch_pruner(other, new, RECIPES["from the start"], resume=tmp_path / "saved")


def test_numbers_of_any_type_are_read_back_as_they_were(tmp_path: Path) -> None:
    import ml_dtypes

    arrays = {
        str(np.dtype(kind)): np.arange(6).reshape(2, 3).astype(kind)
        for kind in (np.bool_, np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
    }
    arrays["a/b"], arrays["empty"] = np.float32([[np.nan, -0.0]]), np.zeros((0, 3))
    written = Progress(7, 2, 4, 0.5, [3, 4], {"fc": 2}, {"kept": np.array(True)}, arrays, {"x": arrays["bool"].T})
    written.write(tmp_path)
    found = progress.read(tmp_path)
    assert {**vars(found), "kept": 0, "recorded": 0, "values": 0} == {
        **vars(written),
        "kept": 0,
        "recorded": 0,
        "values": 0,
    }
    for part in ("kept", "recorded", "values"):
        stored, given = getattr(found, part), getattr(written, part)
        assert stored.keys() == given.keys()
        for name, array in given.items():
            assert (stored[name].dtype, stored[name].shape) == (array.dtype, array.shape)
            assert stored[name].tobytes() == array.tobytes()
