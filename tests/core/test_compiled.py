"""Compiled code is kept on disk, where there is a place to keep it."""

from __future__ import annotations

import os
import subprocess
import sys

_PROGRAM = """
import numpy as np
from secateur import thresholds
from secateur.kernels import ordering

assert thresholds.smallest(np.arange(100_000.0), 7) == 6.0
print(sum(ordering._split.stats.cache_hits.values()), sum(ordering._split.stats.cache_misses.values()))
"""


_SMALL_PROGRAM = """
import numpy as np
from secateur.kernels import limbs

limbs.carry(np.zeros((2, 1), np.int64))
print(sum(limbs.carry.stats.cache_hits.values()), sum(limbs.carry.stats.cache_misses.values()))
"""


def hits_and_misses(folder: object, before: str = "", program: str = _PROGRAM) -> tuple[int, int]:
    """Of the cache in that folder, as a fresh process meets them, which runs some code before all else."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-W", "error", "-c", before + program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    hits, misses = map(int, result.stdout.split())
    return hits, misses


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    assert hits_and_misses(tmp_path) == (0, 1)
    assert hits_and_misses(tmp_path) == (1, 0)


def test_no_place_to_keep_it_is_no_error(tmp_path):
    """As where neither the package's folder nor the user's cache can be written, which root always can."""
    nowhere = "from numba.core import caching; caching.CacheImpl._locator_classes = []"
    assert hits_and_misses(tmp_path, nowhere) == (0, 1)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_as_good_as_none(tmp_path):
    assert hits_and_misses(tmp_path, program=_SMALL_PROGRAM) == (0, 1)
    for ending in ("nbi", "nbc"):
        (file,) = tmp_path.rglob(f"*.carry-*.{ending}")
        file.write_bytes(file.read_bytes()[:100])
        assert hits_and_misses(tmp_path, program=_SMALL_PROGRAM) == (0, 1)
        assert hits_and_misses(tmp_path, program=_SMALL_PROGRAM) == (1, 0)
