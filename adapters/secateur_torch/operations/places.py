"""Places that depend on data: positions in tensors, masks, scattered sums, sequences of several lengths.

Which place is read or written no trace of one example tells, so these axes stay. What lies along the other axes is
carried along: the features of nodes in a graph network, of tokens that an expert gets, of a padded sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Step, Steps, axes_from_front

Carried = Sequence[int | None]


def placed(
    values: Sequence[tuple[torch.Tensor, Carried]],
    places: Sequence[tuple[torch.Tensor, Carried]],
    result: torch.Tensor,
    zero: bool = True,
) -> Step:
    """One ``gather``; ``zero``: whether nothing but the values is written."""
    inputs, carried = zip(*values, *places, strict=True)
    settings = {"carried": carried, "values": len(values), **({} if zero else {"zero": False})}
    return Step("gather", inputs, [result], settings)


def unplaced(places: Sequence[torch.Tensor], rank: int) -> list[tuple[torch.Tensor, Carried]]:
    """Positions none of whose axes is one of the result's."""
    return [(tensor, (None,) * rank) for tensor in places]


def gathered(call: Call, known: Known) -> Steps | None:
    """``gather`` and ``take_along_dim``: along one axis; the other axes are those of the positions too."""
    x = call.input
    if call.name == "gather":
        index, axis = call.argument(2, "index"), call.argument(1, "dim")
    else:
        index, axis = call.argument(1, "indices"), call.argument(2, "dim")
    if axis is None or x.ndim != index.ndim:
        return None
    (along,) = axes_from_front(axis, x.ndim)
    places = (index, [axis if index.shape[axis] == size else None for axis, size in enumerate(call.result.shape)])
    return [placed([(x, _alike((x,), call.result, along))], [places], call.result)]


def scattered(call: Call, known: Known) -> Steps | None:
    """``scatter`` and its kin: (tensor, axis, positions, numbers or one number)."""
    x, index = call.input, call.argument(2, "index")
    source = call.argument(3, "src", call.kwargs.get("value"))
    (along,) = axes_from_front(call.argument(1, "dim"), x.ndim)
    if not isinstance(source, torch.Tensor):
        carried = _alike((x, index), call.result, along)
        return [placed([(x, carried)], [(index, carried)], call.result, zero=source == 0)]
    if source.ndim != x.ndim:
        return None
    carried = _alike((x, index, source), call.result, along)
    return [placed([(x, carried), (source, carried)], [(index, carried)], call.result)]


def added_rows(call: Call, known: Known) -> Steps | None:
    """``index_add`` and ``index_copy``: (tensor, axis, positions, tensor); ``index_fill``: a number."""
    x, source = call.input, call.argument(3, "source", call.kwargs.get("value"))
    (along,) = axes_from_front(call.argument(1, "dim"), x.ndim)
    index = unplaced([call.argument(2, "index")], x.ndim)
    if call.name == "index_fill":
        zero = not isinstance(source, torch.Tensor) and source == 0
        return [placed([(x, _alike((x,), call.result, along))], index, call.result, zero)]
    if source.ndim != x.ndim:
        return None
    carried = _alike((x, source), call.result, along)
    return [placed([(x, carried), (source, carried)], index, call.result)]


def _alike(tensors: Sequence[torch.Tensor], result: torch.Tensor, along: int) -> list[int | None]:
    """The axes but one that have the size of the result's in all tensors: index by index they are these."""
    return [
        axis if axis != along and all(tensor.shape[axis] == size for tensor in tensors) else None
        for axis, size in enumerate(result.shape)
    ]


def found(x: torch.Tensor, parts: Sequence[Any], result: torch.Tensor) -> Steps | None:
    """``x[...]`` by positions and masks, with whole numbers, slices and new axes; ``parts`` spell all axes out."""
    axes, places = indexed(x, parts)
    if len(axes) != result.ndim:
        return None
    return [placed([(x, axes)], unplaced(places, result.ndim), result)]


def written(x: torch.Tensor, parts: Sequence[Any], value: Any, result: torch.Tensor) -> Steps | None:
    """``x[...] = value``, or the same added."""
    if any(part is None for part in parts):
        return None
    axes, places = indexed(x, parts)
    own = [axis if axis in axes else None for axis in range(x.ndim)]
    others = unplaced(places, x.ndim)
    if not isinstance(value, torch.Tensor):
        return [placed([(x, own)], others, result, zero=value == 0)]
    if value.ndim > len(axes):
        return None
    source = {axis: at - len(axes) + value.ndim for at, axis in enumerate(axes) if axis is not None}
    carried = [_carried(value, source.get(axis), size) for axis, size in enumerate(x.shape)]
    return [placed([(x, own), (value, carried)], others, result)]


