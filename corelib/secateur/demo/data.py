"""The demo's data: where it is found, and how it is split.

Images and labels are always split together, class by class in equal shares. The test part of a data set is the same
examples whatever the seed, so that what is chosen on trials of other seeds has not seen it either.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from secateur.errors import DataNotFoundError, FileFormatError, MissingDependencyError

Array = npt.NDArray[Any]

NAMES = ("digits", "mnist")
ENVIRONMENT = "SECATEUR_DATA"
MNIST = "mnist.npz"
MNIST_SHAPES = {"x_train": (60_000, 28, 28), "y_train": (60_000,), "x_test": (10_000, 28, 28), "y_test": (10_000,)}
VALIDATION_SHARES = {"digits": 0.2, "mnist": 0.1}
# Digits have no official test part; this one is a quarter of every class, drawn once by a number of no meaning.
TEST_SHARE, TEST_SEED = 0.25, 1797


@dataclass(frozen=True)
class Examples:
    """Images, float32 of shape (n, height, width) in 0 to 1, and their labels, int64 of shape (n,)."""

    images: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """A data set in three parts that share no example."""

    name: str
    train: Examples
    validation: Examples
    test: Examples

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of every image."""
        height, width = self.train.images.shape[1:]
        return height, width

    def facts(self) -> dict[str, str]:
        """What a reader of the results should know about the data."""
        parts = {"training": self.train, "validation": self.validation, "test": self.test}
        return {
            "data set": self.name,
            "image": f"{self.image[0]} × {self.image[1]}",
            **{f"{part} examples": f"{len(examples):,}" for part, examples in parts.items()},
        }

    def save(self, path: Path) -> None:
        """Write all three parts to one ``.npz`` file."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        arrays = {
            f"{name}_{kind}": getattr(part, kind) for name, part in parts.items() for kind in ("images", "labels")
        }
        np.savez(path, name=np.array(self.name), **arrays)

    @classmethod
    def read(cls, path: Path) -> DataSet:
        """The inverse of :meth:`save`."""
        with np.load(path, allow_pickle=False) as file:
            parts = (
                Examples(file[f"{name}_images"], file[f"{name}_labels"]) for name in ("train", "validation", "test")
            )
            return cls(str(file["name"]), *parts)


def load(name: str, seed: int, download: Callable[[Path], None] | None = None) -> DataSet:
    """Load and split a data set.

    Args:
        name: ``digits``, which comes with scikit-learn, or ``mnist``.
        seed: decides which of the other examples are for training and which for validation. The test part is always
            the same; that of MNIST is its official one.
        download: called with the path at which MNIST is wanted if it is found nowhere; None to look no further.

    Raises:
        DataNotFoundError: MNIST is in none of the places where it is looked for.
        FileFormatError: a file of that name holds something else.
        MissingDependencyError: scikit-learn is not installed.
    """
    if name == "digits":
        examples, test = _split(_digits(), TEST_SHARE, TEST_SEED)
    else:
        examples, test = _mnist(find_mnist(download))
    train, validation = _split(examples, VALIDATION_SHARES[name], seed)
    return DataSet(name, train, validation, test)


def cache_folder() -> Path:
    """Where this user's programs keep what can be downloaded again, by the platform's custom."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "secateur"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "secateur"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secateur"


def find_mnist(download: Callable[[Path], None] | None = None) -> Path:
    """The path of ``mnist.npz``: in the folder ``SECATEUR_DATA``, in the user's cache, or there after a download."""
    named = os.environ.get(ENVIRONMENT)
    places = [Path(named) / MNIST] if named else []
    places.append(cache_folder() / MNIST)
    for place in places:
        if place.is_file():
            return place
    reason = "no framework that is installed has a loader for it"
    if download is not None:
        try:
            download(places[-1])
            return places[-1]
        except DataNotFoundError as error:
            reason = str(error)
    raise DataNotFoundError(
        f"MNIST is not at {' or '.join(map(str, places))}, and could not be downloaded ({reason}). Put mnist.npz, with "
        f"the arrays {', '.join(MNIST_SHAPES)} as keras.datasets.mnist has them, into a folder and name the folder in "
        f"{ENVIRONMENT}; or use --data digits, which needs no download"
    )


def _digits() -> Examples:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependencyError("the demo needs scikit-learn: pip install 'secateur[demo]'") from error
    digits = load_digits()
    return Examples((digits.images / 16.0).astype(np.float32), digits.target.astype(np.int64))


def _mnist(path: Path) -> tuple[Examples, Examples]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in MNIST_SHAPES}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise FileFormatError(f"{path} cannot be read as MNIST: {error}; remove it or replace it") from error
    for name, shape in MNIST_SHAPES.items():
        if arrays[name].shape != shape:
            raise FileFormatError(f"{path}: {name} has shape {arrays[name].shape}, MNIST has {shape}; replace the file")
    parts = (
        Examples((arrays[f"x_{part}"] / np.float32(255)).astype(np.float32), arrays[f"y_{part}"].astype(np.int64))
        for part in ("train", "test")
    )
    first, second = parts
    return first, second


def _split(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Put ``share`` of every class aside: what remains, and what was put aside."""
    try:
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise MissingDependencyError("the demo needs scikit-learn: pip install 'secateur[demo]'") from error
    images, aside_images, labels, aside_labels = train_test_split(
        examples.images, examples.labels, test_size=share, stratify=examples.labels, random_state=seed
    )
    return Examples(images, labels), Examples(aside_images, aside_labels)
