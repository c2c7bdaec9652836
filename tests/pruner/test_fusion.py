"""A pruned model and others made into one: exact means under the masks, the same bits in both frameworks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hyp
from sklearn.datasets import load_digits

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import convolutional_pair, dense_pair
from secateur import Cubic, Neurons, Recipe
from secateur.averaging import weighted_mean
from secateur.errors import (
    EmptyInputError,
    HoldError,
    InvalidTensorError,
    MaskMismatchError,
    MissingDataError,
    ModelTypeError,
    NoMatchError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
)

WIDTHS = (6, 10, 4)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def numbers(package: Any, model: Any) -> list[Any]:
    """All that is averaged, in canonical layout."""
    return [np.array(each.view) for each in package.parameters(model)]


def canonical(pruned: Any) -> dict[str, Any]:
    return pruned.adapter.canonical(pruned.model, pruned.masks)


def expected(pruned: Any, models: list[Any], weights: list[float]) -> dict[str, Any]:
    """The masked means by NumPy."""
    masks, found = canonical(pruned), {}
    for parameters in zip(*(pruned.adapter.parameters(model) for model in models), strict=True):
        name = parameters[0].name
        mean = weighted_mean([each.view for each in parameters], weights, parameters[0].view.dtype)
        found[name] = np.where(masks[name], mean, np.zeros_like(mean)) if name in masks else mean
    return found


def assert_holds(pruned: Any, wanted: dict[str, Any]) -> None:
    """The model has these bits: where pruned, those of +0.0."""
    for each in pruned.parameters():
        assert np.ascontiguousarray(each.view).tobytes() == np.ascontiguousarray(wanted[each.name]).tobytes()


@given(hyp.integers(0, 1000), hyp.sampled_from([[0.5, 0.5], [0.25, 0.75], [0.7, 0.3], [1.0, 0.0], [0.0, 1.0]]))
@settings(max_examples=5)
def test_with_the_dense_model_both_frameworks_give_the_same_bits(seed: int, weights: list[float]) -> None:
    ours, dense = convolutional_pair(3, 4, seed=seed), convolutional_pair(3, 4, seed=seed + 1)
    options: list[tuple[Any, Any, Any]] = [(st, ours.torch_model, dense.torch_model)]
    options.append((sk, ours.keras_model, dense.keras_model))
    results = []
    for package, model, other in options:
        before = numbers(package, other)
        pruned = package.prune(model, Recipe(0.6))
        used = [(each, weight) for each, weight in zip((model, other), weights, strict=True) if weight]
        wanted = expected(pruned, *map(list, zip(*used, strict=True)))
        if weights[0] == 0.0:
            wanted = {each.name: wanted[name] for name, each in zip(wanted, pruned.parameters(), strict=True)}
            masks = canonical(pruned)
            wanted = {
                name: np.where(masks[name], x, np.float32(0)) if name in masks else x for name, x in wanted.items()
            }
        assert package.fuse(pruned, other, weights).weights == tuple(weights)
        assert_holds(pruned, wanted)
        assert all((a == b).all() for a, b in zip(before, numbers(package, other), strict=True))
        results.append([np.ascontiguousarray(each.view).tobytes() for each in pruned.parameters()])
    assert results[0] == results[1]


def test_whole_numbers_and_what_is_no_statistic_stay() -> None:
    pair, other = convolutional_pair(2, 3), convolutional_pair(2, 3, seed=1)
    pair.torch_model.register_buffer("table", torch.ones(3))
    other.torch_model.register_buffer("table", torch.zeros(3))
    other.torch_model(other.torch_example)  # counts a batch
    pruned = st.prune(pair.torch_model, Recipe(0.5))
    mean = (pair.torch_model[1].running_var + other.torch_model[1].running_var) / 2
    st.fuse(pruned, other.torch_model)
    assert other.torch_model[1].num_batches_tracked == 1 and pair.torch_model[1].num_batches_tracked == 0
    assert torch.equal(pair.torch_model[1].running_var, mean)
    assert torch.equal(pair.torch_model.table, torch.ones(3))


def trained(model: Any, seed: int) -> None:
    """A few steps of a training of its own."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 6, generator=random)).square().mean().backward()
        optimizer.step()


def test_a_soup_of_copies_in_any_order_and_masks_go_on_holding() -> None:
    pruned = st.prune(dense_pair(WIDTHS).torch_model, Recipe(0.5))
    twins = [copy.deepcopy(pruned) for _ in range(2)]
    for seed, each in enumerate([pruned, *twins]):
        trained(each.model, seed)
    wanted = expected(pruned, [pruned.model, *(twin.model for twin in twins)], [1.0, 1.0, 1.0])
    again = copy.deepcopy(twins[0])
    assert st.fuse(again, [pruned, twins[1]]).weights == (1 / 3, 1 / 3, 1 / 3)
    st.fuse(pruned, twins)
    assert_holds(pruned, wanted)
    assert_holds(again, wanted)
    trained(pruned.model, 3)
    weights = dict(pruned.model.named_parameters())
    assert all((weights[name].detach().numpy()[~mask] == 0).all() for name, mask in pruned.masks.items())


