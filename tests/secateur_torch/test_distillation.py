"""Distillation: the formula, a teacher that stays as it was, and pruning with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur_torch
from secateur import Recipe
from secateur.errors import ModelTypeError, OutOfRangeError, RecipeError


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.5, 8))
def test_the_loss_is_the_papers(seed: int, weight: float, temperature: float) -> None:
    random = np.random.default_rng(seed)
    taught, learnt = random.normal(size=(2, 5, 3)) * 3
    labels = random.integers(0, 3, 5)
    p, q = softmax(taught / temperature), softmax(learnt / temperature)
    apart = (p * np.log(p / q)).sum(axis=1).mean()
    entropy = -np.log(softmax(learnt)[np.arange(5), labels]).mean()
    loss = secateur_torch.Distillation(lambda _: torch.tensor(taught), weight, temperature)
    found = loss(torch.tensor(learnt), torch.tensor(labels), None).item()
    assert found == pytest.approx((1 - weight) * entropy + weight * temperature**2 * apart, rel=1e-9, abs=1e-9)


def test_the_teacher_is_the_model_as_it_was_and_never_learns() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 4))
    inputs, labels = torch.randn(32, 8), torch.randint(4, (32,))
    dense = model.eval()(inputs).detach()
    model.train()
    loss = secateur_torch.Distillation(model, weight=1.0)
    pruned = secateur_torch.prune(model, Recipe(0.5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = loss(model(inputs), labels, inputs).item()
    for _ in range(40):
        optimizer.zero_grad()
        last = loss(model(inputs), labels, inputs)
        last.backward()
        optimizer.step()
    assert last.item() < 0.5 * first
    assert torch.equal(loss.teacher(inputs), dense)
    assert all(not parameter.requires_grad for parameter in loss.teacher.parameters())
    assert all(
        (dict(model.named_parameters())[name].detach().numpy()[~kept] == 0).all() for name, kept in pruned.masks.items()
    )


def test_a_held_model_can_be_the_teacher() -> None:
    model = nn.Linear(8, 4)
    secateur_torch.prune(model, Recipe(0.5))
    loss = secateur_torch.Distillation(model)
    assert "_secateur_holds" not in vars(loss.teacher)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"weight": 1.5}, OutOfRangeError, "weight of the teacher is 1.5"),
        ({"weight": "much"}, RecipeError, "weight of the teacher"),
        ({"temperature": 0}, OutOfRangeError, "temperature is 0"),
        ({"temperature": float("nan")}, OutOfRangeError, "temperature is nan"),
    ],
)
def test_wrong_options_are_told(options: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        secateur_torch.Distillation(nn.Linear(2, 2), **options)


def test_no_teacher_is_told() -> None:
    with pytest.raises(ModelTypeError, match="NoneType is no teacher"):
        secateur_torch.Distillation(None)
