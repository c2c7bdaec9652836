"""A trace that computes nothing is the trace of one that computes, and leaves no number of its own anywhere."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from secateur.errors import ExampleError
from secateur.structure.graph import Graph
from secateur_torch import tracing
from secateur_torch.recording import Recorder

IMAGES = torch.randn(2, 3, 9, 9)


class Model(nn.Module):
    """A convolution, then what a test does with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.norm(self.first(x))).mean((2, 3)))


class Plain(Model):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        hidden = functional.max_pool2d(functional.relu(x, inplace=True), 3, stride=2, padding=1)
        return torch.cat([hidden, hidden * hidden.sigmoid()], dim=1).chunk(2, dim=1)[0]


class Branching(Model):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() if x.abs().max() > 0 else x * float("nan")


class Sorting(Model):
    def middle(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, x.mean((0, 1, 3)).argsort()]


class Keeping(Model):
    seen: Any = None

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.listed = [x]
        if self.seen is None:
            self.seen = x.mean()
        return x


class Appending(Model):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[torch.Tensor] = []

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.log.append(x)
        return x


class Writing(Model):
    def __init__(self) -> None:
        super().__init__()
        self.memory = torch.zeros(6)

    def middle(self, x: torch.Tensor) -> torch.Tensor:
        self.memory.add_(x.mean((0, 2, 3)))
        return x


def computed(model: nn.Module, example: torch.Tensor) -> Graph:
    return tracing.record(model, example, Recorder)[1]


def described(graph: Graph) -> Any:
    operations = [
        (each.kind, each.inputs, each.outputs, dict(each.parameters), each.source) for each in graph.operations
    ]
    return graph.tensors, operations, graph.inputs, graph.outputs, graph.parameters, graph.precision


@pytest.mark.parametrize("kind", [Plain, Branching, Sorting, Keeping, Appending, Writing])
def test_the_graph_is_that_of_a_pass_that_computes(kind: type[Model]) -> None:
    model = kind().eval()
    twin = copy.deepcopy(model)
    assert described(tracing.graph(model, IMAGES)) == described(computed(twin, IMAGES))


def test_nothing_is_computed_where_no_number_matters() -> None:
    """Weights of a size that would take minutes to multiply, and no memory, for they repeat one number."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight = nn.Parameter(torch.ones(1, 1).expand(300_000, 300_000))
    model[0].bias = model[1].bias = None
    model[1].weight = nn.Parameter(torch.ones(1, 1).expand(2, 300_000))
    assert tracing.graph(model.eval(), torch.ones(50, 300_000)).tensors == ((50, 300_000), (50, 300_000), (50, 2))


def test_what_a_module_keeps_is_what_it_computed() -> None:
    model = Keeping().eval()
    tracing.graph(model, IMAGES)
    with torch.no_grad():
        expected = model.norm(model.first(IMAGES))
    torch.testing.assert_close(model.seen, expected.mean())
    torch.testing.assert_close(model.listed[0], expected)


def test_what_a_module_adds_to_its_list_is_what_it_computed() -> None:
    model = Appending().eval()
    tracing.graph(model, IMAGES)
    with torch.no_grad():
        expected = model.norm(model.first(IMAGES))
    assert len(model.log) == 1
    torch.testing.assert_close(model.log[0], expected)


def test_what_a_module_writes_to_is_written_once() -> None:
    model = Writing().eval()
    tracing.graph(model, IMAGES)
    with torch.no_grad():
        expected = model.norm(model.first(IMAGES)).mean((0, 2, 3))
    torch.testing.assert_close(model.memory, expected)


def test_hooks_of_the_users_see_what_is_computed() -> None:
    model, seen = Plain().eval(), []
    model.norm.register_forward_hook(lambda _, __, result: seen.append(result.clone()))
    tracing.graph(model, IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(seen[0], model.norm(model.first(IMAGES)))


def test_an_example_that_does_not_fit_is_refused_as_ever() -> None:
    with pytest.raises(ExampleError, match="does not accept the example"):
        tracing.graph(Plain().eval(), torch.randn(2, 5, 9, 9))


def test_the_model_that_was_traced_gives_the_same_as_before() -> None:
    model = Plain().eval()
    with torch.no_grad():
        before = model(IMAGES)
        tracing.graph(model, IMAGES)
        assert torch.equal(model(IMAGES), before)
