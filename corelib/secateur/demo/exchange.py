"""The folder through which the demo's processes exchange arrays: data, weights, statistics, masks.

Weights, statistics and masks carry common names and the common order (channels first), whoever wrote them, so that any
process may read what another one wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.demo.data import DataSet

Array = npt.NDArray[Any]
Named = Mapping[str, Array]


@dataclass(frozen=True)
class Exchange:
    """Names the files of one folder."""

    folder: Path

    def write_data(self, data: DataSet) -> None:
        """Hand the data set to all processes."""
        data.save(self.folder / "data.npz")

    def read_data(self) -> DataSet:
        """The data set."""
        return DataSet.read(self.folder / "data.npz")

    def write(self, kind: str, model: str, arrays: Named, owner: str = "all") -> None:
        """Write named arrays.

        Args:
            kind: what they are: ``initial``, ``trained``, ``statistics``, or a kind of masks.
            model: the network that they belong to.
            arrays: common name -> array.
            owner: the platform that made them.
        """
        path = self._path(kind, model, owner)
        partial = path.with_suffix(".part.npz")
        np.savez(partial, **dict(arrays))
        partial.replace(path)

    def read(self, kind: str, model: str, owner: str = "all") -> dict[str, Array]:
        """What :meth:`write` wrote."""
        with np.load(self._path(kind, model, owner), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def _path(self, kind: str, model: str, owner: str) -> Path:
        return self.folder / f"{owner.replace('/', '-')}-{model}-{kind}.npz"
