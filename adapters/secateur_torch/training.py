"""Pruning while a PyTorch training loop runs: the pruner counts the optimizer's own steps."""

from __future__ import annotations

from typing import Any

import torch

from secateur import pruner
from secateur.ranking import Statistics
from secateur.recipe import Recipe
from secateur_torch.adapter import TorchAdapter
from secateur_torch.masking import require_optimizer


class Pruner(pruner.Pruner):
    """Prunes step by step in any training loop; one line before the loop is all that it needs.

    Args:
        model: the model that trains.
        recipe: what to prune, and when: steps of its schedule are steps of ``optimizer``.
        optimizer: the optimizer that trains the model.
        data: for scores that need gradients: ``(x, y)`` or a data loader, read again at every update.
        loss: for the same: a callable ``loss(outputs, labels)``.
        example: an input, needed to prune neurons and to compact; the first batch of ``data`` if None.
        statistics: statistics that are known already, instead of ``data``.

    Raises:
        HoldError: ``optimizer`` is none, or owns none of the masked weights. Nothing was changed.

    Example:
        >>> import torch, secateur_torch as st
        >>> from secateur import Cubic, Recipe
        >>> model = torch.nn.Linear(8, 4)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> pruner = st.Pruner(model, Recipe(0.5, schedule=Cubic(begin=0, end=4, every=1)), optimizer=optimizer)
        >>> for _ in range(4):
        ...     model(torch.randn(2, 8)).sum().backward()
        ...     optimizer.step()
        >>> pruner.sparsity
        0.5
    """

    def __init__(
        self,
        model: torch.nn.Module,
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        data: Any | None = None,
        loss: Any | None = None,
        example: Any | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        require_optimizer(optimizer)
        super().__init__(
            TorchAdapter(),
            model,
            recipe,
            optimizer=optimizer,
            data=data,
            loss=loss,
            example=example,
            statistics=statistics,
        )
        count = torch.compiler.disable(lambda *_: self.advance())  # the core is not to be traced into a compiled step
        self._counter = optimizer.register_step_post_hook(count)

    def release(self) -> None:
        """Stop pruning and holding; the weights train freely from now on."""
        self._counter.remove()
        super().release()
