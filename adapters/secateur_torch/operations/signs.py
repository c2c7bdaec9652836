"""Which tensors are never zero, so that a masked unit may be divided by them.

Of most functions only zeros are followed, for a mask makes nothing else. But ``x / (x.norm(dim=1) + eps)``, or a
standardised weight, divides by what is positive whatever is masked. Told by names, from input to output; what is not
known may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from secateur_torch.operations import views
from secateur_torch.operations.calls import Call

ANY, NOT_NEGATIVE, POSITIVE = range(3)

_GIVES = {
    **dict.fromkeys(("abs", "absolute", "square", "relu", "relu6", "hardsigmoid", "sqrt", "var", "std"), NOT_NEGATIVE),
    **dict.fromkeys(("var_mean", "std_mean"), NOT_NEGATIVE),
    **dict.fromkeys(("norm", "vector_norm", "linalg_norm", "linalg_vector_norm", "softmax"), NOT_NEGATIVE),
    **dict.fromkeys(("exp", "sigmoid", "softplus"), POSITIVE),
}
_KEEP = {
    *("sum", "mean", "amax", "amin", "sqrt", "rsqrt", "cat", "concat", "stack", "__getitem__", "expand_as"),
    *("contiguous", "clone", "detach", "to", "type_as", "float", "double", "half", "bfloat16"),
    *(name for name in views.READERS if name != "pad"),
}
_ADD, _MULTIPLY = {"add", "radd", "iadd"}, {"mul", "rmul", "imul", "multiply", "div", "truediv", "itruediv", "divide"}


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
    signs = [_of(item, known) for item in _listed(call)]
    if call.name in _KEEP:
        return signs[0] if call.name not in ("cat", "concat", "stack") else min(signs)
    if call.name in _ADD and len(signs) == 2 and "alpha" not in call.kwargs:
        return max(signs) if min(signs) else ANY
    return min(signs) if call.name in _MULTIPLY and len(signs) == 2 else ANY


def _listed(call: Call) -> list[Any]:
    first = call.argument(0, "input", call.kwargs.get("tensors"))
    return list(first) if isinstance(first, tuple | list) else [first, *call.args[1:2]]


def _of(item: Any, known: Mapping[int, int]) -> int:
    if isinstance(item, torch.Tensor):
        return known.get(id(item), ANY)
    if isinstance(item, bool) or not isinstance(item, int | float):
        return ANY
    return POSITIVE if item > 0 else NOT_NEGATIVE if item == 0 else ANY
