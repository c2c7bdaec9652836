"""Sums of products: linear maps, matrix products and einsum, of tensors with weights or with one another."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace

import torch

from secateur_torch.operations.calls import Call, Known, Reader, Step, Steps, lies_as_stored, stand_in

OUT_IN, IN_OUT = ("out", "in"), ("in", "out")


def linear(call: Call, known: Known) -> Steps | None:
    """``x @ weight.T + bias``."""
    kernel, bias = call.argument(1, "weight"), call.argument(2, "bias")
    return product(call.input, kernel, OUT_IN, bias, call.result, known)


def product(
    x: torch.Tensor,
    matrix: torch.Tensor,
    axes: tuple[str, str],
    bias: torch.Tensor | None,
    result: torch.Tensor,
    known: Known,
) -> Steps | None:
    """A matrix of these axes, applied to the last axis of ``x``: ``linear`` if it is a weight, else ``contract``."""
    found = _kernel(matrix, axes, known)
    if found is None:
        return _with_bias(contraction([x, matrix], *_matrix_labels(x, axes), result), bias)
    kernel, named = found
    given = {"kernel": kernel}
    if bias is not None and known.weight(bias) is not None and bias.ndim == 1:
        return [Step("linear", [x], [result], {"axis": -1}, {**given, "bias": bias}, {"kernel": named})]
    return _with_bias([Step("linear", [x], [result], {"axis": -1}, given, {"kernel": named})], bias)


def _kernel(matrix: torch.Tensor, axes: tuple[str, str], known: Known) -> tuple[torch.Tensor, tuple[str, str]] | None:
    """The weight that a matrix is, or is the transposed of, and its axes; None if the model uses them otherwise."""
    if known.weight(matrix) is None:
        base = known.transposed(matrix)
        return None if base is None else _kernel(base, (axes[1], axes[0]), known)
    weight = known.weight(matrix)
    if weight is None or matrix.ndim != 2 or not lies_as_stored(weight):
        return None
    described = known.described(weight)
    own = described.axes if {"in", "out"} <= set(described.axes) else OUT_IN
    fits = described.role == "other" or (described.role in ("kernel", "embedding") and own == axes)
    return (matrix, axes) if fits else None


def _matrix_labels(x: torch.Tensor, axes: tuple[str, str]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    free, summed, made = tuple(range(x.ndim - 1)), x.ndim - 1, x.ndim
    matrix = tuple({"in": summed, "out": made}[name] for name in axes)
    return [(*free, summed), matrix], (*free, made)


def _with_bias(steps: Steps, bias: torch.Tensor | None) -> Steps:
    """Add a bias that is no parameter by itself."""
    if bias is None:
        return steps
    (result,) = steps[-1].outputs
    bare = stand_in(result.shape)
    last = steps[-1]
    return [*steps[:-1], replace(last, outputs=[bare]), Step("elementwise", [bare, bias], [result], {"zero": "all"})]


def contraction(
    inputs: Sequence[torch.Tensor], labels: Sequence[tuple[int, ...]], result: tuple[int, ...], output: torch.Tensor
) -> Steps:
    """One ``contract``."""
    return [Step("contract", inputs, [output], {"labels": tuple(labels), "result": result})]


def by_kernels(steps: Steps, known: Known) -> Steps:
    """A ``contract`` whose weights of three axes or more, as those of each head or expert, are known as kernels."""
    *before, last = steps
    inputs = list(last.inputs)
    for number, tensor in enumerate(last.inputs):
        weight = known.weight(tensor)
        if weight is None or tensor.ndim < 3 or 1 in tensor.shape or known.described(weight).role != "other":
            continue
        axes = _axes_of(last, number)
        if "in" in axes and "out" in axes:
            inputs[number] = stand_in(tensor.shape)
            before.append(Step("weight", [], [inputs[number]], {}, {"weight": tensor}, {"weight": axes}))
    return [*before, replace(last, inputs=inputs)]


def _axes_of(step: Step, number: int) -> tuple[str, ...]:
    """What a factor's axes are: ``in`` is summed over, ``out`` no other factor has, the last of several first."""
    tensor, own = step.inputs[number], step.settings["labels"][number]
    pairs = zip(step.inputs, step.settings["labels"], strict=True)
    others = [dict(zip(labels, other.shape, strict=True)) for other, labels in pairs if other is not tensor]
    summed = [label for label in own if label not in step.settings["result"]]
    made = [
        label
        for label, size in zip(own, tensor.shape, strict=True)
        if label not in summed and not any(other.get(label) == size for other in others)
    ]
    named = {label: f"in{at + 1 if at else ''}" for at, label in enumerate(summed)}
    named |= {label: f"out{at + 1 if at else ''}" for at, label in enumerate(reversed(made))}
    return tuple(named.get(label, f"axis{at}") for at, label in enumerate(own))


