"""Second-order scores and adjusted weights, against NumPy's linear algebra and the definition one weight at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur import masks, scores
from secateur.errors import InvalidTensorError, OutOfRangeError, ShapeMismatchError

random = np.random.default_rng(0)


def problem(rows: int, size: int, examples: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    x = np.maximum(generator.normal(size=(examples, size)) @ generator.normal(size=(size, size)), -0.1)
    return generator.normal(size=(rows, size)).astype(np.float32), x, x.T @ x / examples


def damped(gram, damping):
    return gram + damping * np.mean(np.diagonal(gram)) * np.eye(len(gram))


def one_by_one(weight, mask, gram, damping):
    """Each row by itself: remove one weight after the other by the inverse Hessian of what is left to the right."""
    adjusted, hessian = np.array(weight, np.float64), damped(gram, damping)
    for row, kept in zip(adjusted, mask, strict=True):
        for column in np.flatnonzero(~kept):
            inverse = np.linalg.inv(hessian[column:, column:])
            row[column:] -= row[column] / inverse[0, 0] * inverse[0]
            row[column] = 0.0
    return adjusted


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 70), st.integers(0, 99), st.sampled_from([0.01, 0.5]))
def test_scores_and_adjustments_are_those_of_the_definition(rows, size, seed, damping):
    weight, _, gram = problem(rows, size, 2 * size, seed)
    inverse = np.linalg.inv(damped(gram, damping))
    expected = weight.astype(np.float64) ** 2 / np.diagonal(inverse) / 2
    np.testing.assert_allclose(scores.surgeon(weight, gram, damping), expected, rtol=1e-6)
    mask = np.random.default_rng(seed).random(weight.shape) < 0.5
    found = scores.reconstruct(weight, mask, gram, damping)
    np.testing.assert_allclose(found, one_by_one(weight, mask, gram, damping), rtol=1e-6, atol=1e-7)
    assert not found[~mask].any()


def block_by_block(weight, counts, gram, damping, block, by_row):
    """The paper's loop, with plain inverses: choose in a block, then remove what was chosen column after column."""
    adjusted, hessian, kept = np.array(weight, np.float64), damped(gram, damping), np.ones(weight.shape, bool)
    for first in range(0, weight.shape[1], block):
        columns = np.arange(first, min(first + block, weight.shape[1]))
        inverses = {column: np.linalg.inv(hessian[column:, column:]) for column in columns}
        loss = np.stack([adjusted[:, column] ** 2 / inverses[column][0, 0] for column in columns], axis=1)
        share = (columns[-1] + 1) / weight.shape[1]
        for part in np.arange(len(loss))[:, None] if by_row else [np.arange(len(loss))]:
            gone = np.count_nonzero(~kept[part])
            for index in np.argsort(loss[part], axis=None)[: int(counts[part].sum() * share + 0.5) - gone]:
                row, column = np.unravel_index(index, loss[part].shape)
                kept[part[row], columns[column]] = False
        for column in columns:
            for row in np.flatnonzero(~kept[:, column]):
                adjusted[row, column:] -= adjusted[row, column] / inverses[column][0, 0] * inverses[column][0]
                adjusted[row, column] = 0.0
    return kept, adjusted


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 12), st.floats(0, 1), st.booleans(), st.integers(0, 99))
def test_blocks_of_columns_are_chosen_after_the_columns_before(rows, size, block, share, by_row, seed):
    weight, _, gram = problem(rows, size, 2 * size, seed)
    asked = masks.keep_per_row(scores.surgeon(weight, gram), size - int(share * size))
    if not by_row:
        (asked,) = masks.keep_largest([scores.surgeon(weight, gram)], weight.size - int(share * weight.size))
    found = scores.choose(weight, asked, gram, block=block, by_row=by_row)
    kept, adjusted = block_by_block(weight, np.count_nonzero(~asked, axis=1), gram, 0.01, block, by_row)
    assert np.array_equal(found, kept)
    np.testing.assert_allclose(scores.reconstruct(weight, found, gram), adjusted, rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 6),
    st.integers(1, 20),
    st.integers(1, 8),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 99),
)
def test_what_was_pruned_stays_pruned_and_the_number_is_kept(rows, size, block, share, more, by_row, seed):
    weight, _, gram = problem(rows, size, 2 * size, seed)
    generator = np.random.default_rng(seed)
    if by_row:
        few, many = sorted((int(share * size), int(more * size)))
        before, asked = (masks.keep_per_row(generator.random(weight.shape), size - gone) for gone in (few, many))
    else:
        few, many = sorted((int(share * weight.size), int(more * weight.size)))
        before, asked = (masks.keep_largest([generator.random(weight.shape)], weight.size - n)[0] for n in (few, many))
    found = scores.choose(np.where(before, weight, 0), asked, gram, block=block, by_row=by_row, before=before)
    assert not (found & ~before).any()
    assert np.count_nonzero(found) == np.count_nonzero(asked)
    if by_row:
        assert np.array_equal(found.sum(axis=1), asked.sum(axis=1))
    if few < many:
        with pytest.raises(OutOfRangeError, match="more is pruned already"):
            scores.choose(weight, before, gram, by_row=by_row, before=asked)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
