"""Branches, units and weights with one total: met exactly, removed exactly, the same in both frameworks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hyp
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import dense_pair, values
from secateur import (
    SET,
    Apoz,
    Cubic,
    Flops,
    Heads,
    Layers,
    Linear,
    MultiTask,
    Neurons,
    Parameters,
    Percentile,
    Recipe,
    Scales,
    Taylor,
    Weights,
)
from secateur.errors import EmptyLayerError, FileFormatError, OutOfRangeError, RecipeError, UnreachableTargetError

THREE = Scales(Layers(), Neurons(), Weights(), shares=(0.5, 0.25))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.back = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.back(self.wide(x).relu())


def residual(ties: bool = False) -> nn.Module:
    """Three residual blocks between two dense layers, the same each time."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), Block(8), Block(8), Block(8), nn.Linear(8, 4))
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for weight in model.parameters() if ties else ():
            weight.copy_(torch.tensor(values(generator, tuple(weight.shape), ties=True)))
    return model


def twin(model: nn.Module) -> keras.Model:
    """The same network in Keras."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    made = [keras.layers.Dense(each.out_features, name=f"dense_{index}") for index, each in enumerate(layers)]
    inputs = keras.Input((16,))
    x = keras.layers.ReLU(name="relu")(made[0](inputs))
    for index in (1, 3, 5):
        wide = keras.layers.ReLU(name=f"relu_{index}")(made[index](x))
        x = keras.layers.Add(name=f"add_{index}")([x, made[index + 1](wide)])
    theirs = keras.Model(inputs, made[7](x))
    for each, layer in zip(layers, made, strict=True):
        layer.set_weights([each.weight.detach().numpy().T, each.bias.detach().numpy()])
    return theirs


def kernels(masks: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [mask for mask in masks.values() if mask.ndim == 2]


def gone(masks: dict[str, np.ndarray]) -> int:
    return sum(int(np.count_nonzero(~mask)) for mask in masks.values())


def expected(weights: list[np.ndarray], share: float, total: int) -> list[np.ndarray]:
    """Units in ascending order of their mean weight, as long as their share allows; then the smallest weights."""
    sizes = [len(weight) for weight in weights[:-1]]
    scores = [(np.abs(weight).sum(1, dtype=np.float64) / weight.shape[1]).tolist() for weight in weights[:-1]]
    queue = sorted((score, layer, unit) for layer, each in enumerate(scores) for unit, score in enumerate(each))
    flags = [np.ones(weight.shape, np.bool_) for weight in weights]
    for _, layer, unit in queue:
        if sizes[layer] == 1:
            continue
        tried = [each.copy() for each in flags]
        tried[layer][unit], tried[layer + 1][:, unit] = False, False
        if sum(int((~each).sum()) for each in tried) > np.floor(share * total):
            break
        flags, sizes[layer] = tried, sizes[layer] - 1
    order = sorted(
        (float(np.abs(weight[place])), layer, place)
        for layer, weight in enumerate(weights)
        for place in np.ndindex(weight.shape)
        if flags[layer][place]
    )
    for _, layer, place in order[: total - sum(int((~each).sum()) for each in flags)]:
        flags[layer][place] = False
    return flags


@settings(max_examples=15, deadline=None)
@given(
    hyp.lists(hyp.integers(2, 6), min_size=3, max_size=4),
    hyp.sampled_from([0.2, 0.5, 0.7]),
    hyp.sampled_from([0.1, 0.4, 0.8]),
    hyp.integers(0, 2**16),
)
def test_units_take_their_share_and_weights_fill_up(widths, sparsity, share, seed) -> None:  # type: ignore[no-untyped-def]
    model = dense_pair(widths, seed=seed, ties=True).torch_model
    weights = [module.weight.detach().numpy().copy() for module in model if isinstance(module, nn.Linear)]
    total = int(np.floor(sparsity * sum(weight.size for weight in weights) + 0.5))
    flags = expected(weights, share, total)
    recipe = Recipe(sparsity, Scales(Neurons(), Weights(), shares=[share]))
    example = torch.zeros(1, widths[0])
    if not all(each.any() for each in flags):
        with pytest.raises(EmptyLayerError):
            st.prune(model, recipe, example=example)
        return
    found = kernels(st.prune(model, recipe, example=example).masks)
    for mine, theirs in zip(flags, found, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_finer_scale_is_ranked_by_what_the_coarser_left() -> None:
    """Units of the stream between the blocks, whose weights lie in all branches: without those of the one that goes."""
    example, model = torch.randn(2, 16), residual()
    weights = {name: weight.detach().numpy().copy() for name, weight in model.named_parameters() if weight.ndim == 2}
    found = st.prune(model, Recipe(0.75, THREE), example=example)
    closed = {name for branch in found.plan().branches for name in branch.parameters}
    assert len(closed) == 4
    masks = found.masks
    stream = masks["0.bias"]  # one flag a unit
    makers = [name for name in weights if name == "0.weight" or name.endswith("back.weight")]
    left = [np.where(name in closed, 0, weights[name]) for name in makers]
    means = np.mean(np.concatenate([np.abs(each) for each in left], axis=1, dtype=np.float64), axis=1)
    assert np.count_nonzero(~stream) > 0 and means[~stream].max() < means[stream].min()
    kept = {name: mask for name, mask in masks.items() if mask.ndim == 2}
    alive = [name for name in weights if name not in closed]
    smallest = min(float(np.abs(weights[name][kept[name]]).min()) for name in alive if kept[name].any())
    units = {name: ~kept[name].any(0) | ~kept[name].any(1)[:, None] for name in alive}
    single = [np.abs(weights[name][~kept[name] & ~units[name]]) for name in alive]
    assert max(float(each.max()) for each in single if each.size) <= smallest


@pytest.mark.parametrize("target", [0.6, 0.9, Parameters(0.6), Parameters(0.85)])
def test_the_total_is_exact_and_what_is_masked_is_removed(target, tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, example = residual(), torch.randn(3, 16)
    recipe = Recipe(target, THREE)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    pruned = st.prune(model, recipe, example=example)
    numbers = sum(weight.numel() for weight in model.parameters())
    weights = sum(mask.size for mask in kernels(pruned.masks))
    if isinstance(target, Parameters):
        left = sum(int(np.count_nonzero(mask)) for mask in pruned.masks.values())
        untouched = numbers - sum(mask.size for mask in pruned.masks.values())
        assert left + untouched == int(np.floor((1 - target.fraction) * numbers))
    else:
        assert sum(int((~mask).sum()) for mask in kernels(pruned.masks)) == int(np.floor(target * weights + 0.5))
    small = pruned.compact()
    assert pruned.plan().branches and pruned.plan().removed > 1 and pruned.max_error is not None
    torch.testing.assert_close(small(example), model(example), rtol=1e-5, atol=1e-6)
    assert sum(weight.numel() for weight in small.parameters()) < numbers / 1.3
    assert any(bool((weight == 0).any()) for weight in small.parameters() if weight.ndim == 2)  # single weights
    pruned.save(tmp_path / "saved")
    again = st.load(tmp_path / "saved", residual(), example)
    assert again.recipe == recipe and all((again.masks[name] == mask).all() for name, mask in pruned.masks.items())
    assert again.plan().removed == pruned.plan().removed
    assert "residual branches (50 %), then neurons (25 %), then weights" in pruned.report(
        tmp_path / "report.html"
    ).read_text("utf-8")


def test_both_frameworks_take_the_same_branches_units_and_weights() -> None:
    ours = residual(ties=True)
    theirs = twin(ours)
    recipe = Recipe(Parameters(0.7), THREE)
    left, right = st.prune(ours, recipe, example=torch.zeros(1, 16)), sk.prune(theirs, recipe)
    ours_masks, theirs_masks = list(left.masks.values()), list(right.masks.values())
    assert len(ours_masks) == len(theirs_masks) and left.plan().branches
    for mine, other in zip(ours_masks, theirs_masks, strict=True):
        np.testing.assert_array_equal(mine, other.T)
    x = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    small = right.compact(x)
    np.testing.assert_allclose(small.predict_on_batch(x), theirs.predict_on_batch(x), rtol=1e-5, atol=1e-6)
    assert small.count_params() == sum(weight.numel() for weight in left.compact(torch.tensor(x)).parameters())


def test_in_training_each_scale_grows_with_the_total_and_nothing_comes_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model, example = residual(), torch.randn(3, 16)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    recipe = Recipe(0.8, THREE, schedule=Linear(0, 8))
    pruner = st.Pruner(model, recipe, optimizer, example=example)
    before, weights = pruner.masks, sum(mask.size for mask in kernels(pruner.masks))
    removed = []
    for step in range(1, 9):
        optimizer.zero_grad()
        model(torch.randn(8, 16)).square().mean().backward()
        optimizer.step()
        masks = pruner.masks
        total = int(np.floor(0.8 * weights + 0.5))
        least = int(np.floor(step / 8 * total + 0.5))
        assert least <= sum(int((~mask).sum()) for mask in kernels(masks)) <= (total if step < 8 else least)
        assert not any((masks[name] & ~mask).any() for name, mask in before.items())
        before = masks
        removed.append(pruner.plan().removed)
        if step == 4:
            pruner.save(tmp_path / "halfway")
    assert removed[0] < removed[3] < removed[7] and pruner.finished and pruner.plan().branches
    torch.testing.assert_close(pruner.compact()(example), model(example), rtol=1e-5, atol=1e-6)
    other = residual()
    later = st.Pruner(
        other, recipe, torch.optim.SGD(other.parameters(), 0.05), example=example, resume=tmp_path / "halfway"
    )
    assert later.step == 4 and later.plan().removed == removed[3]


def test_in_keras_a_schedule_ends_at_the_total() -> None:
    model = twin(residual())
    model.compile(keras.optimizers.Adam(0.01), "mse")
    x = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    callback = sk.Pruner(Recipe(0.8, THREE, schedule=Cubic(0, 6, every=2)))
    model.fit(x, x[:, :4], batch_size=8, epochs=1, verbose=0, callbacks=[callback])
    masks = kernels(callback.masks)
    assert callback.finished and sum(int((~mask).sum()) for mask in masks) == int(
        np.floor(0.8 * sum(mask.size for mask in masks) + 0.5)
    )
    small = callback.compact(x[:2])
    np.testing.assert_allclose(small.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-4, atol=1e-5)
    assert small.count_params() < model.count_params()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Scales(Weights()), RecipeError, "two or three"),
        (lambda: Scales(Weights(), Neurons()), RecipeError, "from coarse to fine"),
        (lambda: Scales(Neurons(), Heads(), Weights()), RecipeError, "from coarse to fine"),
        (lambda: Scales(Layers(), Neurons()), RecipeError, "Weights\\(\\) last"),
        (lambda: Scales(Neurons(), Weights(), shares=(0.5, 0.5)), RecipeError, "give 1, one for each but"),
        (lambda: Scales(Neurons(), Weights(), shares=(1.0,)), OutOfRangeError, "leave some to Weights"),
        (lambda: Scales(Neurons(), Weights(), shares=(0.0,)), OutOfRangeError, "above 0"),
        (lambda: Scales(Neurons(), Weights(), shares=("a",)), RecipeError, "a share of Scales"),
        (lambda: Recipe(granularity=THREE), RecipeError, "needs a target"),
        (lambda: Recipe(Flops(0.5), THREE), RecipeError, "no total that Scales can divide"),
        (lambda: Recipe(Percentile(50), THREE), RecipeError, "no total that Scales can divide"),
        (lambda: Recipe(0.5, THREE, score=MultiTask(Taylor())), RecipeError, "joins the scores of all tasks before"),
        (lambda: Recipe({"*": 0.5}, THREE), RecipeError, "no total that Scales can divide"),
        (lambda: Recipe(0.5, THREE, scope="layer"), RecipeError, "one total over the whole model"),
        (lambda: Recipe(0.5, THREE, allocation="uniform"), RecipeError, "Scales divide the total"),
        (lambda: Recipe(0.5, THREE, regrowth=SET(0, 9, every=3)), RecipeError, "units that Scales removed"),
        (lambda: Recipe(0.5, THREE, score=Apoz()), RecipeError, "prunes something else"),
        (lambda: Recipe(0.5, Scales(Neurons(compensate=True), Weights())), RecipeError, "compensate=True"),
        (
            lambda: Recipe.from_dict({**Recipe(0.5).to_dict(), "granularity": {"kind": "Scales", "parts": 3}}),
            FileFormatError,
            "cannot be read",
        ),
        (
            lambda: st.prune(residual(), Recipe(Parameters(0.9), THREE, include=["2.*"]), example=torch.ones(1, 16)),
            UnreachableTargetError,
            "include more layers",
        ),
        (
            lambda: st.sensitivity(nn.Linear(8, 4), lambda model: 0.0, Recipe(0.5, THREE)),
            RecipeError,
            "a scan prunes each layer by itself",
        ),
    ],
)
def test_bad_scales_are_told(make, error, match) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=match):
        make()
