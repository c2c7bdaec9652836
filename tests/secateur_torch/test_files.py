"""What is saved comes back bit for bit, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import FileFormatError
from secateur_torch import files

SEQUENTIALS: dict[str, Callable[[], nn.Sequential]] = {
    "perceptron": lambda: nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.3), nn.Linear(8, 3, bias=False)),
    "convolutions": lambda: nn.Sequential(
        *(nn.Conv2d(3, 8, (3, 1), padding="same", padding_mode="circular"), nn.BatchNorm2d(8, eps=0.01, momentum=None)),
        *(nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(8, 8, 3, 2, 1, groups=4, bias=False)),
        *(
            nn.BatchNorm2d(8, affine=False),
            nn.GELU("tanh"),
            nn.PReLU(8),
            nn.AdaptiveAvgPool2d((None, 2)),
            nn.Flatten(2),
            nn.Unflatten(1, (2, 4)),
        ),
        *(nn.Dropout(0.1), nn.Hardtanh(-2, 3), nn.Softmax(-1)),
    ),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.Sequential()),
        *(nn.Identity(), nn.LayerNorm((4,), bias=False), nn.GroupNorm(2, 4)),
    ),
    "one layer": lambda: nn.Sequential(nn.Embedding(5, 3, padding_idx=0, max_norm=2.0)),
    "space": lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 3, stride=2), nn.Upsample(scale_factor=2.0)),
}


@pytest.mark.parametrize("name", SEQUENTIALS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_sequential_model_comes_back_from_the_folder_alone(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = SEQUENTIALS[name]().to(dtype)
    model[0].eval()
    next(model.parameters()).requires_grad_(False)
    pruned = st.prune(model, Recipe(0.5))
    pruned.save(tmp_path / "saved")
    random = torch.get_rng_state()
    loaded = st.load(tmp_path / "saved")
    assert torch.equal(random, torch.get_rng_state())
    assert repr(loaded.model) == repr(model)
    for (left, a), (right, b) in zip(model.state_dict().items(), loaded.model.state_dict().items(), strict=True):
        assert left == right
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert [m.training for m in loaded.model.modules()] == [m.training for m in model.modules()]
    assert [p.requires_grad for p in loaded.model.parameters()] == [p.requires_grad for p in model.parameters()]
    assert loaded.recipe == pruned.recipe
    for key, mask in pruned.masks.items():
        np.testing.assert_array_equal(loaded.masks[key], mask)


class Own(nn.Module):
    """A user's class, which no folder can describe."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, width), nn.Linear(width, 3)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).relu())


def saved(model: nn.Module, folder: Path) -> Path:
    st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=torch.zeros(1, 6)).save(folder)
    return folder


def test_a_users_class_needs_an_instance(tmp_path: Path) -> None:
    model = Own()
    model.seen += 5
    folder = saved(model, tmp_path / "saved")
    with pytest.raises(FileFormatError, match=r"weights of a Own.*pass model="):
        st.load(folder)
    other = Own()
    loaded = st.load(folder, other, example=torch.zeros(1, 6))
    assert loaded.model is other
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    assert loaded.compact().a.out_features == 4


