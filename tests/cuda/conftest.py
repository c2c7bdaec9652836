"""Where the CUDA tests run: compiling to PTX always, the kernels themselves in Numba's simulator or on a device.

NUMBA_ENABLE_CUDASIM=1 chooses the simulator, SECATEUR_TEST_GPU=1 the machine's device; with neither, what needs one of
them is not collected.
"""

from __future__ import annotations

import os

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
ON_DEVICE = SIMULATED or os.environ.get("SECATEUR_TEST_GPU") == "1"

collect_ignore_glob = ["test_ptx.py", "test_missing.py"] if SIMULATED else ["test_simulator_*.py"]
if not ON_DEVICE:
    collect_ignore_glob.append("test_device_*.py")

if SIMULATED:
    import cuda_simulator

    cuda_simulator.complete()
