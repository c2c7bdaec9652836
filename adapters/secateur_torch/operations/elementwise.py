"""Functions of numbers at the same place: arithmetic, activations, comparisons, casts; and new tensors of one number.

Whether a function keeps zeros is found out by calling it on some. The same call tells whether a masked unit, which is
exactly zero, would make its result or its gradient infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from secateur_torch.operations.calls import Call, Known, Reader, Step, Steps, lies_as_stored, stand_in


def elementwise(call: Call, known: Known) -> Steps | None:
    """Operands are broadcast, learned ones among them."""
    operands = call.operands
    zero = kept_zeros(call)
    if zero is None and all(map(known.is_positive, operands)):
        zero = ""
    if zero is None or np.broadcast_shapes(*(item.shape for item in operands)) != call.result.shape:
        return None
    step = _combined(operands, call.result, zero, known)
    return [replace(step, settings={**step.settings, "adds": True})] if _adds(call) else [step]


def _adds(call: Call) -> bool:
    """Whether it is ``x + y``, of two tensors and without a factor."""
    tensors = [isinstance(item, torch.Tensor) for item in call.args]
    return call.name in ("add", "radd", "iadd") and tensors == [True, True] and call.kwargs.get("alpha", 1) == 1


def _combined(operands: Sequence[torch.Tensor], result: torch.Tensor, zero: str, known: Known) -> Step:
    """A weight is a parameter of the step, unless there is nothing else."""
    learned = {f"operand{i}": item for i, item in enumerate(operands) if lies_as_stored(known.weight(item))}
    inputs = [item for i, item in enumerate(operands) if f"operand{i}" not in learned]
    if not inputs:
        inputs, learned = list(operands), {}
    return Step("elementwise", inputs, [result], {"zero": zero} if zero else {}, learned)


@dataclass(frozen=True)
class _Operand:
    """What matters of an argument that is a tensor."""

    rank: int
    dtype: torch.dtype


def kept_zeros(call: Call) -> str | None:
    """``"all"``, ``"any"``, or ``""`` where zeros give other numbers; None if they give infinite ones or gradients."""
    args = tuple(_operand(item) for item in call.args)
    kwargs = tuple((name, _operand(item)) for name, item in call.kwargs.items() if name != "out")
    try:
        return _found_out(call.function, args, kwargs)
    except TypeError:  # an argument that cannot be looked up
        return _found_out.__wrapped__(call.function, args, kwargs)


def _operand(item: Any) -> Any:
    return _Operand(item.ndim, item.dtype) if isinstance(item, torch.Tensor) else item


@lru_cache(maxsize=4096)
def _found_out(function: Callable[..., Any], args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> str | None:
    count = sum(isinstance(item, _Operand) for item in (*args, *(item for _, item in kwargs)))
    at_zero = _probed(function, args, kwargs, [0.0] * count)
    if at_zero is None:
        return None
    if at_zero != 0 or count == 1:
        return "" if at_zero != 0 else "all"
    alone = ([0.0 if at == zero else value for at in range(count)] for zero in range(count) for value in (-2.5, 1.0))
    return "any" if all(_probed(function, args, kwargs, values) == 0 for values in alone) else "all"


def _probed(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Sequence[tuple[str, Any]], values: Sequence[float]
) -> float | None:
    """What the function gives where its operands have these values; None if that or a gradient is not finite."""
    found = iter(values)
    probes: list[torch.Tensor] = []

    def probe(item: Any) -> Any:
        if not isinstance(item, _Operand):
            return item
        made = torch.full((1,) * item.rank, next(found)).to(item.dtype)
        if not made.is_floating_point():
            return made
        probes.append(made.requires_grad_())
        return made * 1  # not the probe itself, into which nothing can be written

    with torch.enable_grad():
        result = function(*(probe(item) for item in args), **{name: probe(item) for name, item in kwargs})
        slopes = _slopes(result, probes)
    numbers = [float(number.detach().double().abs().max()) for number in (result, *slopes)]
    return numbers[0] if all(number < float("inf") for number in numbers) else None


def _slopes(result: torch.Tensor, probes: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    if not result.requires_grad or not probes:
        return []
    return [slope for slope in torch.autograd.grad(result.sum(), probes, allow_unused=True) if slope is not None]


def quotient(call: Call, known: Known) -> Steps | None:
    """Divided by a tensor: unless it is never zero, what it can lose stays, or a masked unit would be divided by 0."""
    left, right = call.args[0], call.argument(1, "other")
    if call.name == "rtruediv" or call.name == "rdiv":
        left, right = right, left
    if not isinstance(right, torch.Tensor):
        return elementwise(call, known)
    if not isinstance(left, torch.Tensor):
        return [
            Step("elementwise", [right], [call.result]) if known.is_positive(right) else divided(right, call.result)
        ]
    divisor, steps = right, []
    if not known.is_positive(right):
        divisor = stand_in(right.shape)
        steps = [divided(right, divisor)]
    if np.broadcast_shapes(left.shape, right.shape) != call.result.shape:
        return None
    return [*steps, _combined([left, divisor], call.result, "any", known)]


def divided(divisor: torch.Tensor, result: torch.Tensor) -> Step:
    """What is divided by stays as it is."""
    return Step("unknown", [divisor], [result], {"reason": "it divides by what would be zero without a unit"})


def cast(call: Call, known: Known) -> Steps | None:
    """Of the first operand; another only tells the type."""
    return [Step("elementwise", [call.input], [call.result], {"zero": "all"})]


def copied(call: Call, known: Known) -> Steps | None:
    """``copy_``: index by index, into a tensor that keeps its shape, and so into what it is a view of."""
    source = call.argument(1, "src", call.kwargs.get("other"))
    return [Step("elementwise", [call.input, source], [call.result], {"zero": "all"})]


def overwritten(call: Call, known: Known) -> Steps | None:
    """``zero_`` and ``fill_``: with one number everywhere."""
    number = 0 if call.name == "zero" else call.argument(1, "value")
    is_zero = not isinstance(number, torch.Tensor) and number == 0
    return [Step("elementwise", [call.input], [call.result], {"zero": "all"} if is_zero else {})]


def gated(call: Call, known: Known) -> Steps | None:
    """``glu``: one half of an axis, times the sigmoid of the other."""
    axis = call.argument(1, "dim", -1) % call.input.ndim
    halves = [stand_in(call.result.shape) for _ in range(2)]
    settings = {"axis": axis, "sizes": (halves[0].shape[axis],) * 2, "equal": True}
    gate = Step("elementwise", halves, [call.result], {"zero": "all"})
    return [Step("split", [call.input], halves, settings), gate]


def filled(call: Call, known: Known) -> Steps | None:
    """A new tensor with one number everywhere, or with any."""
    if "empty" in call.name:
        return [Step("fill", [], [call.result], {}, optional=True)]
    number = {"zeros": 0, "ones": 1}.get(call.name.removesuffix("_like").removeprefix("new_"))
    if number is None:
        number = call.argument(2 if call.name.startswith("new_") else 1, "fill_value")
    if isinstance(number, torch.Tensor):
        return None
    return [Step("fill", [], [call.result], {"zero": True} if number == 0 else {}, optional=True)]


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
    "copy": copied,
    **dict.fromkeys(("fill", "zero"), overwritten),
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
            for kind in ("zeros", "ones", "full", "empty")
            for before, after in (("", ""), ("", "_like"), ("new_", ""))
        ),
        filled,
    ),
}
