"""Sums of products: ``EinsumDense``, ``Dot``, and the products of tensors in ``keras.ops``."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from secateur_keras.kinds.activations import activated
from secateur_keras.kinds.normalizations import normalized
from secateur_keras.kinds.rules import Rule, of_layers, of_operations
from secateur_keras.recording import Outputs, Step

SPARE = string.digits + string.punctuation
"""Names for the axes of an ellipsis: from the right, so that they are aligned there."""

Labels = Sequence[Any]


def product(step: Step, tensors: Sequence[int], labels: Sequence[Labels], result: Labels) -> int:
    """A sum of products in ``einsum``'s terms."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(label for own in labels for label in own))}
    sizes: dict[Any, int] = {}
    for tensor, own in zip(tensors, labels, strict=True):
        for label, size in zip(own, step.shape(tensor), strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return step.emit(
        "contract",
        tensors,
        [sizes[label] for label in result],
        labels=tuple(tuple(numbers[label] for label in own) for own in labels),
        result=tuple(numbers[label] for label in result),
    )


def spelled(subscripts: str, ranks: Sequence[int]) -> tuple[list[str], str] | None:
    """The labels of each operand and of the result, ellipses written out; None if an operand repeats a label."""
    operands, arrow, result = subscripts.replace(" ", "").partition("->")
    given = operands.split(",")
    hidden = [rank - len(own.replace("...", "")) for own, rank in zip(given, ranks, strict=True)]
    names = [SPARE[:count][::-1] if "..." in own else "" for own, count in zip(given, hidden, strict=True)]
    labels = [own.replace("...", name) for own, name in zip(given, names, strict=True)]
    longest = max(names, key=len)
    if not arrow:
        letters = operands.replace(",", "").replace(".", "")
        result = longest + "".join(sorted(letter for letter in letters if letters.count(letter) == 1))
    if any(len(set(own)) != len(own) for own in labels):
        return None
    return labels, result.replace("...", longest)


def einsum_dense(step: Step) -> Outputs | None:
    """A linear map of some axes to others; a kernel that is no matrix is multiplied as it is."""
    parts = step.parts(kernel="kernel", bias="bias")
    tensor = step.inputs[0]
    shape = None if parts is None else step.recorder.parameters[parts["kernel"]]
    if parts is None or shape is None:
        return None
    kernel_rank = len(step.operation.kernel.shape)
    known = spelled(step.operation.equation, [len(step.shape(tensor)), kernel_rank])
    if known is None:
        return None
    (data, kernel), result = known
    bias = {"bias": parts["bias"]} if "bias" in parts else {}
    if shape.role == "kernel":
        if any(label not in kernel + result for label in data):
            return None
        is_vector = bool(bias) and step.recorder.parameters[bias["bias"]].role == "bias"
        own = {"kernel": parts["kernel"], **(bias if is_vector else {})}
        output = _linear(step, tensor, (data, kernel, result), own)
        bias = {} if is_vector else bias
    else:
        weight = step.emit("weight", [], shape.shape, {"weight": parts["kernel"]})
        output = product(step, [tensor, weight], [data, kernel], result)
    if bias:
        output = step.emit("elementwise", [output], step.shape(output), bias, zero="all")
    _resize(step, output)
    return activated(step, output)


def _linear(step: Step, tensor: int, labels: tuple[str, str, str], parts: dict[str, str]) -> int:
    """The contracted axes as one, times a matrix, and the new axes in place."""
    data, kernel, result = labels
    shape = dict(zip(data, step.shape(tensor), strict=True))
    sizes = dict(zip(kernel, step.operation.kernel.shape, strict=True))
    contracted, free = ([each for each in kernel if (each in data) is inside] for inside in (True, False))
    batch = [each for each in data if each not in contracted]
    if len(contracted) == len(free) == 1:
        axis = data.index(contracted[0])
        after = [*data[:axis], *free, *data[axis + 1 :]]
        output = step.emit("linear", [tensor], [{**shape, **sizes}[each] for each in after], parts, axis=axis)
    else:
        after = [*batch, *free]
        moved = step.permuted(tensor, [data.index(each) for each in [*batch, *contracted]])
        outer = [shape[each] for each in batch]
        count, made = (int(np.prod([sizes[each] for each in side])) for side in (contracted, free))
        flat = step.reshaped(moved, [*outer, count])
        output = step.emit("linear", [flat], [*outer, made], parts, axis=-1)
        output = step.reshaped(output, [*outer, *(sizes[each] for each in free)])
    return step.permuted(output, [after.index(each) for each in result])


def _resize(step: Step, output: int) -> None:
    """The layer's output shape counts from the right; sizes left open stay open."""
    given = step.operation.partial_output_shape
    step.edit(
        lambda plan: {
            "output_shape": tuple(
                None if old is None else new
                for old, new in zip(given, plan.shapes[output][len(plan.shapes[output]) - len(given) :], strict=True)
            )
        }
    )


def einsum(step: Step) -> Outputs | None:
    """Any equation that does not repeat a label within one operand."""
    operands = step.operands()
    known = spelled(step.operation.subscripts, [len(step.shape(operand)) for operand in operands])
    if known is None or len(operands) != len(step.arguments):
        return None
    return (product(step, operands, *known),)


def matmul(step: Step) -> Outputs:
    """Matrices side by side, or vectors."""
    left, right = step.operands()
    first, second = (len(step.shape(operand)) for operand in (left, right))
    outer = SPARE[: max(first, second)][::-1]
    rows, columns = "i" if first > 1 else "", "k" if second > 1 else ""
    labels = [outer[len(outer) - max(rank - 2, 0) :] for rank in (first, second)]
    result = max(labels, key=len) + rows + columns
    return (product(step, [left, right], [labels[0] + rows + "j", labels[1] + "j" + columns], result),)


def dot(step: Step) -> Outputs | None:
    """``dot`` and ``inner``: the last axis with the last but one, or the last."""
    left, right = step.operands()
    first, second = (len(step.shape(operand)) for operand in (left, right))
    if not first or not second:
        return None
    inner = second - 1 if type(step.operation).__name__ == "Inner" or second == 1 else second - 2
    return (_contracted(step, left, right, [first - 1], [inner]),)


def tensordot(step: Step) -> Outputs:
    """The last axes with the first, or those that are named."""
    left, right = step.operands()
    axes = step.operation.axes
    if isinstance(axes, int):
        rank = len(step.shape(left))
        return (_contracted(step, left, right, list(range(rank - axes, rank)), list(range(axes))),)
    first, second = (np.atleast_1d(each).tolist() for each in axes)
    return (_contracted(step, left, right, first, second),)


def outer(step: Step) -> Outputs | None:
    """Each number of a vector with each of another."""
    left, right = step.operands()
    if len(step.shape(left)) != 1 or len(step.shape(right)) != 1:
        return None
    return (_contracted(step, left, right, [], []),)


def _contracted(step: Step, left: int, right: int, first: Sequence[int], second: Sequence[int]) -> int:
    """These axes are summed over; those that stay stand in order, the left tensor's first."""
    labels = [[(side, axis) for axis in range(len(step.shape(tensor)))] for side, tensor in enumerate((left, right))]
    for place, (mine, other) in enumerate(zip(first, second, strict=True)):
        labels[0][mine] = labels[1][other] = (2, place)
    result = [label for own in labels for label in own if label[0] < 2]
    return product(step, [left, right], labels, result)


def dot_layer(step: Step) -> Outputs:
    """``Dot``: batch by batch, along one axis of each."""
    tensors = [number.value for number in step.arguments[0]]
    axes = np.broadcast_to(np.asarray(step.operation.axes), (2,)).tolist()
    axes = [axis % len(step.shape(tensor)) for axis, tensor in zip(axes, tensors, strict=True)]
    if step.operation.normalize:
        tensors = [normalized(step, tensor, [axis]) for tensor, axis in zip(tensors, axes, strict=True)]
    labels: list[list[Any]] = [[(side, each) for each in range(len(step.shape(tensors[side])))] for side in (0, 1)]
    for own, axis in zip(labels, axes, strict=True):
        own[0], own[axis] = "batch", "summed"
    result = ["batch", *(label for own in labels for label in own if isinstance(label, tuple))]
    return (step.reshaped(product(step, tensors, labels, result), step.shapes[0]),)


LAYERS: dict[Any, Rule] = {layers.EinsumDense: einsum_dense, **of_layers(dot_layer, "Dot")}

OPERATIONS: dict[str, Rule] = {
    "Einsum": einsum,
    "Matmul": matmul,
    **of_operations(dot, "Dot", "Inner"),
    "Tensordot": tensordot,
    "Outer": outer,
}
