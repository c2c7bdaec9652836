"""Builds a :class:`Graph` step by step, as a tracer would: shapes are worked out, parameters get names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secateur.structure.graph import Graph, Operation, ParameterShape

KERNEL_AXES = ("out", "in", "height", "width")


class GraphBuilder:
    """Each method adds one operation and returns the number of the tensor that it makes."""

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

    def parameter(self, shape: Sequence[int], role: str, name: str | None = None) -> str:
        name = name or f"{role}{len(self.parameters)}"
        axes = KERNEL_AXES[: len(shape)] if role == "kernel" else ("out", *(f"axis{k}" for k in range(1, len(shape))))
        self.parameters.setdefault(name, ParameterShape(tuple(shape), axes, role, itemsize=8))
        return name

    def linear(self, x: int, out: int, axis: int = -1, name: str | None = None, bias: bool = True) -> int:
        shape = list(self.shape(x))
        own = {"kernel": self.parameter((out, shape[axis]), "kernel", name)}
        if bias:
            own["bias"] = self.parameter((out,), "bias")
        shape[axis] = out
        return self._add("linear", [x], shape, own, axis=axis)

    def convolution(
        self, x: int, out: int, size: int = 3, groups: int = 1, axis: int = 1, name: str | None = None
    ) -> int:
        shape = list(self.shape(x))
        window = (size,) * (len(shape) - 2)
        own = {
            "kernel": self.parameter((out, shape[axis] // groups, *window), "kernel", name),
            "bias": self.parameter((out,), "bias"),
        }
        shape[axis] = out
        return self._add("convolution", [x], shape, own, channel_axis=axis, groups=groups)

    def normalize(self, x: int, axis: int = 1) -> int:
        size = self.shape(x)[axis]
        own = {role: self.parameter((size,), role) for role in ("scale", "shift", "mean", "variance")}
        return self._add("normalize", [x], self.shape(x), own, axis=axis)

    def activation(self, x: int, function: str = "relu") -> int:
        return self._add("elementwise", [x], self.shape(x), function=function)

    def combine(self, *operands: int, function: str = "add") -> int:
        rank = max(len(self.shape(x)) for x in operands)
        padded = [(1,) * (rank - len(self.shape(x))) + self.shape(x) for x in operands]
        return self._add(
            "elementwise", operands, [max(sizes) for sizes in zip(*padded, strict=True)], function=function
        )

    def scale(self, x: int, shape: Sequence[int]) -> int:
        return self._add(
            "elementwise", [x], self.shape(x), {"gain": self.parameter(shape, "other")}, function="multiply"
        )

    def concat(self, *parts: int, axis: int = 1) -> int:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(x)[axis] for x in parts)
        return self._add("concat", parts, shape, axis=axis)

    def reshape(self, x: int, *shape: int) -> int:
        assert math.prod(shape) == math.prod(self.shape(x))
        return self._add("reshape", [x], shape)

    def permute(self, x: int, *order: int) -> int:
        return self._add("permute", [x], [self.shape(x)[axis] for axis in order], order=order)

    def pool(self, x: int, function: str = "all", axis: int = 1) -> int:
        sizes = {"all": lambda size: 1, "double": lambda size: 2 * size, "pad": lambda size: size + 1}
        shape = [
            size if position in (0, axis) else sizes[function](size) for position, size in enumerate(self.shape(x))
        ]
        return self._add("pool", [x], shape, channel_axis=axis, function=function)

    def reduce(self, x: int, axes: Sequence[int], keepdims: bool = False, function: str = "mean") -> int:
        shape = [
            size if axis not in axes else 1 for axis, size in enumerate(self.shape(x)) if keepdims or axis not in axes
        ]
        return self._add("reduce", [x], shape, axes=tuple(axes), keepdims=keepdims, function=function)

    def softmax(self, x: int, axis: int = -1) -> int:
        return self._add("softmax", [x], self.shape(x), axis=axis)

    def unknown(self, x: int, parameters: Sequence[str] = ()) -> int:
        own = {f"part{index}": name for index, name in enumerate(parameters)}
        return self._add("unknown", [x], self.shape(x), own)

    def shuffle(self, x: int, groups: int, axis: int = 1) -> int:
        shape = self.shape(x)
        parted = self.reshape(x, *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
        order = [*range(axis), axis + 1, axis, *range(axis + 2, len(shape) + 1)]
        return self.reshape(self.permute(parted, *order), *shape)

    def squeeze_and_excite(self, x: int, squeezed: int) -> int:
        mean = self.reduce(x, range(2, len(self.shape(x))), keepdims=True)
        small = self.activation(self.convolution(mean, squeezed, 1))
        gate = self.activation(self.convolution(small, self.shape(x)[1], 1), "sigmoid")
        return self.combine(x, gate, function="multiply")

    def _add(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        own: dict[str, str] | None = None,
        **settings: object,
    ) -> int:
        output = self.constant(*shape)
        place = f"model.py:{len(self.operations) + 1}"
        operation = Operation(kind, tuple(inputs), (output,), own or {}, settings, source=place, label=f"a {kind}")
        self.operations.append(operation)
        return output
