"""Memory that thresholds need beside their input, and inputs of more elements than 32 bits can count."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np

from secateur.arrays import Named
from secateur.ranks import order_statistics

_PEAK = """
    import resource
    import numpy as np
    from secateur import thresholds

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(size=2_000_000, dtype=np.float32) for _ in range(12)]
    thresholds.percentile(arrays[0][:100_000], 50)  # compiled
    thresholds.k_sigma(arrays[0][:100_000], 1)
    before = peak()
    {call}
    print(peak() - before)
"""


def extra_memory(call: str) -> int:
    """Bytes by which a call raises the peak of a fresh process that holds 96 MB of float32."""
    code = textwrap.dedent(_PEAK).format(call=call)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    return int(result.stdout)


def test_a_threshold_needs_little_memory_beside_its_input():
    for call in (
        "thresholds.percentile(arrays, 50)",
        "thresholds.percentile(arrays, 90, absolute=True)",
        "thresholds.percentile([a.reshape(1000, 2000).T for a in arrays], 50)",
        "thresholds.k_sigma(arrays, 1)",
    ):
        assert extra_memory(call) < 24_000_000, call  # a copy of the input would be 96 MB, one of an array 8 MB


def test_more_than_two_to_the_31_elements(tmp_path):
    """A file with holes: it takes no room on the disk, and reads as zeros but for the ends."""
    size = 2**31 + 1000
    file = np.memmap(tmp_path / "sparse", np.float16, "w+", shape=(size,))
    file[:3], file[-400:] = [-5.0, -7.0, 9.0], 2.0
    found = order_statistics([Named("file", file)], [1, 2, size - 402, size - 401, size - 1])
    assert [(each.value, each.below, each.equal) for each in found] == [
        (-5.0, 1, 1),
        (0.0, 2, size - 403),
        (0.0, 2, size - 403),
        (2.0, size - 401, 400),
        (9.0, size - 1, 1),
    ]
