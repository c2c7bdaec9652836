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
from safetensors.numpy import load_file, save_file

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
        partial = path.with_suffix(".part")
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial)
        partial.replace(path)

    def read(self, kind: str, model: str, owner: str = "all") -> dict[str, Array]:
        """What :meth:`write` wrote."""
        return dict(load_file(self._path(kind, model, owner)))

    def _path(self, kind: str, model: str, owner: str) -> Path:
        return self.folder / f"{owner.replace('/', '-')}-{model}-{kind}.safetensors"
