"""``nn.MultiheadAttention`` with fewer heads or features than it has inputs.

PyTorch's own takes its kernels for three times as wide as its input, divides that by the number of heads, and scales by
the root of what comes out. Here all of this is read off the weights, but for the scale: it stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor


class SmallerAttention(nn.MultiheadAttention):
    """What an ``nn.MultiheadAttention`` becomes as it shrinks: of the same names, arguments and results.

    ``num_heads`` are those that are left; ``head_dim`` is that of the original, by whose root it scales.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`torch.nn.MultiheadAttention`. Raises RuntimeError if ``is_causal`` comes without a mask."""
        if query.is_nested:
            return self._of_each_length(query), None
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal=True is a hint on attn_mask: give that too, as nn.MultiheadAttention asks")
        is_batched, is_turned = query.ndim == 3, query.ndim == 3 and not self.batch_first
        given = _each((query, key, value), lambda x: x.transpose(0, 1) if is_turned else x if is_batched else x[None])
        if not is_batched and key_padding_mask is not None:
            key_padding_mask = key_padding_mask[None]
        q, k, v = self._heads(given)
        bias = self._bias(q, k, attn_mask, key_padding_mask)
        if need_weights:
            mixed, weights = self._attend(q, k, v, bias)
        else:
            mixed, weights = self._mix(q, k, v, bias, is_causal and key_padding_mask is None), None
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if is_batched else weights[0]
        return (out.transpose(0, 1) if is_turned else out if is_batched else out[0]), weights

    def _of_each_length(self, x: Tensor) -> Tensor:
        """Sequences of several lengths in one tensor, as ``nn.TransformerEncoder`` makes them of a padding mask."""
        lengths = [len(sequence) for sequence in x.unbind()]
        whole = x.to_padded_tensor(0.0)
        padding = torch.arange(whole.shape[1], device=x.device) >= torch.tensor(lengths, device=x.device)[:, None]
        mixed, _ = self.forward(whole, whole, whole, key_padding_mask=padding, need_weights=False)
        return torch.nested.nested_tensor([row[:length] for row, length in zip(mixed, lengths, strict=True)])

    def _heads(self, given: list[Tensor]) -> list[Tensor]:
        """Queries, keys and values (batch, heads, time, features); values may have fewer features than the others."""
        projected = self._projected(given)
        return [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected]

    def _projected(self, given: list[Tensor]) -> list[Tensor]:
        """The three of them before they are divided among the heads."""
        if self.in_proj_weight is None:
            kernels = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
            widths = [kernel.shape[0] for kernel in kernels]
        else:
            wide = self.out_proj.weight.shape[1]
            shared = (self.in_proj_weight.shape[0] - wide) // 2
            widths = [shared, shared, wide]
            if given[0] is given[1] is given[2]:
                return list(functional.linear(given[0], self.in_proj_weight, self.in_proj_bias).split(widths, -1))
            kernels = list(self.in_proj_weight.split(widths))
        biases = [None] * 3 if self.in_proj_bias is None else list(self.in_proj_bias.split(widths))
        return [functional.linear(*parts) for parts in zip(given, kernels, biases, strict=True)]

    def _bias(self, q: Tensor, k: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Both masks as one that is added: (batch or 1, heads or 1, time or 1, time of the keys)."""
        masks = [item if item is None or item.is_floating_point() else _forbidding(item, q) for item in (mask, padding)]
        added, padded = masks
        if added is not None:
            added = added[None, None] if added.ndim == 2 else added.unflatten(0, (q.shape[0], self.num_heads))
        if padded is None:
            return added
        padded = padded[:, None, None]
        return padded if added is None else added + padded

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """With the weights that each head gives."""
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        weights = (scores if bias is None else scores + bias).softmax(-1)
        weights = functional.dropout(weights, self.dropout, self.training)
        return weights @ v, weights

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, is_causal: bool) -> Tensor:
        """Without them."""
        rate = self.dropout if self.training else 0.0
        scale = self.head_dim**-0.5
        if is_causal:
            return functional.scaled_dot_product_attention(q, k, v, None, rate, is_causal=True, scale=scale)
        return functional.scaled_dot_product_attention(q, k, v, bias, rate, scale=scale)


def _forbidding(mask: Tensor, like: Tensor) -> Tensor:
    """Minus infinity where the mask is True."""
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def _each(given: tuple[Tensor, ...], function: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """The function of each tensor; what was the same tensor stays one."""
    made = {id(tensor): function(tensor) for tensor in given}
    return [made[id(tensor)] for tensor in given]


def shrink(module: nn.MultiheadAttention) -> None:
    """Let a module whose weights were cut compute with what is left; a class of the user's own stays what it is."""
    if type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn:
        module.__class__ = SmallerAttention
    if isinstance(module, SmallerAttention):
        packed = module.in_proj_weight
        keys, values = (module.k_proj_weight, module.v_proj_weight) if packed is None else (packed, packed)
        module.embed_dim, module.kdim, module.vdim = (module.out_proj.weight.shape[0], keys.shape[1], values.shape[1])
        module._qkv_same_embed_dim = False  # so that nobody takes PyTorch's fast path, which knows nothing of this
