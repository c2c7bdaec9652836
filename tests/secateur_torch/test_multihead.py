"""``nn.MultiheadAttention`` shrinks in place, and is the same function with all of its weights."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur import Heads, Magnitude, Neurons, Recipe
from secateur_torch import multihead

HALF = Recipe(0.5, Neurons(), Magnitude(), scope="layer")
OWN = "your own module, with smaller weights"

TIME, KEYS, BATCH, HEADS, WIDTH = 5, 7, 3, 4, 12


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(WIDTH, HEADS, **options).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def same(module: nn.MultiheadAttention, *given: torch.Tensor, **options: Any) -> None:
    """The module, and its twin of the other class, give the same."""
    twin = copy.deepcopy(module)
    multihead.shrink(twin)
    assert type(twin) is multihead.SmallerAttention
    for wanted, found in zip(module(*given, **options), twin(*given, **options), strict=True):
        if wanted is None:
            assert found is None
        else:
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 9}])
def test_with_all_weights_it_is_the_same_function(batch_first: bool, options: dict[str, Any]) -> None:
    module = attention(batch_first=batch_first, **options)
    query, key, value = (
        torch.randn(BATCH, time, width).double()
        for time, width in ((TIME, WIDTH), (KEYS, module.kdim), (KEYS, module.vdim))
    )
    padding = torch.rand(BATCH, KEYS) > 0.7
    padding[:, 0] = False
    masks = [
        None,
        torch.randn(TIME, KEYS).double(),
        torch.ones(TIME, KEYS).triu(2).bool(),
        torch.randn(BATCH * HEADS, TIME, KEYS).double(),
    ]
    given = [x if batch_first else x.transpose(0, 1) for x in (query, key, value)]
    for mask, weights, average, padded in itertools.product(masks, (True, False), (True, False), (None, padding)):
        if padded is not None and mask is not None and mask.is_floating_point():
            padded = torch.zeros(BATCH, KEYS).double().masked_fill(padded, float("-inf"))
        named = {"need_weights": weights, "average_attn_weights": average, "key_padding_mask": padded}
        same(module, *given, attn_mask=mask, **named)


def test_attention_to_itself_causal_and_without_a_batch() -> None:
    module = attention(batch_first=True)
    x, mask = torch.randn(BATCH, TIME, WIDTH).double(), torch.ones(TIME, TIME).triu(1).bool()
    for weights in (True, False):
        same(module, x, x, x, need_weights=weights)
        same(module, x, x, x, need_weights=weights, attn_mask=mask, is_causal=True)
        same(module, x[0], x[0], x[0], need_weights=weights, attn_mask=mask)
    single = torch.tensor([False, True, False, False, True])
    same(module, x[0], x[0], x[0], key_padding_mask=single)
    same(attention(), x[0], x[1], x[1])
    multihead.shrink(module)
    with pytest.raises(RuntimeError, match="hint on attn_mask"):
        module(x, x, x, is_causal=True)


class Block(nn.Module):
    """Attention between two sequences."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.into, self.other = nn.Linear(6, WIDTH), nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dropout=0.5, kdim=8, vdim=8, **options)
        self.out = nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        keys = self.other(x)
        return self.out(self.attention(self.into(x), keys, keys)[0])


def stack() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 24, dropout=0.5, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(6, WIDTH), encoder, nn.Linear(WIDTH, 3))


@pytest.mark.parametrize("make", [Block, stack])
@pytest.mark.parametrize("recipe", [HALF, Recipe(0.5, Heads()), Recipe(0.25, Neurons(exact=False), scope="layer")])
def test_models_with_attention_keep_their_class(make: Any, recipe: Recipe) -> None:
    torch.manual_seed(1)
    model = make().double().eval()
    x = torch.randn(2, TIME, 6).double()
    pruned = st.prune(model, recipe, example=x)
    small = pruned.compact()
    assert pruned.form == OWN and type(small) is type(model)
    assert pruned.max_error is not None
    if recipe.granularity.exact:
        assert pruned.max_error < 1e-12
    modules = [module for module in small.modules() if isinstance(module, nn.MultiheadAttention)]
    assert all(type(module) is multihead.SmallerAttention and module.num_heads < HEADS for module in modules)
    small.train()
    assert not torch.equal(small(x), small(x))
    small(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


class Translating(nn.Module):
    """The whole ``nn.Transformer``, whose causal mask ``torch.export`` cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(WIDTH, HEADS, 1, 1, 20, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=target.dtype)
        return self.head(self.transformer(source, target, tgt_mask=mask))


def test_a_transformer_with_a_causal_mask_is_pruned_twice() -> None:
    torch.manual_seed(2)
    model = Translating().double().eval()
    example = (torch.randn(2, KEYS, WIDTH).double(), torch.randn(2, TIME, WIDTH).double())
    pruned = st.prune(model, Recipe(0.25, Neurons(), scope="layer"), example=example)
    small = pruned.compact()
    assert pruned.form == OWN and pruned.max_error is not None and pruned.max_error < 1e-12
    again = st.prune(small, HALF, example=example)
    smaller = again.compact()
    assert again.max_error is not None and again.max_error < 1e-12
    assert sum(p.numel() for p in smaller.parameters()) < 0.9 * sum(p.numel() for p in small.parameters())
    other = (torch.randn(1, 3, WIDTH).double(), torch.randn(1, 4, WIDTH).double())
    torch.testing.assert_close(smaller(*other), again.model(*other), rtol=1e-10, atol=1e-12)


class Padded(nn.Module):
    """An encoder that takes padding out of the batch as it evaluates, and leaves zeros there."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(6, WIDTH), nn.Linear(WIDTH, 3)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, 24, batch_first=True), 2)

    def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        return self.out(self.encoder(self.into(x), src_key_padding_mask=padding))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_sequences_of_several_lengths() -> None:
    torch.manual_seed(3)
    padding = torch.arange(TIME) >= torch.tensor([3, 5, 4])[:, None]
    example = (torch.randn(3, TIME, 6).double(), padding)
    pruned = st.prune(Padded().double().eval(), HALF, example=example)
    small = pruned.compact()
    assert pruned.form == OWN and pruned.max_error is not None and pruned.max_error < 1e-12
    with torch.no_grad():
        torch.testing.assert_close(small(*example), pruned.model(*example), rtol=1e-10, atol=1e-12)
        assert torch.equal(small(*example)[padding], small.out.bias.expand(3, 3))
    torch.testing.assert_close(small(*example), pruned.model(*example), rtol=1e-10, atol=1e-12)
