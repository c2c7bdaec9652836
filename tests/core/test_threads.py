from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from secateur import distributions, masks, thresholds
from secateur.errors import OutOfRangeError
from secateur.kernels import threads

SCORES = [np.random.default_rng(seed).standard_normal((700, 900)).astype(np.float32) for seed in range(3)]


def results() -> tuple[object, ...]:
    kept = masks.keep_largest(SCORES, 500_000)
    return thresholds.percentile(SCORES, 37.5), distributions.summarize(SCORES), [masks.pack(m).tobytes() for m in kept]


@pytest.mark.parametrize("count", ["1", "2", "5"])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, count):
    monkeypatch.setenv("SECATEUR_THREADS", count)
    found = results()
    monkeypatch.delenv("SECATEUR_THREADS")
    assert found == results()


def test_many_python_threads_may_call_at_once():
    expected = results()
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(lambda _: results(), range(24)))


def test_a_forked_child_has_working_threads():
    """In a process of its own, as other tests' frameworks do not survive a fork."""
    program = """
import os, numpy as np
os.environ["SECATEUR_THREADS"] = "3"
from secateur import thresholds
data = np.arange(2_000_000, dtype=np.float32)
parent = thresholds.smallest(data, 1_000_000)
child = os.fork()
if child == 0:
    os._exit(0 if thresholds.smallest(data, 1_000_000) == parent else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=120, check=False).returncode == 0


def test_the_number_that_numba_was_given_is_taken():
    """In a process of its own: once set, Numba's thread layer runs."""
    program = """
import numba
from secateur.kernels.threads import thread_count
assert thread_count() == numba.config.NUMBA_NUM_THREADS == 4
numba.set_num_threads(3)
assert thread_count() == 3
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_NUM_THREADS": "4"}
    environment.pop("SECATEUR_THREADS", None)
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("value", ["0", "-1", "two", ""])
def test_a_wrong_number_of_threads_is_refused(monkeypatch, value):
    monkeypatch.setenv("SECATEUR_THREADS", value)
    with pytest.raises(OutOfRangeError, match="SECATEUR_THREADS"):
        threads.thread_count()


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setenv("SECATEUR_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        threads.mapped(lambda value: 1 // value, [1, 0, 2])
