"""Running a user's model on whatever they call an input, without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.errors import ExampleError
from secateur_torch.parameters import array


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards modes of all modules and the random state are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    state = torch.get_rng_state()
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        torch.set_rng_state(state)


def outputs(model: nn.Module, example: Any | None) -> list[npt.NDArray[Any]]:
    """The tensors that the model gives for the example, in order, as NumPy arrays.

    Raises:
        ExampleError: there is no example, or the model does not accept it.
    """
    with inference_mode(model), torch.no_grad():
        result = run(model, example)
    return [array(tensor).copy() for tensor in tensors(result)]


def run(model: nn.Module, example: Any | None, begin: Callable[[Any], None] | None = None) -> Any:
    """Call the model on an example; ``begin`` is told the arguments as the model gets them. Raises ExampleError."""
    if example is None:
        raise ExampleError("the structure is read off an example input: pass example=, such as torch.zeros(1, 64)")
    try:
        positional, named = arguments(model, example)
        if begin is not None:
            begin([positional, named])
        return model(*positional, **named)
    except Exception as error:
        raise ExampleError(
            f"the model does not accept the example ({describe(example)}): {type(error).__name__}: {error}"
        ) from error


def arguments(model: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example as the model's arguments: a tuple or list is positional, a mapping named, anything else the only one."""
    reference = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)
    if isinstance(example, Mapping):
        return (), {name: to_tensor(item, reference) for name, item in example.items()}
    listed = example if isinstance(example, tuple | list) else (example,)
    return tuple(to_tensor(item, reference) for item in listed), {}


def to_tensor(value: Any, reference: torch.Tensor | None) -> Any:
    """Arrays of any framework as tensors on the model's device; floats in its precision. Other values as they are."""
    if not isinstance(value, torch.Tensor):
        if not hasattr(value, "__array__"):
            return value
        value = torch.from_numpy(np.array(value))
    if reference is None:
        return value
    dtype = reference.dtype if value.is_floating_point() else value.dtype
    return value.to(reference.device, dtype)


def tensors(result: Any) -> list[torch.Tensor]:
    """The tensors in a nested result, in a fixed order."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, Mapping):
        return [tensor for key in result for tensor in tensors(result[key])]
    if isinstance(result, tuple | list):
        return [tensor for item in result for tensor in tensors(item)]
    return []


def describe(example: Any) -> str:
    """Shapes and types, for messages."""
    if isinstance(example, Mapping):
        return ", ".join(f"{name}: {describe(item)}" for name, item in example.items())
    if isinstance(example, tuple | list):
        return ", ".join(map(describe, example))
    shape = getattr(example, "shape", None)
    return f"{getattr(example, 'dtype', '')} {tuple(shape)}".strip() if shape is not None else type(example).__name__
