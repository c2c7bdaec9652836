"""Normalisations: what they average over can only go where the average can be mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from secateur.structure.elements import Elements, Layout, Nodes
from secateur.structure.graph import Operation
from secateur.structure.rules.common import SPATIAL, axis_setting, checked_axis, freeze_others, pass_on

AVERAGED = "it normalises over this axis"


def normalize(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Ties the channels to every affine parameter and running statistic."""
    (layout,) = inputs
    axis = axis_setting(elements, operation, "axis", len(layout))
    for name in operation.parameters.values():
        elements.tie(layout[axis], elements.parameter(name, 0), "its channels cannot go")
    _scaled_to_zero(elements, operation, keeps_zero=not {"mean", "shift"} & set(operation.parameters))
    return [layout]


def standardize(elements: Elements, operation: Operation, inputs: Sequence[Layout]) -> Sequence[Layout]:
    """Freezes what it averages over, but for whole groups, and for the mean square, which can be rescaled."""
    (layout,) = inputs
    named = cast(Sequence[object], operation.settings["axes"])
    axes = [checked_axis(elements, axis, "axes", len(layout)) for axis in named]
    for part, name in operation.parameters.items():
        if len(axes) != len(elements.described(name).shape):
            elements.refuse(f"normalises over {len(axes)} axes with a {part} of another number of axes")
        for position, axis in enumerate(axes):
            elements.tie(layout[axis], elements.parameter(name, position), "its channels cannot go")
    groups = operation.settings.get("groups")
    if isinstance(groups, int):
        _in_groups(elements, layout[axes[0]], groups)
        freeze_others(elements, layout, axes, SPATIAL)
    elif not _is_mended(operation):
        _averaged(elements, layout, axes)
    alone = groups == layout[axes[0]].size
    _scaled_to_zero(elements, operation, keeps_zero=bool(operation.settings.get("rms")) or alone)
    return [layout]


def _in_groups(elements: Elements, channels: Nodes, groups: int) -> None:
    if groups < 1 or channels.size % groups:
        elements.refuse(f"divides {channels.size} channels into {groups} groups")
    if groups == channels.size:
        elements.groups[elements.operation] = channels
    elif groups > 1:
        rows = elements.groups[elements.operation] = elements.new(groups)
        elements.tie(channels.reshape(groups, -1), rows[:, None], "it normalises groups of channels, which go as one")
    elif elements.exact:
        elements.freeze(channels, AVERAGED)


def _averaged(elements: Elements, layout: Layout, axes: Sequence[int]) -> None:
    if elements.exact:
        for axis in axes:
            elements.freeze(layout[axis], AVERAGED)


def _is_mended(operation: Operation) -> bool:
    """Whether a smaller ``scale`` makes up for it: a mean square over n of N indices is N / n times that over all."""
    return bool(operation.settings.get("rms")) and "scale" in operation.parameters


def _scaled_to_zero(elements: Elements, operation: Operation, keeps_zero: bool) -> None:
    """A masked channel's scale and shift are zero; without them zeros may pass."""
    if "scale" in operation.parameters:
        elements.zero.update(operation.outputs)
    elif keeps_zero:
        pass_on(elements, operation)
