"""How long ``import secateur`` takes, next to the imports of NumPy and Numba, in fresh interpreters, interleaved.

Run: python benchmarks/import_time.py [runs]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

MODULES = ("numpy", "secateur", "numba")


def seconds(module: str) -> float:
    """One fresh interpreter's whole life with this import, less the same without it."""
    return lifetime(f"import {module}") - lifetime("pass")


def lifetime(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    times: dict[str, list[float]] = {module: [] for module in MODULES}
    for module in MODULES:
        seconds(module)
    for _ in range(runs):
        for module in MODULES:
            times[module].append(seconds(module))
    print(f"{'module':10} {'minimum':>9} {'median':>9}   ({runs} interleaved runs, seconds)")
    for module in MODULES:
        print(f"{module:10} {min(times[module]):9.3f} {statistics.median(times[module]):9.3f}")


if __name__ == "__main__":
    main()
