"""What every builder of a :class:`Graph` needs: tensors, parameters and operations get numbers and names."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.structure.graph import Graph, Operation, ParameterShape

AXES = {
    "kernel": ("out", "in", "height", "width"),
    "recurrent": ("gate", "out", "in"),
    "embedding": ("entries", "features"),
}


class Recorder:
    """Holds what was recorded so far; :meth:`build` makes a graph of it."""

    def __init__(self) -> None:
        self.tensors: list[tuple[int, ...]] = []
        self.operations: list[Operation] = []
        self.inputs: list[int] = []
        self.parameters: dict[str, ParameterShape] = {}

    def build(self, *outputs: int) -> Graph:
        return Graph(tuple(self.tensors), tuple(self.operations), tuple(self.inputs), outputs, dict(self.parameters))

    def shape(self, tensor: int) -> tuple[int, ...]:
        return self.tensors[tensor]

    def input(self, *shape: int) -> int:
        self.inputs.append(self.constant(*shape))
        return self.inputs[-1]

    def constant(self, *shape: int) -> int:
        self.tensors.append(shape)
        return len(self.tensors) - 1

    def parameter(
        self, shape: Sequence[int], role: str, name: str | None = None, axes: Sequence[str] | None = None
    ) -> str:
        """A parameter of this name, which is made if it is new."""
        name = name or f"{role}{len(self.parameters)}"
        known = AXES.get(role, ("out", *(f"axis{k}" for k in range(1, len(shape)))))
        axes = tuple(axes or known[: len(shape)])
        self.parameters.setdefault(name, ParameterShape(tuple(shape), axes, role, itemsize=8))
        return name

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        own: dict[str, str] | None = None,
        **settings: object,
    ) -> int:
        """Record an operation with one output."""
        return self.add_many(kind, inputs, [shape], own, **settings)[0]

    def add_many(
        self,
        kind: str,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        own: dict[str, str] | None = None,
        **settings: object,
    ) -> list[int]:
        """Record an operation with an output of each shape."""
        outputs = [self.constant(*shape) for shape in shapes]
        place = f"model.py:{len(self.operations) + 1}"
        self.operations.append(
            Operation(kind, tuple(inputs), tuple(outputs), own or {}, settings, source=place, label=f"a {kind}")
        )
        return outputs
