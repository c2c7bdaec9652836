"""Statistics of what kernels read, taken from passes forward in inference mode.

A dispatch mode sees every product and convolution that runs, whatever code asked for it: a module, a function on its
weight, what PyTorch's own attention and recurrent layers are made of. A factor that lies in the memory of a weight
tells which kernel it is, and its strides along which axis it is summed over; the other factor is what the kernel reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.activations import Activations, along, grouped_features
from secateur.windows import FLAT, Window
from secateur_torch.arrays import array
from secateur_torch.inference import arguments, plain_attention
from secateur_torch.parameters import Weight, weights
from secateur_torch.recording import storage

Features = npt.NDArray[np.int64]
Use = tuple[Weight, torch.Tensor, int, Features, Window | None]
"""A kernel, what it reads, the axis of the features, which of them each weight multiplies, in PyTorch's layout, and in
which window a row of weights reads them."""


class Observer(TorchDispatchMode):
    """Runs a model on batches and sees what its kernels read.

    Args:
        model: any module, in inference mode.
        needs: names of :data:`secateur.statistics.ACTIVATIONS`.
    """

    def __init__(self, model: nn.Module, needs: Sequence[str]) -> None:
        super().__init__()
        self._model = model
        self._activations = Activations(needs)
        self._kernels: dict[int, list[Weight]] = {}
        self._batch = 0
        for weight in weights(model):
            if len(weight.layout.native) > 1:
                self._kernels.setdefault(storage(weight.tensor), []).append(weight)

    def observe(self, inputs: Any, batch: int) -> None:
        """Run the model on the inputs of one batch. Raises InvalidTensorError, and whatever the model raises."""
        self._batch = batch
        positional, named = arguments(self._model, inputs)
        with torch.no_grad(), plain_attention(), _in_small_steps(self._model), self:
            self._model(*positional, **named)

    def means(self) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
        """See :meth:`secateur.activations.Activations.means`."""
        return self._activations.means()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operator; take note of what kernels read."""
        reader = READERS.get(func._schema.name)
        for weight, x, axis, features, window in () if reader is None else reader(args, self._kernel):
            form = _canonical(weight, features)
            self._activations.add(weight.name, array(x), axis, form, self._batch, window)
        return func(*args, **dict(kwargs or {}))

    def _kernel(self, tensor: torch.Tensor) -> Weight | None:
        """The weight in whose memory a tensor lies."""
        for weight in self._kernels.get(storage(tensor), ()):
            start = weight.tensor.storage_offset()
            if start <= tensor.storage_offset() < start + weight.tensor.numel():
                return weight
        return None


Finder = Callable[[torch.Tensor], Weight | None]


@contextmanager
def _in_small_steps(model: nn.Module) -> Iterator[None]:
    """Recurrent layers step by step, not in one operation of a library that nobody can look into."""
    if not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        yield
        return
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _convolution(args: Sequence[Any], find: Finder) -> Iterator[Use]:
    x, kernel, transposed, groups = args[0], args[1], args[6], args[8]
    weight = find(kernel)
    if weight is None or kernel.shape != weight.tensor.shape:
        return
    features = (
        along(0, kernel.ndim, kernel.shape[0])
        if transposed
        else grouped_features(kernel.shape[0], x.shape[1], groups, kernel.ndim - 2)
    )
    yield weight, x, 1, features, None if transposed else _window(args)


def _window(args: Sequence[Any]) -> Window:
    """That of a convolution, from its arguments."""
    sides = tuple(args[1].shape[2:])
    strides, padding, dilation = ([*args[place]] * (len(sides) if len(args[place]) == 1 else 1) for place in (3, 4, 5))
    return Window(sides, tuple(strides), tuple(dilation), tuple((each, each) for each in padding))


def _product(args: Sequence[Any], find: Finder) -> Iterator[Use]:
    """Either factor may be a weight; of many matrices side by side, one that is meant for all of them."""
    left, right = args[-2:]
    rows = max(0, right.ndim - 2)
    yield from _summed(left, left.ndim - 1, right, rows, find)
    yield from _summed(right, rows, left, left.ndim - 1, find)


def _summed(matrix: torch.Tensor, axis: int, x: torch.Tensor, features: int, find: Finder) -> Iterator[Use]:
    weight = find(matrix)
    if weight is None:
        return
    if matrix.ndim == 3:
        if matrix.shape[0] > 1 and matrix.stride(0) != 0:
            return
        matrix, axis = matrix[0], axis - 1
    native = _native_axis(weight, matrix.shape[axis], matrix.stride(axis))
    if native is not None:
        yield weight, x, features, along(native, weight.tensor.ndim, matrix.shape[axis]), FLAT


def _native_axis(weight: Weight, size: int, stride: int) -> int | None:
    """The last axis of a weight that has this size and stride; the stride of a single index means nothing."""
    shape, strides = weight.tensor.shape, weight.tensor.stride()
    fits = [axis for axis, own in enumerate(strides) if shape[axis] == size and (size == 1 or own == stride)]
    return fits[-1] if fits else None


def _canonical(weight: Weight, features: Features) -> Features:
    """Which feature each weight multiplies, from PyTorch's layout to the canonical one, 1 along other axes."""
    whole = weight.layout.to_canonical(np.broadcast_to(features, weight.layout.native))
    return whole[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in whole.strides)]


READERS: dict[str, Callable[[Sequence[Any], Finder], Iterator[Use]]] = {
    "aten::convolution": _convolution,
    **dict.fromkeys(("aten::mm", "aten::bmm", "aten::mv", "aten::addmm", "aten::baddbmm", "aten::addmv"), _product),
}
