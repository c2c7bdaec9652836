"""The recorder: numbers tensors as they appear in a forward pass, and writes down what is done with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from secateur.structure.graph import CONSTANT, Graph, Operation, ParameterShape
from secateur_torch.inference import tensors, version
from secateur_torch.operations import Call, Step, Steps, describe, does_nothing, makes, reads_values
from secateur_torch.operations.calls import Chain, stand_in
from secateur_torch.operations.signs import POSITIVE, sign, sign_of
from secateur_torch.parameters import Weight
from secateur_torch.skipping import Skipping

_PLAIN = (torch.Tensor, torch.nn.Parameter)


@dataclass(frozen=True)
class Mark:
    """A place in a recording."""

    operations: int
    tensors: int
    used: Mapping[str, ParameterShape]


class Recorder(TorchFunctionMode):
    """Sees every call of a PyTorch function; ``source`` tells where in the model it stands.

    Attributes:
        inside: whether a function that it sees is running, or something that is none of the model's business.
        skipping: makes the results of calls without arithmetic; None where they are computed.
    """

    skipping: Skipping | None = None

    def __init__(self, known: Iterable[Weight], source: Callable[[], str]) -> None:
        super().__init__()
        self.inside = False
        self._source = source
        self._weights = {id(weight.tensor): weight for weight in known}
        self._numbers: dict[int, int] = {}
        self._transposed: dict[int, torch.Tensor] = {}
        self._stored: dict[int, dict[int, torch.Tensor]] = {}  # by storage, then by id
        self._alive: list[torch.Tensor] = []  # an id is unique only as long as its tensor lives
        self._shapes: list[tuple[int, ...]] = []
        self._operations: list[Operation] = []
        self._optional: set[int] = set()  # by the number of the first output
        self._inputs: tuple[int, ...] = ()
        self._used: dict[str, ParameterShape] = {}
        self._floating: set[torch.dtype] = set()
        self._signs: dict[int, int] = {}
        for weight in self._weights.values():
            self._keep(weight.tensor)
            if weight.layout.role == CONSTANT:
                self._signs[id(weight.tensor)] = sign_of(weight.tensor)

    def begin(self, arguments: Any) -> None:
        """The model is about to be called with these."""
        self._inputs = tuple(self._new(tensor) for tensor in tensors(arguments))

    def graph(self, results: list[torch.Tensor]) -> Graph:
        """What was recorded."""
        returned = {f"weight{i}": self._use(tensor, "") for i, tensor in enumerate(results) if self.weight(tensor)}
        if returned:
            self._operations.append(Operation("unknown", (), (), returned, {}, "model", "return"))
        outputs = tuple(self._number(tensor) for tensor in results)
        coarsest = max(self._floating, key=lambda dtype: torch.finfo(dtype).eps, default=None)
        precision = str(coarsest or "").removeprefix("torch.")
        return Graph(tuple(self._shapes), self._needed(outputs), self._inputs, outputs, self._used, precision)

    def weight(self, tensor: Any) -> Weight | None:
        """The weight that a tensor is; a constant of the model is none."""
        found = self._weights.get(id(tensor))
        return None if found is None or found.layout.role == CONSTANT else found

    def transposed(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The weight whose transposed matrix a tensor is."""
        return self._transposed.get(id(tensor))

    def described(self, weight: Weight) -> ParameterShape:
        """A weight, with the names of its axes as it has been used so far."""
        return self._used.get(weight.name, weight.shape)

    def is_constant(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor depends neither on inputs nor on weights."""
        return not self._is_known(tensor)

    def is_positive(self, tensor: torch.Tensor) -> bool:
        """Whether its numbers are above 0, whatever the weights and inputs are."""
        return self._signs.get(id(tensor)) == POSITIVE

    def number(self, tensor: torch.Tensor) -> int | None:
        """The number of a tensor, if it has one."""
        return self._numbers.get(id(tensor))

    def mark(self) -> Mark:
        """How far the recording has come."""
        return Mark(len(self._operations), len(self._shapes), dict(self._used))

    def instead(self, mark: Mark, step: Step, label: str) -> None:
        """Forget what was recorded since the mark, and record this step in its place."""
        del self._operations[mark.operations :]
        self._used = dict(mark.used)
        for key in self._weights:  # weights that became tensors since then
            if self._numbers.get(key, 0) >= mark.tensors:
                del self._numbers[key]
        self._add(step, label)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the function; record it if tensors of the model went in."""
        if func is torch.Tensor.__iter__ and args[0].ndim:
            return iter(self.__torch_function__(torch.Tensor.unbind, types, args, kwargs))
        kwargs = dict(kwargs or {})
        given = tensors([args, kwargs])
        before = {id(tensor): version(tensor) for tensor in given}
        is_known = any(self._is_known(tensor) for tensor in given)
        self.inside = True
        try:
            if is_known and self.skipping is not None:
                result = self.skipping.result(func, args, kwargs, given, _run)
            else:
                result = _run(func, args, kwargs, given)
            call = Call(func, args, kwargs, args[0] if func is torch.Tensor.__setitem__ else result)
            if is_known or makes(call):
                changed = [tensor for tensor in given if before[id(tensor)] != version(tensor)]
                self._record(call, given, changed)
        finally:
            self.inside = False
        return result

    def see_below(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Something is about to run that the function mode does not see."""
        if self.skipping is not None and not self.inside and any(map(self._is_known, tensors([args, kwargs]))):
            self.skipping.refuse("what no function mode sees")

    def record_below(self, call: Call) -> None:
        """Something ran that the function mode did not see: whatever it reads and writes stays."""
        if self.inside:
            return
        given = tensors([call.args, call.kwargs])
        if any(self._is_known(tensor) for tensor in given):
            self._unknown(call, given, tensors(call.result))

    def _record(self, call: Call, given: list[torch.Tensor], changed: list[torch.Tensor]) -> None:
        produced = tensors(call.result)
        produced += [tensor for tensor in changed if all(tensor is not other for other in produced)]
        if not produced and not reads_values(call):
            return
        if does_nothing(call):
            return
        with _unseen():
            steps = describe(call, self)
        sharing = self._sharing(changed)
        if steps is None or not self._is_whole(steps, produced) or not self._may_write(steps, changed, sharing):
            self._unknown(call, [*given, *sharing], [*produced, *sharing])
            self._note_sign(call, [*changed, *sharing])
            return
        for step in steps:
            self._add(step, call.name)
        self._note_transposed(call, steps)
        self._note_sign(call, [*changed, *sharing])
        if not (len(steps[-1].inputs) == 1 and steps[-1].settings.get("zero")):
            for tensor in sharing:
                self._add(Step("elementwise", [tensor], [tensor]), call.name)

    def _is_whole(self, steps: Steps, produced: Sequence[torch.Tensor]) -> bool:
        made = {id(tensor) for step in steps for tensor in step.outputs}
        return all(id(tensor) in made for tensor in produced)

    def _may_write(self, steps: Steps, changed: Sequence[torch.Tensor], sharing: Sequence[torch.Tensor]) -> bool:
        """Weights stay as they are; what others see is only written place by place, or its features as they lie."""
        if any(self.weight(tensor) for tensor in (*changed, *sharing)):
            return False
        return not sharing or (steps[-1].kind in ("elementwise", "gather") and len(changed) == 1)

    def _sharing(self, changed: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Other tensors in the memory that was written."""
        found: dict[int, torch.Tensor] = {}
        for tensor in changed:
            found |= self._stored.get(storage(tensor), {})
        return [tensor for key, tensor in found.items() if all(tensor is not other for other in changed)]

    def _note_transposed(self, call: Call, steps: Steps) -> None:
        """Remember whose transposed matrix this is; what is done with weights alone is needed only if it is read."""
        first = steps[0]
        if len(steps) == 1 and first.kind == "permute" and first.settings["order"] == (1, 0):
            (source,) = first.inputs
            if self.weight(source) is not None:
                self._transposed[id(call.result)] = source

    def _note_sign(self, call: Call, written: Sequence[torch.Tensor]) -> None:
        """Of what a call gives; what it writes to may be anything afterwards, but for its result."""
        found = sign(call, self._signs)
        for tensor in written:
            self._signs.pop(id(tensor), None)
        self._signs |= {id(tensor): found for tensor in tensors(call.result)[:1]}

    def _add(self, step: Step, label: str) -> None:
        inputs = tuple(self._number(tensor) for tensor in step.inputs)
        names = {part: self._use(tensor, part, step.axes.get(part)) for part, tensor in step.parameters.items()}
        outputs = tuple(self._new(tensor) for tensor in step.outputs)
        if step.optional or (step.kind == "permute" and inputs[0] in self._optional):
            self._optional.add(outputs[0])
        self._operations.append(
            Operation(step.kind, inputs, outputs, names, dict(step.settings), self._source(), label)
        )

    def _unknown(self, call: Call, given: list[torch.Tensor], produced: list[torch.Tensor]) -> None:
        touched = [tensor for tensor in given if self._is_known(tensor)]
        names = {f"weight{i}": self._use(tensor, "") for i, tensor in enumerate(touched) if id(tensor) in self._weights}
        inputs = tuple(self._number(tensor) for tensor in touched if id(tensor) not in self._weights)
        outputs = tuple(self._new(tensor) for tensor in produced)
        self._operations.append(Operation("unknown", inputs, outputs, names, {}, self._source(), call.name))

    def _needed(self, outputs: Sequence[int]) -> tuple[Operation, ...]:
        """All operations but the optional ones that nothing reads."""
        read = set(outputs)
        needed = []
        for operation in reversed(self._operations):
            is_optional = bool(operation.outputs) and operation.outputs[0] in self._optional
            if not is_optional or not read.isdisjoint(operation.outputs):
                read.update(operation.inputs)
                needed.append(operation)
        return tuple(reversed(needed))

    def _is_known(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._numbers or id(tensor) in self._weights

    def _use(self, tensor: torch.Tensor, part: str, axes: tuple[str, ...] | None = None) -> str:
        """The name of a weight, noted with its shape; one of no known role gets that of its use."""
        weight = self._weights[id(tensor)]
        shape = self._used.setdefault(weight.name, weight.shape)
        if shape.role == "other" and (axes or part in ("kernel", "table")):
            named = axes or ("out", "in")
            named = (*named, *(f"axis{axis}" for axis in range(len(named), len(shape.shape))))
            role = shape.role if part == "table" else "kernel"
            self._used[weight.name] = replace(shape, role=role, axes=named)
        return weight.name

    def _number(self, tensor: torch.Tensor) -> int:
        """The number of a tensor; a weight becomes a tensor by itself, one that was never seen is a constant."""
        if id(tensor) not in self._numbers and id(tensor) in self._weights:
            return self._as_tensor(self._weights[id(tensor)])
        return self._numbers[id(tensor)] if id(tensor) in self._numbers else self._new(tensor)

    def _as_tensor(self, weight: Weight) -> int:
        """The canonical form, and from it the stored one."""
        layout = weight.layout
        canonical = stand_in(layout.shape)
        self._add(Step("weight", [], [canonical], {}, {"weight": weight.tensor}, optional=True), "weight")
        chain = Chain(canonical)
        if layout.inverse != tuple(range(len(layout.order))):
            chain.permute(layout.inverse)
        for step in chain.reshape(layout.native).steps:
            self._add(replace(step, optional=True), "weight")
        number = self._numbers[id(weight.tensor)] = self._numbers[id(chain.tensor)]
        return number

    def _new(self, tensor: torch.Tensor) -> int:
        self._numbers[id(tensor)] = len(self._shapes)
        self._keep(tensor)
        self._shapes.append(tuple(tensor.shape))
        if tensor.is_floating_point() and not tensor.is_meta:
            self._floating.add(tensor.dtype)
        return len(self._shapes) - 1

    def _keep(self, tensor: torch.Tensor) -> None:
        self._alive.append(tensor)
        if not tensor.is_meta:
            self._stored.setdefault(storage(tensor), {})[id(tensor)] = tensor


@contextmanager
def _unseen() -> Iterator[None]:
    """What Secateur itself computes, no mode need see."""
    guard = torch._C._DisableTorchDispatch()
    try:
        with torch._C.DisableTorchFunction():
            yield
    finally:
        del guard


def _run(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], given: Sequence[torch.Tensor]
) -> Any:
    """Call a function; of plain tensors without the mode below, which would hear of each operator and forget it."""
    if any(type(tensor) not in _PLAIN for tensor in given):
        return function(*args, **kwargs)
    guard = torch._C._DisableTorchDispatch()
    try:
        return function(*args, **kwargs)
    finally:
        del guard


def storage(tensor: torch.Tensor) -> int:
    """What tensors that share memory have in common."""
    try:
        with torch._C.DisableTorchFunction():
            return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse, or wrapped by a transform of torch.func
        return id(tensor)
