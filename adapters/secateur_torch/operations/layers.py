"""Layers with weights of their own, and windows that slide: convolutions, embeddings, normalisations, pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Step, Steps, lies_as_stored, parts


def convolution(call: Call, known: Known) -> Steps | None:
    """With groups, and without a batch."""
    kernel = call.argument(1, "weight")
    weight = known.weight(kernel)
    if weight is None:
        return computed_convolution(call, known)
    if not lies_as_stored(weight) or known.described(weight).axes[:2] == ("in", "out"):
        return None
    return _convolution(call, known, {"groups": call.argument(6, "groups", 1)})


def computed_convolution(call: Call, known: Known) -> Steps | None:
    """By a kernel that is standardised, or made by another layer: a sum of products over channels and the window."""
    kernel, bias, groups = call.argument(1, "weight"), call.argument(2, "bias"), call.argument(6, "groups", 1)
    if call.input.ndim != kernel.ndim:
        return None
    if groups == call.input.shape[1] == len(kernel) and kernel.shape[1] == 1:
        return _channel_by_channel(call, kernel, bias)
    x = Chain(call.input).step("pool", (*call.input.shape[:2], *call.result.shape[2:]), {"channel_axis": 1})
    window = Chain(kernel).step("pool", kernel.shape, {"channel_axis": 1})
    if groups > 1:
        x.reshape((x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
        window.reshape((groups, len(kernel) // groups, *kernel.shape[1:]))
    _summed(x, window, kernel.ndim - 2, groups > 1).reshape(call.result.shape)
    return _affine(x, None, bias).end(call.result)


def _summed(x: Chain, window: Chain, dimensions: int, grouped: bool) -> Chain:
    """Products summed over the channels, of each group or of all, and over the window; place by place in space."""
    batch, group, made, summed, *others = range(4 + 2 * dimensions)
    space, own = others[:dimensions], (group,) if grouped else ()
    labels = (batch, *own, summed, *space), (*own, made, summed, *others[dimensions:])
    settings = {"labels": labels, "result": (batch, *own, made, *space)}
    front = window.shape[: 1 + len(own)]
    shape = (x.shape[0], *front, *x.shape[2 + len(own) :])
    x.steps += window.steps
    return x.step("contract", shape, settings, window.tensor)


def _channel_by_channel(call: Call, kernel: torch.Tensor, bias: torch.Tensor | None) -> Steps:
    """Each channel times numbers of its own, as where images are blurred."""
    x = Chain(call.input).step("pool", call.result.shape, {"channel_axis": 1})
    numbers = Chain(kernel).reduce(range(1, kernel.ndim), sum=True)
    return [*numbers.steps, *_affine(x, numbers.tensor, bias).end(call.result)]


def transposed_convolution(call: Call, known: Known) -> Steps | None:
    """Its kernel is stored as (in, out // groups, ...); one that no layer owns has no view with groups."""
    weight, groups = known.weight(call.argument(1, "weight")), call.argument(6, "groups", 1)
    if weight is None:
        return None
    described = known.described(weight)
    if described.role == "other" and groups == 1:
        axes = ("in", "out", *described.axes[2:])
    elif described.role == "kernel" and (described.axes[0] == "group") == (groups > 1):
        axes = described.axes
    else:
        return None
    if lies_as_stored(weight) and axes[:2] != ("in", "out"):
        return None
    return _convolution(call, known, {"groups": groups, "transposed": True}, axes)


def _convolution(
    call: Call, known: Known, settings: Mapping[str, Any], axes: tuple[str, ...] = ("out", "in")
) -> Steps | None:
    kernel = call.argument(1, "weight")
    given = parts(known, kernel=kernel, bias=call.argument(2, "bias"))
    if given is None or call.input.ndim not in (kernel.ndim, kernel.ndim - 1):
        return None
    batched = call.input.ndim == kernel.ndim
    chain = Chain(call.input)
    if not batched:
        chain.reshape((1, *chain.shape))
    shape = call.result.shape if batched else (1, *call.result.shape)
    chain.step("convolution", shape, {"channel_axis": 1, **settings}, **given)
    chain.steps[-1] = _named(chain.steps[-1], axes)
    return chain.reshape(call.result.shape).end(call.result)


def _named(step: Step, axes: tuple[str, ...]) -> Step:
    rank = step.parameters["kernel"].ndim
    named = (*axes, *(f"axis{axis}" for axis in range(len(axes), rank)))
    return Step(step.kind, step.inputs, step.outputs, step.settings, step.parameters, {"kernel": named})


def bilinear(call: Call, known: Known) -> Steps | None:
    """``x1 @ kernel @ x2 + bias``."""
    second, kernel = call.argument(1, "input2"), call.argument(2, "weight")
    first = call.argument(0, "input1")
    given = parts(known, kernel=kernel, bias=call.argument(3, "bias"))
    if given is None or first.ndim != second.ndim:
        return None
    axes = {"kernel": ("out", "in", "in2")}
    return [Step("bilinear", [first, second], [call.result], {}, given, axes)]


def embedding(call: Call, known: Known) -> Steps | None:
    """Entries of a table by their numbers; a table that is computed is one of which nothing can go."""
    table = call.argument(1, "weight")
    if known.weight(table) is None or table.ndim != 2:
        return None
    return [looked_up(call.input, table, call.result)]


def looked_up(numbers: torch.Tensor, table: torch.Tensor, result: torch.Tensor) -> Step:
    """One ``embedding``."""
    return Step("embedding", [numbers], [result], {}, {"table": table}, {"table": ("entries", "features")})


def embedding_bag(call: Call, known: Known) -> Steps | None:
    """Bags of equal length, one a row; or of several lengths, one after the other."""
    numbers, table = call.input, call.argument(1, "weight")
    if known.weight(table) is None:
        return None
    chain = Chain(numbers).step("embedding", (*numbers.shape, table.shape[1]), {}, table=table)
    if numbers.ndim == 2:
        return chain.reduce((1,)).end(call.result)
    settings = {"carried": ((None, 1), (None, None)), "values": 1}
    return chain.step("gather", call.result.shape, settings, call.argument(2, "offsets")).end(call.result)


def batch_norm(call: Call, known: Known) -> Steps | None:
    """By running statistics; by the input's own if it has none, each channel by itself. Its scale may be computed."""
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    running = parts(known, mean=mean, variance=variance)
    own_statistics = call.argument(5, "training", call.kwargs.get("use_input_stats", True))
    if call.input.ndim < 2 or (own_statistics and running != {}):
        return None
    if running is None and not known.is_positive(variance):
        return None
    affine = {"scale": call.argument(3, "weight"), "shift": call.argument(4, "bias")}
    learned = parts(known, **affine)
    given = {} if learned is None else learned
    if own_statistics:
        settings = {"axes": (1,), "groups": call.input.shape[1]}
        chain = Chain(call.input).step("standardize", call.result.shape, settings, **given)
    elif running is not None:
        chain = Chain(call.input).step("normalize", call.result.shape, {"axis": 1}, **given, **running)
    else:
        return _affine(_affine(Chain(call.input), variance, mean, keeps=False), **affine).end(call.result)
    return (chain if learned is not None else _affine(chain, **affine)).end(call.result)


def _affine(chain: Chain, scale: torch.Tensor | None, shift: torch.Tensor | None, keeps: bool = True) -> Chain:
    """Each channel times a number, and another one added; unless it ``keeps`` zeros, in any way else."""
    for tensor, zero in ((scale, "any"), (shift, "all")):
        if tensor is not None:
            along = Chain(tensor).reshape((len(tensor), *(1,) * (len(chain.shape) - 2)))
            chain.steps += along.steps
            chain.step("elementwise", chain.shape, {"zero": zero} if keeps else {}, along.tensor)
    return chain


def layer_norm(call: Call, known: Known) -> Steps | None:
    """Over the last axes."""
    given = parts(known, scale=call.argument(2, "weight"), shift=call.argument(3, "bias"))
    return _over_last_axes(call, given)


def rms_norm(call: Call, known: Known) -> Steps | None:
    """Over the last axes, by the mean square."""
    return _over_last_axes(call, parts(known, scale=call.argument(2, "weight")), rms=True)


def _over_last_axes(call: Call, given: dict[str, torch.Tensor] | None, **settings: Any) -> Steps | None:
    if given is None:
        return None
    axes = tuple(range(-len(tuple(call.argument(1, "normalized_shape"))), 0))
    return [Step("standardize", [call.input], [call.result], {"axes": axes, **settings}, given)]


def group_norm(call: Call, known: Known) -> Steps | None:
    """Groups of channels, and all of space."""
    given = parts(known, scale=call.argument(2, "weight"), shift=call.argument(3, "bias"))
    settings = {"axes": (1,), "groups": call.argument(1, "num_groups")}
    return None if given is None else [Step("standardize", [call.input], [call.result], settings, given)]


def weight_norm(call: Call, known: Known) -> Steps | None:
    """A kernel of which nothing goes, so that whoever meets it is told why."""
    direction, length = call.args[:2]
    chain = Chain(direction)
    for axis in range(direction.ndim):
        chain.step("softmax", direction.shape, {"axis": axis, "reason": "its norm changes with each weight that goes"})
    return chain.step("elementwise", direction.shape, {}, length).end(call.result)


def prelu(call: Call, known: Known) -> Steps | None:
    """One slope, or one for each channel."""
    slope = call.argument(1, "weight")
    if known.weight(slope) is None or call.input.ndim < 2:
        return None
    if slope.numel() == 1:
        return [Step("elementwise", [call.input], [call.result], {"zero": "all"}, {"slope": slope})]
    return [Step("normalize", [call.input], [call.result], {"axis": 1}, {"slope": slope})]


def pool(call: Call, known: Known) -> Steps | None:
    """Along space, with or without a batch."""
    dimensions = int(call.name[-2])
    return _sliding(call, call.input.ndim == dimensions + 2, call.input.ndim == dimensions + 1)


def resizing(call: Call, known: Known) -> Steps | None:
    """Of space alone: the batch and channels keep their sizes."""
    same = call.result.ndim == call.input.ndim > 2 and call.input.shape[:2] == call.result.shape[:2]
    return _sliding(call, same)


def _sliding(call: Call, batched: bool, unbatched: bool = False) -> Steps | None:
    if not batched and not unbatched:
        return None
    chain = Chain(call.input)
    if not batched:
        chain.reshape((1, *chain.shape))
    shape = call.result.shape if batched else (1, *call.result.shape)
    return chain.step("pool", shape, {"channel_axis": 1}).reshape(call.result.shape).end(call.result)


_UPSAMPLINGS = [
    f"upsample_{kind}" for kind in ("nearest1d", "nearest2d", "nearest3d", "linear1d", "bilinear2d", "bicubic2d")
]

READERS: dict[str, Reader] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution),
    **{f"conv_transpose{n}d": transposed_convolution for n in (1, 2, 3)},
    "bilinear": bilinear,
    "embedding": embedding,
    "embedding_bag": embedding_bag,
    **dict.fromkeys(("batch_norm", "instance_norm"), batch_norm),
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "prelu": prelu,
    "weight_norm": weight_norm,
    **{f"{kind}_pool{n}d": pool for n in (1, 2, 3) for kind in ("max", "avg", "adaptive_max", "adaptive_avg", "lp")},
    **dict.fromkeys(("interpolate", "upsample", *_UPSAMPLINGS), resizing),
}
