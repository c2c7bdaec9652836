"""What runs along an axis: sums and means, softmax, sorting."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Step, Steps, axes_from_front, stand_in
from secateur_torch.operations.elementwise import elementwise

ADDING = ("sum", "nansum", "count_nonzero", "any", "norm", "vector_norm", "linalg_norm", "linalg_vector_norm")
"""To which what is zero adds nothing."""
NONZERO = ("logsumexp", "all")
"""Which give something else than zero for zeros."""


def reduction(call: Call, known: Known) -> Steps | None:
    """Over one axis, several, or all."""
    axes = call.dimension
    if isinstance(axes, bool | torch.Tensor) or (axes is not None and not isinstance(axes, int | tuple | list)):
        return None
    return _reduced(call, axes_from_front(axes, call.input.ndim), [call.result])


def norm(call: Call, known: Known) -> Steps | None:
    """The order comes before the axes."""
    name, order = ("p", 2) if call.name == "norm" else ("ord", 2)
    if call.argument(1, name, order) not in (None, 1, 2, "fro"):
        return None
    return _reduced(call, axes_from_front(call.argument(2, "dim"), call.input.ndim), [call.result])


def _reduced(call: Call, axes: Sequence[int], results: Sequence[torch.Tensor]) -> Steps | None:
    rank = call.input.ndim
    keepdims = results[0].ndim == rank > 0
    if not keepdims and results[0].ndim != rank - len(axes):
        return None
    settings = {"axes": tuple(axes), "keepdims": keepdims}
    settings |= {"sum": True} if call.name in ADDING else {"zero": False} if call.name in NONZERO else {}
    return [Step("reduce", [call.input], [result], settings) for result in results]


def extreme(call: Call, known: Known) -> Steps | None:
    """``max``, ``min``, ``median``: of two tensors, of all numbers, or along an axis with the places."""
    if isinstance(call.argument(1, "other"), torch.Tensor):
        return elementwise(call, known)
    axis = call.dimension
    results = [call.result] if isinstance(call.result, torch.Tensor) else list(call.result)
    return _reduced(call, axes_from_front(axis, call.input.ndim), results)


def along(call: Call, known: Known) -> Steps | None:
    """Softmax, cumulative sums, sorting: all of the axis matters to each of its indices."""
    axis = call.dimension
    if axis is None and call.name in ("sort", "argsort"):
        axis = -1
    if not isinstance(axis, int):
        return None
    return [Step("softmax", [call.input], [result], {"axis": axis}) for result in _results(call)]


def largest(call: Call, known: Known) -> Steps | None:
    """``topk``: sorted, and cut off."""
    axis = call.argument(2, "dim", -1) % max(1, call.input.ndim)
    steps: Steps = []
    for result in _results(call):
        ordered = stand_in(call.input.shape)
        steps.append(Step("softmax", [call.input], [ordered], {"axis": axis}))
        steps += Chain(ordered).slice(axis, 0, result.shape[axis]).end(result)
    return steps


def normalized(call: Call, known: Known) -> Steps | None:
    """``normalize``: divided by a norm that is never zero, to which zeros add nothing."""
    axes = call.argument(2, "dim", 1)
    if call.argument(1, "p", 2.0) <= 0 or call.argument(3, "eps", 1e-12) <= 0:
        return None
    norm = Chain(call.input).reduce(axes_from_front(axes, call.input.ndim), keepdims=True, sum=True)
    return [*norm.steps, Step("elementwise", [call.input, norm.tensor], [call.result], {"zero": "any"})]


def similarity(call: Call, known: Known) -> Steps | None:
    """``cosine_similarity``: of what is zero in both, neither the product nor the norms know."""
    left, right = call.argument(0, "x1"), call.argument(1, "x2")
    shape = torch.broadcast_shapes(left.shape, right.shape)
    chain = Chain(left).step("elementwise", shape, {"zero": "all"}, right)
    return chain.reduce(axes_from_front(call.argument(2, "dim", 1), len(shape)), sum=True).end(call.result)


def moments(call: Call, known: Known) -> Steps | None:
    """``var_mean`` and ``std_mean``."""
    axes = axes_from_front(None if isinstance(call.dimension, bool) else call.dimension, call.input.ndim)
    return _reduced(call, axes, list(call.result))


def _results(call: Call) -> list[torch.Tensor]:
    return [call.result] if isinstance(call.result, torch.Tensor) else list(call.result)


READERS: dict[str, Reader] = {
    **dict.fromkeys(
        (
            *(
                "mean",
                "sum",
                "nansum",
                "nanmean",
                "amax",
                "amin",
                "prod",
                "logsumexp",
                "std",
                "var",
                "argmax",
                "argmin",
            ),
            *("any", "all", "count_nonzero"),
        ),
        reduction,
    ),
    **dict.fromkeys(("norm", "vector_norm", "linalg_norm", "linalg_vector_norm"), norm),
    **dict.fromkeys(("max", "min", "median", "mode"), extreme),
    **dict.fromkeys(
        (
            *("softmax", "log_softmax", "softmin", "cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"),
            *("sort", "argsort"),
        ),
        along,
    ),
    "topk": largest,
    "normalize": normalized,
    "cosine_similarity": similarity,
    **dict.fromkeys(("var_mean", "std_mean"), moments),
}
