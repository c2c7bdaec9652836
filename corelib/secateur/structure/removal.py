"""From units to numbers: which indices of every parameter stay, and what shape every tensor then has.

Owns the plan that an adapter's surgery carries out, and the masks that stand for it until then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.errors import EmptyLayerError, FileFormatError, ShapeMismatchError
from secateur.structure.bypassing import Branch, bypass
from secateur.structure.changes import changes
from secateur.structure.coupling import Coupling
from secateur.structure.graph import CONSTANT, Graph

Flags = npt.NDArray[np.bool_]

STATISTICS = ("mean", "variance", CONSTANT)
"""Roles that are cut with their unit, but neither masked nor counted as parameters."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What stays when units, or residual branches, are removed.

    Args:
        keep: (parameter, axis) -> bool array, True where an index stays; only axes that lose something, running
            statistics included.
        shapes: the new shape of every tensor of the graph.
        settings: operation index -> settings that change, see :mod:`secateur.structure.changes`.
        removed: number of units, or of branches, that go.
        branches: residual branches that go as a whole, see :func:`secateur.structure.bypassing.bypass`.
    """

    keep: Mapping[tuple[str, int], Flags]
    shapes: tuple[tuple[int, ...], ...]
    settings: Mapping[int, Mapping[str, Any]]
    removed: int
    branches: tuple[Branch, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The plan in JSON's types."""
        return {
            "removed": self.removed,
            "keep": [
                {"parameter": name, "axis": axis, "size": keep.size, "gone": np.flatnonzero(~keep).tolist()}
                for (name, axis), keep in self.keep.items()
            ],
            "shapes": [list(shape) for shape in self.shapes],
            "settings": {
                str(index): {key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()}
                for index, changed in self.settings.items()
            },
            "branches": [
                {"addition": branch.addition, "stays": branch.stays, "parameters": list(branch.parameters)}
                for branch in self.branches
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of :meth:`to_dict`; older plans have no branches. Raises FileFormatError if it is not a plan."""
        try:
            return cls(
                keep={(str(entry["parameter"]), int(entry["axis"])): _kept(entry) for entry in data["keep"]},
                shapes=tuple(tuple(int(size) for size in shape) for shape in data["shapes"]),
                settings={int(index): _settings_from(changed) for index, changed in data["settings"].items()},
                removed=int(data["removed"]),
                branches=tuple(_branch(entry) for entry in data.get("branches", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise FileFormatError(
                f"this is not a removal plan ({type(error).__name__}: {error}); give what Plan.to_dict() returned"
            ) from error


def plan(graph: Graph, coupling: Coupling, removed: npt.ArrayLike, branches: Sequence[Branch] = ()) -> Plan:
    """What stays when the units marked True in ``removed`` (bool, one for each unit), and these branches, go.

    Raises:
        ShapeMismatchError: ``removed`` is not one bool for each unit.
        EmptyLayerError: an axis of a parameter or tensor would lose every index.
    """
    gone = _gone(coupling, removed)
    lost = {key: gone[units] for key, units in coupling.units.items()}
    keep = {key: ~flags for key, flags in lost.items() if flags.any()}
    for (name, axis), kept in keep.items():
        if not kept.any():
            raise EmptyLayerError(
                f"axis {axis} ({graph.parameters[name].axes[axis]!r}) of {name!r} would lose all {kept.size} indices: "
                "remove fewer units, at least one must stay"
            )
    shapes = _shapes(graph, coupling, gone)
    settings = changes(graph, coupling, gone, shapes)
    return Plan(keep, shapes, settings, int(gone.sum()) + len(branches), tuple(branches))


def shortened(graph: Graph, branches: Sequence[Branch]) -> Plan:
    """What stays when these residual branches go: all else, as it is."""
    return Plan({}, graph.tensors, {}, len(branches), tuple(branches))


def parameter_shapes(graph: Graph, plan: Plan | None = None) -> dict[str, tuple[int, ...]]:
    """The canonical shape of every parameter, before (``plan`` None) or after removal; of those that are left."""
    keep = {} if plan is None else plan.keep
    return {
        name: tuple(
            int(keep[name, axis].sum()) if (name, axis) in keep else size for axis, size in enumerate(parameter.shape)
        )
        for name, parameter in bypass(graph, () if plan is None else plan.branches).parameters.items()
    }


def unit_masks(graph: Graph, coupling: Coupling, removed: npt.ArrayLike) -> dict[str, Flags]:
    """Masks (canonical layout, True = kept) that are False on every slice of the removed units.

    Producers, biases and affine parameters lose their slice as well as consumers, so that the masked model gives the
    outputs of the smaller one. Running statistics have no mask. Every parameter that any unit touches is in the result.

    Raises:
        ShapeMismatchError: ``removed`` is not one bool for each unit.
    """
    gone = _gone(coupling, removed)
    masks: dict[str, Flags] = {}
    for (name, axis), units in coupling.units.items():
        parameter = graph.parameters[name]
        if parameter.role in STATISTICS:
            continue
        mask = masks.setdefault(name, np.ones(parameter.shape, dtype=np.bool_))
        before, after = math.prod(parameter.shape[:axis]), math.prod(parameter.shape[axis + 1 :])
        rows = mask.reshape(before, units.size * after)
        rows &= np.repeat(~gone[units], after)
    return masks


def removable(graph: Graph, coupling: Coupling, masks: Mapping[str, Flags]) -> Flags:
    """Units that masks (canonical layout, True = kept) have already cut off, so that removing them changes nothing.

    These are the units all of whose consumer slices (``in`` axes of kernels) are wholly masked; where products of
    tensors sum over a unit, all of its slices must be. Of an axis all of whose indices could go, the first unit stays.

    Returns:
        bool[coupling.count].

    Raises:
        ShapeMismatchError: a mask has not the shape of its parameter.
    """
    cut = np.ones(coupling.count, dtype=np.bool_)
    for (name, axis), units in coupling.units.items():
        if graph.parameters[name].role in STATISTICS:
            continue
        alive = _any_kept(graph, masks, name, axis) & (units >= 0)
        if (name, axis) not in coupling.readers:
            alive &= coupling.products[units]
        cut[units[alive]] = False
    for units in distinct((*coupling.units.values(), *coupling.tensors.values())):
        if cut[units].all() and (units >= 0).all():
            cut[units[0]] = False
    return cut


def distinct(axes: Iterable[npt.NDArray[np.int64]]) -> Iterable[npt.NDArray[np.int64]]:
    """Each array once: axes with the same units share theirs, as those of the tensors along a chain of functions do."""
    return {id(units): units for units in axes}.values()


def _any_kept(graph: Graph, masks: Mapping[str, Flags], name: str, axis: int) -> Flags:
    """Whether any weight of each index of an axis is kept."""
    shape = graph.parameters[name].shape
    if name not in masks:
        return np.ones(shape[axis], dtype=np.bool_)
    mask: Flags = np.asarray(masks[name], dtype=np.bool_)
    if mask.shape != shape:
        raise ShapeMismatchError(f"the mask of {name!r} has shape {mask.shape}, its canonical shape is {shape}")
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    kept = np.asarray(mask.reshape(before, shape[axis], after).any(axis=0))
    return np.asarray(kept.any(axis=1))  # one after the other is ten times as fast as both at once


def _gone(coupling: Coupling, removed: npt.ArrayLike) -> Flags:
    """``removed`` and one False more, so that unit -1 is looked up as staying."""
    flags = np.asarray(removed)
    if flags.dtype != np.bool_ or flags.shape != (coupling.count,):
        raise ShapeMismatchError(
            f"removed is {flags.dtype} of shape {flags.shape}: give one bool for each of the {coupling.count} units"
        )
    return np.append(flags, False)


def _shapes(graph: Graph, coupling: Coupling, gone: Flags) -> tuple[tuple[int, ...], ...]:
    shapes = [list(shape) for shape in graph.tensors]
    left = {id(units): units.size - np.count_nonzero(gone[units]) for units in distinct(coupling.tensors.values())}
    for (tensor, axis), units in coupling.tensors.items():
        shapes[tensor][axis] = int(left[id(units)])
        if not shapes[tensor][axis]:
            raise EmptyLayerError(
                f"axis {axis} of tensor {tensor} ({producer(graph, tensor)}) would lose all {units.size} indices: "
                "remove fewer units, at least one must stay"
            )
    return tuple(tuple(shape) for shape in shapes)


def producer(graph: Graph, tensor: int) -> str:
    """In words, the operation that makes a tensor, and where it stands."""
    made = (operation for operation in graph.operations if tensor in operation.outputs)
    return next((f"{operation.label or operation.kind} {operation.source}".rstrip() for operation in made), "input")


def _settings_from(changed: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in changed.items()}


def _branch(entry: Mapping[str, Any]) -> Branch:
    return Branch(int(entry["addition"]), int(entry["stays"]), tuple(str(name) for name in entry["parameters"]))


def _kept(entry: Mapping[str, Any]) -> Flags:
    keep = np.ones(int(entry["size"]), dtype=np.bool_)
    keep[np.asarray(entry["gone"], dtype=np.int64)] = False
    return keep
