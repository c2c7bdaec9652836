"""Writes down a graph: what the tracer saw, in the core's terms, and which Keras object each operation came from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from secateur.structure.graph import Graph, Operation, ParameterShape
from secateur.structure.removal import Plan
from secateur_keras import backends
from secateur_keras.naming import below
from secateur_keras.parameters import layouts

Shape = tuple[int, ...]
Outputs = tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """What a plan changes in a Keras object.

    Args:
        origin: the layer or operation.
        config: plan -> entry of the config -> its value under the plan.
        call: where a size is no entry of the config: does what the operation did, with these entries by name.
    """

    origin: Any
    config: Callable[[Plan], Mapping[str, Any]]
    call: Callable[..., Any] | None = None


class Recorder:
    """Gathers tensors, operations and the parameters that they use, in the order of the forward pass.

    Attributes:
        operations: as in the graph.
        weights: id of a variable -> the parameter that it is.
        edits: what must change in Keras's objects if sizes do.
    """

    def __init__(self, model: keras.Model) -> None:
        self._weights = {
            id(weight.variable): (
                weight.name,
                ParameterShape(form.shape, form.axes, form.role, backends.dtype(weight.variable).itemsize),
            )
            for weight, form in layouts(model)
        }
        self.weights = {id(weight.variable): weight for weight, _ in layouts(model)}
        self._precision = _coarsest(layer.compute_dtype for layer in [model, *(layer for layer, _ in below(model))])
        self.tensors: list[Shape] = []
        self.operations: list[Operation] = []
        self.edits: list[Edit] = []
        self.parameters: dict[str, ParameterShape] = {}

    def tensor(self, shape: Sequence[int]) -> int:
        """A new tensor that no operation writes."""
        self.tensors.append(tuple(int(size) for size in shape))
        return len(self.tensors) - 1

    def use(self, variable: keras.Variable) -> str | None:
        """Note that an operation uses a weight; returns its name, None for what is no parameter (a counter)."""
        if id(variable) not in self._weights:
            return None
        name, shape = self._weights[id(variable)]
        self.parameters.setdefault(name, shape)
        return name

    def is_fixed(self, position: tuple[int, int, int]) -> bool:
        """Whether nothing that was written down since needs to be told of sizes, or is unknown."""
        _, operations, edits = position
        return len(self.edits) == edits and all(each.kind != "unknown" for each in self.operations[operations:])

    @property
    def position(self) -> tuple[int, int, int]:
        """Where the record ends."""
        return len(self.tensors), len(self.operations), len(self.edits)

    def rewind(self, position: tuple[int, int, int]) -> None:
        """Take back what was written down since."""
        tensors, operations, edits = position
        del self.tensors[tensors:], self.operations[operations:], self.edits[edits:]

    def graph(self, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
        """The finished graph."""
        return Graph(
            tuple(self.tensors),
            tuple(self.operations),
            tuple(inputs),
            tuple(outputs),
            dict(self.parameters),
            self._precision,
        )


def _coarsest(dtypes: Iterable[str | None]) -> str:
    """Of the floating types that layers compute with, the one of fewest digits."""
    digits = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
    return min((dtype for dtype in dtypes if dtype in digits), key=lambda dtype: digits[dtype], default="")


@dataclass(frozen=True)
class Step:
    """One call of a layer or of an operation from ``keras.ops``.

    Args:
        recorder: where it is written down.
        operation: the layer or operation.
        arguments: what it was called with by position; Keras's symbolic tensors replaced by :class:`Number`.
        keywords: what it was called with by name.
        shapes: the shapes of its outputs.
        source: its path in the model.
        describe: writes down another step, such as a call inside of this one.
    """

    recorder: Recorder
    operation: Any
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    source: str
    describe: Callable[[Step], Outputs]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The tensors among the arguments, in order, in any nesting; masks among them."""
        return numbers((self.arguments, list(self.keywords.values())))

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables among the arguments."""
        given = keras.tree.flatten((self.arguments, list(self.keywords.values())))
        return [each for each in given if isinstance(each, keras.Variable)]

    @property
    def last(self) -> int:
        """The number of the operation that was written down last."""
        return len(self.recorder.operations) - 1

    def argument(self, name: str) -> Any:
        """What ``call`` was given under this name; None if nothing."""
        bound = inspect.signature(self.operation.call).bind(*self.arguments, **self.keywords)
        return bound.arguments.get(name)

    def shape(self, tensor: int) -> Shape:
        """The shape of a tensor."""
        return self.recorder.tensors[tensor]

    def operands(self) -> tuple[int, ...]:
        """The tensors, and a constant for each argument that is an array; scalars are left out."""
        return tuple(
            operand.value if isinstance(operand, Number) else self.recorder.tensor(np.shape(operand))
            for operand in (*self.arguments, *self.keywords.values())
            if isinstance(operand, Number) or np.shape(operand)
        )

    def parts(self, **names: str) -> dict[str, str] | None:
        """Part of the operation -> parameter, for the layer's weights of these names; None if it has others."""
        found = {}
        for variable in self.operation.weights:
            part = next((part for part, name in names.items() if name == variable.name), None)
            parameter = None if part is None else self.recorder.use(variable)
            if part is None or parameter is None:
                return None
            found[part] = parameter
        return {part: found[part] for part in names if part in found}

    def within(self, operation: Any, arguments: Sequence[Any], shapes: Sequence[Shape]) -> Step:
        """A step inside of this one: a call of ``operation`` with these arguments."""
        source = f"{self.source}/{operation.name}" if isinstance(operation, keras.Layer) else self.source
        return replace(
            self, operation=operation, arguments=tuple(arguments), keywords={}, shapes=tuple(shapes), source=source
        )

    def edit(self, config: Callable[[Plan], Mapping[str, Any]], call: Callable[..., Any] | None = None) -> None:
        """Note how this layer or operation depends on a plan: see :class:`Edit`."""
        self.recorder.edits.append(Edit(self.operation, config, call))

    def sizes(self, **places: tuple[int, int]) -> None:
        """Note that entries of the config are sizes: each of an axis of a tensor."""
        self.edit(lambda plan: {key: plan.shapes[tensor][axis] for key, (tensor, axis) in places.items()})

    def emit(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        parameters: Mapping[str, str] | None = None,
        label: str = "",
        **settings: object,
    ) -> int:
        """Write down one operation with one output, which is returned."""
        (output,) = self.emit_all(kind, inputs, (tuple(shape),), parameters, label, **settings)
        return output

    def emit_all(
        self,
        kind: str,
        inputs: Sequence[int],
        shapes: Sequence[Shape],
        parameters: Mapping[str, str] | None = None,
        label: str = "",
        **settings: object,
    ) -> Outputs:
        """Write down one operation with any number of outputs."""
        outputs = tuple(self.recorder.tensor(shape) for shape in shapes)
        label = label or type(self.operation).__name__
        self.recorder.operations.append(
            Operation(kind, tuple(inputs), outputs, dict(parameters or {}), settings, self.source, label)
        )
        return outputs

    def reshaped(self, tensor: int, shape: Sequence[int]) -> int:
        """A tensor in another shape, with the same numbers in the same order."""
        return tensor if self.shape(tensor) == tuple(shape) else self.emit("reshape", [tensor], shape)

    def permuted(self, tensor: int, order: Sequence[int]) -> int:
        """A tensor with its axes in another order."""
        shape = self.shape(tensor)
        if tuple(order) == tuple(range(len(shape))):
            return tensor
        return self.emit("permute", [tensor], [shape[axis] for axis in order], order=tuple(order))


@dataclass(frozen=True)
class Number:
    """Stands for a symbolic tensor among the arguments of a step."""

    value: int


def numbers(arguments: Any) -> Outputs:
    """The tensors in any nesting of arguments, in order."""
    return tuple(each.value for each in keras.tree.flatten(arguments) if isinstance(each, Number))
