"""Builders of the operations that have no weights: between tensors, and views."""

from __future__ import annotations

import math
from collections.abc import Sequence

from structure.recording import Recorder

ZERO = {
    "relu": "all",
    "tanh": "all",
    "silu": "all",
    "square": "all",
    "negative": "all",
    "add": "all",
    "subtract": "all",
    "maximum": "all",
    "multiply": "any",
}


class TensorBuilder(Recorder):
    """Each method adds one operation and returns the number of the tensor that it makes."""

    def activation(self, x: int, function: str = "relu") -> int:
        zero = {"zero": ZERO[function]} if function in ZERO else {}
        return self.add("elementwise", [x], self.shape(x), function=function, **zero)

    def combine(self, *operands: int, function: str = "add") -> int:
        rank = max(len(self.shape(x)) for x in operands)
        padded = [(1,) * (rank - len(self.shape(x))) + self.shape(x) for x in operands]
        shape = [max(sizes) for sizes in zip(*padded, strict=True)]
        settings = {"adds": True} if function == "add" and len(operands) == 2 else {}
        return self.add("elementwise", operands, shape, function=function, zero=ZERO[function], **settings)

    def contract(self, labels: Sequence[str], result: str, *operands: int) -> int:
        """``labels`` as in einsum, a letter an axis."""
        sizes: dict[str, int] = {}
        for letters, x in zip(labels, operands, strict=True):
            for letter, size in zip(letters, self.shape(x), strict=True):
                sizes[letter] = max(size, sizes.get(letter, 1))
        numbered = [tuple(ord(letter) - ord("a") for letter in letters) for letters in (*labels, result)]
        shape = [sizes[letter] for letter in result]
        return self.add("contract", operands, shape, labels=tuple(numbered[:-1]), result=numbered[-1])

    def attention(self, queries: int, keys: int, values: int, *masks: int, scaled: bool = True) -> int:
        shape = (*self.shape(queries)[:-1], self.shape(values)[-1])
        return self.add("attention", [queries, keys, values, *masks], shape, scaled=scaled)

    def concat(self, *parts: int, axis: int = 1) -> int:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(x)[axis] for x in parts)
        return self.add("concat", parts, shape, axis=axis)

    def reduce(self, x: int, axes: Sequence[int], keepdims: bool = False, function: str = "mean") -> int:
        shape = [
            size if axis not in axes else 1 for axis, size in enumerate(self.shape(x)) if keepdims or axis not in axes
        ]
        settings = {"sum": True} if function == "sum" else {}
        return self.add("reduce", [x], shape, axes=tuple(axes), keepdims=keepdims, function=function, **settings)

    def softmax(self, x: int, axis: int = -1, function: str = "softmax") -> int:
        return self.add("softmax", [x], self.shape(x), axis=axis, function=function)

    def pool(self, x: int, function: str = "all", axis: int = 1) -> int:
        """``pad`` adds ones, so that a channel of zeros is none any more."""
        sizes = {"all": lambda size: 1, "double": lambda size: 2 * size, "pad": lambda size: size + 1}
        shape = [
            size if position in (0, axis) else sizes[function](size) for position, size in enumerate(self.shape(x))
        ]
        zero = {"zero": False} if function == "pad" else {}
        return self.add("pool", [x], shape, channel_axis=axis, function=function, **zero)

    def unknown(self, x: int, parameters: Sequence[str] = ()) -> int:
        own = {f"part{index}": name for index, name in enumerate(parameters)}
        return self.add("unknown", [x], self.shape(x), own)

    def reshape(self, x: int, *shape: int) -> int:
        assert math.prod(shape) == math.prod(self.shape(x))
        return self.add("reshape", [x], shape)

    def permute(self, x: int, *order: int) -> int:
        return self.add("permute", [x], [self.shape(x)[axis] for axis in order], order=order)

    def slice(self, x: int, start: int, stop: int, step: int = 1, axis: int = -1) -> int:
        shape = list(self.shape(x))
        shape[axis] = len(range(start, stop, step))
        return self.add("slice", [x], shape, axis=axis, start=start, stop=stop, step=step)

    def take(self, x: int, indices: Sequence[int], axis: int = -1) -> int:
        shape = list(self.shape(x))
        shape[axis] = len(indices)
        return self.add("take", [x], shape, axis=axis, indices=tuple(indices))

    def split(self, x: int, *sizes: int, axis: int = -1, equal: bool = False) -> list[int]:
        shapes = []
        for size in sizes:
            shape = list(self.shape(x))
            shape[axis] = size
            shapes.append(shape)
        return self.add_many("split", [x], shapes, axis=axis, sizes=sizes, **({"equal": True} if equal else {}))

    def chunk(self, x: int, parts: int, axis: int = -1) -> list[int]:
        return self.split(x, *[self.shape(x)[axis] // parts] * parts, axis=axis, equal=True)

    def pad(self, x: int, before: int, after: int, axis: int = 1, value: float = 0.0) -> int:
        shape = list(self.shape(x))
        shape[axis] += before + after
        zero = {"zero": False} if value else {}
        return self.add("pad", [x], shape, axis=axis, before=before, after=after, value=value, **zero)

    def expand(self, x: int, *shape: int) -> int:
        return self.add("expand", [x], shape)

    def fill(self, *shape: int, value: float = 0.0) -> int:
        return self.add("fill", [], shape, value=value, **({} if value else {"zero": True}))

    def looked_up(self, x: int, places: Sequence[int], axis: int = 1) -> int:
        """At places of an axis that count as data, though they are always these."""
        shape = list(self.shape(x))
        shape[axis] = len(places)
        return self.add("gather", [x], shape, carried=(self._carried(x, axis),), function="take", places=tuple(places))

    def along(self, x: int, index: int, axis: int = 1) -> int:
        """At places that a tensor of the same shape tells by its numbers."""
        carried = (self._carried(x, axis), tuple(range(len(self.shape(x)))))
        return self.add("gather", [x, index], self.shape(x), carried=carried, values=1, function="along")

    def added_at(self, x: int, source: int, places: Sequence[int], axis: int = 1) -> int:
        """The rows of another tensor, added to rows of this one."""
        carried = (self._carried(x, axis),) * 2
        return self.add("gather", [x, source], self.shape(x), carried=carried, function="add", places=tuple(places))

    def _carried(self, x: int, axis: int) -> tuple[int | None, ...]:
        return tuple(None if position == axis else position for position in range(len(self.shape(x))))