def matrix_product(call: Call, known: Known) -> Steps | None:
    """``matmul`` and its kin."""
    left, right = call.args[0], call.argument(1, "other", call.kwargs.get("mat2", call.kwargs.get("vec")))
    if call.name == "rmatmul":
        left, right = right, left
    return _matmul(left, right, None, call.result, known)


def _matmul(
    left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None, result: torch.Tensor, known: Known
) -> Steps | None:
    is_matrix = right.ndim == 2 and left.ndim > 0
    if is_matrix and (known.weight(right) is not None or known.transposed(right) is not None):
        return product(left, right, IN_OUT, bias, result, known)
    row, summed, column = 97, 98, 99  # more than any batch axis
    batch = [tuple(range(-side.ndim + 2, 0)) if side.ndim > 2 else () for side in (left, right)]
    ends = [(summed,) if left.ndim == 1 else (row, summed), (summed,) if right.ndim == 1 else (summed, column)]
    longest = max(batch, key=len)
    made = (*longest, *ends[0][:-1], *ends[1][1:])
    labels = [(*own, *end) for own, end in zip(batch, ends, strict=True)]
    return _with_bias(by_kernels(contraction([left, right], labels, made, result), known), bias)


def added_product(call: Call, known: Known) -> Steps | None:
    """``addmm`` and its kin: ``beta * input + alpha * left @ right``, whose factors the masks do not change."""
    bias, left, right = call.input, call.args[1], call.args[2]
    if call.kwargs.get("beta", 1) == 0:
        return _matmul(left, right, None, call.result, known)
    factors = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1)
    if factors != (1, 1) and known.weight(bias) is not None:
        return None
    return _matmul(left, right, bias, call.result, known)


def einsum(call: Call, known: Known) -> Steps | None:
    """An equation with letters and dots; operands one by one or in a list."""
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = list(operands[0])
    terms, result = _equation(equation, [operand.ndim for operand in operands])
    if any(len(set(term)) < len(term) for term in terms):
        return None
    matrix = _as_matrix(operands, terms, result, known)
    if matrix is not None:
        return product(operands[0], operands[1], matrix, None, call.result, known)
    return by_kernels(contraction(operands, terms, result, call.result), known)


def _equation(equation: str, ranks: Sequence[int]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Labels of the operands and the result. Dots are negative numbers, the last axis -1."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [_term(term, rank) for term, rank in zip(left.split(","), ranks, strict=True)]
    dots = max(([label for label in term if label < 0] for term in terms), key=len)
    if arrow:
        return terms, _term(right, len(right.replace("...", "")) + len(dots))
    counts = [label for term in terms for label in set(term) if label >= 0]
    return terms, (*dots, *sorted(label for label in set(counts) if counts.count(label) == 1))


def _term(term: str, rank: int) -> tuple[int, ...]:
    before, dots, after = term.partition("...")
    first, last = ([string.ascii_letters.index(letter) for letter in side] for side in (before, after))
    return (*first, *range(len(first) + len(last) - rank if dots else 0, 0), *last)


def _as_matrix(
    operands: Sequence[torch.Tensor], terms: Sequence[tuple[int, ...]], result: tuple[int, ...], known: Known
) -> tuple[str, str] | None:
    """The axes of a second operand that is a weight, where the equation maps the last axis of the first by it."""
    if len(operands) != 2 or operands[1].ndim != 2 or not operands[0].ndim:
        return None
    if known.weight(operands[1]) is None and known.transposed(operands[1]) is None:
        return None
    *free, summed = terms[0]
    made = result[-1] if result else summed
    axes = {(made, summed): OUT_IN, (summed, made): IN_OUT}.get((terms[1][0], terms[1][1]))
    return axes if result == (*free, made) and made not in terms[0] else None


def tensordot(call: Call, known: Known) -> Steps | None:
    """Over a number of axes, or over named ones."""
    left, right = call.args[:2]
    axes = call.argument(2, "dims", 2)
    if isinstance(axes, int):
        axes = [range(left.ndim - axes, left.ndim), range(axes)]
    pairs = {right_axis % right.ndim: left_axis % left.ndim for left_axis, right_axis in zip(*axes, strict=True)}
    own = tuple(range(left.ndim))
    other = tuple(pairs.get(axis, left.ndim + axis) for axis in range(right.ndim))
    result = (*(axis for axis in own if axis not in pairs.values()), *(axis for axis in other if axis >= left.ndim))
    return contraction([left, right], [own, other], result, call.result)


def outer(call: Call, known: Known) -> Steps | None:
    """Of two vectors."""
    return contraction([call.args[0], call.argument(1, "vec2")], [(0,), (1,)], (0, 1), call.result)


READERS: dict[str, Reader] = {
    "linear": linear,
    **dict.fromkeys(("matmul", "rmatmul", "mm", "bmm", "mv", "dot", "vdot"), matrix_product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), added_product),
    "einsum": einsum,
    "tensordot": tensordot,
    **dict.fromkeys(("outer", "ger"), outer),
}
