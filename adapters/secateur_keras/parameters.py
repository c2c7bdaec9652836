"""A Keras model's weights as the core sees them: names, roles, canonical views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from secateur.adapter import PRUNABLE_ROLES, Masks, Parameter
from secateur.errors import UnsupportedDtypeError
from secateur.layout import Layout, masks_to_canonical, masks_to_native
from secateur.structure.graph import Graph
from secateur_keras import backends
from secateur_keras.layouts import layout
from secateur_keras.naming import Weight, require_model, weights

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


def parameters(model: keras.Model, graph: Graph | None = None) -> list[Parameter]:
    """All weights and running statistics, in canonical views.

    Counters of integers (``Normalization``'s) and the states of random generators are not among them. Kernels under
    LoRA are, but only to be looked at.

    Args:
        model: a built model.
        graph: the traced structure; weights that it uses then come first, in the order of first use.

    Raises:
        ModelTypeError: it is no Keras model.
        UnbuiltModelError: the model has no weights yet.
        UnsupportedDtypeError: a kernel of integers (as in a quantized model) or complex numbers.
    """
    require_model(model)
    backends.synchronise(model)
    found = {weight.name: _parameter(weight, form) for weight, form in layouts(model)}
    if graph is None:
        return list(found.values())
    return [found[name] for name in dict.fromkeys([*(name for name in graph.parameters if name in found), *found])]


def assign(model: keras.Model, values: Mapping[str, Array]) -> None:
    """Write whole weights: numbers in canonical layout, of the weight's own dtype."""
    backends.synchronise(model)
    for weight, form in layouts(model):
        if weight.name in values:
            wide = np.promote_types(values[weight.name].dtype, np.float32)  # not every backend takes bfloat16
            weight.variable.assign(np.array(form.to_native(values[weight.name]), dtype=wide, order="C"))


def layouts(model: keras.Model) -> list[tuple[Weight, Layout]]:
    """Every weight of floating-point numbers, with its layout; in order of definition. Raises as :func:`parameters`."""
    return [(weight, form) for weight in weights(model) if _is_float(weight, form := layout(weight))]


def to_native(model: keras.Model, masks: Masks) -> dict[str, BoolArray]:
    """Masks in canonical layout -> the same in Keras's; see :func:`secateur.layout.masks_to_native`."""
    return masks_to_native({weight.name: form for weight, form in layouts(model)}, masks)


def to_canonical(model: keras.Model, masks: Masks) -> dict[str, BoolArray]:
    """The inverse of :func:`to_native`: views of masks in Keras's layout."""
    return masks_to_canonical({weight.name: form for weight, form in layouts(model)}, masks)


def _parameter(weight: Weight, form: Layout) -> Parameter:
    view = form.to_canonical(backends.array(weight.variable))
    trainable = bool(weight.variable.trainable)
    return Parameter(weight.name, form.role, view, form.axes, weight.layer, trainable, _refusal(weight, form))


def _refusal(weight: Weight, form: Layout) -> str:
    """Why a kernel cannot be pruned: with LoRA the layer computes another one from it, in which its zeros are none."""
    if form.role not in PRUNABLE_ROLES or not getattr(weight.owner, "lora_enabled", False):
        return ""
    return (
        f"{weight.name} is not what its layer uses: LoRA adds a product of two small matrices to it, which would fill "
        "its zeros. model.save_weights(file) merges the two: load_weights(file) into the same model without "
        f"enable_lora and prune that one, or leave the layer out with exclude=[{weight.layer!r}]"
    )


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
