"""Blocks of weights: the same in both frameworks, whole in every mask, as many as asked for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hyp
from torch import nn

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import dense_pair
from secateur import Blocks, Cubic, Flops, Percentile, Recipe
from secateur.adapter import Parameter
from secateur.errors import EmptyLayerError, OutOfRangeError, RecipeError
from secateur.ranking import ranking
from secateur.recipe import Magnitude

sides = hyp.integers(1, 7)


@given(hyp.tuples(sides, sides), hyp.tuples(sides, sides), hyp.integers(1, 3), hyp.integers(0, 2**32 - 1))
def test_a_block_has_the_mean_of_its_weights_and_is_kept_as_a_whole(extents, side, window, seed) -> None:  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((*extents, window)).astype(np.float32)
    parameter = Parameter("conv.weight", "kernel", weight, ("out", "in", "width"), "conv")
    ranked = ranking(Recipe(0.5, Blocks(side)), [parameter], None)
    found = ranked.scores([parameter], Magnitude(), {})["conv.weight"]
    rows, columns = (range(0, extent, step) for extent, step in zip(extents, side, strict=True))
    own = [[np.abs(weight[i : i + side[0], j : j + side[1]]) for j in columns] for i in rows]
    np.testing.assert_allclose(found[:, :, 0], [[block.mean(dtype=np.float64) for block in row] for row in own])
    kept = generator.random(found.shape) < 0.7
    kept.flat[0] = True
    mask = ranked.masks({"conv.weight": kept})["conv.weight"]
    assert mask.shape == weight.shape and mask.flags.c_contiguous
    for (i, j, _), flag in np.ndenumerate(kept):
        assert (mask[i * side[0] : (i + 1) * side[0], j * side[1] : (j + 1) * side[1]] == flag).all()


def test_both_frameworks_prune_the_same_blocks() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, 10))
    theirs = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Permute((3, 1, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    kernels = [weight.detach().numpy() for weight in ours.parameters()]
    theirs.set_weights([kernels[0].transpose(2, 3, 1, 0), kernels[1], kernels[2].T, kernels[3]])
    recipe = Recipe(0.5, Blocks((4, 2)), scope="layer")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    left, right = st.prune(ours, recipe), sk.prune(theirs, recipe)
    masks = list(left.masks.values()), list(right.masks.values())
    np.testing.assert_array_equal(masks[0][0], masks[1][0].transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(masks[0][1], masks[1][1].T)
    blocks = masks[0][1].reshape(10, 64, 2)[:8].reshape(2, 4, 64, 2)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert [int(np.count_nonzero(ours[index].weight.detach().numpy())) for index in (0, 3)] == [
        int(mask.sum()) for mask in masks[0]
    ]


def test_a_percentile_of_blocks_and_its_report(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    pruned = st.prune(model, Recipe(Percentile(50), Blocks((4, 4)), scope="layer"), example=torch.randn(2, 8))
    kept = sum(int(mask.reshape(mask.shape[0] // 4, 4, -1, 4)[:, 0, :, 0].sum()) for mask in pruned.masks.values())
    assert kept == 6  # of 8 + 4 blocks
    assert pruned.report(tmp_path / "report.html").stat().st_size > 1000


def test_a_schedule_prunes_the_same_blocks_in_both_frameworks() -> None:
    pair = dense_pair([8, 12, 4], seed=5, ties=True)
    recipe = Recipe(0.5, Blocks((2, 2)), schedule=Cubic(0, 4, every=2))
    optimizer = torch.optim.SGD(pair.torch_model.parameters(), 0.1, momentum=0.9)
    pruner, counts = st.Pruner(pair.torch_model, recipe, optimizer), []
    for _ in range(4):
        before = pruner.masks
        optimizer.zero_grad()
        (pair.torch_model(torch.zeros(1, 8)) * 0).sum().backward()
        optimizer.step()
        flags = [mask.reshape(len(mask) // 2, 2, -1, 2) for mask in pruner.masks.values()]
        assert all((each == each[:, :1, :, :1]).all() for each in flags)
        assert not any((mask & ~before[name]).any() for name, mask in pruner.masks.items())
        counts.append(sum(int((~each[:, 0, :, 0]).sum()) for each in flags))
    assert counts == [0, 16, 16, 18]  # of 36 blocks: 7/8 of 18 at half of the time
    pair.keras_model.compile(keras.optimizers.SGD(0.1), "mse")
    callback = sk.Pruner(recipe)
    zeros = np.zeros((4, 8), np.float32)
    stays = pair.keras_model.predict(zeros, verbose=0)  # targets that leave every weight as it is
    pair.keras_model.fit(zeros, stays, batch_size=1, shuffle=False, verbose=0, callbacks=[callback])
    assert callback.finished
    for mine, other in zip(pruner.masks.values(), callback.masks.values(), strict=True):
        assert int((~mine).sum()) % 4 == 0 and int((~other).sum()) % 4 == 0
    assert sum(int((~mask).sum()) for mask in callback.masks.values()) == 72
    np.testing.assert_array_equal(next(iter(pruner.masks.values())), next(iter(callback.masks.values())).T)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Blocks((4,)), RecipeError, "two sides"),
        (lambda: Blocks((0, 4)), OutOfRangeError, "block|Blocks"),
        (lambda: Recipe(Flops(0.5), Blocks()), RecipeError, "whole units"),
        (lambda: st.prune(nn.Linear(4, 4), Recipe(0.9, Blocks((4, 4)))), EmptyLayerError, "all 1 blocks"),
    ],
)
def test_what_cannot_be_is_told(make, error, match) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=match):
        make()
