"""Whole residual branches of PyTorch models: masked equals removed, and what is left is an ordinary module."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import secateur_torch as st
from secateur import Bytes, Flops, Layers, Linear, Neurons, Parameters, Recipe, Taylor
from secateur.errors import NoMatchError, RecipeError, UnreachableTargetError
from secateur.structure.branches import find, kernels
from secateur.structure.cost import cost

HALF = Recipe(0.5, Layers())
PARAMETERS = [Parameters, Flops, Bytes]
FEEDING = ("wide.weight", "narrow.weight")


class Block(nn.Module):
    """Pre-norm, with drop path and attention as PyTorch's users write them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 3, batch_first=True)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(0.1)

    def drop_path(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x * x.new_empty(len(x), 1, 1).bernoulli_(0.9) / 0.9

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.drop_path(self.attention(y, y, y)[0])
        return x + self.drop_path(self.dropout(self.narrow(functional.gelu(self.wide(self.norm2(x))))))


class Transformer(nn.Module):
    def __init__(self, depth: int = 3, width: int = 12) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(5, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Basic(nn.Module):
    """A ResNet's basic block as torchvision writes it, in place."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


def resnet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        *(Basic(8, 8), Basic(8, 8), Basic(8, 12, 2), Basic(12, 12), Basic(12, 12)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)),
    )


class ConvNeXt(nn.Module):
    """Its block: depthwise, norm and two layers channels last, scaled by a learned gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(0.5 * torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.narrow(functional.gelu(self.wide(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    blocks = [ConvNeXt(8), ConvNeXt(8), nn.Conv2d(8, 12, 2, 2), ConvNeXt(12), ConvNeXt(12)]
    return nn.Sequential(nn.Conv2d(3, 8, 2, 2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "transformer": (Transformer, (5, 8), 6),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 4, 24, batch_first=True), 3),
        (5, 12),
        6,
    ),
    "resnet": (resnet, (3, 16, 16), 4),
    "convnext": (convnext, (3, 16, 16), 4),
}


@dataclass(frozen=True)
class Case:
    """A model, an input, the number of its branches, and what is left without half of them."""

    model: nn.Module
    x: torch.Tensor
    count: int
    pruned: st.Pruned
    small: nn.Module


@pytest.fixture(params=MODELS, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    make, shape, count = MODELS[request.param]
    model = make().double()
    for _ in range(3):  # running statistics that are not those of a new model
        model.train()(torch.randn(8, *shape).double())
    x = torch.randn(2, *shape).double()
    pruned = st.prune(model.eval(), HALF, example=x)
    return Case(model, x, count, pruned, pruned.compact())


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_masked_equals_removed(case: Case) -> None:
    model, x, pruned, small = case.model, case.x, case.pruned, case.small
    removal = pruned.plan()
    assert (len(find(st.graph(model, x))), removal.removed) == (case.count, case.count // 2)
    assert pruned.max_error is not None and pruned.max_error < 1e-12
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(small(x[:1]), model(x[:1]), rtol=1e-12, atol=1e-12)
    gone = {name for branch in removal.branches for name in branch.parameters}
    names = dict(model.named_parameters())
    assert {name for name, _ in small.named_parameters()} == names.keys() - gone
    owners = {name.rpartition(".")[0] for name in gone}
    left = [name for name in model.state_dict() if name not in gone and name.rpartition(".")[0] not in owners]
    assert set(small.state_dict()) == set(left) | (names.keys() - gone)
    assert size(small) == size(model) - sum(names[name].numel() for name in gone & names.keys())
    assert size(small) == cost(st.graph(model, x), removal).parameters


def test_all_branches_may_go_and_what_has_no_skip_stays(case: Case) -> None:
    model = copy.deepcopy(case.model)
    pruned = st.prune(model, Recipe(0.99, Layers()), example=case.x)
    small = pruned.compact()
    assert pruned.plan().removed == case.count
    torch.testing.assert_close(small(case.x), model(case.x), rtol=1e-12, atol=1e-12)
    assert find(st.graph(small, case.x)) == []


def test_it_trains_is_copied_and_saved_as_any_module(case: Case, tmp_path: Path) -> None:
    small, x = copy.deepcopy(case.small).train(), case.x
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in small.parameters()]
    small(torch.cat([x, x + 1])).square().mean().backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in small.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, small.parameters(), strict=True))
    twin = copy.deepcopy(small).eval()
    torch.testing.assert_close(twin(x), small.eval()(x), rtol=0, atol=0)
    torch.save(small.state_dict(), tmp_path / "weights.pt")
    twin.load_state_dict(torch.load(tmp_path / "weights.pt"))
    again = torch.export.export(small, (x,))
    torch.testing.assert_close(again.module()(x), small(x), rtol=1e-12, atol=1e-12)


def test_masks_hold_through_training_and_come_back_from_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = resnet().double(), torch.randn(2, 3, 16, 16).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    pruned = st.prune(model, HALF, example=x, optimizer=optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(torch.cat([x, x + 1])).square().mean().backward()
        optimizer.step()
    pruned.save(tmp_path / "folder")
    again = st.load(tmp_path / "folder", copy.deepcopy(model), example=x)
    assert again.recipe == pruned.recipe
    assert again.plan().branches == pruned.plan().branches
    torch.testing.assert_close(again.compact().eval()(x), model.eval()(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("target", PARAMETERS)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6])
def test_targets_on_costs(target: Any, fraction: float) -> None:
    """The lowest scores go, and no more than it takes."""
    torch.manual_seed(1)
    model, x = Transformer(), torch.randn(2, 5, 8)
    graph, recipe = st.graph(model, x), Recipe(target(fraction), Layers())
    dense = recipe.target.of(cost(graph))  # type: ignore[union-attr]
    pruned = st.prune(model, recipe, example=x)
    removal = pruned.plan()
    assert recipe.target.of(cost(graph, removal)) <= (1 - fraction) * dense  # type: ignore[union-attr]
    if removal.branches:
        scores = {branch: mean_magnitude(model, kernels(graph, branch)) for branch in find(graph)}
        assert max(map(scores.__getitem__, removal.branches)) <= min(
            score for branch, score in scores.items() if branch not in removal.branches
        )


def mean_magnitude(model: nn.Module, names: list[str]) -> float:
    weights = dict(model.named_parameters())
    return float(torch.cat([weights[name].detach().flatten() for name in names]).abs().double().mean())


def test_a_target_out_of_reach_tells_what_is_left() -> None:
    with pytest.raises(UnreachableTargetError, match=r"at most 0\.\d+ of them can be removed.*skip"):
        st.prune(resnet(), Recipe(Parameters(0.95), Layers()), example=torch.randn(2, 3, 16, 16))


def test_patterns_protect_branches() -> None:
    x = torch.randn(2, 5, 8)
    pruned = st.prune(Transformer(), Recipe(0.99, Layers(), exclude=["*.narrow", "blocks.0.*"]), example=x)
    gone = {name for branch in pruned.plan().branches for name in branch.parameters}
    assert {name.rpartition(".")[0] for name in gone} == {
        f"blocks.{block}.{part}" for block in (1, 2) for part in ("norm1", "attention", "attention.out_proj")
    }
    with pytest.raises(NoMatchError, match="each of the 6 residual branches"):
        st.prune(Transformer(), Recipe(0.5, Layers(), include=["head"]), example=x)


def test_a_model_without_skips_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(NoMatchError, match="nowhere does the model add"):
        st.prune(model, HALF, example=torch.randn(2, 4))


def test_a_recipe_of_layers_is_read_again_and_has_one_ranking() -> None:
    recipe = Recipe(Flops(0.5), Layers(norm=2), exclude=["head"])
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match="scope='model'"):
        Recipe(0.5, Layers(), scope="layer")
    with pytest.raises(RecipeError, match="norm"):
        Layers(norm=3)


@pytest.mark.parametrize("norm", [1, 2, "inf", "mean"])
def test_the_norm_is_over_all_kernels_of_a_branch(norm: Any) -> None:
    torch.manual_seed(2)
    model, x = Transformer(), torch.randn(2, 5, 8)
    graph, weights = st.graph(model, x), {name: p.detach().clone() for name, p in model.named_parameters()}
    norms: dict[Any, Callable[[torch.Tensor], torch.Tensor]] = {
        1: torch.sum,
        2: torch.norm,
        "inf": torch.max,
        "mean": torch.mean,
    }
    expected = [
        float(norms[norm](torch.cat([weights[name].double().flatten() for name in kernels(graph, branch)]).abs()))
        for branch in find(graph)
    ]
    pruned = st.prune(model, Recipe(0.5, Layers(norm)), example=x)
    (scores,) = pruned.outcome(x).scores.values()
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_taylor_scores_and_a_schedule() -> None:
    torch.manual_seed(3)
    model = Transformer(depth=4)
    x, y = torch.randn(16, 5, 8), torch.randint(0, 4, (16,))
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.05), nn.CrossEntropyLoss()
    recipe = Recipe(0.5, Layers(), Taylor(), schedule=Linear(begin=1, end=4))
    pruner = st.Pruner(model, recipe, optimizer, data=(x, y), loss=loss)
    removed = []
    for _ in range(5):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        removed.append({branch.addition for branch in pruner.plan().branches})
    assert len(removed[-1]) == 4
    assert all(before <= after for before, after in pairwise(removed))
    small = pruner.compact()
    torch.testing.assert_close(small(x), model.eval()(x), rtol=1e-4, atol=1e-5)


def test_the_tables_tell_what_went(tmp_path: Path) -> None:
    torch.manual_seed(4)
    x = torch.randn(2, 5, 8)
    pruned = st.prune(Transformer(), HALF, example=x)
    text, graph = str(pruned.summary()), st.graph(pruned.model, x)
    assert text.count("removed") == sum(len(kernels(graph, branch)) for branch in pruned.plan().branches)
    page = pruned.report(tmp_path / "report.html").read_text()
    assert "3 of 6 residual branches" in page
    assert "over all weights of the residual branch" in page


@pytest.mark.parametrize("sparsity", [0.5, 0.1])
def test_the_tables_tell_of_branches_and_not_of_units(sparsity: float, tmp_path: Path) -> None:
    """Also where none goes: a tenth of three branches is none."""
    x = torch.randn(2, 5, 8)
    pruned = st.prune(Transformer(), Recipe(sparsity, Layers(), exclude=["*.narrow"]), example=x)
    summary, gone = pruned.summary(), {branch.parameters for branch in pruned.plan().branches}
    rows = {tuple(part.parameter for part in row.slices): (row.what, row.removed, row.total) for row in summary.coupled}
    graph = st.graph(pruned.model, x)
    branches = find(graph, [name for name in graph.parameters if "narrow" in name])
    assert rows == {branch.parameters: ("branch", int(branch.parameters in gone), 1) for branch in branches}
    (stays,) = summary.frozen
    outside = {"embed.weight", "head.weight", *(f"blocks.{block}.{part}" for block in range(3) for part in FEEDING)}
    assert set(stays.parameters) == outside and "branch" in stays.reason
    pruned.save(tmp_path / "saved")
    loaded = st.load(tmp_path / "saved", Transformer(), example=x).summary()
    assert (loaded.coupled, loaded.frozen) == (summary.coupled, summary.frozen)
    assert "branch of" in pruned.report(tmp_path / "report.html").read_text()


def test_what_was_made_shorter_is_made_narrower_too() -> None:
    torch.manual_seed(5)
    x = torch.randn(2, 5, 8).double()
    short = st.prune(Transformer().double(), HALF, example=x).compact()
    pruned = st.prune(short, Recipe(0.5, Neurons(), scope="layer"), example=x)
    torch.testing.assert_close(pruned.compact()(x), short(x), rtol=1e-10, atol=1e-12)


def test_the_input_is_never_written_to() -> None:
    """Without its branch the first block's ``relu_`` would work on the user's own tensor."""
    torch.manual_seed(6)
    model, x = (
        nn.Sequential(Basic(4, 4), nn.Flatten(), nn.Linear(256, 2)).double().eval(),
        torch.randn(2, 4, 8, 8).double(),
    )
    small, before = st.prune(model, Recipe(0.99, Layers()), example=x).compact(), x.clone()
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)
