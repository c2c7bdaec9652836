"""A call of a PyTorch function as it was made, and the steps of the graph that it is read as.

A reader looks at one call and gives its steps, or None for whatever is unusual. Between the steps of one call lie
tensors that PyTorch never made: stand-ins, which have a shape and no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import torch

from secateur.structure.graph import ParameterShape
from secateur_torch.parameters import Weight

Shape = Sequence[int]


@lru_cache(maxsize=1 << 10)
def function_name(function: Callable[..., Any]) -> str:
    """``conv2d``, ``add``, ``T``: without the underscores that mark operators and in-place forms, and overloads."""
    name = getattr(function, "__name__", str(function))
    if isinstance(function, torch._ops.OpOverload):
        name = name.partition(".")[0]
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    return name if name in ("__getitem__", "__setitem__") else name.strip("_")


@dataclass(frozen=True, eq=False)
class Call:
    """One call as it was made, and what it returned."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any

    @property
    def name(self) -> str:
        """See :func:`function_name`."""
        return function_name(self.function)

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument given by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    @property
    def input(self) -> torch.Tensor:
        """The first argument."""
        return self.argument(0, "input")

    @property
    def dimension(self) -> Any:
        """The second argument, which PyTorch calls ``dim`` and NumPy ``axis``."""
        return self.argument(1, "dim", self.kwargs.get("axis"))

    @property
    def operands(self) -> list[torch.Tensor]:
        """All arguments that are tensors, in order."""
        return [item for item in (*self.args, *self.kwargs.values()) if isinstance(item, torch.Tensor)]


@dataclass(frozen=True, eq=False)
class Step:
    """An operation of the graph, with tensors in place of their numbers and names.

    Args:
        axes: for parts whose weight has no axis names of its own, those that it is used with.
        optional: whether it is left out unless something reads its outputs.
    """

    kind: str
    inputs: Sequence[torch.Tensor]
    outputs: Sequence[torch.Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, torch.Tensor] = field(default_factory=dict)
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optional: bool = False


class Known(Protocol):
    """What the recorder knows of tensors."""

    def weight(self, tensor: Any) -> Weight | None:
        """The parameter or running statistic that the tensor is."""

    def transposed(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The weight whose transposed matrix the tensor is."""

    def described(self, weight: Weight) -> ParameterShape:
        """The weight with the axis names by which the model has used it so far."""

    def is_positive(self, tensor: torch.Tensor) -> bool:
        """Whether its numbers are above 0, whatever the weights and inputs are."""

    def is_constant(self, tensor: torch.Tensor) -> bool:
        """Whether its numbers are the same for every input."""


Steps = list[Step]
Reader = Callable[[Call, Known], "Steps | None"]


def stand_in(shape: Shape) -> torch.Tensor:
    """A tensor between two steps of one call."""
    return torch.empty(tuple(shape), device="meta")


class Chain:
    """Steps one after the other, from a tensor on; ``tensor`` is what the last of them gives."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.steps: Steps = []

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of ``tensor``."""
        return tuple(self.tensor.shape)

    def step(self, kind: str, shape: Shape, settings: Mapping[str, Any], *others: torch.Tensor, **parts: Any) -> Chain:
        """Any step; ``others`` are further inputs."""
        given = {part: tensor for part, tensor in parts.items() if tensor is not None}
        made = stand_in(shape)
        self.steps.append(Step(kind, [self.tensor, *others], [made], settings, given))
        self.tensor = made
        return self

    def reshape(self, shape: Shape) -> Chain:
        """Row-major; none if it has the shape."""
        shape = tuple(shape)
        return self if shape == self.shape else self.step("reshape", shape, {"shape": shape})

    def permute(self, order: Sequence[int]) -> Chain:
        """Output axis i is input axis ``order[i]``."""
        return self.step("permute", [self.shape[axis] for axis in order], {"order": tuple(order)})

    def slice(self, axis: int, start: int, stop: int, step: int = 1) -> Chain:
        """As Python does; none if all stays."""
        axis %= len(self.shape)
        size = self.shape[axis]
        length = len(range(*slice(start, stop, step).indices(size)))
        if length == size:
            return self
        settings = {"axis": axis, "start": start, "stop": stop, "step": step}
        return self.step("slice", self._resized(axis, length), settings)

    def take(self, axis: int, indices: Sequence[int]) -> Chain:
        """By constant positions."""
        axis %= len(self.shape)
        return self.step("take", self._resized(axis, len(indices)), {"axis": axis, "indices": tuple(indices)})

    def expand(self, shape: Shape) -> Chain:
        """None if it has the shape."""
        shape = tuple(shape)
        return self if shape == self.shape else self.step("expand", shape, {"shape": shape})

    def pad(self, axis: int, before: int, after: int, zero: bool = True) -> Chain:
        """Constants on one axis."""
        axis %= len(self.shape)
        settings = {"axis": axis, "before": before, "after": after, **({} if zero else {"zero": False})}
        return self.step("pad", self._resized(axis, self.shape[axis] + before + after), settings)

    def reduce(self, axes: Sequence[int], keepdims: bool = False, **settings: Any) -> Chain:
        """Over axes that are counted from the front."""
        sizes = [1 if axis in axes else size for axis, size in enumerate(self.shape)]
        shape = sizes if keepdims else [size for axis, size in enumerate(sizes) if axis not in axes]
        return self.step("reduce", shape, {"axes": tuple(axes), "keepdims": keepdims, **settings})

    def end(self, result: torch.Tensor) -> Steps:
        """The steps, the last of which gives ``result``."""
        if not self.steps:
            self.step("reshape", result.shape, {"shape": tuple(result.shape)})
        if self.shape != tuple(result.shape):
            raise ValueError(f"steps that give shape {self.shape} for a result of shape {tuple(result.shape)}")
        return [*self.steps[:-1], replace(self.steps[-1], outputs=[result])]

    def _resized(self, axis: int, size: int) -> list[int]:
        return [*self.shape[:axis], size, *self.shape[axis + 1 :]]


def lies_as_stored(weight: Weight | None) -> bool:
    """Whether the canonical axes are PyTorch's: a layer that uses another layer's weight may see it transposed."""
    return weight is not None and weight.layout.order == tuple(range(len(weight.layout.native)))


def parts(known: Known, **given: torch.Tensor | None) -> dict[str, torch.Tensor] | None:
    """The parts that are given; None if one of them is not a weight of the model, but computed."""
    named = {part: tensor for part, tensor in given.items() if tensor is not None}
    return named if all(known.weight(tensor) is not None for tensor in named.values()) else None


def axes_from_front(axes: Any, rank: int) -> tuple[int, ...]:
    """One axis or several, negative ones too; None is all of them."""
    if axes is None or (isinstance(axes, tuple | list) and not axes):
        return tuple(range(rank))
    return tuple(axis % rank for axis in ((axes,) if isinstance(axes, int) else axes))
