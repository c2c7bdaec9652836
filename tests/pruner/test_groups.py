"""N of M: what stays of each group, on the way there and in the end, the same in both frameworks."""

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
from secateur import Cubic, Linear, NofM, Parameters, Recipe, RigL, SparseGpt
from secateur.adapter import Parameter
from secateur.errors import FileFormatError, NoMatchError, OutOfRangeError, RecipeError, ShapeMismatchError
from secateur.ranking import ranking
from secateur.recipe import Magnitude
from secateur.selection import selection


def expected(score: np.ndarray, n: int, m: int, gone: int, kept: np.ndarray) -> np.ndarray:
    """One by one, the smallest weight that its group can spare goes, ties by position, until ``gone`` are."""
    flags, order = kept.copy(), np.lexsort((np.arange(score.size), score.ravel()))
    rows = np.moveaxis(np.arange(score.size).reshape(score.shape), 1, -1).reshape(-1, m)
    group = np.empty(score.size, np.int64)
    group[rows.ravel()] = np.repeat(np.arange(len(rows)), m)
    for index in order:
        if np.count_nonzero(~flags) >= gone:
            break
        members = rows[group[index]]
        rivals = [each for each in members if flags.flat[each]]
        best = sorted(rivals, key=lambda each: (score.flat[each], each))[-n:]
        if flags.flat[index] and index not in best:
            flags.flat[index] = False
    return flags


