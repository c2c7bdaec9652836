"""Time the CUDA kernels against the device's limits and against PyTorch on the same device; needs an NVIDIA GPU.

Run: python benchmarks/cuda.py [--size 25M 100M] [--rounds 9] [--arrays torch|cupy|numba] [--peers none|quick|all]

Install: pip install 'secateur[cuda,torch]', or cupy-cuda13x instead of torch; nvtx for named ranges in Nsight:
nsys profile --trace=cuda,nvtx python benchmarks/cuda.py --rounds 1 --size 25M

How to read what it prints and writes: docs/kernels.md. Without a GPU it ends with exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Not this script's folder, whose cuda.py is not the package of that name, but the one above it.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console

from benchmarks.kernel_table import results
from benchmarks.kernel_table.loads import Load
from benchmarks.kernel_table.measuring import Plan, Record, Units, measure
from benchmarks.kernel_table.options import SIZES, elements
from benchmarks.kernel_table.rows import Row, narrow_rows, rows
from benchmarks.kernel_table.timing import Clock

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Library:
    """Whose arrays are handed to Secateur.

    Args:
        name: the package.
        place: a host array as one of the device.
        copy: ``copy(target, source)`` of device arrays.
        dtypes: which it has, of float32, bfloat16 and float16.
    """

    name: str
    place: Callable[[Any], Any]
    copy: Callable[[Any, Any], Any]
    dtypes: tuple[str, ...]


def torch_library() -> Library:
    import torch

    def place(array: Any) -> Any:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).cuda()
        return torch.from_numpy(array).cuda()

    return Library("torch", place, lambda target, source: target.copy_(source), ("float32", "bfloat16", "float16"))


def cupy_library() -> Library:
    import cupy

    return Library("cupy", cupy.asarray, lambda target, source: cupy.copyto(target, source), ("float32", "float16"))


def numba_library() -> Library:
    from numba import cuda

    return Library(
        "numba", cuda.to_device, lambda target, source: target.copy_to_device(source), ("float32", "float16")
    )


LIBRARIES = {"torch": torch_library, "cupy": cupy_library, "numba": numba_library}


def require_device() -> Any:
    """The module ``numba.cuda``; ends the program where there is no device."""
    if importlib.util.find_spec("numba_cuda") is None:
        refuse("numba-cuda is not installed: pip install 'secateur[cuda]'")
    cuda = importlib.import_module("numba.cuda")
    if not cuda.is_available():
        refuse("no CUDA device can be used: this benchmark needs an NVIDIA GPU and its driver")
    return cuda


def refuse(reason: str) -> None:
    print(reason, file=sys.stderr)
    sys.exit(2)


def marker() -> Callable[[str], AbstractContextManager[Any]]:
    """A named NVTX range around each timed call, where the package nvtx is installed."""
    if importlib.util.find_spec("nvtx") is None:
        print("nvtx is not installed, so Nsight shows no names: pip install nvtx", file=sys.stderr)
        return lambda name: nullcontext()
    nvtx = importlib.import_module("nvtx")
    return lambda name: nvtx.annotate(name)


def on_device(all_rows: Sequence[Row]) -> list[Row]:
    """The rows with those peers that work on the device: PyTorch's."""
    return [replace(row, peers=tuple(peer for peer in row.peers if peer.library == "torch")) for row in all_rows]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", type=elements, default=list(SIZES), help="elements (default: 25M 100M)")
    parser.add_argument("--rounds", type=int, default=9, help="how often everything is timed (default: 9)")
    parser.add_argument("--arrays", choices=list(LIBRARIES), default="torch", help="whose arrays (default: torch)")
    parser.add_argument("--peers", choices=["none", "quick", "all"], default="quick", help="quick: below a second")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "cuda.json")
    return parser.parse_args(words)


def main() -> None:
    chosen = arguments(sys.argv[1:])
    cuda = require_device()
    if importlib.util.find_spec(chosen.arrays) is None:
        refuse(f"{chosen.arrays} is not installed: choose another by --arrays")
    library = LIBRARIES[chosen.arrays]()
    console = Console(width=None if sys.stdout.isatty() else 200)
    record: Record = {**results.circumstances(), "command": " ".join(["python", "benchmarks/cuda.py", *sys.argv[1:]])}
    record |= {"device": device_name(cuda), "arrays": library.name, "peers": chosen.peers}
    record["tables"] = tables(chosen, cuda, library, console)
    results.write_results(chosen.results, record)
    console.print(f"written: {chosen.results}")


def device_name(cuda: Any) -> str:
    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else str(name)


def tables(chosen: argparse.Namespace, cuda: Any, library: Library, console: Console) -> list[Record]:
    """All tables, printed one by one."""
    from benchmarks.kernel_table import cuda_passes  # which needs a device

    units = Units(cuda_passes.read_passes(), cuda_passes.write_passes())
    clock = Clock(finish=cuda.synchronize, mark=marker())
    measured = []
    for dtype in library.dtypes:
        for size in sorted(chosen.size):
            plan = Plan(
                threads=0,
                rounds=chosen.rounds,
                peers=chosen.peers if library.name == "torch" else "none",
                first=size == min(chosen.size),
                clock=clock,
                processor=False,
                memory=False,
                trial=lambda count, dtype=dtype: Load(count, dtype, library.place, library.copy),
            )
            load = Load(size, dtype, library.place, library.copy)
            shown = on_device(rows() if dtype == "float32" else narrow_rows())
            with console.status(f"{results.count_text(size)} {dtype}") as status:
                table = measure(shown, load, units, plan, status.update)
            results.show(console, table, {})
            measured.append(table)
    return measured


if __name__ == "__main__":
    main()
