"""A product with a norm of ``torch.linalg`` along another axis leaves the features free."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import secateur_torch as st
from secateur import Neurons, Recipe

NORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "norm": lambda x: torch.linalg.norm(x, dim=1, keepdim=True),
}


class Scaled(nn.Module):
    """Each feature is multiplied by its norm over time."""

    def __init__(self, norm: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.norm, self.first, self.head = norm, nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.head(x * self.norm(x))


@pytest.mark.parametrize("name", NORMS)
def test_features_multiplied_by_their_norms_can_go(name: str) -> None:
    torch.manual_seed(0)
    model, x = Scaled(NORMS[name]).double(), torch.randn(2, 4, 5, dtype=torch.float64)
    pruned = st.prune(model, Recipe(0.5, Neurons(), scope="layer"), example=x)
    small = pruned.compact()
    assert small.first.out_features == 4
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
