"""Overlaps of masks over runs, against NumPy; what chance gives, against chance; subsets that are the same anywhere."""

from __future__ import annotations

import statistics
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur import masks
from secateur.errors import (
    EmptyInputError,
    NoMatchError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
    UnsupportedDtypeError,
)
from secateur.stability import HEADINGS, compare, draw

SHAPES = {"a": (3, 5), "b": (17,), "c": (2, 2, 4)}


def drawn(seed: int, runs: int, densities: Any = (0.2, 0.5, 0.9)) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    pairs = list(zip(SHAPES.items(), densities, strict=True))
    return [{name: random.random(shape) < density for (name, shape), density in pairs} for _ in range(runs)]


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=3, max_size=3))
def test_counts_and_overlaps_are_those_of_numpy(seed: int, runs: int, densities: list[float]) -> None:
    given_masks = drawn(seed, runs, densities)
    found = compare(given_masks, [0.5] * runs)
    assert found.pairs == tuple(combinations(range(runs), 2))
    for layer in (*found.layers, found.total):
        names = list(SHAPES) if layer.name == "total" else [layer.name]
        flat = [np.concatenate([run[name].ravel() for name in names]) for run in given_masks]
        assert layer.size == flat[0].size and layer.kept == tuple(int(each.sum()) for each in flat)
        assert (layer.always, layer.ever) == (np.logical_and.reduce(flat).sum(), np.logical_or.reduce(flat).sum())
        for (i, j), overlap, chance in zip(found.pairs, layer.overlaps, layer.chances, strict=True):
            either = int((flat[i] | flat[j]).sum())
            assert overlap == (int((flat[i] & flat[j]).sum()) / either if either else 1.0)
            kept = [
                (given_masks[i][name].sum(), given_masks[j][name].sum(), given_masks[i][name].size) for name in names
            ]
            both = sum(int(a) * int(b) / n for a, b, n in kept)
            total = sum(int(a) + int(b) for a, b, _ in kept)
            assert chance == pytest.approx(both / (total - both) if total else 1.0)
        assert layer.beyond_chance <= 1.0 + 1e-12


@given(st.integers(0, 2**32 - 1))
def test_packed_masks_tell_the_same(seed: int) -> None:
    runs = drawn(seed, 3)
    packed = [{name: masks.pack(mask) for name, mask in run.items()} for run in runs]
    assert compare(packed, [1, 2, 3], shapes=SHAPES) == compare(runs, [1, 2, 3])


def test_the_same_masks_agree_wholly_and_random_ones_by_chance() -> None:
    random = np.random.default_rng(0)
    same = {"a": random.random(400) < 0.1}
    found = compare([same, same], [0.0, 0.0])
    assert found.total.overlap == found.total.beyond_chance == found.total.always_share == 1.0
    many = [{"a": random.permutation(400) < 60, "b": random.permutation(100) < 50} for _ in range(60)]
    found = compare(many, range(60))
    for layer in (*found.layers, found.total):
        assert layer.overlap == pytest.approx(layer.chance, abs=0.004)
        assert layer.beyond_chance == pytest.approx(0.0, abs=0.005)
    assert found.layers[1].chance == pytest.approx(25 / 75)