@given(
    hyp.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (2, 3)]),
    hyp.integers(1, 4),
    hyp.integers(1, 3),
    hyp.integers(1, 3),
    hyp.lists(hyp.floats(0.0, 1.0), min_size=1, max_size=3),
    hyp.integers(0, 2**32 - 1),
)
def test_what_no_group_needs_goes_in_order_of_score(pair, out, groups, window, fractions, seed) -> None:  # type: ignore[no-untyped-def]
    (n, m), generator = pair, np.random.default_rng(seed)
    recipe = Recipe(granularity=NofM(n, m))
    kept, flags = None, np.ones((out, groups * m, window), np.bool_)
    for fraction in (*sorted(fractions), 1.0):
        weight = generator.integers(-4, 5, (out, groups * m, window)).astype(np.float32)
        parameter = Parameter("conv", "kernel", weight, ("out", "in", "width"))
        ranked = ranking(recipe, [parameter], None)
        chosen = selection(recipe, ranked)
        scores = ranked.scores([parameter], Magnitude(), {})
        budgets = chosen.budgets(scores)
        assert budgets == [weight.size // m * (m - n)]
        kept, _ = chosen.keep(scores, fraction, budgets, kept, training=True)
        flags = expected(np.abs(weight), n, m, int(np.floor(fraction * budgets[0] + 0.5)), flags)
        np.testing.assert_array_equal(ranked.masks(kept)["conv"], flags)
    assert (np.moveaxis(flags, 1, -1).reshape(-1, m).sum(1) == n).all()


def test_groups_lie_along_input_channels_in_both_frameworks() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(16, 10))
    theirs = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(8, 3, name="first"),
            keras.layers.Conv2D(4, 3, name="second"),
            keras.layers.Permute((3, 1, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="head"),
        ]
    )
    arrays = [weight.detach().numpy() for weight in ours.parameters()]
    theirs.set_weights([each.transpose(2, 3, 1, 0) if each.ndim == 4 else each.T for each in arrays])
    recipe = Recipe(granularity=NofM(2, 4))
    left, right = st.prune(ours, recipe), sk.prune(theirs, recipe)
    ours_masks, theirs_masks = list(left.masks.values()), list(right.masks.values())
    assert len(ours_masks) == len(theirs_masks) == 2
    np.testing.assert_array_equal(ours_masks[0], theirs_masks[0].transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(ours_masks[1], theirs_masks[1].T)
    assert (ours_masks[0].reshape(4, 2, 4, 3, 3).sum(2) == 2).all()
    for pruned, first in ((left, "0.weight"), (right, "first/kernel")):
        assert f"Left dense by 2 of 4: {first} (its 3 inputs are no multiple of 4)." in str(pruned.summary())


@pytest.mark.parametrize("even", [False, True])
def test_a_schedule_leads_there_in_both_frameworks(even) -> None:  # type: ignore[no-untyped-def]
    pair = dense_pair([8, 12, 4], seed=3, ties=True)
    recipe = Recipe(granularity=NofM(1, 4, even=even), schedule=Linear(0, 6, every=2))
    inputs, targets = np.zeros((6, 8), np.float32), np.zeros((6, 4), np.float32)
    optimizer = torch.optim.SGD(pair.torch_model.parameters(), 0.1, momentum=0.9)
    pruner = st.Pruner(pair.torch_model, recipe, optimizer)
    sparsities = [pruner.sparsity]
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.mse_loss(pair.torch_model(torch.tensor(inputs)) * 0, torch.tensor(targets)).backward()
        optimizer.step()
        sparsities.append(pruner.sparsity)
    pair.keras_model.compile("sgd", "mse")
    callback = sk.Pruner(recipe)
    pair.keras_model.fit(inputs, targets * 0, batch_size=1, epochs=1, verbose=0, shuffle=False, callbacks=[callback])
    steps = [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75]
    np.testing.assert_allclose(sparsities, steps, atol=1e-6)
    assert pruner.finished and callback.finished
    for name, mask in zip(pruner.masks, callback.masks.values(), strict=True):
        assert (pruner.masks[name].reshape(len(mask.T), -1, 4).sum(2) == 1).all()
        assert (mask.T.reshape(len(mask.T), -1, 4).sum(2) == 1).all()
    np.testing.assert_array_equal(next(iter(pruner.masks.values())), next(iter(callback.masks.values())).T)


def test_every_group_loses_as_many_where_n_decays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruner = st.Pruner(model, Recipe(granularity=NofM(1, 4, even=True), schedule=Linear(0, 3)), optimizer)
    for left in (3, 2, 1):
        optimizer.zero_grad()
        model(torch.randn(4, 16)).square().sum().backward()
        optimizer.step()
        assert all((mask.reshape(-1, 4).sum(1) == left).all() for mask in pruner.masks.values())


def test_weights_that_stay_are_adjusted_and_the_recipe_is_saved(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    data = torch.randn(64, 8)
    wanted = model(data).detach()
    recipe = Recipe(0.5, NofM(2, 4), score=SparseGpt())
    assert Recipe.from_dict(recipe.to_dict()) == recipe and Recipe(granularity=NofM(2, 4)).target == recipe.target
    pruned = st.prune(model, recipe, data=[(data, None)])
    assert all((mask.reshape(-1, 4).sum(1) == 2).all() for mask in pruned.masks.values())
    assert float((model(data).detach() - wanted).norm() / wanted.norm()) < 0.6
    pruned.save(tmp_path / "saved")
    again = st.load(tmp_path / "saved")
    assert again.recipe == recipe and all((again.masks[name] == mask).all() for name, mask in pruned.masks.items())
    assert "2 of each 4 inputs" in pruned.report(tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: NofM(4, 4), OutOfRangeError, "1 <= n < m"),
        (lambda: NofM(0, 4), OutOfRangeError, "1 <= n < m"),
        (lambda: NofM(2.5, 4), RecipeError, "n of NofM"),
        (lambda: NofM(2, 4, even=1), RecipeError, "True or False"),
        (lambda: Recipe(0.9, NofM(2, 4)), RecipeError, "leave the target out, or give 0.5"),
        (lambda: Recipe(Parameters(0.5), NofM(2, 4)), RecipeError, "something else|whole units"),
        (lambda: Recipe(granularity=NofM(2, 4), allocation="erk"), RecipeError, "nothing to divide"),
        (lambda: Recipe(granularity=NofM(2, 4), scope="row"), RecipeError, "scope='row'"),
        (lambda: Recipe(granularity=NofM(2, 4), regrowth=RigL(0, 10, every=2)), RecipeError, "come back anywhere"),
        (lambda: Recipe(), RecipeError, "needs a target"),
        (
            lambda: Recipe.from_dict({**Recipe(0.5).to_dict(), "granularity": {"kind": "NofM", "n": 9}}),
            FileFormatError,
            "1 <=",
        ),
        (
            lambda: st.prune(nn.Linear(6, 4), Recipe(granularity=NofM(2, 4))),
            NoMatchError,
            "its 6 inputs are no multiple",
        ),
        (
            lambda: st.prune(
                nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)), Recipe(granularity=NofM(), include=["0", "1"])
            ),
            ShapeMismatchError,
            "0.weight cannot be pruned to 2 of 4",
        ),
        (lambda: st.prune(nn.Embedding(8, 8), Recipe(granularity=NofM())), NoMatchError, "no input axis"),
        (
            lambda: st.sensitivity(nn.Linear(8, 4), lambda model: 0.0, Recipe(granularity=NofM())),
            RecipeError,
            "a scan prunes each layer by itself",
        ),
    ],
)
def test_bad_groups_are_told(make, error, match) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=match):
        make()


def test_the_last_step_of_a_schedule_is_what_pruning_at_once_gives() -> None:
    pair = dense_pair([8, 16, 4], seed=1, ties=True)
    at_once = st.prune(pair.torch_model, Recipe(granularity=NofM(2, 4)))
    other = dense_pair([8, 16, 4], seed=1, ties=True).torch_model
    optimizer = torch.optim.SGD(other.parameters(), 0.0)
    pruner = st.Pruner(other, Recipe(granularity=NofM(2, 4), schedule=Cubic(0, 5)), optimizer)
    for _ in range(5):
        other(torch.ones(2, 8)).sum().backward()
        optimizer.step()
    for name, mask in at_once.masks.items():
        np.testing.assert_array_equal(pruner.masks[name], mask)
