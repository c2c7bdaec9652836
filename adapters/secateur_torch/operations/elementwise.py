"""Functions of numbers at the same place: arithmetic, activations, comparisons, casts; and new tensors of one number.

Whether a function keeps zeros is found out by calling it on some. The same call tells whether a masked unit, which is
exactly zero, would make its result or its gradient infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from secateur_torch.operations.calls import Call, Known, Reader, Step, Steps, lies_as_stored, stand_in


def elementwise(call: Call, known: Known) -> Steps | None:
    """Operands are broadcast, learned ones among them."""
    operands = call.operands
    zero = kept_zeros(call, operands)
    if zero is None or torch.broadcast_shapes(*(item.shape for item in operands)) != call.result.shape:
        return None
    return [_combined(operands, call.result, zero, known)]


def _combined(operands: Sequence[torch.Tensor], result: torch.Tensor, zero: str, known: Known) -> Step:
    """A weight is a parameter of the step, unless there is nothing else."""
    learned = {f"operand{i}": item for i, item in enumerate(operands) if lies_as_stored(known.weight(item))}
    inputs = [item for i, item in enumerate(operands) if f"operand{i}" not in learned]
    if not inputs:
        inputs, learned = list(operands), {}
    return Step("elementwise", inputs, [result], {"zero": zero} if zero else {}, learned)


def kept_zeros(call: Call, operands: Sequence[torch.Tensor]) -> str | None:
    """``"all"``, ``"any"``, or ``""`` where zeros give other numbers; None if they give infinite ones or gradients."""
    at_zero = _probed(call, [0.0] * len(operands))
    if at_zero is None:
        return None
    if at_zero != 0 or len(operands) == 1:
        return "" if at_zero != 0 else "all"
    alone = [
        [0.0 if other == i else value for other in range(len(operands))]
        for i in range(len(operands))
        for value in (-2.5, 1.0)
    ]
    return "any" if all(_probed(call, values) == 0 for values in alone) else "all"


def _probed(call: Call, values: Sequence[float]) -> float | None:
    """What the function gives where its operands have these values; None if that or a gradient is not finite."""
    found = iter(values)
    probes: list[torch.Tensor] = []

    def probe(item: Any) -> Any:
        if not isinstance(item, torch.Tensor):
            return item
        made = torch.full((1,) * item.ndim, next(found)).to(item.dtype)
        probes.append(made.requires_grad_(made.is_floating_point()))
        return probes[-1] * 1 if made.is_floating_point() else made

    with torch.enable_grad():
        args, kwargs = [probe(item) for item in call.args], {name: probe(item) for name, item in call.kwargs.items()}
        kwargs.pop("out", None)
        result = call.function(*args, **kwargs)
        slopes = _slopes(result, probes)
    numbers = [float(number.detach().double().abs().max()) for number in (result, *slopes)]
    return numbers[0] if all(number < float("inf") for number in numbers) else None


def _slopes(result: torch.Tensor, probes: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    floats = [probe for probe in probes if probe.requires_grad]
    if not result.requires_grad or not floats:
        return []
    return [slope for slope in torch.autograd.grad(result.sum(), floats, allow_unused=True) if slope is not None]


def quotient(call: Call, known: Known) -> Steps | None:
    """Divided by a tensor: whatever that can lose must stay, for a masked unit would be divided by zero."""
    left, right = call.args[0], call.argument(1, "other")
    if call.name == "rtruediv" or call.name == "rdiv":
        left, right = right, left
    if not isinstance(right, torch.Tensor):
        return elementwise(call, known)
    divisor = stand_in(right.shape)
    steps = [Step("unknown", [right], [divisor])]
    if not isinstance(left, torch.Tensor):
        return [Step("unknown", [right], [call.result])]
    if torch.broadcast_shapes(left.shape, right.shape) != call.result.shape:
        return None
    return [*steps, _combined([left, divisor], call.result, "any", known)]


def cast(call: Call, known: Known) -> Steps | None:
    """Of the first operand; another only tells the type."""
    return [Step("elementwise", [call.input], [call.result], {"zero": "all"})]


def gated(call: Call, known: Known) -> Steps | None:
    """``glu``: one half of an axis, times the sigmoid of the other."""
    axis = call.argument(1, "dim", -1) % call.input.ndim
    halves = [stand_in(call.result.shape) for _ in range(2)]
    settings = {"axis": axis, "sizes": (halves[0].shape[axis],) * 2, "equal": True}
    gate = Step("elementwise", halves, [call.result], {"zero": "all"})
    return [Step("split", [call.input], halves, settings), gate]


def filled(call: Call, known: Known) -> Steps | None:
    """A new tensor with one number everywhere."""
    number = {"zeros": 0, "ones": 1}.get(call.name.removesuffix("_like").removeprefix("new_"))
    if number is None:
        number = call.argument(2 if call.name.startswith("new_") else 1, "fill_value")
    if isinstance(number, torch.Tensor):
        return None
    return [Step("fill", [], [call.result], {"zero": True} if number == 0 else {})]


def expand_as(call: Call, known: Known) -> Steps | None:
    """To the shape of another tensor, whatever that becomes."""
    steps = elementwise(call, known)
    return None if steps is None else [replace(step, settings={"zero": "all"}) for step in steps]


READERS: dict[str, Reader] = {
    **dict.fromkeys(
        (
            *("add", "radd", "iadd", "sub", "rsub", "isub", "subtract", "mul", "rmul", "imul", "multiply"),
            *("addcmul", "lerp", "pow", "ipow", "rpow", "float_power", "fmod", "remainder", "floor_divide"),
            *("neg", "negative", "positive", "abs", "absolute", "sign", "sgn", "square", "sqrt", "rsqrt", "reciprocal"),
            *("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "erf", "erfc", "sin", "cos", "tan", "asin"),
            *("acos", "atan", "sinh", "cosh", "tanh", "asinh", "atanh", "sinc", "floor", "ceil", "round", "trunc"),
            *("frac", "sigmoid", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"),
            *("softplus", "softsign", "hardtanh", "hardsigmoid", "hardswish", "hardshrink", "softshrink"),
            *("tanhshrink", "logsigmoid", "log_sigmoid", "threshold", "rrelu", "logit"),
            *("clamp", "clip", "clamp_min", "clamp_max", "maximum", "minimum", "fmax", "fmin"),
            *("where", "masked_fill", "nan_to_num", "heaviside"),
            *("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite"),
            *("logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_not"),
            *("and", "or", "xor", "invert", "rand", "ror"),
            *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
        ),
        elementwise,
    ),
    "expand_as": expand_as,
    **dict.fromkeys(("div", "truediv", "rtruediv", "rdiv", "true_divide", "divide", "itruediv"), quotient),
    **dict.fromkeys(
        (
            *("contiguous", "clone", "detach", "to", "type", "type_as", "float", "double", "half", "bfloat16"),
            *("bool", "int", "long", "short", "cpu", "cuda", "data", "alias", "requires_grad"),
        ),
        cast,
    ),
    "glu": gated,
    **dict.fromkeys(
        (
            f"{before}{kind}{after}"
            for kind in ("zeros", "ones", "full")
            for before, after in (("", ""), ("", "_like"), ("new_", ""))
        ),
        filled,
    ),
}
