"""The same work by the calls of NumPy, PyTorch and TensorFlow that people use for it, on the same memory.

They get all numbers as one line, which in a model would first have to be joined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.kernel_table.loads import Load
from benchmarks.kernel_table.operations import Prepare


@dataclass(frozen=True)
class Peer:
    """One way to do a row's work.

    Args:
        name: the call.
        library: the package that it needs.
        prepare: as of Secateur's operations.
    """

    name: str
    library: str
    prepare: Prepare


def tensor(array: Any) -> Any:
    """The array as a PyTorch tensor over the same memory."""
    import torch

    if not isinstance(array, np.ndarray):
        return torch.as_tensor(array, device="cuda")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def place(load: Load, share: float) -> int:
    """The rank of the threshold below which that share lies."""
    return int(share * (load.size - 1))


def partition(share: float) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        line, rank = load.case(), place(load, share)
        return lambda: np.partition(np.abs(line), rank)[rank]

    return Peer("np.partition", "numpy", prepare)


def quantile(share: float) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        line = load.case()
        return lambda: np.quantile(np.abs(line), share)

    return Peer("np.quantile", "numpy", prepare)


def kthvalue(share: float) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        line, rank = tensor(load.case()), place(load, share)
        return lambda: line.abs().kthvalue(rank + 1)

    return Peer("torch.kthvalue", "torch", prepare)


def topk(share: float) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        line, rank = tensor(load.case()), place(load, share)
        return lambda: line.abs().topk(load.size - rank).values[-1]

    return Peer("torch.topk", "torch", prepare)


def tensorflow_sort(load: Load) -> Callable[[], Any]:
    import tensorflow as tf

    line = tf.constant(load.case())
    return lambda: tf.sort(tf.abs(line))


def tensorflow_top_k(share: float) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        import tensorflow as tf

        line = tf.constant(load.case())
        return lambda: tf.math.top_k(tf.abs(line), load.size - place(load, share)).values[-1]

    return Peer("tf.math.top_k", "tensorflow", prepare)


def global_unstructured(share: float) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        import torch
        from torch.nn.utils import prune

        modules = []
        for array in load.arrays(load.case()):
            module = torch.nn.Module()
            module.weight = torch.nn.Parameter(tensor(array).clone())
            modules.append((module, "weight"))
        return lambda: prune.global_unstructured(modules, prune.L1Unstructured, amount=share)

    return Peer("prune.global_unstructured", "torch", prepare)


def partition_and_zero(share: float) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        line, rank = load.fresh(), place(load, share)

        def call() -> None:
            magnitudes = np.abs(line)
            line[magnitudes <= np.partition(magnitudes, rank)[rank]] = 0

        return call

    return Peer("np.partition, then line[...] = 0", "numpy", prepare)


def numpy_moments(load: Load) -> Callable[[], Any]:
    line = load.case()
    return lambda: (line.mean(), line.std(), np.abs(line).mean(), line.min(), line.max())


def torch_moments(load: Load) -> Callable[[], Any]:
    import torch

    line = tensor(load.case())
    return lambda: torch.std_mean(line)


def numpy_zero_below(load: Load) -> Callable[[], Any]:
    line, threshold = load.fresh(), load.threshold

    def call() -> None:
        line[np.abs(line) <= threshold] = 0

    return call


def numpy_where(load: Load) -> Callable[[], Any]:
    line, threshold = load.fresh(), np.float32(load.threshold)
    return lambda: np.where(np.abs(line) > threshold, line, np.float32(0))


def torch_zero_below(load: Load) -> Callable[[], Any]:
    line, threshold = tensor(load.fresh()), load.threshold
    return lambda: line.masked_fill_(line.abs() <= threshold, 0)


def numpy_multiply(load: Load) -> Callable[[], Any]:
    line, mask = load.fresh(), load.mask
    return lambda: np.multiply(line, mask, out=line)


def numpy_index(load: Load) -> Callable[[], Any]:
    line, mask = load.fresh(), load.mask

    def call() -> None:
        line[~mask] = 0

    return call


def torch_multiply(as_float: bool) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        line, mask = tensor(load.fresh()), tensor(load.mask)
        mask = mask.to(line.dtype) if as_float else mask
        return lambda: line.mul_(mask)

    return Peer(f"torch mul_ by a {'float' if as_float else 'bool'} mask", "torch", prepare)


def torch_masked_fill(load: Load) -> Callable[[], Any]:
    line, mask = tensor(load.fresh()), tensor(load.mask)
    return lambda: line.masked_fill_(~mask, 0)


def numpy_packbits(load: Load) -> Callable[[], Any]:
    line, threshold = load.case(), load.threshold
    return lambda: np.packbits(line > threshold)


def numpy_unpackbits(load: Load) -> Callable[[], Any]:
    line, bits = load.fresh(), np.packbits(load.mask)
    return lambda: np.multiply(line, np.unpackbits(bits, count=line.size), out=line)


def numpy_sums(axis: int, transposed: bool) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        matrix = load.matrix(load.case(), transposed)
        return lambda: np.abs(matrix).sum(axis=1 - axis)

    return Peer("np.abs, sum", "numpy", prepare)


def torch_sums(axis: int, transposed: bool) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        import torch

        matrix = tensor(load.matrix(load.case(), transposed))
        return lambda: matrix.abs().sum(dim=1 - axis, dtype=torch.float64)

    return Peer("torch abs, sum in float64", "torch", prepare)


def numpy_accumulate(load: Load) -> Callable[[], Any]:
    total, gradient = load.total, load.case()
    return lambda: np.add(total, np.abs(gradient), out=total)


def torch_accumulate(load: Load) -> Callable[[], Any]:
    total, gradient = tensor(load.total), tensor(load.case())
    return lambda: total.add_(gradient.abs())


def torch_two_of_four(load: Load) -> Callable[[], Any]:
    groups = tensor(load.fresh()).reshape(-1, 4)
    return lambda: groups.scatter_(1, groups.abs().topk(2, largest=False).indices, 0)


def torch_wanda(by_sorting: bool) -> Peer:
    def prepare(load: Load) -> Callable[[], Any]:
        matrix, norms = tensor(load.matrix(load.fresh())), tensor(load.input_norms)
        pruned = load.shape[1] // 2

        def call() -> None:
            score = matrix.abs() * norms
            lowest = score.sort(dim=1, stable=True).indices if by_sorting else score.topk(pruned, largest=False).indices
            matrix.scatter_(1, lowest[:, :pruned], 0)

        return call

    return Peer(f"torch {'sort' if by_sorting else 'topk'} and scatter_", "torch", prepare)
