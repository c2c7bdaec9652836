"""Attention: scaled dot products, and PyTorch's whole multi-head attention in the steps that it is made of."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Step, Steps, stand_in
from secateur_torch.operations.products import OUT_IN, product


def scaled_dot_product(call: Call, known: Known) -> Steps | None:
    """Queries, keys and values of equal rank, with or without a mask."""
    inputs = [call.argument(position, name) for position, name in enumerate(("query", "key", "value"))]
    mask = call.argument(3, "attn_mask")
    if len({tensor.ndim for tensor in inputs}) > 1:
        return None
    settings = {"scaled": call.kwargs.get("scale") is None}
    return [Step("attention", [*inputs, *([] if mask is None else [mask])], [call.result], settings)]


def multi_head(call: Call, known: Known) -> Steps | None:
    """Projections, heads, attention, projection; the weights that it returns are read by few and so optional."""
    given = inspect.signature(functional.multi_head_attention_forward).bind(*call.args, **call.kwargs)
    given.apply_defaults()
    arguments = given.arguments
    if any(arguments[name] is not None for name in ("static_k", "static_v")):
        return None
    return _MultiHead(arguments, call.result, known).steps()


class _MultiHead:
    """Sequences are (time, batch, features), or without the batch."""

    def __init__(self, arguments: Mapping[str, Any], result: tuple[torch.Tensor, Any], known: Known) -> None:
        self._given, self._known = arguments, known
        self._output, self._weights = result
        self._steps: Steps = []
        self._parts: list[torch.Tensor] = []
        self._batched = arguments["query"].ndim == 3
        self._batch = arguments["query"].shape[1] if self._batched else 1

    def steps(self) -> Steps | None:
        """All of them; None if a projection is computed."""
        query, key, value = (self._heads(index) for index in range(3))
        chain = Chain(query).step("attention", query.shape, {"scaled": True}, key, value, *self._masks())
        time, features = self._given["query"].shape[0], self._given["embed_dim_to_check"]
        chain.permute((2, 0, 1, 3)).reshape((time, self._batch, features))
        chain.reshape((time, features) if not self._batched else chain.shape)
        out = product(
            chain.tensor,
            self._given["out_proj_weight"],
            OUT_IN,
            self._given["out_proj_bias"],
            self._output,
            self._known,
        )
        if out is None:
            return None
        self._steps += [*chain.steps, *out]
        if self._weights is not None:
            self._steps += self._attended(query, key)
        return self._steps

    def _heads(self, index: int) -> torch.Tensor:
        """Queries, keys or values as (batch, heads, time, features)."""
        x = self._given[("query", "key", "value")[index]]
        width, heads = self._given["embed_dim_to_check"], self._given["num_heads"]
        projected = stand_in((*x.shape[:-1], width))
        self._steps.append(self._projection(x, projected, index))
        chain = Chain(projected).reshape((x.shape[0], self._batch, width))
        learned = self._given[("", "bias_k", "bias_v")[index]] if index else None
        if learned is not None:
            self._append(chain, Chain(learned).expand((1, self._batch, width)), 0)
        chain.reshape((chain.shape[0], self._batch, heads, width // heads)).permute((1, 2, 0, 3))
        if index and self._given["add_zero_attn"]:
            zeros = Chain(stand_in((self._batch, heads, 1, width // heads)))
            zeros.steps.append(Step("fill", [], [zeros.tensor], {"zero": True}))
            self._append(chain, zeros, 2)
        self._steps += chain.steps
        return chain.tensor

    def _append(self, chain: Chain, more: Chain, axis: int) -> None:
        """One more time, to which all queries may attend."""
        self._steps += more.steps
        shape = list(chain.shape)
        shape[axis] += 1
        chain.step("concat", shape, {"axis": axis}, more.tensor)

    def _projection(self, x: torch.Tensor, result: torch.Tensor, index: int) -> Step:
        """One kernel of its own, or a third of the rows of a common one; the biases lie in one."""
        width = self._given["embed_dim_to_check"]
        name = f"{'qkv'[index]}_proj_weight" if self._given["use_separate_proj_weight"] else "in_proj_weight"
        kernel, bias = self._given[name], self._given["in_proj_bias"]
        if any(self._known.weight(tensor) is None for tensor in (kernel, bias) if tensor is not None):
            raise ValueError("a projection that is computed")
        if name == "in_proj_weight":
            parts = {"kernel": kernel, **({} if bias is None else {"bias": bias})}
            settings = {"axis": -1, "rows": (index * width, (index + 1) * width), "parts": 3}
            return Step("linear", [x], [result], settings, parts)
        if bias is None:
            return Step("linear", [x], [result], {"axis": -1}, {"kernel": kernel})
        bare = stand_in(result.shape)
        self._steps.append(Step("linear", [x], [bare], {"axis": -1}, {"kernel": kernel}))
        return Step("elementwise", [bare, self._biases(bias)[index]], [result], {"zero": "all"})

    def _biases(self, bias: torch.Tensor) -> list[torch.Tensor]:
        """Those of queries, keys and values, which PyTorch takes to be equally long."""
        if not self._parts:
            size = len(bias) // 3
            self._parts = [stand_in((size,)) for _ in range(3)]
            settings = {"axis": 0, "sizes": (size,) * 3, "equal": True}
            self._steps.append(Step("split", [bias], self._parts, settings))
        return self._parts

    def _masks(self) -> list[torch.Tensor]:
        """Those that there are: (time, time), also for each head of each example, and of the keys (batch, time)."""
        padding, mask = self._given["key_padding_mask"], self._given["attn_mask"]
        chains = [] if mask is None else [Chain(mask)]
        if mask is not None and mask.ndim == 3:
            chains[0].reshape((self._batch, self._given["num_heads"], *mask.shape[1:]))
        if padding is not None:
            chains.append(Chain(padding).reshape((self._batch, 1, 1, padding.shape[-1])))
        more = (self._given["bias_k"] is not None) + bool(self._given["add_zero_attn"])
        for chain in chains:
            if more:
                chain.pad(-1, 0, more)
            self._steps += chain.steps
        return [chain.tensor for chain in chains]

    def _attended(self, query: torch.Tensor, key: torch.Tensor) -> Steps:
        """What each head attends to, or the mean of all heads."""
        chain = Chain(query)
        labels = (0, 1, 2, 4), (0, 1, 3, 4)
        shape = (*query.shape[:3], key.shape[2])
        chain.step("contract", shape, {"labels": labels, "result": (0, 1, 2, 3)}, key)
        chain.step("softmax", shape, {"axis": 3})
        if self._given["average_attn_weights"]:
            chain.reduce((1,))
        steps = chain.reshape(self._weights.shape).end(self._weights)
        return [Step(step.kind, step.inputs, step.outputs, step.settings, optional=True) for step in steps]


READERS: dict[str, Reader] = {
    "scaled_dot_product_attention": scaled_dot_product,
    "multi_head_attention_forward": multi_head,
}