def test_groups_are_layers_side_by_side(groups, rows, size, seed):
    problems = [problem(rows, size, 3 * size, seed + index) for index in range(groups)]
    weight, gram = np.concatenate([each[0] for each in problems]), np.stack([each[2] for each in problems])
    mask = np.random.default_rng(seed).random(weight.shape) < 0.5
    together = scores.surgeon(weight, gram), scores.reconstruct(weight, mask, gram)
    chosen = scores.choose(weight, mask, gram, block=2, by_row=True)
    for index, (own, _, each) in enumerate(problems):
        part = slice(index * rows, (index + 1) * rows)
        assert np.array_equal(together[0][part], scores.surgeon(own, each))
        assert np.array_equal(together[1][part], scores.reconstruct(own, mask[part], each))
        assert np.array_equal(chosen[part], scores.choose(own, mask[part], each, block=2, by_row=True))


def test_choosing_in_blocks_keeps_outputs_closer_than_choosing_at_once():
    gains = []
    for seed in range(8):
        weight, x, gram = problem(24, 64, 300, seed)
        (at_once,) = masks.keep_largest([scores.surgeon(weight, gram)], weight.size // 2)
        blocked = scores.choose(weight, at_once, gram, block=16)
        errors = [
            np.linalg.norm(x @ (scores.reconstruct(weight, each, gram) - weight).T) for each in (at_once, blocked)
        ]
        gains.append(errors[1] / errors[0])
    assert np.mean(gains) < 1.0


def test_adjusted_weights_give_outputs_that_differ_less():
    weight, x, gram = problem(30, 50, 400)
    kept = {
        "obs": masks.keep_per_row(scores.surgeon(weight, gram), 25),
        "wanda": masks.keep_per_row(scores.wanda(weight, np.sqrt(np.diagonal(gram))), 25),
        "magnitude": masks.keep_per_row(scores.magnitude(weight), 25),
    }
    found = {name: np.linalg.norm(x @ (np.where(mask, weight, 0) - weight).T) for name, mask in kept.items()}
    for name, mask in kept.items():
        adjusted = scores.reconstruct(weight, mask, gram)
        assert np.linalg.norm(x @ (adjusted - weight).T) < 0.85 * found[name]
    best = np.linalg.norm(x @ (scores.reconstruct(weight, kept["obs"], gram) - weight).T)
    assert best < 0.85 * min(found.values())


def test_axes_of_one_behind_and_gates_before_are_no_matter():
    weight, _, gram = problem(12, 6, 20)
    flat = scores.surgeon(weight, gram)
    assert np.array_equal(scores.surgeon(weight.reshape(12, 6, 1, 1), gram), flat.reshape(12, 6, 1, 1))
    assert np.array_equal(scores.surgeon(weight.reshape(4, 3, 6), gram), flat.reshape(4, 3, 6))
    stored = np.asfortranarray(weight), np.asfortranarray(gram)
    assert np.array_equal(scores.surgeon(*stored), flat)
    mask = flat > np.median(flat)
    assert np.array_equal(
        scores.reconstruct(stored[0], np.asfortranarray(mask), stored[1]), scores.reconstruct(weight, mask, gram)
    )


def test_features_that_are_never_active_or_alike_need_more_damping():
    weight, _, gram = problem(3, 4, 10)
    gram[1], gram[:, 1] = 0.0, 0.0
    found = scores.surgeon(weight, gram, damping=0)
    assert np.isfinite(found).all()
    assert (found[:, 1] < found[:, [0, 2, 3]].min(axis=1)).all()
    assert np.isfinite(scores.surgeon(weight, np.ones((4, 4)), damping=0)).all()
    assert np.isfinite(scores.surgeon(weight, np.zeros((4, 4)))).all()


def test_bad_input():
    weight, _, gram = problem(3, 4, 10)
    with pytest.raises(ShapeMismatchError, match=r"\(3, 4\), but its Gram matrix \(3, 3\)"):
        scores.surgeon(weight, gram[:3, :3])
    with pytest.raises(ShapeMismatchError, match="but its Gram matrix"):
        scores.surgeon(np.ones((3, 4, 2, 3), np.float32), gram)
    with pytest.raises(ShapeMismatchError, match="the mask of fc has shape"):
        scores.reconstruct(weight, np.ones((4, 3), bool), gram, name="fc")
    with pytest.raises(InvalidTensorError, match="fc holds NaN"):
        scores.surgeon(np.full((3, 4), np.nan), gram, name="fc")
    with pytest.raises(InvalidTensorError, match="cannot be factorised"):
        scores.surgeon(weight, np.full((4, 4), np.inf))
    with pytest.raises(OutOfRangeError, match="damping"):
        scores.surgeon(weight, gram, damping=-0.1)
    with pytest.raises(OutOfRangeError, match="the block is 0"):
        scores.choose(weight, np.ones((3, 4), bool), gram, block=0)
    with pytest.raises(ShapeMismatchError, match=r"Gram matrix \(2, 4, 4\): rows must be as long as that, and as many"):
        scores.surgeon(weight, np.stack([gram, gram]))


def test_wanda_is_the_magnitude_times_the_norm_of_the_input():
    weight = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)
    assert scores.wanda(weight, np.array([[2.0, 0.5]])).tolist() == [[2.0, 1.0], [6.0, 0.25]]
    with pytest.raises(ShapeMismatchError, match="do not go together"):
        scores.wanda(weight, np.ones(3))
    kernel, scale = random.standard_normal((5, 8)), random.random(8)
    in_place = kernel.copy()
    masks.zero_per_row(in_place, 3, scale)
    assert np.array_equal(in_place != 0, masks.keep_per_row(scores.wanda(kernel, scale), 3))
