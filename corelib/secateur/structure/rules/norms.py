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
    _scaled_to_zero(elements, operation, [axis], keeps_zero="mean" not in operation.parameters)
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
    else:
        for axis in axes:
            _averaged(elements, layout[axis], _is_mended(operation) and elements.is_zero(operation.inputs[0], axis))
    _scaled_to_zero(elements, operation, axes, keeps_zero=True)
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


def _averaged(elements: Elements, nodes: Nodes, is_mended: bool) -> None:
    """Also what is mended can only go once it is zero, as in a sum of products."""
    if is_mended:
        elements.products.append(nodes)
    elif elements.exact:
        elements.freeze(nodes, AVERAGED)


def _is_mended(operation: Operation) -> bool:
    """Whether a smaller ``scale`` makes up for it: a mean square over n of N indices is N / n times that over all.

    So it is where what goes adds nothing to the squares, since it is zero.
    """
    return bool(operation.settings.get("rms")) and "scale" in operation.parameters


def _scaled_to_zero(elements: Elements, operation: Operation, axes: Sequence[int], keeps_zero: bool) -> None:
    """A masked channel's scale and shift are zero; without a scale, zeros may pass.

    Other axes have zeros where the input has, unless a shift is added to them. What is averaged over can only go where
    it is zero to begin with, or in whole groups, so that zeros are as far from the average as from zero.
    """
    if "scale" in operation.parameters:
        elements.mark_zero(operation.outputs[0], *axes)
    own = set(axes) if keeps_zero else set()
    shifted = not keeps_zero or "shift" in operation.parameters
    others = set() if shifted else set(range(len(elements.graph.tensors[operation.outputs[0]])))
    pass_on(elements, operation, {axis: (axis,) for axis in own | others})
