"""The loop as users run it: prune, train on, compact, save and load, in both frameworks."""

from __future__ import annotations

import copy
import os
import stat
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from secateur import (
    Cubic,
    Gradient,
    KSigma,
    Linear,
    Neurons,
    OneShot,
    Percentile,
    Recipe,
    Taylor,
    masks,
    scores,
    thresholds,
)
from secateur.errors import FileFormatError, VerificationError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(np.int64)
LOSS = torch.nn.CrossEntropyLoss()


def torch_model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10), torch.nn.ReLU(), torch.nn.Linear(10, 2)
    )


def keras_model(optimizer: Any = "adam") -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(12, activation="relu"),
            keras.layers.Dense(10, activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def train_torch(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = 20) -> None:
    inputs, labels = torch.tensor(X), torch.tensor(Y)
    for _ in range(steps):
        optimizer.zero_grad()
        LOSS(model(inputs), labels).backward()
        optimizer.step()


def leaks(pruned: Any) -> float:
    """The largest stored magnitude among masked weights."""
    views = {parameter.name: parameter.view for parameter in pruned.parameters()}
    canonical = pruned.adapter.canonical(pruned.model, pruned.masks)
    return max(float(np.abs(views[name][~mask]).max(initial=0)) for name, mask in canonical.items())


def kernels(pruned: Any) -> list[np.ndarray]:
    return [parameter.view for parameter in pruned.parameters() if parameter.role == "kernel"]


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9])
def test_global_magnitude_equals_the_core_called_by_hand(sparsity: float) -> None:
    model = torch_model()
    dense = [layer.weight.detach().numpy().copy() for layer in model[::2]]
    pruned = st.prune(model, Recipe(sparsity))
    total = sum(weight.size for weight in dense)
    kept = masks.keep_largest([scores.magnitude(weight) for weight in dense], total - int(sparsity * total + 0.5))
    for name, mask, weight in zip(["0.weight", "2.weight", "4.weight"], kept, dense, strict=True):
        np.testing.assert_array_equal(pruned.masks[name], mask)
        np.testing.assert_array_equal(model.get_parameter(name).detach().numpy(), np.where(mask, weight, 0))


def test_a_percentile_prunes_what_lies_below_it_and_k_sigma_what_lies_below_mean_and_spread() -> None:
    weight = torch_model()[0].weight.detach().numpy().copy()
    score = scores.magnitude(weight)
    for target, threshold in [
        (Percentile(90), thresholds.percentile(score, 90)),
        (KSigma(0.5), thresholds.k_sigma(score, 0.5)),
    ]:
        pruned = st.prune(torch_model(), Recipe(target, include=["0"]))
        np.testing.assert_array_equal(pruned.masks["0.weight"], score > threshold)
    assert st.prune(torch_model(), Recipe(Percentile(90), include=["0"])).masks["0.weight"].mean() == pytest.approx(
        0.1, abs=0.02
    )


def test_a_threshold_from_a_fitted_distribution() -> None:
    weight = torch_model()[0].weight.detach().numpy().copy()
    score = scores.magnitude(weight)
    pruned = st.prune(torch_model(), Recipe(Percentile(50, distribution="exponential"), include=["0"]))
    median = float(np.log(2) * score.astype(np.float64).mean())
    np.testing.assert_array_equal(pruned.masks["0.weight"], score > median)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, 0.01),
        lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9),
    ],
)
def test_what_is_masked_stays_zero_in_torch(optimizer: Any) -> None:
    model = torch_model()
    first = optimizer(model.parameters())
    train_torch(model, first, 5)
    pruned = st.prune(model, Recipe(0.8))
    train_torch(model, first)
    assert leaks(pruned) == 0.0
    train_torch(model, optimizer(model.parameters()))
    assert leaks(pruned) == 0.0
    pruned.release()
    train_torch(model, optimizer(model.parameters()), 3)
    assert leaks(pruned) > 0.0


def test_what_is_masked_stays_zero_in_keras() -> None:
    model = keras_model(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01))
    model.fit(X, Y, epochs=2, verbose=0)
    pruned = sk.prune(model, Recipe(0.8))
    model.fit(X, Y, epochs=3, verbose=0)
    assert leaks(pruned) == 0.0
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=3, verbose=0)
    assert leaks(pruned) == 0.0
    pruned.release()
    model.fit(X, Y, epochs=3, verbose=0)
    assert leaks(pruned) > 0.0


