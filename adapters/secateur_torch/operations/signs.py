"""Which tensors are never zero, so that a masked unit may be divided by them.

Of most functions only zeros are followed, for a mask makes nothing else. But ``x / (x.norm(dim=1) + eps)``, or a
standardised weight, divides by what is positive whatever is masked; so does attention that is linear in time, by sums
of products of ``elu(x) + 1``. Told by names, from input to output; what is not known may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from secateur_torch.operations import views
from secateur_torch.operations.calls import Call

ANY, ABOVE_MINUS_ONE, NOT_NEGATIVE, POSITIVE = range(4)
"""Each is a case of the one before: of claims about one tensor the largest holds, of tensors joined the smallest."""

_GIVES = {
    **dict.fromkeys(("tanh", "expm1"), ABOVE_MINUS_ONE),
    **dict.fromkeys(("abs", "absolute", "square", "relu", "relu6", "hardsigmoid", "sqrt", "var", "std"), NOT_NEGATIVE),
    **dict.fromkeys(("var_mean", "std_mean"), NOT_NEGATIVE),
    **dict.fromkeys(("norm", "vector_norm", "linalg_norm", "linalg_vector_norm", "softmax"), NOT_NEGATIVE),
    **dict.fromkeys(("exp", "sigmoid", "softplus"), POSITIVE),
}
_KEEP = {
    *("mean", "amax", "amin", "cat", "concat", "stack", "__getitem__", "expand_as"),
    *("contiguous", "clone", "detach", "to", "type_as", "float", "double", "half", "bfloat16"),
    *(name for name in views.READERS if name != "pad"),
}
_ADD, _POWER = {"add", "radd", "iadd"}, {"pow", "ipow"}
_OF_ONE = {"sum", "cumsum", "sqrt", "rsqrt", "reciprocal"}
_OF_ALL = {
    *("mul", "rmul", "imul", "multiply", "div", "truediv", "rtruediv", "itruediv", "divide"),
    *("matmul", "rmatmul", "mm", "bmm", "mv", "dot", "vdot", "outer", "ger", "einsum"),
}
"""Sums, roots and products: of what is not negative they are not."""


def sign(call: Call, known: Mapping[int, int]) -> int:
    """What the result of a call is; ``known``: the id of each tensor that is more than any -> what."""
    return max(_GIVES.get(call.name, ANY), _from_operands(call, known))


def sign_of(constant: torch.Tensor) -> int:
    """What the numbers of a constant are, which no mask changes."""
    with torch._C.DisableTorchFunction():
        least = float(constant.min()) if constant.numel() else float("nan")
    return POSITIVE if least > 0 else NOT_NEGATIVE if least >= 0 else ANY


def _from_operands(call: Call, known: Mapping[int, int]) -> int:
    if call.name in ("clamp", "clip", "clamp_min"):
        least = call.argument(1, "min")
        return ANY if not isinstance(least, int | float) or least < 0 else POSITIVE if least > 0 else NOT_NEGATIVE
    if call.name in ("elu", "celu"):
        return ABOVE_MINUS_ONE if len(call.args) < 3 and _is_at_most_one(call.argument(1, "alpha", 1.0)) else ANY
    if call.name in _POWER:
        exponent = call.argument(1, "exponent")
        return NOT_NEGATIVE if isinstance(exponent, int) and exponent % 2 == 0 else ANY
    operands = _listed(call)
    signs = [_of(item, known) for item in operands]
    if call.name in _KEEP:
        return min(signs) if call.name in ("cat", "concat", "stack") else signs[0]
    if call.name in _ADD and len(signs) == 2 and "alpha" not in call.kwargs:
        return _sum(operands, signs)
    is_combined = call.name in _OF_ONE or (call.name in _OF_ALL and (len(signs) == 2 or call.name == "einsum"))
    return min(signs) if is_combined and min(signs) >= NOT_NEGATIVE else ANY


def _is_at_most_one(number: Any) -> bool:
    return isinstance(number, int | float) and number <= 1


def _sum(operands: Sequence[Any], signs: Sequence[int]) -> int:
    """Of two; what is above -1 becomes positive by 1 or more."""
    least = max((item for item in operands if isinstance(item, int | float)), default=0)
    if least >= 1 and min(signs) >= ABOVE_MINUS_ONE:
        return POSITIVE
    return max(signs) if min(signs) >= NOT_NEGATIVE else ANY


def _listed(call: Call) -> list[Any]:
    """The operands: tensors one by one or in a list, those of an einsum after the equation, numbers beside them."""
    if call.name == "einsum":
        return list(call.args[1] if isinstance(call.args[1], tuple | list) else call.args[1:])
    first = call.argument(0, "input", call.kwargs.get("tensors"))
    if isinstance(first, tuple | list):
        return list(first)
    return [first] if call.name in _OF_ONE else [first, *call.args[1:2]]


def _of(item: Any, known: Mapping[int, int]) -> int:
    if isinstance(item, torch.Tensor):
        return known.get(id(item), ANY)
    if isinstance(item, bool) or not isinstance(item, int | float):
        return ANY
    return POSITIVE if item > 0 else NOT_NEGATIVE if item == 0 else ANY
