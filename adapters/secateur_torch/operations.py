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


def reads_values(call: Call) -> bool:
    """Whether a call that gives no tensor depends on a tensor's numbers, and not on its shape or type alone."""
    return getattr(call.function, "__name__", "") != "__get__" and call.name not in METADATA


def _linear(call: Call, weight: FindWeight) -> Kind | None:
    kernel = call.argument(1, "weight")
    parts = _weights(weight, kernel=kernel, bias=call.argument(2, "bias"))
    if parts is None or kernel.ndim != 2 or not _lies_as_stored(weight(kernel)):
        return None
    return Kind("linear", [call.input], {"axis": -1}, parts)


def _convolution(call: Call, weight: FindWeight) -> Kind | None:
    kernel = call.argument(1, "weight")
    parts = _weights(weight, kernel=kernel, bias=call.argument(2, "bias"))
    if parts is None or call.input.ndim != kernel.ndim or not _lies_as_stored(weight(kernel)):
        return None
    return Kind("convolution", [call.input], {"channel_axis": 1, "groups": call.argument(6, "groups", 1)}, parts)


def _lies_as_stored(weight: Weight | None) -> bool:
    """Whether the canonical axes are PyTorch's: a layer that uses another layer's weight may see it transposed."""
    return weight is not None and weight.layout.order == tuple(range(len(weight.layout.native)))


def _channel_norm(call: Call, weight: FindWeight) -> Kind | None:
    """Batch and instance normalisation; by the input's own statistics they read along space, as a window does."""
    parts = _weights(
        weight,
        scale=call.argument(3, "weight"),
        shift=call.argument(4, "bias"),
        mean=call.argument(1, "running_mean"),
        variance=call.argument(2, "running_var"),
    )
    own_statistics = call.argument(5, "training", call.kwargs.get("use_input_stats", True))
    if parts is None or call.input.ndim < 2:
        return None
    if own_statistics and call.input.ndim > 2:
        return None if parts else Kind("pool", [call.input], {"channel_axis": 1})
    return Kind("normalize", [call.input], {"axis": 1}, parts)


def _prelu(call: Call, weight: FindWeight) -> Kind | None:
    slope = call.argument(1, "weight")
    if weight(slope) is None or call.input.ndim < 2:
        return None
    if slope.numel() == 1:
        return Kind("elementwise", [call.input], {}, {"slope": slope})
    return Kind("normalize", [call.input], {"axis": 1}, {"slope": slope})


def _elementwise(call: Call, weight: FindWeight) -> Kind | None:
    """Activations, arithmetic, dropout, casts: operands are broadcast, learned ones among them."""
    operands = [item for item in (*call.args, *call.kwargs.values()) if isinstance(item, torch.Tensor)]
    learned = {f"operand{i}": item for i, item in enumerate(operands) if weight(item) is not None}
    inputs = [item for item in operands if weight(item) is None]
    if not all(_lies_as_stored(weight(item)) for item in learned.values()):
        return None
    fits = torch.broadcast_shapes(*(item.shape for item in operands)) == call.result.shape
    return Kind("elementwise", inputs, {}, learned) if inputs and fits else None


def _quotient(call: Call, weight: FindWeight) -> Kind | None:
    """Divided by a number: a tensor would be exactly 0 where a unit is masked, and the model's output NaN."""
    return None if isinstance(call.argument(1, "other"), torch.Tensor) else _elementwise(call, weight)


def _power(call: Call, weight: FindWeight) -> Kind | None:
    """To a number of at least 1: at 0, the value of a masked unit, lower powers or their gradients are infinite."""
    exponent = call.argument(1, "exponent")
    return _elementwise(call, weight) if isinstance(exponent, int | float) and exponent >= 1 else None


def _cast(call: Call, weight: FindWeight) -> Kind | None:
    """Of the first operand; another only tells the type."""
    return Kind("elementwise", [call.input]) if weight(call.input) is None else None


def _concatenation(call: Call, weight: FindWeight) -> Kind | None:
    joined = list(call.argument(0, "tensors"))
    if any(weight(tensor) is not None or tensor.ndim != call.result.ndim for tensor in joined):
        return None
    return Kind("concat", joined, {"axis": _dimension(call, 0)})