def test_the_table_tells_which_layers_disagree() -> None:
    fixed, random = np.arange(40) < 10, np.random.default_rng(0)
    runs = [{"steady": fixed, "<loose>|": random.permutation(40) < 10} for _ in range(4)]
    found = compare(runs, [0.9, 0.92, 0.94, 0.96], seeds=[0, 1, 0, 1], subsets=[0, 0, 1, 1])
    assert found.least_stable == ("<loose>|", "steady")
    assert (found.mean, found.deviation) == pytest.approx((0.93, statistics.stdev(found.scores)))
    overlaps = dict(zip(found.pairs, found.total.overlaps, strict=True))
    assert found.over_seeds == statistics.fmean([overlaps[0, 1], overlaps[2, 3]])
    assert found.over_subsets == statistics.fmean([overlaps[0, 2], overlaps[1, 3]])
    rows = found.rows()
    assert [row["layer"] for row in rows] == ["steady", "<loose>|", "total"]
    assert rows[0] == dict(zip(HEADINGS, ("steady", 40, 0.25, 1.0, 1.0, pytest.approx(1 / 7), 1.0, 1.0), strict=True))
    printed = str(found).splitlines()
    assert printed[0].startswith("score of 4 runs: 0.93 ± 0.026 (0.9 to 0.96)")
    assert printed[2] == "agree least: <loose>|, steady"
    assert len({len(line) for line in printed[3:]}) == 1 and printed[4].split()[:4] == ["steady", "40", "25.0", "%"]
    table = [line for line in found.markdown().splitlines() if line.startswith("| ")]
    assert len(table) == 5 and "<loose>\\|" in table[3]
    assert all(line.replace("\\|", "").count("|") == len(HEADINGS) + 1 for line in table)


def test_runs_that_diverged_do_not_hide_the_masks() -> None:
    run = {"a": np.array([True, False])}
    found = compare([run, run], [float("nan"), 1.0])
    assert np.isnan(found.mean) and found.total.overlap == 1.0 and "nan" in str(found)
    assert found.over_seeds == 1.0 and found.over_subsets is None and "over subsets" not in str(found)


@pytest.mark.parametrize(
    ("runs", "options", "error", "words"),
    [
        ([{"a": np.ones(2, bool)}], {}, OutOfRangeError, "give two at least"),
        ([{}, {}], {}, EmptyInputError, "no masks"),
        ([{"a": np.ones(2, bool)}, {"b": np.ones(2, bool)}], {}, NoMatchError, "run 1 and run 0 .* a, b"),
        ([{"a": np.ones(2, bool)}, {"a": np.ones(3, bool)}], {}, ShapeMismatchError, "shape"),
        ([{"a": np.ones(2, bool)}] * 2, {"scores": [1.0]}, ShapeMismatchError, "1 scores of 2 runs"),
        ([{"a": np.ones(2, bool)}] * 2, {"seeds": [1]}, ShapeMismatchError, "1 seeds of 2 runs"),
        ([{"a": np.ones(2, np.uint8)}] * 2, {}, ShapeMismatchError, "packed"),
        ([{"a": np.ones(2, np.float32)}] * 2, {}, UnsupportedDtypeError, "mask of a"),
        ([{"a": np.ones((0, 2), bool)}] * 2, {}, EmptyInputError, "no mask"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs: Any, options: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        compare(runs, **{"scores": [1.0] * len(runs), **options})


@given(st.integers(1, 200), st.integers(1, 3), st.floats(0.01, 1.0), st.integers(0, 2**64 - 1))
def test_subsets_are_rows_in_order_and_each_other(examples: int, count: int, share: float, seed: int) -> None:
    found = draw(examples, count, share, seed)
    assert len(found) == count
    for rows in found:
        assert rows.size == max(1, int(share * examples + 0.5)) and rows[0] >= 0 and rows[-1] < examples
        assert (np.diff(rows) > 0).all()
    assert all((a == b).all() for a, b in zip(found, draw(examples, count, share, seed), strict=True))


def test_subsets_are_the_same_anywhere() -> None:
    assert [rows.tolist() for rows in draw(10, 2, 0.4)] == [[0, 1, 2, 9], [3, 5, 7, 8]]
    raw = np.random.Philox(key=np.array([7, 1], np.uint64)).random_raw(10)
    assert draw(10, 2, 0.4, seed=7)[1].tolist() == sorted(np.argsort(raw)[:4].tolist())
    seen = np.bincount(np.concatenate(draw(50, 400, 0.5)), minlength=50)
    assert seen.min() > 150 and seen.max() < 250


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((10, 0), OutOfRangeError), ((0, 1), OutOfRangeError), ((10, 1, 1.5), OutOfRangeError), ((10.5, 1), RecipeError)],
)
def test_subsets_that_cannot_be_are_refused(arguments: Any, error: Any) -> None:
    with pytest.raises(error):
        draw(*arguments)
