"""R and S on a CUDA device: one reading and one change in place, in strides of the whole grid as Secateur's kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.kernel_table.loads import Load
from benchmarks.kernel_table.operations import Prepare
from secateur.kernels import cuda_compiled
from secateur.kernels.cuda_compiled import cuda, launch


@cuda.jit
def total(x: Any, sums: Any) -> None:
    own = np.float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        own += x[i]
    sums[cuda.grid(1)] = own


@cuda.jit
def scale(x: Any, factor: Any) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        x[i] *= factor


def read_passes() -> dict[str, Prepare]:
    """The kernel whose time is R."""

    def prepare(load: Load) -> Callable[[], Any]:
        line = words(load.case())
        sums = cuda.device_array(cuda_compiled.BLOCKS * cuda_compiled.THREADS, np.float32)
        return lambda: launch(total, 0, line, sums)

    return {"sum in strides of the grid": prepare}


def write_passes() -> dict[str, Prepare]:
    """The kernel whose time is S; it leaves float32 as they are."""

    def prepare(load: Load) -> Callable[[], Any]:
        line = words(load.fresh())
        return lambda: launch(scale, 0, line, np.float32(1))

    return {"scaling by 1": prepare}


def words(line: Any) -> Any:
    """The bytes of a line, four at a time, as float32."""
    interface = dict(line.__cuda_array_interface__)
    size = interface["shape"][0] * np.dtype(interface["typestr"]).itemsize // 4
    interface |= {"shape": (size,), "typestr": "<f4", "strides": None}
    return cuda.from_cuda_array_interface(interface, line, False)
