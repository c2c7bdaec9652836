"""What moves indices and computes nothing: shapes, orders of axes, pieces, repetitions, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Step, Steps, axes_from_front

Shape = Sequence[int]


def reshape(call: Call, known: Known) -> Steps | None:
    """Row-major, of numbers that stay what they are."""
    if call.result.dtype != call.input.dtype:
        return None
    return [Step("reshape", [call.input], [call.result], {"shape": tuple(call.result.shape)})]


def permutation(call: Call, known: Known) -> Steps | None:
    """Reads the order of the axes off the same call on a tensor whose axes all differ in size."""
    probe = torch.empty(tuple(range(2, 2 + call.input.ndim)), device="meta")
    moved = call.function(probe, *call.args[1:], **{key: item for key, item in call.kwargs.items() if key != "input"})
    return [Step("permute", [call.input], [call.result], {"order": tuple(size - 2 for size in moved.shape)})]


def concatenation(call: Call, known: Known) -> Steps | None:
    """Along an axis that is there."""
    joined = list(call.argument(0, "tensors"))
    axis = 0 if call.dimension is None else call.dimension
    if any(tensor.ndim != call.result.ndim for tensor in joined):
        return None
    return [Step("concat", joined, [call.result], {"axis": axis})]


def stack(call: Call, known: Known) -> Steps | None:
    """Along an axis that is new."""
    axis = (0 if call.dimension is None else call.dimension) % call.result.ndim
    chains = [Chain(tensor) for tensor in call.argument(0, "tensors")]
    for chain in chains:
        chain.reshape((*chain.shape[:axis], 1, *chain.shape[axis:]))
    joined = [chain.tensor for chain in chains]
    steps = [step for chain in chains for step in chain.steps]
    return [*steps, Step("concat", joined, [call.result], {"axis": axis})]


def split(call: Call, known: Known) -> Steps | None:
    """Into pieces of named sizes."""
    return _pieces(call, call.argument(2, "dim", 0), False)


def chunk(call: Call, known: Known) -> Steps | None:
    """Into a number of pieces, which are equally long however long the axis is."""
    if len({piece.shape for piece in call.result}) > 1:
        return None
    return _pieces(call, call.argument(2, "dim", 0), len(call.result) > 1)


def tensor_split(call: Call, known: Known) -> Steps | None:
    """At named places, or as ``chunk``."""
    places = call.args[1] if len(call.args) > 1 else next(iter(call.kwargs.values()))
    return chunk(call, known) if isinstance(places, int) else split(call, known)


def _pieces(call: Call, axis: int, equal: bool) -> Steps:
    pieces = list(call.result)
    sizes = tuple(piece.shape[axis] for piece in pieces)
    settings = {"axis": axis % call.input.ndim, "sizes": sizes, **({"equal": True} if equal else {})}
    return [Step("split", [call.input], pieces, settings)]


def unbind(call: Call, known: Known) -> Steps | None:
    """Every index of an axis by itself."""
    axis = axes_from_front(call.dimension or 0, call.input.ndim)[0]
    steps: Steps = []
    for number, piece in enumerate(call.result):
        steps += Chain(call.input).slice(axis, number, number + 1).reshape(piece.shape).end(piece)
    return steps


def select(call: Call, known: Known) -> Steps | None:
    """One index of an axis."""
    axis, index = axes_from_front(call.argument(1, "dim"), call.input.ndim)[0], call.argument(2, "index")
    index %= call.input.shape[axis]
    return Chain(call.input).slice(axis, index, index + 1).reshape(call.result.shape).end(call.result)


def narrow(call: Call, known: Known) -> Steps | None:
    """Neighbouring indices of an axis."""
    axis, start = call.argument(1, "dim"), call.argument(2, "start")
    if isinstance(start, torch.Tensor):
        return None
    start %= call.input.shape[axis]
    return Chain(call.input).slice(axis, start, start + call.argument(3, "length")).end(call.result)


def roll(call: Call, known: Known) -> Steps | None:
    """Around the ends, along some axes or along all as one."""
    shifts, axes = call.argument(1, "shifts"), call.argument(2, "dims", ())
    chain = Chain(call.input)
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    if axes in ((), [], None):
        axes = [0]
        chain.reshape((math.prod(chain.shape),))
    for shift, axis in zip(shifts, [axes] if isinstance(axes, int) else axes, strict=True):
        size = chain.shape[axis]
        chain.take(axis, [(index - shift) % size for index in range(size)])
    return chain.reshape(call.result.shape).end(call.result)


def flip(call: Call, known: Known) -> Steps | None:
    """Back to front."""
    axes = call.args[1:] if len(call.args) > 2 else call.argument(1, "dims")
    chain = Chain(call.input)
    for axis in axes_from_front(axes, call.input.ndim):
        chain.take(axis, list(reversed(range(chain.shape[axis]))))
    return chain.end(call.result)


def flip_side(call: Call, known: Known) -> Steps | None:
    """``fliplr`` and ``flipud``."""
    axis = int(call.name == "fliplr")
    return Chain(call.input).take(axis, list(reversed(range(call.input.shape[axis])))).end(call.result)


def expand(call: Call, known: Known) -> Steps | None:
    """Axes of size 1 repeated, and new ones in front."""
    return Chain(call.input).expand(call.result.shape).end(call.result)


def repeat(call: Call, known: Known) -> Steps | None:
    """Copies side by side along each axis."""
    chain = Chain(call.input)
    new = call.result.ndim - call.input.ndim
    chain.reshape((*(1,) * new, *chain.shape))
    for axis, (size, wanted) in enumerate(zip(chain.shape, call.result.shape, strict=True)):
        if size == 1 < wanted:
            chain.expand([*chain.shape[:axis], wanted, *chain.shape[axis + 1 :]])
        elif wanted != size:
            chain.take(axis, list(range(size)) * (wanted // size))
    return chain.end(call.result)


def repeat_interleave(call: Call, known: Known) -> Steps | None:
    """Every index so many times."""
    times, axis = call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(times, int):
        return None
    chain = Chain(call.input)
    if axis is None:
        axis = 0
        chain.reshape((math.prod(chain.shape),))
    return chain.take(axis, [index for index in range(chain.shape[axis]) for _ in range(times)]).end(call.result)


def pad(call: Call, known: Known) -> Steps | None:
    """Constants on any axis, negative ones cut off; whatever is copied from inside must be space."""
    amounts, mode = list(call.argument(1, "pad")), call.argument(2, "mode", "constant")
    rank = call.input.ndim
    if mode != "constant":
        same = rank > 2 and call.input.shape[:2] == call.result.shape[:2] and len(amounts) <= 2 * (rank - 2)
        return [Step("pool", [call.input], [call.result], {"channel_axis": 1})] if same else None
    chain = Chain(call.input)
    for position in range(0, len(amounts), 2):
        axis, (before, after) = rank - 1 - position // 2, amounts[position : position + 2]
        chain.slice(axis, max(0, -before), chain.shape[axis] - max(0, -after))
        if max(before, after) > 0:
            chain.pad(axis, max(0, before), max(0, after), zero=not call.argument(3, "value"))
    return chain.end(call.result)


def pixel_shuffle(call: Call, known: Known) -> Steps | None:
    """Channels into space: (c * r * r, h, w) to (c, h * r, w * r); the factor r stays."""
    factor = call.argument(1, "upscale_factor")
    batch, channels, height, width = (1, *call.input.shape)[-4:]
    split = (batch, channels // factor**2, factor, factor, height, width)
    return _shuffled(call, split, 1, (0, 1, 4, 2, 5, 3))


def pixel_unshuffle(call: Call, known: Known) -> Steps | None:
    """Space into channels, the inverse."""
    factor = call.argument(1, "downscale_factor")
    batch, channels, height, width = (1, *call.input.shape)[-4:]
    split = (batch, channels, height // factor, factor, width // factor, factor)
    return _shuffled(call, split, 1, (0, 1, 3, 5, 2, 4))


def channel_shuffle(call: Call, known: Known) -> Steps | None:
    """The channels of all groups in turn; the number of groups stays."""
    groups = call.argument(1, "groups")
    batch, channels, *space = call.input.shape
    split = (batch, groups, channels // groups, *space)
    return _shuffled(call, split, 2, (0, 2, 1, *range(3, len(split))))


def _shuffled(call: Call, split: Shape, free: int, order: Sequence[int]) -> Steps:
    """Axes are split, all but the batch and one stay as they are spelled out in the call, and they change places."""
    chain = Chain(call.input).reshape(split).step("pool", split, {"channel_axis": free})
    return chain.permute(order).reshape(call.result.shape).end(call.result)


READERS: dict[str, Reader] = {
    **dict.fromkeys(
        (
            *("view", "reshape", "flatten", "ravel", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
            *("atleast_1d", "atleast_2d", "atleast_3d"),
        ),
        reshape,
    ),
    **dict.fromkeys(
        (
            *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
            *("t", "T", "mT", "adjoint", "H", "mH"),
        ),
        permutation,
    ),
    **dict.fromkeys(("cat", "concat", "concatenate"), concatenation),
    "stack": stack,
    **dict.fromkeys(("split", "split_with_sizes"), split),
    "chunk": chunk,
    "tensor_split": tensor_split,
    "unbind": unbind,
    "select": select,
    "narrow": narrow,
    "roll": roll,
    "flip": flip,
    **dict.fromkeys(("fliplr", "flipud"), flip_side),
    **dict.fromkeys(("expand", "broadcast_to"), expand),
    **dict.fromkeys(("repeat", "tile"), repeat),
    "repeat_interleave": repeat_interleave,
    "pad": pad,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle,
}
