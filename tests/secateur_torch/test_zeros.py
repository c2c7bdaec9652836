"""What the readers say of zeros, for every function of elements and reduction that they know: tried out on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur.structure.elements import Elements
from secateur.structure.rules import read
from secateur_torch.operations import elementwise, reductions

Case = Callable[[torch.Tensor, torch.Tensor], Any]
BATCH, LENGTH, FEATURES, MASKED = 2, 3, 6, 4
BINARY = (
    *("add", "sub", "subtract", "mul", "multiply", "maximum", "minimum", "fmax", "fmin", "heaviside", "expand_as"),
    *("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "and", "or", "xor", "rsub"),
    *("bitwise_and", "bitwise_or", "div", "true_divide", "divide", "fmod", "remainder", "floor_divide", "type_as"),
    *("radd", "rmul", "rand", "ror", "truediv", "iadd", "isub", "imul"),
)
LOGICAL = ("logical_and", "logical_or", "logical_xor", "and", "or", "xor", "bitwise_and", "bitwise_or", "rand", "ror")
DROPPING = ("dropout", "alpha_dropout", "feature_alpha_dropout")
SPECIAL: dict[str, Case] = {
    "addcmul": lambda x, y: torch.addcmul(x, x, y),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "pow": lambda x, y: x**2,
    "ipow": lambda x, y: (x * 1).__ipow__(2),
    "rpow": lambda x, y: 2**x,
    "float_power": lambda x, y: torch.float_power(x, 2),
    "threshold": lambda x, y: functional.threshold(x, 0.3, 0.0),
    "threshold to one": lambda x, y: functional.threshold(x, 0.3, 1.0),
    "clamp": lambda x, y: x.clamp(-0.5, 0.5),
    "clamp above zero": lambda x, y: x.clamp(min=0.2),
    "clip": lambda x, y: x.clip(-0.5, 0.5),
    "clamp_min": lambda x, y: x.clamp_min(0.2),
    "clamp_max": lambda x, y: x.clamp_max(0.2),
    "where": lambda x, y: torch.where(x > 0.1, x, y),
    "masked_fill": lambda x, y: x.masked_fill(x > 0.1, 0.0),
    "masked_fill with one": lambda x, y: x.masked_fill(x < 0.1, 1.0),
    "logical_not": lambda x, y: torch.logical_not(x > 0.1),
    "bitwise_not": lambda x, y: torch.bitwise_not(x > 0.1),
    "invert": lambda x, y: ~(x > 0.1),
    "glu": lambda x, y: functional.glu(torch.cat([x, y], -1)),
    "rtruediv": lambda x, y: 3.0 / (y.exp() * x),
    "rdiv": lambda x, y: 3.0 / (y.exp() * x),
    "itruediv": lambda x, y: (x * 1).__itruediv__(y.exp()),
    "to": lambda x, y: x.to(torch.float64),
    "type": lambda x, y: x.type(torch.float64),
    "data": lambda x, y: x.data,
    "requires_grad": lambda x, y: x.requires_grad_(),
    "log_sigmoid": lambda x, y: functional.logsigmoid(x),
    **{name: lambda x, y, name=name: getattr(functional, name)(x, 0.5, False) for name in DROPPING},
    "alias": lambda x, y: torch.ops.aten.alias(x),
    "topk": lambda x, y: x.topk(2, 1)[0],
    "full_like": lambda x, y: torch.full_like(x, 2.0) * x,
    "full": lambda x, y: torch.full((FEATURES,), 2.0) + x,
    "new_full": lambda x, y: x.new_full((FEATURES,), 2.0) + x,
    "zeros": lambda x, y: torch.zeros(FEATURES) + x,
    "ones": lambda x, y: torch.ones(FEATURES) + x,
    "new_zeros": lambda x, y: x.new_zeros(FEATURES) + x,
    "empty": lambda x, y: torch.empty(FEATURES).fill_(2.0) + x,
    "new_empty": lambda x, y: x.new_empty(FEATURES).fill_(2.0) + x,
    "copy": lambda x, y: torch.zeros_like(x).copy_(x),
    "fill": lambda x, y: (x * 1).fill_(2.0) * x,
    "zero": lambda x, y: (x * 1).zero_() + x,
    "cosine_similarity": lambda x, y: functional.cosine_similarity(x, y, 1),
    "new_ones": lambda x, y: x.new_ones(FEATURES) + x,
    "add a number": lambda x, y: x + 0.5,
    "multiply by a number": lambda x, y: x * 0.5,
}
KNOWN = {**elementwise.READERS, **reductions.READERS}


def called(name: str, *arguments: Any, **options: Any) -> Any:
    functions = (getattr(place, name, None) for place in (torch, functional, torch.linalg))
    methods = (getattr(torch.Tensor, each, None) for each in (name, f"__{name}__"))
    linear = getattr(torch.linalg, name.removeprefix("linalg_"), None)
    function = next(each for each in (*functions, *methods, linear) if callable(each))
    return function(*arguments, **options)


def case(name: str) -> Case:
    if name in SPECIAL:
        return SPECIAL[name]
    if name in LOGICAL:
        method = f"__{name}__" if name in ("rand", "ror") else name
        return lambda x, y: called(method, x > 0.1, y < -0.1)
    if name in BINARY:
        return lambda x, y: called(name, x * 1, y.exp() if "div" in name or "mod" in name or "rem" in name else y)
    if name in reductions.READERS:
        return lambda x, y: first(called(name, x, dim=1))
    return lambda x, y: called(name, x)


def first(result: Any) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else result[0]


NAMES = [*(name for name in KNOWN if name != "cuda"), *(name for name in SPECIAL if name not in KNOWN)]


class Network(nn.Module):
    """Two layers whose features meet in one case, given back as they are."""

    def __init__(self, function: Case) -> None:
        super().__init__()
        self.x, self.y = nn.Linear(5, FEATURES), nn.Linear(5, FEATURES)
        self.function = function

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return first(self.function(self.x(inputs), self.y(inputs)))


def operands() -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(2, BATCH, LENGTH, FEATURES, generator=torch.Generator().manual_seed(0)) * 0.3
    drawn[..., MASKED] = 0.0
    return drawn[0], drawn[1]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_zero_is_zero(name: str) -> None:
    model = Network(case(name)).eval()
    known = st.graph(model, torch.randn(BATCH, LENGTH, 5))
    elements = Elements(known)
    layouts = read(elements)
    (tensor,) = known.outputs
    result = first(case(name)(*operands())).detach()
    result = result.float().numpy() if result.is_floating_point() else result.numpy()
    units = [int(layout[-1][MASKED]) for layout in layouts if layout and layout[-1].size == FEATURES]
    for axis, nodes in enumerate(layouts[tensor]):
        places = np.flatnonzero(np.isin(nodes, units) & (nodes != 0))
        if elements.is_zero(tensor, axis) and places.size:
            assert not result.take(places, axis=axis).any()


@pytest.mark.parametrize("name", reductions.ADDING)
def test_a_sum_without_zeros_is_the_same_sum(name: str) -> None:
    x, _ = operands()
    shorter = torch.cat([x[..., :MASKED], x[..., MASKED + 1 :]], -1)
    whole, without = (called(name, each, dim=-1) for each in (x, shorter))
    torch.testing.assert_close(whole, without)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("logit", "rdiv", "rtruediv", "data")])
def test_what_may_be_removed_has_a_finite_slope_at_zero(name: str) -> None:
    model = Network(case(name)).eval()
    known = st.graph(model, torch.randn(BATCH, LENGTH, 5))
    if any(each.kind == "unknown" for each in known.operations):
        return
    x, y = operands()
    result = first(case(name)(x.requires_grad_(), y))
    if result.requires_grad and result.is_floating_point():
        (slope,) = torch.autograd.grad(result.sum(), x, allow_unused=True)
        assert slope is None or torch.isfinite(slope).all()
