"""Scores of several tasks made one: against plain loops, and laws that hold for any numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hs

from secateur.combining import combine
from secateur.errors import InvalidTensorError

WEIGHTS = {"a": 2.0, "b": 1.0, "c": 0.5}


@hs.composite
def problems(draw):
    """Task -> layer -> scores, with ties; some tasks do not reach some layers."""
    shapes = draw(hs.lists(hs.tuples(hs.integers(1, 3), hs.integers(1, 4)), min_size=1, max_size=3))
    generator = np.random.default_rng(draw(hs.integers(0, 2**16)))
    tasks = draw(hs.integers(1, 3))
    dtype = draw(hs.sampled_from([np.float32, np.float64]))
    return {
        task: {
            f"layer {index}": (generator.integers(0, 4, shape) * (generator.random() < 0.7)).astype(dtype)
            for index, shape in enumerate(shapes)
        }
        for task in "abc"[:tasks]
    }


def compared(scores, layer, row, scope):
    """The places (layer, row, column) with which an element of a row of a layer competes, in order."""
    shapes = {name: each.shape for name, each in next(iter(scores.values())).items()}
    names = list(shapes) if scope == "model" else [layer]
    rows = {name: [row] if scope == "row" else range(shapes[name][0]) for name in names}
    return [(name, r, c) for name in names for r in rows[name] for c in range(shapes[name][1])]


def naive(scores, how, weights, scope):
    """One element at a time."""
    found = {name: np.zeros(each.shape) for name, each in next(iter(scores.values())).items()}
    for layer, result in found.items():
        for row, column in np.ndindex(result.shape):
            among = compared(scores, layer, row, scope)
            values, total = [], []
            for task, own in scores.items():
                if not own[layer].any():
                    continue
                reached = [place for place in among if own[place[0]].any()]
                numbers = [float(own[name][r, c]) for name, r, c in reached]
                score, place = float(own[layer][row, column]), reached.index((layer, row, column))
                if how == "min_rank":
                    better = sum(n > score or (n == score and at > place) for at, n in enumerate(numbers))
                    values.append(len(among) - better)
                else:
                    whole = math.fsum(map(abs, numbers))
                    values.append(score / whole if whole else 0.0)
                total.append(weights[task])
            if values and how == "mean":
                result[row, column] = sum(v * w for v, w in zip(values, total, strict=True)) / math.fsum(total)
            elif values:
                result[row, column] = max(values)
    return found


@given(problems(), hs.sampled_from(["mean", "max", "min_rank"]), hs.sampled_from(["model", "layer", "row"]))
def test_elements_are_combined_as_defined(scores, how, scope):
    weights = dict.fromkeys(WEIGHTS, 1.0) if how != "mean" else WEIGHTS
    found = combine(scores, how, weights if how == "mean" else None, scope)
    for layer, expected in naive(scores, how, weights, scope).items():
        assert found[layer].dtype == np.float64
        np.testing.assert_array_equal(found[layer], expected)


@given(problems(), hs.sampled_from(["mean", "max", "min_rank"]), hs.integers(-20, 20))
def test_the_size_of_a_task_s_loss_does_not_matter(scores, how, power):
    scaled = {task: {name: np.ldexp(each, power) for name, each in own.items()} for task, own in scores.items()}
    mixed = {"a": scaled["a"], **{task: own for task, own in scores.items() if task != "a"}}
    found, expected = combine(mixed, how), combine(scores, how)
    assert all(np.array_equal(found[name], each) for name, each in expected.items())


@given(problems(), hs.sampled_from(["mean", "max", "min_rank"]), hs.sampled_from(["model", "layer", "row"]))
def test_one_task_ranks_as_by_itself_and_equal_tasks_as_one(scores, how, scope):
    alone = {"a": scores["a"]}
    found = combine(alone, how, scope=scope)
    for name, each in combine({"a": scores["a"], "b": scores["a"]}, how, scope=scope).items():
        np.testing.assert_array_equal(each, found[name])
    if scope == "layer":
        for name, each in found.items():
            order = [np.argsort(given, axis=None, kind="stable") for given in (each, scores["a"][name])]
            assert np.array_equal(*order)


@given(problems())
def test_by_the_best_place_each_task_keeps_what_is_dearest_to_it(scores):
    found = combine(scores, "min_rank")
    size = sum(each.size for each in found.values())
    best = np.concatenate([each.ravel() for each in found.values()])
    reaching = sum(any(each.any() for each in own.values()) for own in scores.values())
    assert min(reaching, 1) <= np.count_nonzero(best == size) <= max(reaching, 0)


def test_what_one_task_alone_reaches_is_ranked_by_it_alone():
    trunk, head = np.array([[1.0, 3.0]]), np.array([[4.0, 2.0]])
    scores = {"a": {"trunk": trunk, "head": head}, "b": {"trunk": trunk, "head": np.zeros((1, 2))}}
    found = combine(scores)
    np.testing.assert_array_equal(found["head"], head / 10)
    np.testing.assert_array_equal(found["trunk"], (trunk / 10 + trunk / 4) / 2)


def test_shares_of_infinity_are_refused():
    scores = {"digit": {"fc": np.array([1.0, math.inf])}}
    with pytest.raises(InvalidTensorError, match="scores of task 'digit' add up to infinity"):
        combine(scores)
    assert combine(scores, "min_rank")["fc"].tolist() == [1.0, 2.0]
