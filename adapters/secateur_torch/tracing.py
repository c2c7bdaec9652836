"""The structure of a PyTorch model, read off one forward pass of an example.

A :class:`torch.overrides.TorchFunctionMode` sees every call of a PyTorch function with its real tensors; module hooks
tell where each stands. What runs where no function mode looks (custom autograd functions, scripted code) is seen by a
dispatch mode below it. So whatever runs can be traced. What a call means is told by :mod:`secateur_torch.operations`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.errors import ExampleError, TraceError
from secateur.structure.graph import Graph, Operation, ParameterShape
from secateur_torch.inference import inference_mode, results, run, tensors, training_mode, version
from secateur_torch.operations import Call, Kind, describe, reads_values
from secateur_torch.parameters import Weight, weights

__all__ = ["graph"]

_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def graph(model: nn.Module, example: Any | None) -> Graph:
    """Trace the path that one example takes through the model, in inference mode; nothing in the model changes.

    Weights that it does not reach may be read in training alone, as auxiliary heads are: then a pass in training mode
    is traced too, and if it reaches more, it is part of the graph.

    Args:
        model: any module that runs.
        example: a tensor or array, a tuple of positional arguments or a dict of keyword arguments.

    Raises:
        ExampleError: there is no example, or the model does not accept it.
        TraceError: the model returns an object whose tensors cannot be seen.
    """
    inference = _traced(model, example, inference_mode)
    if all(weight.name in inference.parameters for weight in weights(model)):
        return inference
    try:
        training = _traced(model, example, training_mode)
    except (ExampleError, TraceError):  # it wants labels too, or is not made to train
        return inference
    return inference if training.parameters.keys() <= inference.parameters.keys() else _joined(inference, training)


def _traced(model: nn.Module, example: Any | None, mode: Callable[[nn.Module], AbstractContextManager[None]]) -> Graph:
    recorder = _Recorder(model)
    with mode(model), torch.no_grad(), _module_names(model, recorder.modules), _Below(recorder), recorder:
        result = run(model, example, recorder.begin)
    return recorder.graph(results(result))


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
    )


@contextmanager
def _module_names(model: nn.Module, stack: list[tuple[str, bool]]) -> Iterator[None]:
    """Keep on ``stack`` the module whose forward is running, as ``name (Class)``, and whether it is PyTorch's own."""
    handles = []
    for path, module in model.named_modules():
        label = f"{path or 'model'} ({type(module).__name__})", type(module).__module__.startswith("torch.")
        handles.append(module.register_forward_pre_hook(lambda *_, label=label: stack.append(label), prepend=True))
        handles.append(module.register_forward_hook(lambda *_: _leave(stack), always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _leave(stack: list[tuple[str, bool]]) -> None:
    stack.pop()


def _line() -> str:
    """File and line of the innermost running code that is neither PyTorch's nor Secateur's."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    return f" at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame is not None else ""


class _Recorder(TorchFunctionMode):
    """Numbers tensors as they appear and writes down what is done with them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.modules: list[tuple[str, bool]] = []
        self.inside = False
        self._weights = {id(weight.tensor): weight for weight in weights(model)}
        self._numbers: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []  # an id is unique only as long as its tensor lives
        self._shapes: list[tuple[int, ...]] = []
        self._operations: list[Operation] = []
        self._inputs: tuple[int, ...] = ()
        self._used: dict[str, ParameterShape] = {}

    def begin(self, arguments: Any) -> None:
        """The model is about to be called with these."""
        self._inputs = tuple(self._new(tensor) for tensor in tensors(arguments))

    def graph(self, results: list[torch.Tensor]) -> Graph:
        """What was recorded."""
        returned = {f"weight{i}": self._use(tensor, "") for i, tensor in enumerate(results) if self._weight(tensor)}
        if returned:
            self._operations.append(Operation("unknown", (), (), returned, {}, "model", "return"))
        outputs = tuple(self._number(tensor) for tensor in results)
        return Graph(tuple(self._shapes), tuple(self._operations), self._inputs, outputs, self._used)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the function; record it if tensors of the model went in."""
        kwargs = dict(kwargs or {})
        given = tensors([args, kwargs])
        before = {id(tensor): version(tensor) for tensor in given}
        self.inside = True
        try:
            result = func(*args, **kwargs)
            if any(self._is_known(tensor) for tensor in given):
                changed = [tensor for tensor in given if before[id(tensor)] != version(tensor)]
                self._record(Call(func, args, kwargs, result), given, changed)
        finally:
            self.inside = False
        return result

    def record_below(self, call: Call) -> None:
        """Something ran that the function mode did not see: whatever it reads and writes stays."""
        given = tensors([call.args, call.kwargs])
        if not self.inside and any(self._is_known(tensor) for tensor in given):
            self._unknown(call, given, tensors(call.result))

    def _record(self, call: Call, given: list[torch.Tensor], changed: list[torch.Tensor]) -> None:
        produced = tensors(call.result)
        produced += [tensor for tensor in changed if all(tensor is not other for other in produced)]
        if not produced and not reads_values(call):
            return
        kind = describe(call, self._weight)
        bases = [tensor._base for tensor in changed if tensor._base is not None]
        if kind is None or (bases and (kind.name != "elementwise" or len(produced) > 1)):
            self._unknown(call, [*given, *bases], [*produced, *bases])
        else:
            self._add(kind, call, produced)

    def _add(self, kind: Kind, call: Call, produced: list[torch.Tensor]) -> None:
        inputs = tuple(self._number(tensor) for tensor in kind.inputs)
        names = {part: self._use(tensor, part) for part, tensor in kind.parameters.items()}
        outputs = tuple(self._new(tensor) for tensor in produced)
        settings = dict(kind.settings)
        self._operations.append(Operation(kind.name, inputs, outputs, names, settings, self._source(), call.name))

    def _unknown(self, call: Call, given: list[torch.Tensor], produced: list[torch.Tensor]) -> None:
        touched = [tensor for tensor in given if self._is_known(tensor)]
        names = {f"weight{i}": self._use(tensor, "") for i, tensor in enumerate(touched) if id(tensor) in self._weights}
        inputs = tuple(self._number(tensor) for tensor in touched if id(tensor) not in self._weights)
        outputs = tuple(self._new(tensor) for tensor in produced)
        self._operations.append(Operation("unknown", inputs, outputs, names, {}, self._source(), call.name))

    def _is_known(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._numbers or id(tensor) in self._weights

    def _weight(self, tensor: Any) -> Weight | None:
        return self._weights.get(id(tensor))

    def _use(self, tensor: torch.Tensor, part: str) -> str:
        """The name of a weight, noted with its shape; a weight of no known role that is used as kernel is one."""
        weight = self._weights[id(tensor)]
        shape = self._used.setdefault(weight.name, weight.shape)
        if part == "kernel" and shape.role == "other":
            axes = ("out", "in", *(f"axis{axis}" for axis in range(2, len(shape.shape))))
            self._used[weight.name] = replace(shape, role="kernel", axes=axes)
        return weight.name

    def _number(self, tensor: torch.Tensor) -> int:
        """The number of a tensor; one that was never seen is a constant."""
        return self._numbers[id(tensor)] if id(tensor) in self._numbers else self._new(tensor)

    def _new(self, tensor: torch.Tensor) -> int:
        self._numbers[id(tensor)] = len(self._shapes)
        self._alive.append(tensor)
        self._shapes.append(tuple(tensor.shape))
        return len(self._shapes) - 1

    def _source(self) -> str:
        """The running module; with the line of its code where it calls a function by itself."""
        module, is_library = self.modules[-1] if self.modules else ("model", False)
        return module if is_library else module + _line()


class _Below(TorchDispatchMode):
    """Tells a recorder what runs outside of every function that it sees."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operator; record it if no function of PyTorch's is running."""
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        self._recorder.record_below(Call(func, args, kwargs, result))
        return result