@pytest.mark.parametrize("schedule", [Cubic(begin=2, end=12, every=2), Linear(begin=0, end=10, every=5), OneShot()])
@pytest.mark.parametrize("granularity", [None, Neurons()])
def test_pruning_while_a_torch_loop_runs(schedule: Any, granularity: Any) -> None:
    model = torch_model()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    options = {} if granularity is None else {"granularity": granularity}
    recipe = Recipe(0.5, schedule=schedule, scope="layer", **options)
    pruner = st.Pruner(model, recipe, optimizer=optimizer, example=X[:2])
    previous = pruner.masks
    for _ in range(15):
        train_torch(model, optimizer, 1)
        assert leaks(pruner) == 0.0
        current = pruner.masks
        assert all((~previous[name] <= ~current[name]).all() for name in current), "a pruned weight came back"
        previous = current
    assert pruner.step == 15
    assert pruner.finished
    if granularity is None:
        assert pruner.sparsity == 0.5
    else:
        small = pruner.compact()
        assert [small[0].out_features, small[2].out_features, small[4].out_features] == [6, 5, 2]


def test_pruning_while_fit_runs() -> None:
    model = keras_model()
    pruner = sk.Pruner(Recipe(0.5, granularity=Neurons(), scope="layer", schedule=Cubic(begin=0, end=6, every=2)))
    model.fit(X, Y, batch_size=16, epochs=1, verbose=0, callbacks=[pruner])
    assert pruner.step == 4
    assert not pruner.finished
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[pruner])
    assert pruner.step == 12
    assert pruner.finished
    assert leaks(pruner.pruned) == 0.0
    small = pruner.compact()
    assert [layer.units for layer in small.layers] == [6, 5, 2]
    np.testing.assert_allclose(small.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-5)
    assert pruner.max_error < 1e-5
    assert "dense" in str(pruner.summary())
    assert pruner.sparsity == pruner.pruned.sparsity > 0.5
    small.fit(X, Y, epochs=1, verbose=0)


@pytest.mark.parametrize("score", [Gradient(), Taylor()])
def test_scores_from_gradients_over_any_kind_of_data(score: Any) -> None:
    tensors = torch.tensor(X), torch.tensor(Y)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=32)
    kinds = [
        (X, Y),
        tensors,
        loader,
        [(X[:32], Y[:32]), (X[32:], Y[32:])],
        ((X[i : i + 32], Y[i : i + 32]) for i in (0, 32)),
    ]
    recipe = Recipe(0.5, score=score)
    for data in kinds:
        ours = st.prune(torch_model(), recipe, data=data, loss=LOSS).masks
        reference = st.prune(torch_model(), recipe, data=(X, Y), loss=LOSS).masks
        assert all((ours[name] == reference[name]).all() for name in reference)
    kinds[-1] = ((X[i : i + 32], Y[i : i + 32]) for i in (0, 32))
    for data in kinds:
        theirs = sk.prune(keras_model(), recipe, data=data)
        assert theirs.sparsity == 0.5


def test_masks_are_copies_and_the_model_deep_copies() -> None:
    model = torch_model()
    pruned = st.prune(model, Recipe(0.5))
    pruned.masks["0.weight"][:] = False
    assert pruned.masks["0.weight"].any()
    twin = copy.deepcopy(model)
    assert list(twin.state_dict()) == list(torch_model().state_dict())


@pytest.mark.parametrize("granularity", [None, Neurons()])
def test_save_and_load(granularity: Any, tmp_path: Path) -> None:
    options = {} if granularity is None else {"granularity": granularity}
    recipe = Recipe(0.5, scope="layer", **options)
    for adapter, model in ((st, torch_model()), (sk, keras_model())):
        folder = tmp_path / adapter.__name__
        pruned = adapter.prune(model, recipe, example=X[:2])
        pruned.save(folder)
        pruned.save(folder)
        restored = adapter.load(folder, example=X[:2])
        assert restored.recipe == recipe
        assert restored.masks.keys() == pruned.masks.keys()
        for left, right in zip(kernels(pruned), kernels(restored), strict=True):
            np.testing.assert_array_equal(left, right)
        for name, mask in pruned.masks.items():
            np.testing.assert_array_equal(restored.masks[name], mask)
        before, after = (p.adapter.outputs(p.compact(), X) for p in (pruned, restored))
        np.testing.assert_array_equal(before[0], after[0])
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_was_loaded_is_saved_with_the_same_plan(tmp_path: Path) -> None:
    for adapter, model in ((st, torch_model()), (sk, keras_model())):
        folder = tmp_path / adapter.__name__
        adapter.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=X[:2]).save(folder)
        plan = (folder / "plan.json").read_text()
        adapter.load(folder, example=X[:2]).save(folder)
        assert (folder / "plan.json").read_text() == plan
        assert '"removed": 11' in plan


