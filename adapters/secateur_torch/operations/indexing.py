"""``x[...]`` and its kin: whole numbers, slices, new axes, constant positions, and positions that depend on data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Steps, axes_from_front
from secateur_torch.operations.layers import looked_up
from secateur_torch.operations.places import found, is_mask, written


def getitem(call: Call, known: Known) -> Steps | None:
    """Basic indices first, as PyTorch does; then one run of tensors. All other positions and masks count as data."""
    listed = _listed(call)
    if listed is None:
        return None
    if len(listed) == 1 and isinstance(listed[0], torch.Tensor) and _is_table(call.input, known):
        return [looked_up(listed[0], call.input, call.result)]
    chain = Chain(call.input)
    parts = _spelled_out(listed, call.input.ndim)
    positions = None if any(map(is_mask, parts)) else _basic(chain, parts)
    if positions is None:
        return found(call.input, parts, call.result)
    run, tensors = positions
    if tensors:
        _advanced(chain, run, tensors, all(map(known.is_constant, tensors)))
    return chain.reshape(call.result.shape).end(call.result)


def setitem(call: Call, known: Known) -> Steps | None:
    """``x[...] = value``, whose result is the tensor as it then is."""
    listed = _listed(call)
    if listed is None:
        return None
    return written(call.input, _spelled_out(listed, call.input.ndim), call.argument(2, "value"), call.result)


def put(call: Call, known: Known) -> Steps | None:
    """``index_put``: as assigned, or added."""
    parts = [slice(None) if part is None else part for part in call.argument(1, "indices")]
    spelled = _spelled_out([*parts, Ellipsis], call.input.ndim)
    return written(call.input, spelled, call.argument(2, "values"), call.result)


def _listed(call: Call) -> list[Any] | None:
    """The parts of an index; None if it is an unusual one."""
    index = call.argument(1, "index")
    listed = [_as_tensor(part) for part in (index if isinstance(index, tuple) else (index,))]
    return None if any(map(_is_unusual, listed)) else listed


def _as_tensor(part: Any) -> Any:
    return torch.tensor(part) if isinstance(part, list) or hasattr(part, "__array_interface__") else part


def _is_unusual(part: Any) -> bool:
    """Booleans that are no tensor, and slices between tensors."""
    if isinstance(part, torch.Tensor):
        return part.is_meta
    if isinstance(part, slice):
        return any(isinstance(end, torch.Tensor) for end in (part.start, part.stop, part.step))
    return isinstance(part, bool) or not (part is None or part is Ellipsis or isinstance(part, int))


def _is_table(tensor: torch.Tensor, known: Known) -> bool:
    return known.weight(tensor) is not None and tensor.ndim == 2


def _spelled_out(parts: Sequence[Any], rank: int) -> list[Any]:
    """With a colon for every axis that is not named."""
    named = sum(part.ndim if is_mask(part) else part is not None and part is not Ellipsis for part in parts)
    colons = [slice(None)] * (rank - named)
    at = next((number for number, part in enumerate(parts) if part is Ellipsis), len(parts))
    return [*parts[:at], *colons, *parts[at + 1 :]]


def _basic(chain: Chain, parts: Sequence[Any]) -> tuple[list[int], list[torch.Tensor]] | None:
    """Slices, whole numbers and new axes; the axes that tensors index, and these. None if they are no single run."""
    shape: list[int] = []
    run: list[int] = []
    tensors: list[torch.Tensor] = []
    axis, before = 0, -2
    for part in parts:
        if part is None:
            shape.append(1)
            continue
        size = chain.shape[axis]
        if isinstance(part, torch.Tensor):
            if tensors and before != len(shape) - 1:
                return None
            before = len(shape)
            run.append(len(shape))
            tensors.append(part)
            shape.append(size)
        elif isinstance(part, slice):
            chain.slice(axis, *part.indices(size))
            shape.append(chain.shape[axis])
        else:
            chain.slice(axis, part % size, part % size + 1)
        axis += 1
    chain.reshape(shape)
    return run, tensors


def _advanced(chain: Chain, run: Sequence[int], tensors: Sequence[torch.Tensor], is_constant: bool) -> None:
    """One constant tensor picks known positions; whatever else is read anywhere along these axes, which stay."""
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    first, rest = chain.shape[: run[0]], chain.shape[run[-1] + 1 :]
    if len(tensors) == 1 and is_constant:
        size = chain.shape[run[0]]
        chain.take(run[0], [int(number) % size for number in tensors[0].flatten().tolist()])
        chain.reshape((*first, *shape, *rest))
    else:
        rank = len(first) + len(shape) + len(rest)
        own = [*range(len(first)), *(None,) * len(shape), *range(run[-1] + 1, len(chain.shape))]
        settings = {"carried": (own, *((None,) * rank for _ in tensors)), "values": 1}
        chain.step("gather", (*first, *shape, *rest), settings, *tensors)


def index_select(call: Call, known: Known) -> Steps | None:
    """Positions along one axis."""
    axis = axes_from_front(call.argument(1, "dim"), call.input.ndim)[0]
    chain = Chain(call.input)
    index = call.argument(2, "index")
    if axis == 0 and _is_table(call.input, known):
        return [looked_up(index, call.input, call.result)]
    _advanced(chain, [axis], [index.reshape(-1) if index.ndim == 0 else index], known.is_constant(index))
    return chain.end(call.result)


READERS: dict[str, Reader] = {
    "__getitem__": getitem,
    "__setitem__": setitem,
    "index_put": put,
    **dict.fromkeys(("slice", "index"), getitem),
    "index_select": index_select,
}