def _reshape(call: Call, weight: FindWeight) -> Kind | None:
    if weight(call.input) is not None or call.result.dtype != call.input.dtype:
        return None
    return Kind("reshape", [call.input], {"shape": tuple(call.result.shape)})


def _index(call: Call, weight: FindWeight) -> Kind | None:
    """``x[:, :, None]``: colons and None alone, which only add axes of size 1."""
    index = call.argument(1, "index")
    parts = index if isinstance(index, tuple) else (index,)
    adds = all(part is None or part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in parts)
    return _reshape(call, weight) if adds else None


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
    """Padding of space alone."""
    return _resizing(call, weight) if len(call.argument(1, "pad")) <= 2 * (call.input.ndim - 2) else None


def _resizing(call: Call, weight: FindWeight) -> Kind | None:
    """Of space alone: the batch and channels keep their sizes."""
    same = call.result.ndim == call.input.ndim > 2 and call.input.shape[:2] == call.result.shape[:2]
    return Kind("pool", [call.input], {"channel_axis": 1}) if same and weight(call.input) is None else None


def _reduction(call: Call, weight: FindWeight) -> Kind | None:
    rank = call.input.ndim
    axes = _dimension(call)
    if weight(call.input) is not None or isinstance(axes, bool):
        return None
    axes = (axes,) if isinstance(axes, int) else tuple(axes or range(rank))
    keepdims = call.result.ndim == rank > 0
    if not keepdims and call.result.ndim != rank - len(axes):
        return None
    return Kind("reduce", [call.input], {"axes": axes, "keepdims": keepdims})


def _softmax(call: Call, weight: FindWeight) -> Kind | None:
    axis = _dimension(call)
    return Kind("softmax", [call.input], {"axis": axis}) if isinstance(axis, int) else None


def _dimension(call: Call, default: int | None = None) -> Any:
    """The second argument, which PyTorch calls ``dim`` and NumPy ``axis``."""
    return call.argument(1, "dim", call.kwargs.get("axis", default))


def _weights(weight: FindWeight, **parts: torch.Tensor | None) -> dict[str, torch.Tensor] | None:
    """The parts that are given; None if one of them is not a weight of the model, but computed."""
    given = {part: tensor for part, tensor in parts.items() if tensor is not None}
    return given if all(weight(tensor) is not None for tensor in given.values()) else None


READERS: dict[str, Reader] = {
    "linear": _linear,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("batch_norm", "instance_norm"), _channel_norm),
    "prelu": _prelu,
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenation),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(
        ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "adjoint"), _permutation
    ),
    "__getitem__": _index,
    **{f"{kind}_pool{n}d": _pool for n in (1, 2, 3) for kind in ("max", "avg", "adaptive_max", "adaptive_avg", "lp")},
    "pad": _padding,
    **dict.fromkeys(("interpolate", "upsample", "expand"), _resizing),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "prod", "logsumexp", "std", "var"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), _softmax),
    **dict.fromkeys(
        (
            *("add", "radd", "sub", "rsub", "subtract", "mul", "rmul", "multiply"),
            *("neg", "rpow", "abs", "exp", "log1p", "square"),
            *("sin", "cos", "tanh", "sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu"),
            *("mish", "softplus", "softsign", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink"),
            *("tanhshrink", "logsigmoid", "threshold", "clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum"),
            *("erf", "expm1", "sign", "lerp", "where", "nan_to_num"),
            *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
            *("iadd", "isub", "imul", "expand_as"),
        ),
        _elementwise,
    ),
    **dict.fromkeys(("div", "truediv", "true_divide", "divide", "itruediv"), _quotient),
    **dict.fromkeys(("pow", "ipow"), _power),
    **dict.fromkeys(
        (
            *("contiguous", "clone", "detach", "to", "type", "type_as", "float", "double", "half", "bfloat16"),
            *("cpu", "cuda", "data"),
        ),
        _cast,
    ),
}

METADATA = frozenset(
    (
        *("size", "dim", "ndimension", "numel", "nelement", "len", "stride", "storage_offset", "element_size"),
        *(
            "is_contiguous",
            "is_floating_point",
            "is_complex",
            "is_signed",
            "is_same_size",
            "is_inference",
            "get_device",
        ),
        *("type", "repr", "format", "hash", "data_ptr", "register_hook", "has_names", "is_shared", "is_pinned"),
    )
)
"""Functions that give no tensor and read none of its numbers (printing aside)."""
