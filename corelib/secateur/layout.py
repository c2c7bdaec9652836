"""How a framework stores a weight, against the canonical view: one reshape and one transpose, which never copy.

Each adapter has the rules that give a weight its :class:`Layout`; what follows from a layout is here, once for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.errors import NoMatchError, ShapeMismatchError

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Shape = tuple[int, ...]

SPACE = {0: (), 1: ("width",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""Names of the spatial axes of a kernel, by their number."""


@dataclass(frozen=True)
class Layout:
    """One weight's two forms.

    Args:
        role: as in :class:`secateur.adapter.Parameter`.
        axes: names of the canonical axes.
        native: the framework's shape.
        split: the shape to which ``native`` is reshaped first: neighbouring axes split or merged.
        order: then canonical axis i is axis ``order[i]``.
    """

    role: str
    axes: tuple[str, ...]
    native: Shape
    split: Shape
    order: tuple[int, ...]

    def to_canonical(self, array: Array) -> Array:
        """A view of ``array`` (the framework's layout) in canonical layout."""
        return array.reshape(self.split).transpose(self.order)

    def to_native(self, array: Array) -> Array:
        """The inverse: ``array`` (canonical layout) in the framework's layout."""
        return array.transpose(self.inverse).reshape(self.native)

    @property
    def inverse(self) -> tuple[int, ...]:
        """The order that undoes ``order``."""
        return tuple(sorted(range(len(self.order)), key=self.order.__getitem__))

    @property
    def shape(self) -> Shape:
        """The canonical shape."""
        return tuple(self.split[axis] for axis in self.order)


def masks_to_native(layouts: Mapping[str, Layout], masks: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
    """Masks in canonical layout -> the same in the framework's, C-contiguous; one that is so already is not copied.

    Raises:
        NoMatchError: a name that the model does not have.
        ShapeMismatchError: a mask of another shape than the weight.
    """
    _require_known(layouts, masks)
    return {
        name: np.asarray(layouts[name].to_native(_checked(name, mask, layouts[name].shape)), order="C")
        for name, mask in masks.items()
    }


def masks_to_canonical(layouts: Mapping[str, Layout], masks: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
    """The inverse of :func:`masks_to_native`: views of masks in the framework's layout. Raises the same."""
    _require_known(layouts, masks)
    return {
        name: layouts[name].to_canonical(_checked(name, mask, layouts[name].native)) for name, mask in masks.items()
    }


def _require_known(layouts: Mapping[str, Layout], masks: Mapping[str, BoolArray]) -> None:
    unknown = [name for name in masks if name not in layouts]
    if unknown:
        raise NoMatchError(f"the model has no weight named {', '.join(unknown)}; its weights are {', '.join(layouts)}")


def _checked(name: str, mask: Any, shape: Shape) -> BoolArray:
    array: BoolArray = np.asarray(mask, np.bool_)
    if array.shape != shape:
        raise ShapeMismatchError(f"the mask of {name} has shape {array.shape}, expected {shape}")
    return array
