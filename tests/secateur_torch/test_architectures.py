"""What the strongest tools for this get wrong by hand: pruned by half, exact in float64, and nothing left unread."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.structure.coupling import couple
from torch_architectures import ARCHITECTURES

UNKNOWN = {"gpt2": ["tril"], "llama": ["triu"]}
"""Of constants alone."""


def built(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    model, example = ARCHITECTURES[name]()
    model = model.double().eval()
    for tensor in model.parameters():
        torch.nn.init.normal_(tensor, std=0.5)
    return model, example if isinstance(example, tuple) else (example,)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_of_every_layers_units_go_exactly(name: str) -> None:
    model, example = built(name)
    graph = st.graph(model, example)
    assert sorted({o.label for o in graph.operations if o.kind == "unknown"}) == UNKNOWN.get(name, [])
    count = couple(graph).count
    pruned = st.prune(model, Recipe(0.5, granularity=Neurons(), scope="layer"), example=example)
    assert count // 2 <= pruned.plan().removed <= (count + 1) // 2 + len(graph.parameters)
    small = pruned.compact()
    with torch.no_grad():
        expected, actual = model(*example).numpy(), small(*example).numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["lstm_both_ways", "vision_transformer", "unet", "einsum_attention"])
def test_the_smaller_model_can_be_pruned_again(name: str) -> None:
    model, example = built(name)
    recipe = Recipe(0.3, granularity=Neurons(), scope="layer")
    once = st.prune(model, recipe, example=example).compact()
    twice = st.prune(once, recipe, example=example).compact()
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, once, twice)]
    assert counts == sorted(counts, reverse=True)
    assert counts[2] < counts[1] < counts[0]
