"""Residual branches: where a model computes ``x + f(x)``, and ``f(x)`` can be left out exactly.

Removing whole layers is exact where a skip connection leads round them (Huang et al. 2016 dropped them in training,
Veit et al. 2016 after it). A branch can go if the parameters that only it uses, at zero, make ``f(x)`` exactly zero: by
a kernel and bias, a normalisation's scale and shift, or a learned gain, followed by what keeps zeros. Branches may lie
in series, side by side, or inside of one another. Where an addition has no such operand nothing goes: a path without a
skip stays, and so does a block whose skip is itself computed (a convolution on a ResNet's shortcut).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur.structure.bypassing import Branch, bypass
from secateur.structure.graph import PRUNABLE_ROLES, Graph, Operation
from secateur.structure.removal import STATISTICS

Flags = npt.NDArray[np.bool_]


def find(graph: Graph, exclude: Collection[str] = ()) -> list[Branch]:
    """The residual branches of a graph, in the order of their additions.

    Args:
        graph: the traced model.
        exclude: parameters that must stay: a branch that uses one of them is none.

    Each branch has a kernel, recurrent kernel or embedding. Time is the number of operations times that of additions.
    """
    model = _Model(graph)
    found = (model.branch(index) for index, operation in enumerate(graph.operations) if _adds(graph, operation))
    return [branch for branch in found if branch is not None and not set(branch.parameters) & set(exclude)]


def kernels(graph: Graph, branch: Branch) -> list[str]:
    """The kernels, recurrent kernels and embeddings of a branch, in the order in which they are used."""
    return [name for name in branch.parameters if graph.parameters[name].role in PRUNABLE_ROLES]


def closing(graph: Graph, branches: Sequence[Branch]) -> dict[str, Flags]:
    """Masks (canonical layout, True = kept) that are False everywhere on the parameters of these branches."""
    return {
        name: np.zeros(graph.parameters[name].shape, np.bool_)
        for branch in branches
        for name in branch.parameters
        if graph.parameters[name].role not in STATISTICS
    }


def closed(graph: Graph, branches: Sequence[Branch], masks: Mapping[str, Flags]) -> list[Branch]:
    """Those of the branches that masks close: nothing of their parameters is kept."""
    return [branch for branch in branches if all(_is_masked(masks, name) for name in closing(graph, [branch]))]


def _is_masked(masks: Mapping[str, Flags], name: str) -> bool:
    return name in masks and not masks[name].any()


def _adds(graph: Graph, operation: Operation) -> bool:
    """Whether it is the sum of two tensors of one shape."""
    if not operation.settings.get("adds") or not operation.in_inference or len(operation.inputs) != 2:
        return False
    shapes = {graph.tensors[tensor] for tensor in (*operation.inputs, *operation.outputs)}
    return len(shapes) == 1 and not operation.parameters


class _Model:
    """A graph, and for each tensor the operation that makes it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._makers = _makers(graph)

    def branch(self, addition: int) -> Branch | None:
        """What goes into this addition and can go; None if nothing can."""
        inputs = self._graph.operations[addition].inputs
        for stays, (tensor, other) in enumerate((inputs, inputs[::-1])):
            if self._origins(tensor) & _behind(self._makers, [other]):
                found = self._closable(addition, stays)
                if found is not None:
                    return found
        return None

    def _closable(self, addition: int, stays: int) -> Branch | None:
        """The branch, if what only it uses can make it zero, and it uses nothing else."""
        left = bypass(self._graph, [Branch(addition, stays, ())])
        staying = {tensor for operation in left.operations for tensor in operation.outputs}
        gone = [each for each in self._graph.operations if each.outputs and each.outputs[0] not in staying]
        names = {name for operation in gone for name in operation.parameters.values()}
        own = tuple(name for name in self._graph.parameters if name in names)
        branch = Branch(addition, stays, own)
        if names & left.parameters.keys() or not kernels(self._graph, branch) or self._blinds(gone, left):
            return None
        zeros = _Zeros(self._makers, names, {tensor for operation in gone for tensor in operation.outputs})
        return branch if zeros.is_zero(self._graph.operations[addition].inputs[1 - stays]) else None

    def _origins(self, tensor: int) -> set[int]:
        """A tensor and, where it is a sum, what was added up: ``x`` of ``(x + g(x)) + f(x)`` too."""
        found, pending = set(), [tensor]
        while pending:
            found.add(tensor := pending.pop())
            maker = self._makers.get(tensor)
            if maker is not None and _adds(self._graph, maker):
                pending += [operand for operand in maker.inputs if operand not in found]
        return found

    def _blinds(self, gone: Sequence[Operation], left: Graph) -> bool:
        """Whether an input of the model would reach no layer any more: then it is no branch, but half of a model."""
        inputs = set(self._graph.inputs)
        return not inputs & _read(gone, self._makers) <= _read(left.operations, _makers(left))