def test_loaded_masks_hold(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    st.prune(model, Recipe(0.5)).save(tmp_path / "saved")
    loaded = st.load(tmp_path / "saved")
    masks = loaded.masks
    optimizer = torch.optim.Adam(loaded.model.parameters(), 0.1)
    for _ in range(3):
        loaded.model(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
    for name, mask in masks.items():
        assert loaded.model.get_parameter(name).detach().numpy()[~mask].max(initial=0) == 0
        assert not mask.all()


def test_every_mismatch_is_named_and_changes_nothing(tmp_path: Path) -> None:
    folder = saved(Own(), tmp_path / "saved")
    for other, match in [
        (Own(9), r"mask of shape \(8,\) for a\.bias, the model \(9,\)"),
        (nn.Sequential(nn.Linear(6, 8)), r"for a\.bias, the model None"),
    ]:
        before = {name: value.clone() for name, value in other.state_dict().items()}
        with pytest.raises(FileFormatError, match=match):
            st.load(folder, other)
        assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_weights_that_the_model_lacks_or_has_too_many(tmp_path: Path) -> None:
    files.write_model(nn.Linear(3, 2), tmp_path)
    with pytest.raises(FileFormatError, match="the model has no bias"):
        files.read_model(tmp_path, nn.Linear(3, 2, bias=False))
    files.write_model(nn.Linear(3, 2, bias=False), tmp_path)
    with pytest.raises(FileFormatError, match="the folder has no bias"):
        files.read_model(tmp_path, nn.Linear(3, 2))


FILES = ["model.safetensors", "architecture.json", "masks.safetensors", "recipe.json", "plan.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "folder"])
@pytest.mark.parametrize("checked", [True, False])
def test_damaged_folders(name: str, damage: str, checked: bool, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    st.prune(nn.Sequential(nn.Linear(6, 8)), Recipe(0.5)).save(folder)
    if not checked:
        (folder / "manifest.json").unlink()
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage == "truncated":
        (folder / name).write_bytes(content[: len(content) // 2])
    if damage == "foreign":
        (folder / name).write_bytes(b"[1, 2, 3]" if name.endswith("json") else b"\x89PNG\r\n\x1a\n" * 100)
    if damage == "folder":
        (folder / name).mkdir()
    with pytest.raises(FileFormatError, match=r"saved|a recipe needs"):
        st.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["children"]["0"].update(layer="eval"),
        lambda a: a["children"]["0"].update(layer="Module"),
        lambda a: a["children"]["0"]["options"].update(in_features="many"),
        lambda a: a["children"]["0"]["options"].update(in_features=7),
        lambda a: a["children"]["0"].pop("options"),
        lambda a: a["children"].update({"0": None}),
        lambda a: a["children"].update({"": a["children"]["0"]}),
        lambda a: a.update(children=3),
        lambda a: a.pop("training"),
    ],
)
def test_descriptions_that_were_tampered_with(change: Callable[[Any], Any], tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    st.prune(nn.Sequential(nn.Linear(6, 8)), Recipe(0.5)).save(folder)
    document = json.loads((folder / "architecture.json").read_text())
    change(document["architecture"])
    (folder / "architecture.json").write_text(json.dumps(document))
    (folder / "manifest.json").unlink()
    with pytest.raises(FileFormatError) as refused:
        st.load(folder)
    assert str(refused.value).count("does not describe") <= 1


@pytest.mark.parametrize("given", [True, False])
def test_weights_of_whole_numbers_are_of_another_model(given: bool, tmp_path: Path) -> None:
    folder, model = tmp_path / "saved", nn.Sequential(nn.Linear(6, 8))
    st.prune(model, Recipe(0.5)).save(folder)
    path, before = folder / "model.safetensors", model[0].weight.clone()
    save_file({name: tensor.int() for name, tensor in load_file(path).items()}, path)
    (folder / "manifest.json").unlink()
    with pytest.raises(FileFormatError, match=r"0.weight is of torch.int32 in the folder and of torch.float32"):
        st.load(folder, model if given else None)
    assert torch.equal(model[0].weight, before)


def test_shared_weights_need_an_instance_and_stay_shared(tmp_path: Path) -> None:
    def build() -> nn.Sequential:
        layer, act = nn.Linear(4, 4), nn.ReLU()
        return nn.Sequential(layer, act, layer, act, nn.Linear(4, 4))

    model = build()
    st.prune(model, Recipe(0.5)).save(tmp_path / "saved")
    with pytest.raises(FileFormatError, match="pass model="):
        st.load(tmp_path / "saved")
    loaded = st.load(tmp_path / "saved", build()).model
    assert loaded[0].weight is loaded[2].weight
    assert torch.equal(loaded[0].weight, model[0].weight)


def test_a_module_without_weights_that_stands_twice_comes_back_twice(tmp_path: Path) -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act)
    st.prune(model, Recipe(0.5)).save(tmp_path / "saved")
    assert len(st.load(tmp_path / "saved").model) == 4


def test_layers_that_do_more_than_their_class_are_not_described(tmp_path: Path) -> None:
    hooked = nn.Sequential(nn.Linear(4, 4))
    hooked[0].register_forward_hook(lambda module, inputs, output: output * 2)
    derived = nn.Sequential(type("Doubled", (nn.Linear,), {})(4, 4))
    for model in (hooked, derived):
        files.write_model(model, tmp_path)
        assert json.loads((tmp_path / "architecture.json").read_text())["architecture"] is None


def test_a_compacted_model_is_written_and_read(tmp_path: Path) -> None:
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), depthwise, nn.Conv2d(8, 2, 1)).eval()
    example = torch.randn(1, 3, 8, 8)
    small = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=example).compact()
    files.write_model(small, tmp_path)
    torch.testing.assert_close(files.read_model(tmp_path, None)(example), small(example), rtol=0, atol=0)


def test_a_folder_is_replaced_whole_and_moves(tmp_path: Path) -> None:
    first, second = nn.Sequential(nn.Linear(6, 8)), nn.Sequential(nn.Linear(6, 9))
    st.prune(first, Recipe(0.5)).save(tmp_path / "saved")
    st.prune(second, Recipe(0.25)).save(tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    loaded = st.load(str(tmp_path / "moved"))
    assert loaded.model[0].out_features == 9
    assert loaded.sparsity == 14 / 54


def test_empty_layers_are_saved(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 0))
    st.prune(model, Recipe(0.5)).save(tmp_path / "saved")
    assert st.load(tmp_path / "saved").model[1].weight.shape == (0, 3)


def test_what_was_read_tells_its_units_and_what_stays(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=torch.ones(1, 6))
    pruned.save(tmp_path / "saved")
    loaded = st.load(tmp_path / "saved", example=torch.ones(1, 6))
    told, again = pruned.summary(), loaded.summary()
    assert [(item.what, item.total, item.removed) for item in again.coupled] == [("neurons", 8, 4)]
    assert (again.coupled, again.frozen) == (told.coupled, told.frozen)
    assert again.form is None
    loaded.compact()
    assert loaded.summary().form == loaded.form == "your own module, with smaller weights"
