"""What a call of a PyTorch function means in the graph's vocabulary.

Functions are known by name, each kind has one small reader, and a reader that meets anything unusual gives None: the
call is then recorded as ``unknown``, which freezes what it touches and is never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from secateur_torch.parameters import Weight

FindWeight = Callable[[Any], "Weight | None"]


@dataclass(frozen=True, eq=False)
class Call:
    """One call as it was made, and what it returned."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """``conv2d``, ``add``, ``T``: without the underscores that mark operators and in-place forms."""
        name = getattr(self.function, "__name__", str(self.function))
        if name == "__get__":
            name = getattr(getattr(self.function, "__self__", None), "__name__", name)
        return name if name in ("__getitem__", "__setitem__") else name.strip("_")

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument given by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def input(self) -> torch.Tensor:
        """The first argument."""
        return self.argument(0, "input")


@dataclass(frozen=True, eq=False)
class Kind:
    """An operation of the graph, with tensors in place of their numbers and names."""

    name: str
    inputs: Sequence[torch.Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, torch.Tensor] = field(default_factory=dict)


Reader = Callable[[Call, FindWeight], "Kind | None"]


def describe(call: Call, weight: FindWeight) -> Kind | None:
    """The operation of the graph that the call is, or None if it is none of them."""
    reader = READERS.get(call.name)
    if reader is None or not isinstance(call.result, torch.Tensor):
        return None
    try:
        return reader(call, weight)
    except (TypeError, IndexError, ValueError):  # called in a way that no reader expects
        return None


def _linear(call: Call, weight: FindWeight) -> Kind | None:
    parts = _weights(weight, kernel=call.argument(1, "weight"), bias=call.argument(2, "bias"))
    return None if parts is None else Kind("linear", [call.input], {"axis": -1}, parts)


def _convolution(call: Call, weight: FindWeight) -> Kind | None:
    kernel = call.argument(1, "weight")
    parts = _weights(weight, kernel=kernel, bias=call.argument(2, "bias"))
    if parts is None or call.input.ndim != kernel.ndim:
        return None
    return Kind("convolution", [call.input], {"channel_axis": 1, "groups": call.argument(6, "groups", 1)}, parts)


def _batch_norm(call: Call, weight: FindWeight) -> Kind | None:
    parts = _weights(
        weight,
        scale=call.argument(3, "weight"),
        shift=call.argument(4, "bias"),
        mean=call.argument(1, "running_mean"),
        variance=call.argument(2, "running_var"),
    )
    return None if parts is None else Kind("normalize", [call.input], {"axis": 1}, parts)


def _prelu(call: Call, weight: FindWeight) -> Kind | None:
    slope = call.argument(1, "weight")
    if weight(slope) is None:
        return None
    if slope.numel() == 1:
        return Kind("elementwise", [call.input], {}, {"slope": slope})
    return Kind("normalize", [call.input], {"axis": 1}, {"slope": slope})


def _elementwise(call: Call, weight: FindWeight) -> Kind | None:
    """Activations, arithmetic, dropout, casts: operands are broadcast, learned ones among them."""
    operands = [item for item in (*call.args, *call.kwargs.values()) if isinstance(item, torch.Tensor)]
    learned = {f"operand{i}": item for i, item in enumerate(operands) if weight(item) is not None}
    inputs = [item for item in operands if weight(item) is None]
    return Kind("elementwise", inputs, {}, learned) if inputs else None


def _concatenation(call: Call, weight: FindWeight) -> Kind | None:
    joined = list(call.argument(0, "tensors"))
    if any(weight(tensor) is not None for tensor in joined):
        return None
    return Kind("concat", joined, {"axis": call.argument(1, "dim", 0)})


def _reshape(call: Call, weight: FindWeight) -> Kind | None:
    if weight(call.input) is not None or call.result.dtype != call.input.dtype:
        return None
    return Kind("reshape", [call.input], {"shape": tuple(call.result.shape)})


def _permutation(call: Call, weight: FindWeight) -> Kind | None:
    """Reads the order of the axes off the same call on a tensor whose axes all differ in size."""
    if weight(call.input) is not None:
        return None
    probe = torch.empty(tuple(range(2, 2 + call.input.ndim)), device="meta")
    moved = call.function(probe, *call.args[1:], **{key: item for key, item in call.kwargs.items() if key != "input"})
    return Kind("permute", [call.input], {"order": tuple(size - 2 for size in moved.shape)})


def _pool(call: Call, weight: FindWeight) -> Kind | None:
    dimensions = int(call.name[-2])
    return Kind("pool", [call.input], {"channel_axis": 1}) if call.input.ndim == dimensions + 2 else None


def _padding(call: Call, weight: FindWeight) -> Kind | None:
    """Of space alone: the batch and channels keep their sizes."""
    same = call.input.ndim > 2 and call.input.shape[:2] == call.result.shape[:2]
    return Kind("pool", [call.input], {"channel_axis": 1}) if same else None


def _reduction(call: Call, weight: FindWeight) -> Kind | None:
    axes = call.argument(1, "dim")
    if axes is None:
        axes = tuple(range(call.input.ndim))
    axes = (axes,) if isinstance(axes, int) else tuple(axes) or tuple(range(call.input.ndim))
    keepdims = call.result.ndim == call.input.ndim and call.input.ndim > 0
    return Kind("reduce", [call.input], {"axes": axes, "keepdims": keepdims})


def _softmax(call: Call, weight: FindWeight) -> Kind | None:
    axis = call.argument(1, "dim")
    return Kind("softmax", [call.input], {"axis": axis}) if isinstance(axis, int) else None


def _weights(weight: FindWeight, **parts: torch.Tensor | None) -> dict[str, torch.Tensor] | None:
    """The parts that are given; None if one of them is not a weight of the model, but computed."""
    given = {part: tensor for part, tensor in parts.items() if tensor is not None}
    return given if all(weight(tensor) is not None for tensor in given.values()) else None


READERS: dict[str, Reader] = {
    "linear": _linear,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    "batch_norm": _batch_norm,
    "prelu": _prelu,
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenation),
    **dict.fromkeys(
        ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"), _reshape
    ),
    **dict.fromkeys(
        ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "adjoint"), _permutation
    ),
    **{f"{kind}_pool{n}d": _pool for n in (1, 2, 3) for kind in ("max", "avg", "adaptive_max", "adaptive_avg", "lp")},
    **dict.fromkeys(("pad", "interpolate", "upsample"), _padding),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "prod", "logsumexp", "std", "var"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), _softmax),
    **dict.fromkeys(
        (
            *(
                "add",
                "radd",
                "sub",
                "rsub",
                "subtract",
                "mul",
                "rmul",
                "multiply",
                "div",
                "rdiv",
                "truediv",
                "rtruediv",
            ),
            *("true_divide", "divide", "neg", "pow", "rpow", "abs", "sqrt", "rsqrt", "exp", "log", "log1p", "square"),
            *("sin", "cos", "tanh", "sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu"),
            *("mish", "softplus", "softsign", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink"),
            *("tanhshrink", "logsigmoid", "threshold", "clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum"),
            *("erf", "expm1", "reciprocal", "sign", "lerp", "where", "nan_to_num"),
            *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
            *("contiguous", "clone", "detach", "to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu"),
            *("iadd", "isub", "imul", "itruediv"),
        ),
        _elementwise,
    ),
}