def test_half_precision_meets_single() -> None:
    model = dense_pair(WIDTHS).torch_model
    dense = copy.deepcopy(model)
    pruned = st.prune(model.bfloat16(), Recipe(0.5))
    wanted = expected(pruned, [pruned.model, dense], [0.25, 0.75])
    st.fuse(pruned, dense, [0.25, 0.75])
    assert_holds(pruned, wanted)
    assert model[0].weight.dtype == torch.bfloat16


def test_units_go_wholly_and_the_result_is_compacted() -> None:
    pair, dense = convolutional_pair(4, 3), convolutional_pair(4, 3, seed=1)
    pruned = sk.prune(pair.keras_model, Recipe(0.5, granularity=Neurons(), scope="layer"))
    sk.fuse(pruned, dense.keras_model)
    small = pruned.compact()
    assert small.layers[0].filters == 2 and pruned.max_error is not None and pruned.max_error < 1e-5


def test_during_a_training_in_pytorch() -> None:
    model = dense_pair(WIDTHS).torch_model
    dense = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    pruner = st.Pruner(model, Recipe(0.8, schedule=Cubic(begin=0, end=8, every=2)), optimizer)
    for step in range(8):
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
        if step == 4:
            wanted = expected(pruner, [model, dense], [0.5, 0.5])
            st.fuse(pruner, dense)
            assert_holds(pruner, wanted)
    assert pruner.finished and pruner.sparsity == 0.8


def test_during_a_training_in_keras_whatever_numbers_layers_have() -> None:
    def network() -> Any:
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(10), keras.layers.Dense(4)])
        model.compile("adam", LOSS)
        return model

    random = np.random.default_rng(0)
    data = random.normal(size=(32, 6)).astype("float32"), random.integers(0, 4, 32)
    model, dense = network(), network()
    pruner = sk.Pruner(Recipe(0.8, schedule=Cubic(begin=0, end=8, every=2)))
    model.fit(*data, batch_size=8, callbacks=[pruner], verbose=0)
    wanted = expected(pruner.pruned, [model, dense], [0.5, 0.5])
    sk.fuse(pruner, [dense])
    assert_holds(pruner.pruned, wanted)
    model.fit(*data, batch_size=8, callbacks=[pruner], verbose=0)
    assert pruner.finished and pruner.sparsity == 0.8
    named = keras.Sequential([keras.Input((6,)), keras.layers.Dense(10, name="mine"), keras.layers.Dense(4)])
    with pytest.raises(NoMatchError, match="mine/kernel"):
        sk.fuse(pruner, named)


class Digits:
    """Real data: the loss of a model on digits that it was not trained on."""

    def __init__(self) -> None:
        digits = load_digits()
        self.inputs = torch.tensor(digits.images / 16.0, dtype=torch.float32).flatten(1)
        self.labels = torch.tensor(digits.target)

    def train(self, model: Any, seed: int, epochs: int) -> None:
        random = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.004)
        for _ in range(epochs):
            for rows in torch.randperm(1200, generator=random).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(self.inputs[rows]), self.labels[rows]).backward()
                optimizer.step()

    def loss(self, model: Any) -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(model(self.inputs[1200:]), self.labels[1200:]))


def test_a_greedy_soup_of_real_digits_is_no_worse_than_its_best_model() -> None:
    digits, model = Digits(), dense_pair((64, 32, 10)).torch_model
    digits.train(model, 0, epochs=6)
    pruned = st.prune(model, Recipe(0.8))
    others = [copy.deepcopy(pruned) for _ in range(3)]
    for seed, each in enumerate([pruned, *others], start=1):
        digits.train(each.model, seed, epochs=2)
    with torch.no_grad():
        others[1].model[2].weight.mul_(-1.0)  # one that spoils every soup
    losses = [digits.loss(each.model) for each in (pruned, *others)]
    found = st.fuse(pruned, others, evaluate=digits.loss)
    assert found.losses == pytest.approx(losses, rel=1e-6)
    assert found.weights[2] == 0.0 and sum(found.weights) == pytest.approx(1.0)
    assert found.loss is not None and found.loss == digits.loss(pruned.model) < min(losses)
    assert sum(weight > 0 for weight in found.weights) > 1
    assert abs(pruned.sparsity - 0.8) < 1e-3


