"""A PyTorch model's weights as the core sees them: names, roles, canonical views."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from secateur.adapter import PRUNABLE_ROLES, Masks, Parameter
from secateur.errors import (
    MissingWeightsError,
    ModelTypeError,
    UnbuiltModelError,
    UnsupportedDtypeError,
)
from secateur.layout import Layout, masks_to_canonical, masks_to_native
from secateur.structure.graph import CONSTANT, Graph, ParameterShape
from secateur_torch.arrays import array, from_array
from secateur_torch.layouts import layout
from secateur_torch.parametrized import Computed, computed, makers
from secateur_torch.walking import named_modules

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

REMEDY = "give the module that it was made from, and script or export what compact() returns"
RANKABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Weight:
    """A parameter or running statistic, where it lives, and its layout."""

    name: str
    layer: str
    tensor: torch.Tensor
    layout: Layout

    @functools.cached_property
    def shape(self) -> ParameterShape:
        """As a graph describes it."""
        return ParameterShape(self.layout.shape, self.layout.axes, self.layout.role, self.tensor.element_size())


def parameters(model: nn.Module, graph: Graph | None = None) -> list[Parameter]:
    """All weights and running statistics, in canonical views that share the model's memory (a copy from a GPU).

    Kernels that a layer computes (see :mod:`secateur_torch.parametrized`) are among them, by their numbers of now.

    Args:
        model: any module; a tensor that is shared comes once, under its first name.
        graph: the traced structure; weights that it uses then come first, in the order of first use, and with the roles
            that the trace shows.

    Raises:
        ModelTypeError: it is no module.
        UnbuiltModelError: a lazy module has not seen an input yet.
        MissingWeightsError: the model is on the meta device.
        UnsupportedDtypeError: a kernel of integers or booleans, or a weight of complex numbers.
    """
    found = {weight.name: _parameter(weight, graph) for weight in weights(model)}
    found |= {item.name: _computed(item) for item in computed(model)}
    if graph is None:
        return list(found.values())
    return [found[name] for name in dict.fromkeys([*(name for name in graph.parameters if name in found), *found])]


def weights(model: nn.Module) -> list[Weight]:
    """Every parameter and running statistic with its layout, in order of definition. Raises as :func:`parameters`.

    Integers and booleans outside of every kernel are left alone: nothing reads, masks or shrinks them.
    """
    _require_module(model)
    listed: dict[int, Weight] = {}
    for path, module in named_modules(model):
        for local, tensor in _own(module) if module._parameters or module._buffers else ():
            name = f"{path}.{local}" if path else local
            _check_stored(name, tensor)
            weight = Weight(name, path, tensor, layout(module, local, tuple(tensor.shape)))
            if not _is_constant(weight):
                _check_dtype(name, tensor)
                listed.setdefault(id(tensor), weight)
    if not listed and (quantized := _quantized(model)):
        raise UnsupportedDtypeError(f"{quantized} is quantized; prune the model before it is quantized or converted")
    return list(listed.values())


def with_constants(model: nn.Module) -> list[Weight]:
    """As :func:`weights`, and buffers of floating-point numbers that are no running statistics.

    What a unit touches in these goes with it.
    """
    listed, behind = weights(model), makers(model)
    known = {id(weight.tensor) for weight in listed}
    found: dict[int, Weight] = {}
    for path, module in named_modules(model):
        for local, tensor in module._buffers.items() if id(module) not in behind else ():
            if tensor is not None and id(tensor) not in known and _is_plain(tensor):
                shape = tuple(tensor.shape)
                axes = tuple(f"axis{axis}" for axis in range(len(shape)))
                own = Layout(CONSTANT, axes, shape, shape, tuple(range(len(shape))))
                found.setdefault(id(tensor), Weight(f"{path}.{local}" if path else local, path, tensor, own))
    return [*listed, *found.values()]


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.dtype in RANKABLE and tensor.layout == torch.strided and tensor.ndim > 0 and not tensor.is_meta


def _quantized(model: nn.Module) -> str:
    """The first layer whose weights are packed integers; empty if there is none."""
    kinds = ((path or "the model", type(module)) for path, module in named_modules(model))
    return next((f"{path} ({kind.__name__})" for path, kind in kinds if ".quantized." in kind.__module__), "")


def assign(model: nn.Module, values: Mapping[str, Array]) -> None:
    """Write whole weights, in place: numbers in canonical layout, of the weight's own dtype."""
    with torch.no_grad():
        for weight in weights(model):
            if weight.name in values:
                native = np.array(weight.layout.to_native(values[weight.name]), order="C")
                weight.tensor.copy_(from_array(native))