def test_loading_into_a_model_of_ones_own(tmp_path: Path) -> None:
    pruned = st.prune(torch_model(), Recipe(0.5))
    pruned.save(tmp_path / "p")
    other = torch_model()
    restored = st.load(tmp_path / "p", other)
    assert restored.model is other
    train_torch(other, torch.optim.Adam(other.parameters()))
    assert leaks(restored) == 0.0
    stranger = torch.nn.Sequential(torch.nn.Linear(6, 13))
    before = stranger[0].weight.detach().clone()
    with pytest.raises(FileFormatError):
        st.load(tmp_path / "p", stranger)
    assert torch.equal(before, stranger[0].weight)


@pytest.mark.parametrize("file", ["recipe.json", "plan.json", "masks.safetensors", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_damaged_folder_is_refused(file: str, damage: str, tmp_path: Path) -> None:
    st.prune(torch_model(), Recipe(0.5)).save(tmp_path / "p")
    path = tmp_path / "p" / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20] if damage == "cut" else b"not what you think it is")
    with pytest.raises(FileFormatError):
        st.load(tmp_path / "p")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_and_folder_get_the_mode_that_the_umask_gives(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        for adapter, model in ((st, torch_model()), (sk, keras_model())):
            folder = tmp_path / adapter.__name__
            adapter.prune(model, Recipe(0.5)).save(folder)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask
            for path in folder.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path
    finally:
        os.umask(before)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = st.prune(torch_model(), Recipe(0.5))
    pruned.save(tmp_path / "p")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise PermissionError("not here")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        pruned.save(tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert st.load(tmp_path / "p").masks.keys() == pruned.masks.keys()


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileFormatError, match="not a folder that Secateur wrote"):
        st.prune(torch_model(), Recipe(0.5)).save(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_other_framework_cannot_load_the_folder(tmp_path: Path) -> None:
    st.prune(torch_model(), Recipe(0.5)).save(tmp_path / "p")
    with pytest.raises(FileFormatError, match="torch"):
        sk.load(tmp_path / "p")


def test_a_model_that_was_changed_after_release_is_not_compacted_wrongly() -> None:
    model = torch_model()
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=X[:8])
    pruned.release()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    with pytest.raises(VerificationError):
        pruned.compact()


def test_frozen_layers_are_pruned_by_magnitude_but_have_no_gradient() -> None:
    model = torch_model()
    model[0].requires_grad_(False)
    assert st.prune(model, Recipe(0.5)).sparsity == pytest.approx(0.5, abs=0.01)
    from secateur.errors import MissingDataError

    with pytest.raises(MissingDataError, match=r"0\.weight"):
        st.prune(model, Recipe(0.5, score=Gradient()), data=(X, Y), loss=LOSS)
    pruned = st.prune(model, Recipe(0.5, score=Gradient(), exclude=["0"]), data=(X, Y), loss=LOSS)
    assert "0.weight" not in pruned.masks


def test_summary_and_sparsity_tell_the_same() -> None:
    for adapter, model in ((st, torch_model()), (sk, keras_model())):
        pruned = adapter.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=X[:2])
        summary = pruned.summary()
        kept = sum(row.kept for row in summary.rows)
        total = sum(row.total for row in summary.rows)
        assert pruned.sparsity == pytest.approx(1 - kept / total)
        assert "12" in str(summary)
        assert len(str(summary).splitlines()) >= 5


def test_reports_are_one_file(tmp_path: Path) -> None:
    for adapter, model, options in (
        (st, torch_model(), {"loss": LOSS}),
        (sk, keras_model(), {}),
    ):
        recipe = Recipe(Percentile(50), granularity=Neurons(), scope="layer", score=Gradient())
        pruned = adapter.prune(model, recipe, data=(X, Y), **options)
        path = tmp_path / f"{adapter.__name__}.html"
        pruned.report(path)
        text = path.read_text("utf-8")
        assert "<html" in text
        assert "gradient" in text
        assert all(parameter.layer in text for parameter in pruned.parameters() if parameter.role == "kernel")
    st.prune(torch_model(), Recipe(0.9)).report(tmp_path / "weights.html")
    assert (tmp_path / "weights.html").stat().st_size > 10_000
