"""The structure of a PyTorch model, read off one forward pass of an example.

A :class:`torch.overrides.TorchFunctionMode` sees every call of a PyTorch function with its real tensors; module hooks
tell where each stands. What runs where no function mode looks (custom autograd functions, scripted code) is seen by a
dispatch mode below it. So whatever runs can be traced. What a call means is told by :mod:`secateur_torch.operations`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.errors import ExampleError, TraceError
from secateur.structure.graph import Graph
from secateur_torch.inference import inference_mode, plain_attention, results, run, training_mode
from secateur_torch.normalisation import Began, begin, end
from secateur_torch.operations import Call
from secateur_torch.parameters import REMEDY, Weight, with_constants, written_down
from secateur_torch.recording import Recorder
from secateur_torch.skipping import NeedsNumbers, Skipping, Unchanged, can_skip
from secateur_torch.walking import modules, named_modules

__all__ = ["graph", "record"]

Kind = TypeVar("Kind", bound=Recorder)
Mode = Callable[[nn.Module], AbstractContextManager[None]]

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def graph(model: nn.Module, example: Any | None) -> Graph:
    """Trace the path that one example takes through the model, in inference mode; nothing in the model changes.

    Weights and buffers that it does not reach may be used in training alone, as auxiliary heads are: then a pass in
    training mode is traced too, and if it reaches more, it is part of the graph.

    Args:
        model: any module that runs.
        example: a tensor or array, a tuple of positional arguments or a dict of keyword arguments.

    Raises:
        ExampleError: there is no example, or the model does not accept it.
        TraceError: the model returns an object whose tensors cannot be seen, or is scripted or exported.
    """
    known = with_constants(model)
    _require_eager(model)
    inference = _traced(model, example, inference_mode, known)
    if all(weight.name in inference.parameters for weight in known):
        return inference
    try:
        training = _traced(model, example, training_mode, known)
    except (ExampleError, TraceError):  # it wants labels too, or is not made to train
        return inference
    return inference if training.parameters.keys() <= inference.parameters.keys() else _joined(inference, training)


def _require_eager(model: nn.Module) -> None:
    """Raises TraceError where a module's code is not Python's any more: no hook is called, no function is seen."""
    for path, module in named_modules(model):
        if kind := written_down(module):
            raise TraceError(f"{path or 'the model'} is {kind}, so its structure cannot be read: {REMEDY}")


def _traced(model: nn.Module, example: Any | None, mode: Mode, known: Iterable[Weight]) -> Graph:
    """The graph of one pass, which computes nothing where no number matters; if that fails, all errors are told by one
    that computes."""
    found = modules(model)
    if can_skip(found):
        skipping, unchanged = Skipping(), Unchanged(found)
        try:
            _, recorded = record(model, example, Recorder, mode, known, skipping)
        except (NeedsNumbers, ExampleError, TraceError):
            pass
        else:
            if not skipping.is_over and not unchanged.kept(skipping):
                return recorded
        unchanged.restore()
    return record(model, example, Recorder, mode, known)[1]


def record(
    model: nn.Module,
    example: Any | None,
    kind: type[Kind],
    mode: Mode = inference_mode,
    known: Iterable[Weight] | None = None,
    skipping: Skipping | None = None,
) -> tuple[Kind, Graph]:
    """One pass under a recorder of this kind, and its graph; arguments and errors as of :func:`graph`.

    Args:
        model: any module that runs.
        example: as :func:`graph` takes it.
        kind: the recorder's class.
        mode: a context in which the model runs.
        known: the weights and constants of the model, if they have been listed already.
        skipping: makes what calls give, if not everything is to be computed.
    """
    running: list[_Running] = []
    known = with_constants(model) if known is None else known
    recorder = kind(known, lambda: _source(running))
    recorder.skipping = skipping
    names = _module_names(model, running, recorder)
    with mode(model), torch.no_grad(), plain_attention(), names, _Below(recorder), recorder:
        result = run(model, example, recorder.begin)
    return recorder, recorder.graph(results(result))


def _joined(inference: Graph, training: Graph) -> Graph:
    """Both passes as one graph, through whose weights they are tied to one another."""

    def moved(numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(number + len(inference.tensors) for number in numbers)

    operations = (
        replace(operation, inputs=moved(operation.inputs), outputs=moved(operation.outputs), in_inference=False)
        for operation in training.operations
    )
    known = {name for name, shape in inference.parameters.items() if shape.role != "other"}
    return Graph(
        (*inference.tensors, *training.tensors),
        (*inference.operations, *operations),
        (*inference.inputs, *moved(training.inputs)),
        (*inference.outputs, *moved(training.outputs)),
        {**inference.parameters, **{key: shape for key, shape in training.parameters.items() if key not in known}},
        inference.precision,
    )


@dataclass(frozen=True)
class _Running:
    """A module whose forward is running: ``name (Class)``, whether it is PyTorch's own, and where its record began."""

    label: str
    is_library: bool
    began: Began | None


@contextmanager
def _module_names(model: nn.Module, stack: list[_Running], recorder: Recorder) -> Iterator[None]:
    """Keep the modules whose forward is running on ``stack``; those that are one known operation are recorded as it."""

    def enter(module: nn.Module, arguments: Any, label: str) -> None:
        is_library = type(module).__module__.startswith("torch.")
        began = None if is_library else begin(module, arguments, recorder)
        if began is not None and recorder.skipping is not None:
            recorder.skipping.refuse("what may be a normalisation")
        stack.append(_Running(label, is_library, began))

    def leave(module: nn.Module, arguments: Any, result: Any) -> None:
        began = stack[-1].began
        if began is not None:
            end(module, began, result, recorder)
        stack.pop()

    handles = []
    for path, module in named_modules(model):
        named = partial(enter, label=f"{path or 'model'} ({type(module).__name__})")
        handles.append(module.register_forward_pre_hook(named, prepend=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _source(running: list[_Running]) -> str:
    """The running module; with the line of its code where it calls a function by itself."""
    if not running:
        return "model" + _line()
    return running[-1].label if running[-1].is_library else running[-1].label + _line()


def _line() -> str:
    """File and line of the innermost running code that is neither PyTorch's nor Secateur's."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    return f" at {_file_name(frame.f_code.co_filename)}:{frame.f_lineno}" if frame is not None else ""


@lru_cache(maxsize=1 << 10)
def _file_name(path: str) -> str:
    return Path(path).name


class _Below(TorchDispatchMode):
    """Tells a recorder what runs outside of every function that it sees."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operator; record it if no function of PyTorch's is running."""
        kwargs = dict(kwargs or {})
        self._recorder.see_below(args, kwargs)
        result = func(*args, **kwargs)
        self._recorder.record_below(Call(func, args, kwargs, result))
        return result
