"""Compiles every CUDA kernel for a compute capability, as ``python tests/cuda_ptx.py 9.0``; tells of each in JSON.

Needs libnvvm and nvJitLink, which come with ``secateur[cuda]``, but neither a device nor a driver. PTX is made for the
types that launches use, and assembled, so that what the assembler says of registers and memory is known too.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

try:
    from cuda.bindings import nvjitlink
    from numba import cuda, types
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import nvvm

    nvvm.NVVM()
except ImportError as reason:
    sys.exit(f"kernels cannot be compiled to PTX here: pip install 'secateur[dev]' ({reason})")

from secateur.kernels import cuda_group_loops, cuda_loops, cuda_mask_loops, cuda_sums

UNSIGNED = {
    types.float16: types.uint16,
    types.uint16: types.uint16,
    types.float32: types.uint32,
    types.float64: types.uint64,
}
"""The types in which memory of numbers is seen (bfloat16 as uint16), and bit patterns of the same width."""
FLAGS = (
    *("is_bfloat", "a_bfloat", "b_bfloat", "x_bfloat", "weight_bfloat"),
    *("double", "square", "absolute", "scaled", "union", "bools"),
)
COUNTS = ("counts", "sums", "zeros", "found", "patterns", "firsts", "ties")


def kernels() -> Iterator[Any]:
    """All kernels, as dispatchers."""
    for module in (cuda_group_loops, cuda_loops, cuda_mask_loops, cuda_sums):
        yield from (value for value in vars(module).values() if is_kernel(value, module))


def is_kernel(value: Any, module: ModuleType) -> bool:
    """Whether a value is a kernel of that module, and no device function."""
    return (
        isinstance(value, dispatcher.CUDADispatcher)
        and not value.targetoptions.get("device")
        and value.py_func.__module__ == module.__name__
    )


def type_of(parameter: str, axes: int, number: Any) -> Any:
    """The type of a parameter, told by its name, for walks over so many axes and memory of that type."""
    if parameter.endswith("shape"):
        return types.UniTuple(types.int64, axes)
    if parameter.endswith("steps"):
        return types.UniTuple(types.int64, axes + 1)
    if parameter in FLAGS:
        return types.boolean
    memory = {
        **dict.fromkeys(("x", "a", "b", "weight"), number),
        **dict.fromkeys(("total", "result", "scale"), types.float64 if number is types.float64 else types.float32),
        **dict.fromkeys(("bits", "source", "target"), UNSIGNED[number]),
        **dict.fromkeys(COUNTS, types.int64),
        **dict.fromkeys(("keys", "prefixes"), types.uint64),
        **dict.fromkeys(("mask", "packed", "first", "second"), types.uint8),
    }
    if parameter in memory:
        return memory[parameter][::1]
    return types.float64 if parameter == "threshold" else types.int64


def variants() -> Iterator[tuple[int, Any]]:
    """(axes, type of numbers) to compile each kernel for."""
    yield from ((1, number) for number in UNSIGNED)
    yield 3, types.float32


def assembled(ptx: str, capability: tuple[int, int]) -> tuple[int, str]:
    """The size of the machine code, and what the assembler said."""
    source = ptx.encode()
    job = nvjitlink.create(2, [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"])
    nvjitlink.add_data(job, nvjitlink.InputType.PTX, source, len(source), "kernel")
    nvjitlink.complete(job)
    log = bytearray(nvjitlink.get_info_log_size(job))
    nvjitlink.get_info_log(job, log)
    size = nvjitlink.get_linked_cubin_size(job)
    nvjitlink.destroy(job)
    return size, log.decode()


def compiled(kernel: Any, axes: int, number: Any, capability: tuple[int, int]) -> dict[str, Any]:
    """What is known of one kernel."""
    parameters = inspect.signature(kernel.py_func).parameters
    signature = types.void(*(type_of(parameter, axes, number) for parameter in parameters))
    ptx, _ = cuda.compile_ptx(kernel.py_func, signature, cc=capability)
    size, log = assembled(ptx, capability)
    return {
        "kernel": kernel.py_func.__name__,
        "types": f"{axes} axes of {number}",
        "headers": re.findall(r"^\.(?:version|target) .*", ptx, re.MULTILINE),
        "atomics": sorted(set(re.findall(r"\b(?:atom|red)\.\w+\.\w+\.\w+", ptx))),
        "instructions": sorted(set(re.findall(r"^\s+(?:@!?%p\d+\s+)?([a-z]\w*[\w.]*)", ptx, re.MULTILINE))),
        "machine_code": size,
        "stack_and_spills": [int(count) for count in re.findall(r"(\d+) bytes (?:stack frame|spill)", log)],
    }


def main() -> None:
    """Print what is known of all kernels."""
    major, minor = map(int, sys.argv[1].split("."))
    # Device functions are compiled for the device at hand; there is none.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(major, minor))
    known = [compiled(kernel, *variant, (major, minor)) for kernel in kernels() for variant in variants()]
    json.dump(known, sys.stdout)


if __name__ == "__main__":
    main()
