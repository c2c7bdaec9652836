"""Writes down a graph: what the tracer saw, in the core's terms, and which Keras object each operation came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from secateur.structure.graph import Graph, Operation, ParameterShape
from secateur_keras import backends
from secateur_keras.parameters import layouts

Shape = tuple[int, ...]


class Recorder:
    """Gathers tensors, operations and the parameters that they use, in the order of the forward pass.

    Attributes:
        operations: as in the graph.
        origins: for each operation the Keras layer or operation that it describes.
    """

    def __init__(self, model: keras.Model) -> None:
        self._weights = {
            id(weight.variable): (
                weight.name,
                ParameterShape(form.shape, form.axes, form.role, backends.dtype(weight.variable).itemsize),
            )
            for weight, form in layouts(model)
        }
        self.tensors: list[Shape] = []
        self.operations: list[Operation] = []
        self.origins: list[Any] = []
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

    def graph(self, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
        """The finished graph."""
        return Graph(tuple(self.tensors), tuple(self.operations), tuple(inputs), tuple(outputs), dict(self.parameters))


@dataclass(frozen=True)
class Step:
    """One call of a layer or of an operation from ``keras.ops``.

    Args:
        recorder: where it is written down.
        operation: the layer or operation.
        arguments: what it was called with, positions first; Keras's symbolic tensors replaced by :class:`Number`.
        shapes: the shapes of its outputs.
        source: its path in the model.
    """

    recorder: Recorder
    operation: Any
    arguments: tuple[Any, ...]
    shapes: tuple[Shape, ...]
    source: str

    @property
    def inputs(self) -> tuple[int, ...]:
        """The tensors among the arguments, in order, in any nesting."""
        return tuple(each.value for each in keras.tree.flatten(self.arguments) if isinstance(each, Number))

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables among the arguments."""
        return [each for each in keras.tree.flatten(self.arguments) if isinstance(each, keras.Variable)]

    def shape(self, tensor: int) -> Shape:
        """The shape of a tensor."""
        return self.recorder.tensors[tensor]

    def operands(self) -> tuple[int, ...]:
        """The tensors, and a constant for each argument that is an array; scalars are left out."""
        return tuple(
            operand.value if isinstance(operand, Number) else self.recorder.tensor(np.shape(operand))
            for operand in self.arguments
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
    ) -> tuple[int, ...]:
        """Write down one operation with any number of outputs."""
        outputs = tuple(self.recorder.tensor(shape) for shape in shapes)
        label = label or type(self.operation).__name__
        self.recorder.operations.append(
            Operation(kind, tuple(inputs), outputs, dict(parameters or {}), settings, self.source, label)
        )
        self.recorder.origins.append(self.operation)
        return outputs


@dataclass(frozen=True)
class Number:
    """Stands for a symbolic tensor among the arguments of a step."""

    value: int