def _carried(value: torch.Tensor, at: int | None, size: int) -> int | None:
    """What is repeated along an axis is no index of it."""
    return at if at is not None and at >= 0 and value.shape[at] == size else None


def indexed(x: torch.Tensor, parts: Sequence[Any]) -> tuple[list[int | None], list[torch.Tensor]]:
    """For each axis of ``x[parts]`` the axis of ``x`` that it is as a whole, or None; and the tensors of positions.

    Those of several tensors lie where the first of them does or, where there is an axis between them, in front.
    """
    axes: list[int | None] = []
    places: list[torch.Tensor] = []
    starts: set[int] = set()
    axis = 0
    for part in parts:
        if isinstance(part, torch.Tensor):
            starts.add(len(axes))
            places.append(part)
            axis += part.ndim if is_mask(part) else 1
        elif isinstance(part, slice):
            whole = range(*part.indices(x.shape[axis])) == range(x.shape[axis])
            axes.append(axis if whole else None)
            axis += 1
        elif part is None:
            axes.append(None)
        else:
            axis += 1
    if places:
        start = starts.pop() if len(starts) == 1 else 0
        axes[start:start] = [None] * max(1 if is_mask(part) else part.ndim for part in places)
    return axes, places


def is_mask(part: Any) -> bool:
    """Whether it picks places by yes and no, along as many axes as it has."""
    return isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8)


def sampled(call: Call, known: Known) -> Steps | None:
    """``grid_sample``: channels at places of space that a grid tells."""
    grid = call.argument(1, "grid")
    carried = [0, 1, *(None,) * (call.input.ndim - 2)]
    return [placed([(call.input, carried)], unplaced([grid], call.input.ndim), call.result)]


def windows(call: Call, known: Known) -> Steps | None:
    """``unfold``: of a tensor, pieces of one axis; of an image, the channels of each window, which lie side by side."""
    x, result = call.input, call.result
    if result.ndim == x.ndim + 1:
        (along,) = axes_from_front(call.argument(1, "dimension"), x.ndim)
        carried = [None if axis == along else axis for axis in range(x.ndim)]
        return [placed([(x, [*carried, None])], [], result)]
    if x.ndim != 4:
        return None
    shape = (*x.shape[:2], result.shape[1] // x.shape[1], result.shape[2])
    return Chain(x).step("pool", shape, {"channel_axis": 1}).reshape(result.shape).end(result)


def folded(call: Call, known: Known) -> Steps | None:
    """``fold``, the inverse, which adds up."""
    x, result = call.input, call.result
    if result.ndim != 4:
        return None
    chain = Chain(x).reshape((*result.shape[:2], x.shape[1] // result.shape[1], x.shape[2]))
    return chain.step("pool", result.shape, {"channel_axis": 1}).end(result)


def packed(call: Call, known: Known) -> Steps | None:
    """``pack_padded_sequence``: the steps of all sequences, one after the other; how many there are at each time."""
    x, lengths = call.input, call.argument(1, "lengths")
    data, counts = call.result
    carried = [None, *range(2, x.ndim)]
    return [placed([(x, carried)], [], data), placed([], unplaced([lengths], 1), counts)]


def unpacked(call: Call, known: Known) -> Steps | None:
    """``pad_packed_sequence``, the inverse."""
    data, counts = call.args[:2]
    padded, lengths = call.result
    carried = [None, None, *range(1, data.ndim)]
    zero = call.argument(3, "padding_value", 0.0) == 0
    return [placed([(data, carried)], [], padded, zero), placed([], unplaced([counts], 1), lengths)]


def padded(call: Call, known: Known) -> Steps | None:
    """``pad_sequence``: a batch of several lengths."""
    sequences = list(call.argument(0, "sequences"))
    carried = [None, None, *range(1, sequences[0].ndim)]
    zero = call.argument(2, "padding_value", 0.0) == 0
    return [placed([(sequence, carried) for sequence in sequences], [], call.result, zero)]


READERS: dict[str, Reader] = {
    **dict.fromkeys(("gather", "take_along_dim"), gathered),
    **dict.fromkeys(("scatter", "scatter_add", "scatter_reduce"), scattered),
    **dict.fromkeys(("index_add", "index_copy", "index_fill"), added_rows),
    "grid_sample": sampled,
    **dict.fromkeys(("unfold", "im2col"), windows),
    **dict.fromkeys(("fold", "col2im"), folded),
    "pack_padded_sequence": packed,
    "pad_packed_sequence": unpacked,
    "pad_sequence": padded,
}
