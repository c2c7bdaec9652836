"""Data are found where they are looked for, and split with their labels into parts that share nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from secateur.demo import data
from secateur.demo.data import DataSet, Examples
from secateur.errors import DataNotFoundError, FileFormatError


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and no folder named for data."""
    monkeypatch.delenv(data.ENVIRONMENT, raising=False)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    yield tmp_path


def write_mnist(path: Path, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    arrays = {name: generator.integers(0, 10, shape).astype(np.uint8) for name, shape in data.MNIST_SHAPES.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def parts(loaded: DataSet) -> list[Examples]:
    return [loaded.train, loaded.validation, loaded.test]


def test_digits_are_split_into_parts_that_share_no_example_and_lose_none() -> None:
    loaded = data.load("digits", seed=3)
    images = np.concatenate([part.images for part in parts(loaded)])
    whole = data._digits()
    assert len(images) == len(whole) == 1797
    assert sorted(map(bytes, images)) == sorted(map(bytes, whole.images))


def test_every_image_keeps_its_own_label() -> None:
    whole = data._digits()
    labels = {}
    for image, label in zip(whole.images, whole.labels, strict=True):
        labels.setdefault(bytes(image), set()).add(int(label))
    for part in parts(data.load("digits", seed=1)):
        assert all(int(label) in labels[bytes(image)] for image, label in zip(part.images, part.labels, strict=True))


def test_each_part_has_its_share_of_every_class() -> None:
    loaded = data.load("digits", seed=0)
    total = np.bincount(data._digits().labels)
    for part, share in zip(parts(loaded), (0.6, 0.15, 0.25), strict=True):
        assert np.abs(np.bincount(part.labels) - share * total).max() <= 2


def test_the_seed_alone_decides_what_is_trained_on() -> None:
    first, again, other = (data.load("digits", seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert not np.array_equal(first.train.images, other.train.images)


def test_the_test_part_is_the_same_for_every_seed() -> None:
    first, other = (data.load("digits", seed) for seed in (5, 6))
    np.testing.assert_array_equal(first.test.images, other.test.images)
    np.testing.assert_array_equal(first.test.labels, other.test.labels)


def test_images_are_float32_between_0_and_1() -> None:
    images = data.load("digits", 0).train.images
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0.0, 1.0)


def test_a_data_set_survives_its_file(tmp_path: Path) -> None:
    loaded = data.load("digits", 0)
    loaded.save(tmp_path / "data.npz")
    read = DataSet.read(tmp_path / "data.npz")
    assert read.name == "digits"
    for before, after in zip(parts(loaded), parts(read), strict=True):
        np.testing.assert_array_equal(before.images, after.images)
        np.testing.assert_array_equal(before.labels, after.labels)


def test_mnist_keeps_its_official_test_part(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(nowhere / "data" / data.MNIST)
    monkeypatch.setenv(data.ENVIRONMENT, str(nowhere / "data"))
    loaded = data.load("mnist", seed=0)
    with np.load(nowhere / "data" / data.MNIST) as file:
        np.testing.assert_array_equal(loaded.test.labels, file["y_test"])
        np.testing.assert_array_equal(loaded.test.images, file["x_test"].astype(np.float32) / np.float32(255))
    assert [len(part) for part in parts(loaded)] == [54_000, 6_000, 10_000]


def test_the_named_folder_goes_before_the_cache(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = data.cache_folder() / data.MNIST
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert data.find_mnist() == cached
    named = nowhere / "named"
    named.mkdir()
    monkeypatch.setenv(data.ENVIRONMENT, str(named))
    assert data.find_mnist() == cached
    (named / data.MNIST).touch()
    assert data.find_mnist() == named / data.MNIST


def test_a_download_lands_in_the_cache(nowhere: Path) -> None:
    wanted = []
    assert data.find_mnist(wanted.append) == data.cache_folder() / data.MNIST
    assert wanted == [data.cache_folder() / data.MNIST]


def test_missing_mnist_says_where_it_was_looked_for_and_what_to_do(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(data.ENVIRONMENT, str(nowhere / "named"))

    def fail(path: Path) -> None:
        raise DataNotFoundError("the network is down")

    with pytest.raises(DataNotFoundError) as caught:
        data.load("mnist", 0, fail)
    message = str(caught.value)
    for part in (str(nowhere / "named"), str(data.cache_folder()), "the network is down", "x_train", "--data digits"):
        assert part in message


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x05\x06" + bytes(18)])
def test_a_damaged_file_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv(data.ENVIRONMENT, str(nowhere))
    (nowhere / data.MNIST).write_bytes(content)
    with pytest.raises(FileFormatError, match=r"mnist\.npz"):
        data.load("mnist", 0)


def test_a_file_of_other_shapes_is_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(data.ENVIRONMENT, str(nowhere))
    np.savez(nowhere / data.MNIST, **{name: np.zeros(3, np.uint8) for name in data.MNIST_SHAPES})
    with pytest.raises(FileFormatError, match=r"x_train has shape \(3,\)"):
        data.load("mnist", 0)
