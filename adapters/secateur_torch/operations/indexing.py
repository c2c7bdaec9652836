"""``x[...]`` and its kin: whole numbers, slices, new axes, constant positions, and positions that depend on data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Steps, axes_from_front
from secateur_torch.operations.layers import looked_up


def getitem(call: Call, known: Known) -> Steps | None:
    """Basic indices first, as PyTorch does; then one run of tensors."""
    index = call.argument(1, "index")
    listed = [_as_tensor(part) for part in (index if isinstance(index, tuple) else (index,))]
    if any(_is_unusual(part, known) for part in listed):
        return None
    if len(listed) == 1 and isinstance(listed[0], torch.Tensor) and _is_table(call.input, known):
        return [looked_up(listed[0], call.input, call.result)]
    chain = Chain(call.input)
    positions = _basic(chain, _spelled_out(listed, call.input.ndim))
    if positions is None:
        return None
    run, tensors = positions
    if tensors:
        _advanced(chain, run, tensors, known)
    return chain.reshape(call.result.shape).end(call.result)


def _as_tensor(part: Any) -> Any:
    return torch.tensor(part) if isinstance(part, list) or hasattr(part, "__array_interface__") else part


def _is_unusual(part: Any, known: Known) -> bool:
    """Booleans, whose number of indices depends on data, and slices between tensors."""
    if isinstance(part, torch.Tensor):
        return part.dtype in (torch.bool, torch.uint8) or part.is_meta
    if isinstance(part, slice):
        return any(isinstance(end, torch.Tensor) for end in (part.start, part.stop, part.step))
    return isinstance(part, bool) or not (part is None or part is Ellipsis or isinstance(part, int))


def _is_table(tensor: torch.Tensor, known: Known) -> bool:
    return known.weight(tensor) is not None and tensor.ndim == 2


def _spelled_out(parts: Sequence[Any], rank: int) -> list[Any]:
    """With a colon for every axis that is not named."""
    named = sum(part is not None and part is not Ellipsis for part in parts)
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


def _advanced(chain: Chain, run: Sequence[int], tensors: Sequence[torch.Tensor], known: Known) -> None:
    """One constant tensor picks known positions; whatever else is read anywhere along these axes, which stay."""
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    first, rest = chain.shape[: run[0]], chain.shape[run[-1] + 1 :]
    if len(tensors) == 1 and known.is_constant(tensors[0]):
        size = chain.shape[run[0]]
        chain.take(run[0], [int(number) % size for number in tensors[0].flatten().tolist()])
    else:
        chain.reduce(run)
        chain.reshape((*first, *(1,) * len(shape), *rest))
        chain.expand((*first, *shape, *rest))
    chain.reshape((*first, *shape, *rest))


def index_select(call: Call, known: Known) -> Steps | None:
    """Positions along one axis."""
    axis = axes_from_front(call.argument(1, "dim"), call.input.ndim)[0]
    chain = Chain(call.input)
    index = call.argument(2, "index")
    if axis == 0 and _is_table(call.input, known):
        return [looked_up(index, call.input, call.result)]
    _advanced(chain, [axis], [index.reshape(-1) if index.ndim == 0 else index], known)
    return chain.end(call.result)


READERS: dict[str, Reader] = {
    "__getitem__": getitem,
    **dict.fromkeys(("slice", "index"), getitem),
    "index_select": index_select,
}
