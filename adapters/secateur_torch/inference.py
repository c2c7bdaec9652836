"""Running a user's model on whatever they call an input, without leaving a trace in it, in the data, or elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import DataLoader

from secateur.batches import describe, undisturbed
from secateur.errors import ExampleError, SecateurError, TraceError
from secateur.timing import some_calls
from secateur_torch.arrays import array
from secateur_torch.walking import modules

_LEAVES = (torch.Tensor, int, float, str, type(None))


@contextmanager
def inference_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block, without compiled code; modes, buffers and random state are restored after it."""
    found = modules(model)
    modes = [(module, module.training) for module in found]
    scripted = torch.jit.ScriptModule  # which keeps its buffers where Python cannot replace them
    buffers = [(module, dict(module._buffers)) for module in found if not isinstance(module, scripted)]
    buffers = [(module, own) for module, own in buffers if own]
    kept = {id(buffer): buffer for module in found for buffer in module._buffers.values() if buffer is not None}
    values = [(buffer, buffer.clone()) for buffer in kept.values()]
    weights = (tensor for module in found for tensor in module._parameters.values() if tensor is not None)
    devices = {tensor.device for tensor in weights if tensor.is_cuda}
    if any(training for _, training in modes):
        model.eval()
    try:
        with undisturbed(), torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, training in modes:
            if module.training != training:  # PyTorch takes longer to set an attribute than to read one
                module.training = training
        for module, own in buffers:
            module._buffers.update(own)
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):  # batch_norm does not count its writes in buffer._version
                    buffer.copy_(value)


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """As :func:`inference_mode`, but what the user has written is told that it trains; PyTorch's layers are not.

    So what runs in training alone (auxiliary heads) runs, and dropout, normalisation and recurrence are those of
    evaluation: nothing is random, and one example is enough.
    """
    with inference_mode(model):
        for module in model.modules():
            is_own = not type(module).__module__.startswith("torch.")
            module.training = is_own and not isinstance(module, _NormBase | _DropoutNd | nn.RNNBase)
        yield


@contextmanager
def plain_attention() -> Iterator[None]:
    """Transformer layers in the operations that they are made of, not in one that nobody can look into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def reading(data: Any) -> Iterator[None]:
    """A block in which data may be read: random states are after it as they were before.

    A loader that keeps its workers from epoch to epoch gets others for the block: the same may be in use just now, by
    the loop that trains.
    """
    loader = data if isinstance(data, DataLoader) else None
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with undisturbed(data), torch.random.fork_rng(devices):
        kept = None if loader is None else loader._iterator
        if loader is not None:
            loader._iterator = None
        try:
            yield
        finally:
            if loader is not None:
                loader._iterator = kept


def version(tensor: torch.Tensor) -> int:
    """How often the tensor has been written to in place; 0 where PyTorch does not count, as in its inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def outputs(model: nn.Module, example: Any | None, training: bool = False) -> list[npt.NDArray[Any]]:
    """The tensors that the model gives for the example, in order, as NumPy arrays.

    Args:
        model: any module.
        example: as :func:`secateur_torch.tracing.graph` takes it.
        training: in :func:`training_mode`.

    Raises:
        ExampleError: there is no example, or the model does not accept it.
        TraceError: the model returns an object whose tensors cannot be seen.
    """
    with (training_mode if training else inference_mode)(model), torch.no_grad():
        result = run(model, example)
        return [array(tensor).copy() for tensor in results(result)]


def timer(model: nn.Module, example: Any) -> Callable[[], float]:
    """See :meth:`secateur.adapter.Adapter.timer`: without gradients or compiled code, on as many threads as are set."""
    positional, named = arguments(model, example)
    device = next((tensor.device for tensor in model.parameters() if tensor.is_cuda), None)

    def run_to_the_end() -> None:
        model(*positional, **named)
        if device is not None:
            torch.cuda.synchronize(device)

    def seconds() -> float:
        with inference_mode(model), torch.no_grad():
            return min(some_calls(run_to_the_end))

    return seconds


def run(model: nn.Module, example: Any | None, begin: Callable[[Any], None] | None = None) -> Any:
    """Call the model on an example; ``begin`` is told the arguments as the model gets them. Raises ExampleError."""
    if example is None:
        raise ExampleError("the structure is read off an example input: pass example=, such as torch.zeros(1, 64)")
    try:
        positional, named = arguments(model, example)
        if begin is not None:
            begin([positional, named])
        return model(*positional, **named)
    except SecateurError:
        raise
    except Exception as error:
        raise ExampleError(
            f"the model does not accept the example ({describe(example)}): {type(error).__name__}: {error}"
        ) from error


def arguments(model: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example as the model's arguments: a tuple or list is positional, a mapping named, all else the only one."""
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
        value = torch.from_numpy(_plain(np.array(value)))
    if reference is None:
        return value
    dtype = reference.dtype if value.is_floating_point() else value.dtype
    moved = value.to(reference.device, dtype)
    return moved.clone() if moved.is_inference() else moved  # autograd refuses tensors made in inference mode


def _plain(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Types that PyTorch does not take from NumPy, in one that holds their values: bfloat16, wide unsigned integers."""
    if numbers.dtype.kind == "u" and numbers.itemsize > 1:
        return numbers.astype(np.int64)
    return numbers.astype(np.float32) if numbers.dtype.kind == "V" else numbers


def results(result: Any) -> list[torch.Tensor]:
    """The tensors that a model returned. Raises TraceError if there are none, or some that cannot be seen."""
    opaque = [item for item in _leaves(result) if not isinstance(item, torch.Tensor | str | int | float | None)]
    found = tensors(result)
    if opaque or not found:
        kind = type(opaque[0] if opaque else result).__name__
        raise TraceError(
            f"the model returns a {kind}, in which tensors cannot be found: let it return tensors, or tuples, lists, "
            "dicts or dataclasses of them"
        )
    return found


def tensors(nested: Any) -> list[torch.Tensor]:
    """The tensors in nested tuples, lists, mappings and dataclasses, in a fixed order."""
    return [item for item in _leaves(nested) if isinstance(item, torch.Tensor)]


def _leaves(nested: Any) -> list[Any]:
    leaves: list[Any] = []
    _gather(nested, leaves)
    return leaves


def _gather(nested: Any, leaves: list[Any]) -> None:
    """Called for each argument of each function that a model calls, so the commonest types come first."""
    if isinstance(nested, _LEAVES):
        leaves.append(nested)
    elif isinstance(nested, (tuple, list)):
        for item in nested:
            if isinstance(item, _LEAVES):
                leaves.append(item)
            else:
                _gather(item, leaves)
    elif isinstance(nested, (dict, Mapping)):
        for key in nested:
            _gather(nested[key], leaves)
    elif dataclasses.is_dataclass(nested) and not isinstance(nested, type):
        for field in dataclasses.fields(nested):
            _gather(getattr(nested, field.name), leaves)
    else:
        leaves.append(nested)
