"""Half of the units of each layer, chosen at random, taken out of a PyTorch model: masked must equal removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import secateur_torch as st
from secateur import Gradient, Neurons, Recipe
from secateur.pruned import Pruned


def drawn(model: nn.Module, seed: int) -> nn.Module:
    """The model in float64, evaluation mode, with random weights."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def halved(model: nn.Module, example: Any, seed: int, kind: Any = None) -> tuple[Pruned, nn.Module]:
    """What :func:`secateur_torch.prune` gives, and the smaller model; both give the same for the example, and move on.

    Gradients of the masked model are finite, so that it can be trained.
    """
    model, random = drawn(model, seed), np.random.default_rng(seed)
    scores = {"mean_abs_gradient": {p.name: random.random(p.view.shape) for p in st.parameters(model)}}
    recipe = Recipe(0.5, granularity=kind or Neurons(), score=Gradient(), scope="layer")
    pruned = st.prune(model, recipe, statistics=scores, example=example)
    small = pruned.compact()
    given = example if isinstance(example, tuple) else (example,)
    with torch.no_grad():
        expected, found = model(*given), small(*given)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    tensors = [expected] if isinstance(expected, torch.Tensor) else expected
    sum(tensor.square().sum() for tensor in _outputs(model, given)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert tensors[0].isfinite().all()
    return pruned, small


def _outputs(model: nn.Module, given: tuple[Any, ...]) -> list[torch.Tensor]:
    result = model(*given)
    return [result] if isinstance(result, torch.Tensor) else list(result)


def units(pruned: Pruned) -> dict[str, int]:
    """Layer -> how many units there are, by the summary."""
    found: dict[str, int] = {}
    for each in pruned.summary().coupled:
        found[each.layer] = found.get(each.layer, 0) + each.total
    return found


def lives_on(pruned: Pruned, small: nn.Module, made: nn.Module, example: Any, folder: Path) -> None:
    """It is restored from its folder into ``made``, a model of the original's code, and takes a step of training."""
    given = example if isinstance(example, tuple) else (example,)
    pruned.save(folder / "saved")
    restored = st.load(folder / "saved", model=made.double(), example=example).compact().eval()
    with torch.no_grad():
        expected = small(*given)
        torch.testing.assert_close(restored(*given), expected, rtol=0, atol=0)
    optimizer = torch.optim.SGD(small.parameters(), 1e-3)
    sum(tensor.square().sum() for tensor in _outputs(small, given)).backward()
    optimizer.step()
    moved = small(*given)
    assert moved.isfinite().all() and not torch.equal(moved, expected)
