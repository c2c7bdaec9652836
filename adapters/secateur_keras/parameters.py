"""A Keras model's weights as the core sees them: names, roles, canonical views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from secateur.adapter import PRUNABLE_ROLES, Masks, Parameter
from secateur.errors import NoMatchError, ShapeMismatchError, UnsupportedDtypeError
from secateur.structure.graph import Graph
from secateur_keras import backends
from secateur_keras.layouts import Layout, layout
from secateur_keras.naming import Weight, weights

BoolArray = npt.NDArray[np.bool_]


def parameters(model: keras.Model, graph: Graph | None = None) -> list[Parameter]:
    """All weights and running statistics, in canonical views.

    Counters of integers (``Normalization``'s) and the states of random generators are not among them.

    Args:
        model: a built model.
        graph: the traced structure; weights that it uses then come first, in the order of first use.

    Raises:
        UnbuiltModelError: the model has no weights yet.
        UnsupportedDtypeError: a kernel of integers (as in a quantized model) or complex numbers.
    """
    backends.synchronise(model)
    found = {weight.name: _parameter(weight, form) for weight, form in layouts(model)}
    if graph is None:
        return list(found.values())
    return [found[name] for name in dict.fromkeys([*(name for name in graph.parameters if name in found), *found])]


def layouts(model: keras.Model) -> list[tuple[Weight, Layout]]:
    """Every weight of floating-point numbers, with its layout; in order of definition. Raises as :func:`parameters`."""
    return [(weight, form) for weight in weights(model) if _is_float(weight, form := layout(weight))]


def to_native(model: keras.Model, masks: Masks) -> dict[str, BoolArray]:
    """Masks in canonical layout -> the same in Keras's layout, C-contiguous.

    Raises:
        NoMatchError: a name that the model does not have.
        ShapeMismatchError: a mask of another shape than the weight.
    """
    forms = _forms(model, masks)
    return {
        name: np.ascontiguousarray(forms[name].to_native(_checked(name, mask, forms[name].shape))).reshape(
            forms[name].native
        )
        for name, mask in masks.items()
    }


def to_canonical(model: keras.Model, masks: Masks) -> dict[str, BoolArray]:
    """The inverse of :func:`to_native`: views of masks in Keras's layout. Raises the same."""
    forms = _forms(model, masks)
    return {name: forms[name].to_canonical(_checked(name, mask, forms[name].native)) for name, mask in masks.items()}


def _parameter(weight: Weight, form: Layout) -> Parameter:
    view = form.to_canonical(backends.array(weight.variable))
    return Parameter(weight.name, form.role, view, form.axes, weight.layer, bool(weight.variable.trainable))


def _is_float(weight: Weight, form: Layout) -> bool:
    dtype = keras.backend.standardize_dtype(weight.variable.dtype)
    if "float" in dtype:
        return True
    if form.role in PRUNABLE_ROLES or weight.variable.trainable:
        raise UnsupportedDtypeError(
            f"{weight.name} has dtype {dtype}, which has no saliency order; prune the model before it is quantized or "
            "converted"
        )
    return False


def _forms(model: keras.Model, masks: Mapping[str, Any]) -> dict[str, Layout]:
    forms = {weight.name: form for weight, form in layouts(model)}
    unknown = [name for name in masks if name not in forms]
    if unknown:
        raise NoMatchError(f"the model has no weight named {', '.join(unknown)}; its weights are {', '.join(forms)}")
    return forms


def _checked(name: str, mask: Any, shape: tuple[int, ...]) -> BoolArray:
    mask = np.asarray(mask, np.bool_)
    if mask.shape != shape:
        raise ShapeMismatchError(f"the mask of {name} has shape {mask.shape}, expected {shape}")
    return mask
