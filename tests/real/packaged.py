"""Trained weights that come inside Python packages: read as files, so that what the packages need is not needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch


def weights(package: str, file: str) -> dict[str, Any]:
    """The tensors of a file in an installed package, which is not imported. Skips where it is not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(
            f"the trained weights of {package} are not on this machine: pip install --no-deps --requirement "
            "tests/real/requirements.txt"
        )
    path = Path(spec.submodule_search_locations[0]) / file
    stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return stored