def to_native(model: nn.Module, masks: Masks, known: Iterable[Weight] | None = None) -> dict[str, BoolArray]:
    """Masks in canonical layout -> the same in PyTorch's; see :func:`secateur.layout.masks_to_native`.

    ``known`` are the weights of the model, if they have been listed already.
    """
    listed = weights(model) if known is None else known
    return masks_to_native({weight.name: weight.layout for weight in listed}, masks)


def to_canonical(model: nn.Module, masks: Masks) -> dict[str, BoolArray]:
    """The inverse of :func:`to_native`: views of masks in PyTorch's layout."""
    return masks_to_canonical({weight.name: weight.layout for weight in weights(model)}, masks)


def _own(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    found: list[tuple[str, torch.Tensor]] = []
    found += [(name, tensor) for name, tensor in module._parameters.items() if tensor is not None]
    if isinstance(module, _NormBase):  # whose masked scale and shift leave nothing of them; others' are constants
        running = ((name, module._buffers.get(name)) for name in ("running_mean", "running_var"))
        found += [(name, buffer) for name, buffer in running if buffer is not None]
    return found


def _require_module(model: object) -> None:
    if isinstance(model, nn.Module):
        if kind := written_down(model):
            raise ModelTypeError(f"the model is {kind}, whose layers are not PyTorch's any more: {REMEDY}")
        return
    hint = ", into which load_state_dict() loads these weights" if isinstance(model, Mapping) else ""
    raise ModelTypeError(f"the model is a {type(model).__name__}: give the torch.nn.Module itself{hint}")


def written_down(module: nn.Module) -> str:
    """In words, what PyTorch made of the module, if that is code that can neither be traced nor cut; else empty."""
    if isinstance(module, torch.jit.ScriptModule):
        return "scripted"
    cannot_evaluate = isinstance(module, fx.GraphModule) and "eval" in vars(module)
    return "what torch.export wrote of one" if cannot_evaluate else ""


def _is_constant(weight: Weight) -> bool:
    """Whether it is none of the numbers that are pruned or trained, but a table of indices or flags."""
    tensor = weight.tensor
    is_number = tensor.is_floating_point() or tensor.is_complex()
    return not is_number and weight.layout.role not in PRUNABLE_ROLES


def _check_stored(name: str, tensor: torch.Tensor) -> None:
    if is_lazy(tensor):
        raise UnbuiltModelError(f"{name} has no shape yet, its module is lazy; run the model once on an example first")
    if tensor.is_meta:
        raise MissingWeightsError(f"{name} is on the meta device and holds no numbers; load the weights first")
    if tensor.layout != torch.strided:
        raise UnsupportedDtypeError(f"{name} is stored as {tensor.layout}, not densely; give it as to_dense() first")


def _check_dtype(name: str, tensor: torch.Tensor) -> None:
    if tensor.dtype not in RANKABLE:
        raise UnsupportedDtypeError(
            f"{name} has dtype {str(tensor.dtype).removeprefix('torch.')}, not one of 16 to 64-bit floating point; "
            "prune the model before it is quantized or converted"
        )


def _parameter(weight: Weight, graph: Graph | None) -> Parameter:
    traced = graph.parameters.get(weight.name) if graph is not None else None
    role, axes = (weight.layout.role, weight.layout.axes) if traced is None else (traced.role, traced.axes)
    view = weight.layout.to_canonical(array(weight.tensor))
    return Parameter(weight.name, role, view, axes, weight.layer, weight.tensor.requires_grad)


def _computed(item: Computed) -> Parameter:
    _check_stored(item.name, item.tensor)
    _check_dtype(item.name, item.tensor)
    view = item.layout.to_canonical(array(item.tensor))
    return Parameter(item.name, item.layout.role, view, item.layout.axes, item.layer, refusal=item.refusal)
