"""An array on a CUDA device where something is missing: the error says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
class Tensor:
    shape = (2,)
    __cuda_array_interface__ = {"shape": (2,), "typestr": "<f4", "data": (4096, False), "strides": None, "version": 2}

from secateur import scores
from secateur.errors import MissingDependencyError
try:
    scores.magnitude(Tensor())
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("import sys; sys.modules['numba_cuda'] = None", "arrays on CUDA devices need numba-cuda"),
        ("", "none can be used: install NVIDIA's driver"),
    ],
)
def test_the_error_says_what_to_install(before: str, message: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    environment |= {"PYTHONPATH": str(ROOT / "corelib"), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", before + PROGRAM]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert message in result.stdout
    assert "pip install 'secateur[cuda]'" in result.stdout
