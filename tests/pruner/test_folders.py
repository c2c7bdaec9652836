"""Saved folders: what was damaged is told by the name of the file, whatever was hit; older folders are still read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import secateur_keras
import secateur_torch
from secateur import Recipe, storage
from secateur.errors import FileFormatError

ADAPTERS: dict[str, tuple[Any, Any]] = {
    "torch": (secateur_torch, lambda: torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3))),
    "keras": (secateur_keras, lambda: keras.Sequential([keras.Input((6,)), keras.layers.Dense(8)])),
}


@pytest.fixture(params=ADAPTERS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    adapter, make = ADAPTERS[request.param]
    adapter.prune(make(), Recipe(0.5)).save(tmp_path / "folder")
    return adapter, tmp_path / "folder"


def flip(path: Path, place: int, bits: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bits
    path.write_bytes(content)


def test_the_manifest_tells_of_every_file_and_a_whole_folder_is_read(saved: tuple[Any, Path]) -> None:
    adapter, folder = saved
    names = {path.name for path in folder.iterdir()} - {storage.MANIFEST}
    assert names == set(storage._json(folder / storage.MANIFEST)["sha256"]) >= {"model.safetensors", "recipe.json"}
    assert adapter.load(folder).recipe == Recipe(0.5)


def test_a_bit_of_a_weight_that_flipped_is_no_weight(saved: tuple[Any, Path]) -> None:
    adapter, folder = saved
    flip(folder / "model.safetensors", -1)
    with pytest.raises(FileFormatError, match=r"model\.safetensors is damaged"):
        adapter.load(folder)


def test_a_folder_from_before_the_manifest_is_read_unchecked(saved: tuple[Any, Path]) -> None:
    adapter, folder = saved
    (folder / storage.MANIFEST).unlink()
    assert adapter.load(folder).recipe == Recipe(0.5)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stand-in for the framework's files."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "model.bin").write_bytes(np.random.default_rng(0).bytes(300))
    storage.write(folder, "none", Recipe(0.5), {"kernel": np.arange(12).reshape(3, 4) % 3 > 0}, None)
    return folder


@given(data=st.data(), bits=st.integers(1, 255))
def test_any_byte_of_any_file_counts(bare: Path, data: st.DataObject, bits: int) -> None:
    name = data.draw(st.sampled_from(["model.bin", storage.RECIPE, storage.PLAN, storage.MASKS]))
    path = bare / name
    whole = path.read_bytes()
    flip(path, data.draw(st.integers(0, len(whole) - 1)), bits)
    try:
        with pytest.raises(FileFormatError, match=f"{name} is damaged"):
            storage.read(bare, "none")
    finally:
        path.write_bytes(whole)
    recipe, masks = storage.read(bare, "none")
    assert recipe == Recipe(0.5)
    np.testing.assert_array_equal(masks["kernel"], np.arange(12).reshape(3, 4) % 3 > 0)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"sha256": 3}', b"\xff", b""])
def test_a_damaged_manifest_is_named(bare: Path, content: bytes) -> None:
    whole = (bare / storage.MANIFEST).read_bytes()
    (bare / storage.MANIFEST).write_bytes(content)
    try:
        with pytest.raises(FileFormatError, match=r"manifest\.json"):
            storage.read(bare, "none")
    finally:
        (bare / storage.MANIFEST).write_bytes(whole)
