"""How each kind of PyTorch weight is turned into the canonical view, and back.

Most kernels lie canonically already. A transposed convolution stores ``(in, out, ...)``, a recurrent layer stacks its
gates on the first axis. Every rule is one reshape and one transpose, so a view never copies and the inverse is exact.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from secateur.layout import SPACE, Layout, Shape

GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1, nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}


def layout(module: nn.Module, name: str, shape: Shape) -> Layout:
    """The layout of the tensor ``name`` of ``module``; what no rule knows keeps its shape, with role ``other``."""
    groups = module.groups if isinstance(module, _ConvTransposeNd) else 1
    kind: Any = type(module)
    return _layout(kind, name, shape, groups)


@functools.lru_cache(maxsize=1 << 12)
def _layout(kind: Any, name: str, shape: Shape, groups: int) -> Layout:
    if issubclass(kind, _ConvTransposeNd) and name == "weight":
        return _transposed(groups, shape)
    if issubclass(kind, tuple(GATES)) and re.match(r"(weight|bias)_(ih|hh)", name):
        return _gated(kind, name, shape)
    role, axes = _role(kind, name, shape)
    return Layout(role, axes, shape, shape, tuple(range(len(shape))))


def _role(kind: type[nn.Module], name: str, shape: Shape) -> tuple[str, tuple[str, ...]]:
    plain = tuple(f"axis{axis}" for axis in range(len(shape)))
    if issubclass(kind, nn.Linear | _ConvNd) and name == "weight":
        return "kernel", ("out", "in", *SPACE[len(shape) - 2])
    if issubclass(kind, nn.MultiheadAttention) and name.endswith("proj_weight"):
        return "kernel", ("out", "in")
    if issubclass(kind, nn.LSTM) and name.startswith("weight_hr"):
        return "kernel", ("out", "in")
    if issubclass(kind, nn.Bilinear) and name == "weight":
        return "kernel", ("out", "in", "in2")
    if issubclass(kind, nn.Embedding | nn.EmbeddingBag) and name == "weight":
        return "embedding", ("entries", "features")
    if len(shape) != 1:
        return "other", plain
    if issubclass(kind, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
        roles = {"weight": "scale", "bias": "shift", "running_mean": "mean", "running_var": "variance"}
        return roles.get(name, "other"), ("out",)
    return ("bias", ("out",)) if name.startswith("bias") else ("other", plain)


def _gated(kind: type[nn.Module], name: str, shape: Shape) -> Layout:
    """``(gates * out, in)``, and biases ``(gates * out,)``."""
    gates = next(count for known, count in GATES.items() if issubclass(kind, known))
    split = (gates, shape[0] // gates, *shape[1:])
    if name.startswith("bias"):
        return Layout("bias", ("gate", "out"), shape, split, (0, 1))
    return Layout("recurrent", ("gate", "out", "in"), shape, split, (0, 1, 2))


def _transposed(groups: int, shape: Shape) -> Layout:
    """``(in, out // groups, *space)``; with groups, these become an axis of their own, so that the view is no copy."""
    incoming, outgoing, *space = shape
    axes = ("out", "in", *SPACE[len(space)])
    if groups == 1:
        return Layout("kernel", axes, shape, shape, (1, 0, *range(2, len(shape))))
    split = (groups, incoming // groups, outgoing, *space)
    return Layout("kernel", ("group", *axes), shape, split, (0, 2, 1, *range(3, len(split))))
