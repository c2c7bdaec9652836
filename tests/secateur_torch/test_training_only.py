"""Layers that evaluation never reaches: those of training fit what is left; all others are told, and left whole."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import VerificationError
from secateur.structure.cost import cost
from secateur.structure.coupling import couple

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HALF = Recipe(0.5, granularity=Neurons(), scope="layer")


def block(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.Dropout(0.5))


class Inception(nn.Module):
    """A body, a head, and an auxiliary head that runs in training mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.rest, self.last = block(3, 8), block(8, 8), nn.Linear(8, 4)
        self.auxiliary = nn.Sequential(
            nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(384, 4)
        )
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Any:
        x = self.body(x)
        first = functional.dropout(self.auxiliary(x), 0.3, self.training) if self.training else None
        if self.training:
            self.steps += 1
        x = self.last(self.rest(x).mean((2, 3)))
        return (x, first) if self.training else x


def made(kind: Callable[..., nn.Module] = Inception, *arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return kind(*arguments)


def trains(model: nn.Module) -> tuple[torch.Size, ...]:
    """One step of training; the shapes of the outputs."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    results = model(IMAGE)
    sum(result.square().mean() for result in results).backward()
    optimizer.step()
    return tuple(result.shape for result in results)


def test_an_auxiliary_head_shrinks_with_the_layer_that_it_reads() -> None:
    model = made()
    pruned = st.prune(model, HALF, example=IMAGE)
    small = pruned.compact()
    assert small.body[0].out_channels == small.rest[0].in_channels == small.auxiliary[0].in_channels == 4
    assert small.auxiliary[4].in_features == 3 * 64
    assert small.auxiliary[1].num_features == 3
    model.eval()
    torch.testing.assert_close(small.eval()(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-5)
    assert trains(small) == ((2, 4), (2, 4))
    assert not pruned.masks["auxiliary.0.weight"][:, ~pruned.masks["body.0.bias"]].any()
    assert "never run" not in str(pruned.summary())


def test_the_auxiliary_head_of_the_smaller_model_gives_what_the_masked_one_gives() -> None:
    model = made()
    small = st.prune(model, HALF, example=IMAGE).compact()
    for each in (model, small):
        each.eval()
        each.training = True
    torch.manual_seed(1)
    expected = model(IMAGE)[1]
    torch.manual_seed(1)
    torch.testing.assert_close(small(IMAGE)[1], expected, rtol=1e-4, atol=1e-5)


def test_a_unit_that_only_the_auxiliary_head_reads_stays() -> None:
    """By weights: the main path no longer reads it, the auxiliary head does."""
    pruned = st.prune(made(), Recipe(0.001), example=IMAGE)
    mask = np.ones((8, 8, 3, 3), np.bool_)
    mask[:, 2] = False
    pruned._hold_masks({"rest.0.weight": mask})
    assert pruned.compact().body[0].out_channels == 8


def test_batch_normalisation_with_one_example() -> None:
    model = made(Inception)
    model.auxiliary[4] = nn.Sequential(nn.Linear(384, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
    with pytest.raises(ValueError, match="more than 1 value"):
        model(IMAGE[:1])
    small = st.prune(model, HALF, example=IMAGE[:1]).compact()
    assert small.auxiliary[4][0].out_features == 3
    assert trains(small) == ((2, 4), (2, 4))


def test_the_model_is_left_as_it_was() -> None:
    model = made()
    model.train()
    model.rest.eval()
    modes, state = [module.training for module in model.modules()], copy.deepcopy(model.state_dict())
    states = torch.get_rng_state(), random.getstate()
    st.graph(model, IMAGE)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_what_only_training_runs_costs_nothing_in_inference() -> None:
    class Plain(Inception):
        def forward(self, x: torch.Tensor) -> Any:
            return self.last(self.rest(self.body(x)).mean((2, 3)))

    both, alone = (st.graph(made(kind), IMAGE) for kind in (Inception, Plain))
    assert both.has_training
    assert not alone.has_training
    assert cost(both).flops == cost(alone).flops > 0
    assert cost(both).parameters == sum(tensor.numel() for tensor in Inception().parameters())
    frozen = couple(both).frozen
    assert len(set(frozen)) == len(frozen)


def test_a_training_pass_that_reaches_no_more_is_not_part_of_the_graph() -> None:
    model = nn.Sequential(block(3, 4), nn.Flatten(), nn.Linear(256, 2))
    model.register_parameter("idle", nn.Parameter(torch.ones(3)))
    graph = st.graph(model.train(), IMAGE)
    assert not graph.has_training
    assert graph == st.graph(model.eval(), IMAGE)


@pytest.mark.parametrize("evaluation", [True, False])
def test_heads_of_each_mode(evaluation: bool) -> None:
    """Neither pass contains the other; both are tied."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.learner, self.predictor = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.learner if self.training else self.predictor)(self.body(x).relu())

    small = st.prune(made(Two), HALF, example=torch.ones(2, 6)).compact()
    small.train(not evaluation)
    assert small(torch.ones(2, 6)).shape == (2, 3 if evaluation else 2)


class Demanding(nn.Module):
    """In training it wants labels, or has a layer that nobody calls."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.body, self.last, self.unused, self.fails = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 5), fails

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        hidden = self.body(x).relu()
        if self.training and self.fails:
            if labels is None:
                raise ValueError("labels, please")
            hidden = hidden + self.unused(hidden).sum()
        return self.last(hidden)


@pytest.mark.parametrize("fails", [True, False])
def test_layers_that_never_ran_are_told_and_left_whole(fails: bool) -> None:
    model = made(Demanding, fails)
    before = model.unused.weight.detach().clone()
    pruned = st.prune(model, HALF, example=torch.ones(2, 6))
    small = pruned.compact()
    assert small.body.out_features == 4
    for each in (model, small):
        assert torch.equal(each.unused.weight, before)
        assert each.unused.in_features == 8
    (told,) = [item for item in pruned.summary().frozen if item.reason == "never run for the example"]
    assert told.parameters == ("unused.weight",)
    assert "stays: unused.weight: model: never run for the example" in str(pruned.summary())


def test_layers_that_never_ran_are_told_where_weights_are_pruned_too(tmp_path: Path) -> None:
    pruned = st.prune(made(Demanding, True), Recipe(0.5), example=torch.ones(2, 6))
    pruned.save(tmp_path / "saved")
    restored = st.load(tmp_path / "saved", made(Demanding, True), example=torch.ones(2, 6))
    for each in (pruned, restored):
        assert [item.parameters for item in each.summary().frozen] == [("unused.weight",)]


def test_nothing_is_told_of_layers_that_run_in_their_own_way() -> None:
    layers = nn.ModuleList([nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.LSTM(6, 6), nn.Embedding(4, 6)])

    class Each(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers[1](self.layers[0](x))[0] + self.layers[2](torch.ones(5, dtype=torch.int64))

    assert st.prune(Each(), Recipe(0.5), example=torch.ones(2, 5, 6)).summary().frozen == ()


def test_a_smaller_model_that_does_not_train_is_thrown_away() -> None:
    class Baked(Inception):
        def forward(self, x: torch.Tensor) -> Any:
            x = self.body(x)
            first = self.auxiliary(x.reshape(-1, 8, 8, 8)) if self.training else None
            x = self.last(self.rest(x).mean((2, 3)))
            return (x, first) if self.training else x

    model = made(Baked)
    pruned = st.prune(model, HALF, example=IMAGE)
    with pytest.raises(VerificationError, match="spell out a size"):
        pruned.compact()
    assert pruned.max_error is None


class Normed(nn.BatchNorm2d):
    """A layer of the user's own that is one of PyTorch's."""


@pytest.mark.parametrize(
    "layer", [Normed(8), nn.BatchNorm2d(8), nn.Dropout(0.9), nn.Dropout2d(0.9), nn.AlphaDropout(0.9)]
)
def test_layers_trace_in_training_as_in_evaluation(layer: nn.Module) -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer, self.last, self.extra = (
                nn.Conv2d(3, 8, 1),
                layer,
                nn.Conv2d(8, 2, 1),
                nn.Linear(1, 1),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.last(self.layer(self.first(x)))
            return self.extra(x[..., :1]) if self.training else x

    graph = st.graph(made(Aside), IMAGE[:1])
    kinds = {mode: [o.kind for o in graph.operations if o.in_inference is mode][:3] for mode in (True, False)}
    assert kinds[True] == kinds[False]
    assert couple(graph).count == 8


def test_buffers_that_only_training_writes_shrink_with_what_they_watch() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
            self.register_buffer("average", torch.zeros(8))
            self.register_buffer("largest", torch.zeros(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.first(x)
            if self.training:
                with torch.no_grad():
                    self.average.mul_(0.9).add_(hidden.mean(0), alpha=0.1)
                    self.largest = torch.maximum(self.largest, hidden.amax(0))
            return self.last(hidden.relu())

    model = made(Watched)
    small = st.prune(model, HALF, example=torch.randn(3, 6)).compact()
    assert torch.equal(model.average, torch.zeros(8))
    assert small.average.shape == small.largest.shape == (4,)
    small.train()(torch.randn(3, 6)).sum().backward()
    assert small.average.abs().min() > 0