def _makers(graph: Graph) -> dict[int, Operation]:
    """Tensor -> the operation that makes it."""
    return {tensor: operation for operation in graph.operations for tensor in operation.outputs}


def _behind(makers: Mapping[int, Operation], tensors: Iterable[int]) -> set[int]:
    """All tensors that these are computed from."""
    found: set[int] = set()
    pending = list(tensors)
    while pending:
        maker = makers.get(pending.pop())
        fresh = [] if maker is None else [operand for operand in maker.inputs if operand not in found]
        found.update(fresh)
        pending += fresh
    return found


def _read(operations: Sequence[Operation], makers: Mapping[int, Operation]) -> set[int]:
    """All tensors that those of the operations that have parameters depend on."""
    read = {tensor for operation in operations if operation.parameters for tensor in operation.inputs}
    return read | _behind(makers, read)


@dataclass(frozen=True, eq=False)
class _Zeros:
    """Which tensors of a branch are exactly zero when all parameters of it are.

    Args:
        makers: the operation that makes each tensor.
        masked: the parameters that are zero.
        within: the tensors of the branch; what others are is not known.
    """

    makers: Mapping[int, Operation]
    masked: Collection[str]
    within: Collection[int]

    def is_zero(self, tensor: int) -> bool:
        """Whether it is for certain."""
        operation = self.makers.get(tensor)
        rule = None if operation is None or tensor not in self.within else _RULES.get(operation.kind)
        if rule is None or operation is None or operation.settings.get("zero") is False:
            return False
        return rule(self, operation)

    def inputs(self, operation: Operation) -> Iterator[bool]:
        """Whether each of its inputs is zero."""
        return map(self.is_zero, operation.inputs)

    def parts(self, operation: Operation, *parts: str) -> bool:
        """Whether it has the first of these parameters, and all that it has of them are zero."""
        names = [operation.parameters[part] for part in parts if part in operation.parameters]
        return parts[0] in operation.parameters and all(name in self.masked for name in names)


def _weighted(zeros: _Zeros, operation: Operation) -> bool:
    """A kernel and bias of zeros; or zeros that meet a kernel, and a bias of zeros."""
    bias = "bias" not in operation.parameters or operation.parameters["bias"] in zeros.masked
    return bias and (zeros.parts(operation, "kernel") or any(zeros.inputs(operation)))


def _looked_up(zeros: _Zeros, operation: Operation) -> bool:
    return zeros.parts(operation, "table")


def _normalized(zeros: _Zeros, operation: Operation) -> bool:
    return zeros.parts(operation, "scale", "shift")


def _combined(zeros: _Zeros, operation: Operation) -> bool:
    """As the operation says of zeros: of one operand, or of all."""
    operands = [*zeros.inputs(operation), *(name in zeros.masked for name in operation.parameters.values())]
    rules: dict[object, Callable[[list[bool]], bool]] = {"any": any, "all": all}
    known = rules.get(operation.settings.get("zero"))
    return known is not None and bool(operands) and known(operands)


def _multiplied(zeros: _Zeros, operation: Operation) -> bool:
    return any(zeros.inputs(operation))


def _attended(zeros: _Zeros, operation: Operation) -> bool:
    """The values are what is averaged."""
    return zeros.is_zero(operation.inputs[2])


def _moved(zeros: _Zeros, operation: Operation) -> bool:
    return bool(operation.inputs) and all(zeros.inputs(operation))


def _summed(zeros: _Zeros, operation: Operation) -> bool:
    """Sums of zeros; what else an axis is reduced by (a logarithm of sums of powers) need not keep them."""
    return bool(operation.settings.get("sum")) and _moved(zeros, operation)


def _weight(zeros: _Zeros, operation: Operation) -> bool:
    return zeros.parts(operation, "weight")


_RULES: Mapping[str, Callable[[_Zeros, Operation], bool]] = {
    "linear": _weighted,
    "convolution": _weighted,
    "bilinear": _weighted,
    "embedding": _looked_up,
    "weight": _weight,
    "normalize": _normalized,
    "standardize": _normalized,
    "elementwise": _combined,
    "contract": _multiplied,
    "attention": _attended,
    "fill": lambda zeros, operation: bool(operation.settings.get("zero")),
    "reduce": _summed,
    **dict.fromkeys(("concat", "pool", "reshape", "permute", "slice", "take", "split", "pad", "expand"), _moved),
}