def test_a_soup_takes_models_from_the_best_on_as_long_as_it_gets_no_worse() -> None:
    pruned = st.prune(torch.nn.Linear(1, 1, bias=False), Recipe(0.0))
    places = [3.0, -1.0, 2.5, 0.0]

    def at(place: float) -> torch.nn.Module:
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(model.weight, place)
        return model

    torch.nn.init.constant_(pruned.model.weight, places[0])
    seen: list[float] = []

    def evaluate(model: Any) -> float:
        seen.append(model.weight.item())
        return abs(seen[-1] - 1.0)

    found = st.fuse(pruned, [at(place) for place in places[1:]], evaluate=evaluate)
    assert found.losses == (2.0, 2.0, 1.5, 1.0)
    # From 0.0 on: with 2.5, which helps; with 3.0; with -1.0.
    assert seen == pytest.approx([*places, 1.25, 5.5 / 3, 1.5 / 3])
    assert (found.weights, found.loss) == ((0.0, 0.0, 0.5, 0.5), 0.25)
    assert pruned.model.weight.item() == 1.25


def test_what_fails_in_the_middle_of_a_soup_leaves_the_model_as_it_was() -> None:
    for package, model, other in both():
        pruned = package.prune(model, Recipe(0.5))
        before, calls = numbers(package, model), iter([1.0, 0.5, float("nan")])
        with pytest.raises(OutOfRangeError, match="other model 0 with the pruned model"):
            package.fuse(pruned, other, evaluate=lambda _, calls=calls: next(calls))
        assert all((a == b).all() for a, b in zip(before, numbers(package, model), strict=True))


def both() -> list[tuple[Any, Any, Any]]:
    pair, other = dense_pair(WIDTHS), dense_pair(WIDTHS, seed=1)
    return [(st, pair.torch_model, other.torch_model), (sk, pair.keras_model, other.keras_model)]


def pruned_otherwise(package: Any, other: Any) -> Any:
    return package.prune(other, Recipe(0.5))


def compacted(package: Any, other: Any) -> Any:
    return package.prune(other, Recipe(0.5, granularity=Neurons()), example=np.ones((1, 6), np.float32)).compact()


def with_infinity(package: Any, other: Any) -> Any:
    known = package.parameters(other)[0]
    spoiled = np.array(known.view)
    spoiled[0, 1] = np.inf
    package.prune(other, Recipe(0.0)).adapter.assign(other, {known.name: spoiled})
    return other


WRONG: list[tuple[Callable[[Any, Any], Any] | Any, dict[str, Any], Any, str]] = [
    ([], {}, EmptyInputError, "no other model"),
    (None, {}, ModelTypeError, "NoneType"),
    (lambda _, other: other, {"weights": [0.5, 0.4]}, OutOfRangeError, "add up to 0.9"),
    (lambda _, other: other, {"weights": [1.5, -0.5]}, OutOfRangeError, "weight 1 is -0.5"),
    (lambda _, other: other, {"weights": [float("nan"), 1.0]}, OutOfRangeError, "weight 0 is nan"),
    (lambda _, other: other, {"weights": [float("inf"), 1.0]}, OutOfRangeError, "weight 0 is inf"),
    (lambda _, other: other, {"weights": [0.5, "half"]}, RecipeError, "weight 1 is 'half'"),
    (lambda _, other: other, {"weights": [1.0]}, ShapeMismatchError, "give 2 numbers"),
    (lambda _, other: other, {"weights": 0.5}, ShapeMismatchError, "give 2 numbers"),
    (lambda _, other: other, {"weights": [0.5, 0.5], "evaluate": len}, RecipeError, "leave weights= or"),
    (lambda _, other: other, {"evaluate": "good"}, MissingDataError, "give a function"),
    (pruned_otherwise, {}, MaskMismatchError, r"other model 0 and .* \d+ in .*(weight|kernel).* differ"),
    (compacted, {}, ShapeMismatchError, "compact the result"),
    (with_infinity, {}, InvalidTensorError, r"other model 0 holds inf at index \(0, 1\)"),
]


@pytest.mark.parametrize(("make", "options", "error", "words"), WRONG)
def test_what_does_not_fit_is_refused_before_anything_changes(
    make: Any, options: dict[str, Any], error: Any, words: str
) -> None:
    for package, model, other in both():
        pruned = package.prune(model, Recipe(0.5))
        before = numbers(package, model)
        others = make(package, other) if callable(make) else make
        with pytest.raises(error, match=words):
            package.fuse(pruned, others, **options)
        assert all((a == b).all() for a, b in zip(before, numbers(package, model), strict=True))


def test_other_architectures_and_bare_models_are_refused() -> None:
    pruned = st.prune(dense_pair(WIDTHS).torch_model, Recipe(0.5))
    with pytest.raises(NoMatchError, match=r"4\.bias"):
        st.fuse(pruned, dense_pair((6, 10, 4, 2)).torch_model)
    with pytest.raises(ModelTypeError, match="fuse before compact"):
        st.fuse(pruned.model, [pruned])
    pruned.release()
    st.fuse(pruned, dense_pair(WIDTHS, seed=2).torch_model)
    torch.nn.init.ones_(pruned.model[0].weight)
    with pytest.raises(HoldError, match="since the masks were released"):
        st.fuse(pruned, dense_pair(WIDTHS, seed=2).torch_model)
