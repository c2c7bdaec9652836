"""What removed units added on average, folded into what reads them: the bias, or the mean of the normalisation behind.

With the slices of a removed unit at zero, whatever reads it gets nothing from it any more. The mean of what it got,
times the weights that it was multiplied with, is a constant, which a bias can hold. So a unit that never changes is
removed without any loss, and others lose only what varies.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from secateur import kernels
from secateur.adapter import Masks, Parameter
from secateur.structure.coupling import Coupling
from secateur.structure.graph import Graph, Operation, out_axis

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

STATISTIC = "input_mean"
"""What is gathered for it: see :data:`secateur.statistics.ACTIVATIONS`."""


@dataclass(frozen=True, eq=False)
class Compensation:
    """What changes besides the masks.

    Args:
        values: name of a bias or running mean -> its new numbers, in canonical layout, of its own dtype.
        left: kernels for which it cannot be made up, and why.
    """

    values: Mapping[str, Array]
    left: Mapping[str, str]


def compensation(
    graph: Graph, coupling: Coupling, parameters: Sequence[Parameter], masks: Masks, means: Mapping[str, Array]
) -> Compensation:
    """What makes up for the units that masks are about to remove.

    Args:
        graph: the traced model.
        coupling: its units.
        parameters: the model's own, before the masks are applied.
        masks: parameter name -> mask in canonical layout, as :func:`secateur.structure.removal.unit_masks` makes them.
        means: kernel -> the mean of what it reads, as :mod:`secateur.activations` lays it out.
    """
    views = {parameter.name: parameter.view for parameter in parameters}
    changes: dict[str, Floats] = {}
    left: dict[str, str] = {}
    for name, axis in coupling.readers:
        gone = _gone(masks[name], axis) if name in masks else np.zeros(1, np.bool_)
        if not gone.any() or not np.count_nonzero(np.compress(gone, views[name], axis=axis)):
            continue
        taker = _taker(graph, name)
        if isinstance(taker, str):
            left[name] = taker
        elif name not in means or not np.isfinite(means[name]).all():
            left[name] = f"what it reads is {'infinite' if name in means else 'not known'}"
        else:
            lost = _lost(graph, name, axis, views[name], masks[name], means[name])
            changes[taker.parameter] = changes.get(taker.parameter, 0.0) + taker.sign * lost
    return Compensation(
        {name: _changed(views[name], change, masks.get(name)) for name, change in changes.items()}, left
    )


@dataclass(frozen=True)
class _Taker:
    """A parameter that can hold a constant, and the sign with which it does."""

    parameter: str
    sign: float


def _gone(mask: Flags, axis: int) -> Flags:
    """Indices of an axis of which nothing is kept."""
    return np.asarray(~mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))


def _lost(graph: Graph, name: str, axis: int, view: Array, mask: Flags, mean: Array) -> Floats:
    """For each output that stays, the mean of what it read of what goes; 0 for the others. Sums are exact."""
    out = out_axis(graph.parameters[name])
    gone = _gone(mask, axis)
    weights, mean = np.compress(gone, view, axis=axis), np.compress(gone, np.broadcast_to(mean, view.shape), axis=axis)
    terms = np.moveaxis(weights.astype(np.float64) * mean, out, 0).reshape(view.shape[out], -1)
    return np.where(_gone(mask, out), 0.0, kernels.rounded_sums(terms, "value", (1, terms.shape[1])).reshape(-1))


def _changed(view: Array, change: Floats, mask: Flags | None) -> Array:
    values = (view.astype(np.float64) + change).astype(view.dtype)
    return values if mask is None else np.where(mask, values, np.zeros_like(values))


def _taker(graph: Graph, kernel: str) -> _Taker | str:
    """What can hold a constant that is added to all that a kernel makes; else why nothing can."""
    uses = _uses(graph, kernel)
    if not uses or uses[0].kind not in ("linear", "convolution"):
        return "it is no linear layer or convolution"
    if len({use.inputs for use in uses}) > 1 or (len(uses) > 1 and not _by_rows(uses)):
        return "it is used in several places"
    use = uses[0]
    if use.settings.get("transposed"):
        return "a transposed convolution adds up different numbers of its taps"
    bias = use.parameters.get("bias")
    if bias is None:
        mean = _mean_behind(graph, use)
        return "it has no bias, and no batch normalisation right behind it" if mean is None else _Taker(mean, -1.0)
    return _Taker(bias, 1.0) if _uses(graph, bias) == uses else "its bias is used in other places too"


def _by_rows(uses: Sequence[Operation]) -> bool:
    """Whether each of them uses rows of the kernel that no other does."""
    rows = sorted(cast(tuple[int, int], use.settings.get("rows", (0, 0))) for use in uses)
    return all(before[1] <= after[0] for before, after in itertools.pairwise(rows)) and rows[0] != (0, 0)


def _uses(graph: Graph, parameter: str) -> list[Operation]:
    """The operations of inference that use a parameter."""
    return [each for each in graph.operations if each.in_inference and parameter in each.parameters.values()]


def _mean_behind(graph: Graph, use: Operation) -> str | None:
    """The running mean that is subtracted from all that an operation makes, and from nothing else."""
    (result,) = use.outputs
    readers = [each for each in graph.operations if each.in_inference and result in each.inputs]
    if len(readers) != 1 or readers[0].kind != "normalize" or result in graph.outputs:
        return None
    rank = len(graph.tensors[result])
    axes = (use.settings.get("channel_axis", use.settings.get("axis")), readers[0].settings["axis"])
    mean = readers[0].parameters.get("mean")
    same = len({cast(int, axis) % rank for axis in axes}) == 1
    return mean if same and mean is not None and len(_uses(graph, mean)) == 1 else None
