"""Every score of the catalogue prunes a model in either framework, and does what its paper says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import convolutional_pair, dense_pair
from secateur import (
    ActivationNorm,
    ActivationTaylor,
    Apoz,
    Cubic,
    Fisher,
    GeometricMedian,
    Gradient,
    Grasp,
    InitRelative,
    Lamp,
    Layers,
    Magnitude,
    MeanActivation,
    Movement,
    Neurons,
    NormScale,
    OneShot,
    Percentile,
    Random,
    Recipe,
    Snip,
    SparseGpt,
    Sparsity,
    SynFlow,
    Taylor,
    Wanda,
    masks,
    register,
    scores,
)
from secateur.errors import (
    ExampleError,
    HoldError,
    InvalidTensorError,
    MissingDataError,
    NoMatchError,
    OutOfRangeError,
    RecipeError,
    ShapeMismatchError,
)
from secateur.recipe.score import SCORES, UnitScore

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.normal(size=(40, 2, 6, 6)).astype(np.float32)
ROWS = GENERATOR.normal(size=(40, 8)).astype(np.float32)
LABELS = GENERATOR.integers(0, 3, 40)


@dataclass(frozen=True)
class Side:
    """One framework, with the same models, data and loss as the other."""

    adapter: Any
    loss: Any
    is_keras: bool

    def convolutional(self) -> Any:
        pair = convolutional_pair(6, 3, seed=1)
        return pair.keras_model if self.is_keras else pair.torch_model

    def dense(self, *widths: int) -> Any:
        pair = dense_pair(widths or (8, 12, 10, 3), seed=1)
        return pair.keras_model if self.is_keras else pair.torch_model

    @property
    def images(self) -> Any:
        return np.ascontiguousarray(IMAGES.transpose(0, 2, 3, 1)) if self.is_keras else IMAGES

    def normalised(self, model: Any) -> list[str]:
        """The kernels of a convolutional model whose channels have a normalisation."""
        return list(self.kernels(model, self.images[:1]))[:2]

    def kernels(self, model: Any, example: Any = None) -> dict[str, Any]:
        listed = self.adapter.parameters(model, example)
        return {each.name: np.array(each.view) for each in listed if each.role == "kernel"}

    def set(self, model: Any, name: str, value: Any) -> None:
        """Assign a kernel (canonical layout) of a dense model."""
        if self.is_keras:
            next(each for each in model.weights if each.path.endswith(name)).assign(value.T)
        else:
            with torch.no_grad():
                model.get_parameter(name).copy_(torch.tensor(value))


SIDES = {
    "torch": Side(st, torch.nn.CrossEntropyLoss(), False),
    "keras": Side(sk, keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
}
ALL = [Magnitude(2), Fisher(), Snip(), Snip(3), Grasp(), SynFlow(5), Lamp(), Random(3), Taylor(), Gradient(), Wanda()]
ACTIVE = [Apoz(), MeanActivation(), ActivationNorm()]
UNITS = [NormScale(), GeometricMedian(), ActivationTaylor(), *ACTIVE]


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> Side:
    return SIDES[request.param]


@pytest.mark.parametrize("score", ALL, ids=repr)
def test_single_weights_go_to_the_number(side: Side, score: Any) -> None:
    model = side.dense()
    before = side.kernels(model)
    pruned = side.adapter.prune(model, Recipe(0.5, score=score), (ROWS, LABELS), side.loss, example=ROWS[:2])
    total = sum(each.size for each in before.values())
    assert sum(int(np.count_nonzero(~mask)) for mask in pruned.masks.values()) == total // 2
    for name, weight in side.kernels(model).items():
        assert np.array_equal(weight[weight != 0], before[name][weight != 0])


@pytest.mark.parametrize("score", [*UNITS, Grasp(), Random(3), Lamp(), Magnitude(2)], ids=repr)
def test_whole_units_go(side: Side, score: Any) -> None:
    model = side.convolutional()
    only = side.normalised(model) if isinstance(score, NormScale) else ["*"]
    recipe = Recipe(0.5, granularity=Neurons(), score=score, scope="layer", include=only)
    pruned = side.adapter.prune(model, recipe, (side.images, LABELS), side.loss)
    assert pruned.compact() is not None
    assert pruned.max_error is not None
    assert pruned.max_error < 1e-5


def test_the_units_of_the_smallest_scales_go(side: Side) -> None:
    model = side.convolutional()
    scale = next(each for each in side.adapter.parameters(model, side.images[:1]) if each.role == "scale")
    size = np.abs(np.array(scale.view))
    recipe = Recipe(0.5, granularity=Neurons(), score=NormScale(), include=side.normalised(model))
    pruned = side.adapter.prune(model, recipe, example=side.images[:2])
    assert np.array_equal(pruned.masks[scale.name], size >= np.sort(size)[3])


def test_activation_taylor_is_activation_times_gradient() -> None:
    """By the chain rule, against autograd with respect to the activations."""
    model = SIDES["torch"].dense()
    activations = torch.relu(model[0](torch.tensor(ROWS))).detach().requires_grad_()
    loss = torch.nn.CrossEntropyLoss()(model[2:](activations), torch.tensor(LABELS))
    (gradient,) = torch.autograd.grad(loss, activations)
    expected = (activations * gradient).sum(0).abs().detach().numpy()
    recipe = Recipe(0.5, granularity=Neurons(), score=ActivationTaylor(), include=["0*"])
    pruned = st.prune(model, recipe, [(ROWS, LABELS)], torch.nn.CrossEntropyLoss())
    found = pruned.outcome(None).scores["0.weight"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("score", ACTIVE, ids=repr)
def test_activations_are_what_the_next_kernel_reads(side: Side, score: Any) -> None:
    model = side.dense()
    first, second, *_ = side.adapter.parameters(model, ROWS[:2])
    hidden = np.maximum(ROWS @ np.array(first.view).T + np.array(second.view), 0)
    expected = {
        Apoz(): np.mean(hidden != 0, 0),
        MeanActivation(): hidden.mean(0),
        ActivationNorm(): np.sqrt(np.square(hidden).mean(0)),
    }[score]
    recipe = Recipe(0.5, granularity=Neurons(), score=score, include=[first.name])
    pruned = side.adapter.prune(model, recipe, ROWS, example=ROWS[:2])
    np.testing.assert_allclose(pruned.outcome(None).scores[first.name], expected, rtol=1e-5, atol=1e-7)


def test_in_a_convolution_s_flattened_map_a_unit_has_the_mean_of_its_places() -> None:
    model = SIDES["torch"].convolutional()
    recipe = Recipe(0.3, granularity=Neurons(), score=MeanActivation(), include=["5*"])
    pruned = st.prune(model, recipe, IMAGES, example=IMAGES[:2])
    with torch.no_grad():
        channels = SIDES["torch"].convolutional()[:6].eval()(torch.tensor(IMAGES)).abs().mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(pruned.outcome(None).scores["5.weight"], channels, rtol=1e-5)


def test_rows_lose_the_same_number_each(side: Side) -> None:
    model, dense = side.dense(), side.dense()
    pruned = side.adapter.prune(model, Recipe(0.4, score=Wanda(), scope="row"), ROWS, example=ROWS[:2])
    before = side.kernels(dense)
    norms = side.adapter.statistics(dense, ROWS, None, ["input_square"])["input_square"]
    for weight, (name, old) in zip(side.kernels(pruned.model).values(), before.items(), strict=True):
        wanda = np.abs(old.astype(np.float64)) * np.sqrt(norms[name])
        gone = int(0.4 * old.shape[1] + 0.5)
        assert np.array_equal(weight != 0, masks.keep_per_row(wanda, old.shape[1] - gone))


def test_rows_are_pruned_step_by_step() -> None:
    torch.manual_seed(0)
    model = SIDES["torch"].dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe = Recipe(0.5, score=Magnitude(), scope="row", schedule=Cubic(begin=1, end=3))
    pruner = st.Pruner(model, recipe, optimizer=optimizer)
    for _ in range(3):
        before = pruner.masks
        step(model, optimizer)
        after = pruner.masks
        assert all(not (after[name] & ~before[name]).any() for name in after)
    for mask in pruner.masks.values():
        assert set((~mask).sum(axis=1).tolist()) == {int(0.5 * mask.shape[1] + 0.5)}


def test_adjusted_weights_make_up_for_those_that_go(side: Side) -> None:
    generator = np.random.default_rng(2)
    rows = np.maximum(generator.normal(size=(200, 8)) @ generator.normal(size=(8, 40)), 0).astype(np.float32)
    errors = {}
    for score in (SparseGpt(), Wanda(), Magnitude()):
        model = side.dense(40, 20)
        old = next(iter(side.kernels(model).values()))
        pruned = side.adapter.prune(model, Recipe(0.5, score=score, scope="row"), rows, example=rows[:2])
        new = next(iter(side.kernels(model).values()))
        (mask,) = pruned.adapter.canonical(model, pruned.masks).values()
        assert np.array_equal(new != 0, mask)
        assert not new[~mask].any()
        errors[type(score).__name__] = float(np.linalg.norm(rows @ (new - old).T))
    assert errors["SparseGpt"] < 0.8 * min(errors["Wanda"], errors["Magnitude"])


def test_a_convolution_s_rows_are_its_windows() -> None:
    """Against the outputs themselves: w^T H w is the mean square of a convolution's outputs."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 5, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False)
    found = st.statistics(layer, IMAGES, None, ["input_gram"])["input_gram"]["weight"]
    rows = layer.weight.detach().double().reshape(5, -1).numpy()
    with torch.no_grad():
        expected = layer(torch.tensor(IMAGES)).square().mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(np.einsum("oi,ij,oj->o", rows, found, rows), expected, rtol=1e-5)


@pytest.mark.parametrize(("padding", "strides", "dilation"), [("same", 2, 1), ("valid", 1, 2), ("same", 1, 3)])
def test_windows_of_keras(padding: str, strides: int, dilation: int) -> None:
    keras.utils.set_random_seed(0)
    layer = keras.layers.Conv2D(
        5, (3, 2), strides=strides, padding=padding, dilation_rate=dilation, use_bias=False, name="conv"
    )
    model = keras.Sequential([keras.Input((6, 6, 2)), layer])
    found = sk.statistics(model, SIDES["keras"].images, None, ["input_gram"])["input_gram"]["conv/kernel"]
    rows = np.array(layer.kernel).transpose(3, 2, 0, 1).reshape(5, -1).astype(np.float64)
    expected = np.square(keras.ops.convert_to_numpy(model(SIDES["keras"].images))).mean((0, 1, 2))
    np.testing.assert_allclose(np.einsum("oi,ij,oj->o", rows, found, rows), expected, rtol=1e-5)


def test_groups_of_a_convolution_have_rows_of_their_own() -> None:
    """In PyTorch as above, group by group; a depthwise, a grouped and a separable convolution of Keras likewise."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, bias=False)
    x = np.random.default_rng(0).normal(size=(20, 4, 6, 6)).astype(np.float32)
    found = st.statistics(layer, x, None, ["input_gram"])["input_gram"]["weight"]
    with torch.no_grad():
        expected = layer(torch.tensor(x)).square().mean((0, 2, 3)).numpy()
    assert found.shape == (2, 12, 12)
    np.testing.assert_allclose(_mean_squares(layer.weight.detach().numpy(), found), expected, rtol=1e-5)
    keras.utils.set_random_seed(0)
    options = {"use_bias": False, "padding": "same", "strides": 2}
    convolutions = [
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="each", **options),
        keras.layers.Conv2D(6, 3, groups=2, name="each", **options),
    ]
    for convolution in convolutions:
        model = keras.Sequential([keras.Input((6, 6, 4)), convolution])
        images = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        ((_, grams),) = sk.statistics(model, images, None, ["input_gram"])["input_gram"].items()
        (kernel,) = (each.view for each in sk.parameters(model) if each.role == "kernel")
        expected = np.square(keras.ops.convert_to_numpy(model(images))).mean((0, 1, 2))
        np.testing.assert_allclose(_mean_squares(kernel, grams), expected, rtol=1e-4)


def _mean_squares(kernel: Any, grams: Any) -> Any:
    """Of the outputs of each row of a kernel, from the mean products of what the groups of rows read."""
    rows = kernel.astype(np.float64).reshape(len(grams), -1, grams.shape[-1])
    return np.einsum("goi,gij,goj->go", rows, grams, rows).ravel()


def test_a_depthwise_convolution_is_adjusted_too(side: Side) -> None:
    model, dense = side.convolutional(), side.convolutional()
    recipe = Recipe(0.5, score=SparseGpt(), scope="layer")
    pruned = side.adapter.prune(model, recipe, side.images, example=side.images[:2])
    found, before = side.kernels(model, side.images[:1]), side.kernels(dense, side.images[:1])
    for (name, new), old in zip(found.items(), before.values(), strict=True):
        (mask,) = pruned.adapter.canonical(model, {name: pruned.masks[name]}).values()
        assert np.array_equal(new != 0, mask)
        assert (new[mask] != old[mask]).any()


def test_a_schedule_chooses_among_what_is_left() -> None:
    torch.manual_seed(0)
    model, data = SIDES["torch"].dense(), ROWS
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe = Recipe(0.6, score=SparseGpt(block=3), schedule=Cubic(begin=0, end=3))
    pruner = st.Pruner(model, recipe, optimizer=optimizer, data=data)
    seen = [pruner.masks]
    for _ in range(3):
        step(model, optimizer)
        seen.append(pruner.masks)
    assert not any(
        (later[name] & ~earlier[name]).any() for earlier, later in itertools.pairwise(seen) for name in later
    )
    assert pruner.sparsity == pytest.approx(0.6, abs=0.01)


def test_adjusted_weights_are_refused_where_they_cannot_be() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.ConvTranspose2d(3, 2, 3))
    transposed = Recipe(0.5, score=SparseGpt())
    refused(SIDES["torch"], MissingDataError, "1.weight has no input_gram", transposed, model, data=IMAGES)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    recipe = Recipe(0.5, score=SparseGpt())
    refused(SIDES["torch"], HoldError, "own", recipe, data=ROWS, optimizer=optimizer)


@pytest.mark.parametrize("score", [Snip(4), SynFlow(4)], ids=repr)
def test_iterations_score_what_is_left(side: Side, score: Any) -> None:
    model, twin = side.dense(), side.dense()
    options = {"example": ROWS[:2]}
    pruned = side.adapter.prune(model, Recipe(0.8, score=score), (ROWS, LABELS), side.loss, **options)
    names = list(side.kernels(twin))
    total = sum(each.size for each in side.kernels(twin).values())
    for index in range(1, 5):
        weights = side.kernels(twin)
        found = side.adapter.statistics(twin, (ROWS, LABELS), side.loss, score.needs, ROWS[:2])[score.needs[0]]
        ranked = [scores.taylor(weights[name], found[name]).astype(np.float64) for name in names]
        pruned_now = int(0.8 * total + 0.5) * (1 - 0.2 ** (index / 4)) / 0.8
        kept = masks.keep_largest(ranked, total - int(pruned_now + 0.5))
        for name, mask in zip(names, kept, strict=True):
            side.set(twin, name, np.where(mask, weights[name], np.float32(0)))
    for weight, expected in zip(side.kernels(model).values(), side.kernels(twin).values(), strict=True):
        assert np.array_equal(weight, expected)
    assert pruned.sparsity == pytest.approx(0.8, abs=0.01)


def test_rounds_leave_no_trace_where_pruning_fails(side: Side) -> None:
    model = side.dense()
    before = side.kernels(model)
    with pytest.raises(InvalidTensorError, match="NaN"):
        side.adapter.prune(model, Recipe(0.5, score=Snip(3)), (ROWS * np.nan, LABELS), side.loss, example=ROWS[:2])
    assert all(np.array_equal(before[name], weight) for name, weight in side.kernels(model).items())


def torch_training(score: Any, **options: Any) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    model = SIDES["torch"].dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    recipe = Recipe(0.6, score=score, schedule=Cubic(begin=1, end=3))
    pruner = st.Pruner(model, recipe, optimizer=optimizer, **options)
    return model, optimizer, pruner


def step(model: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    torch.nn.CrossEntropyLoss()(model(torch.tensor(ROWS)), torch.tensor(LABELS)).backward()
    optimizer.step()


def test_movement_adds_up_over_the_prunings() -> None:
    loss = torch.nn.CrossEntropyLoss()
    model, optimizer, pruner = torch_training(Movement(), data=[(ROWS, LABELS)], loss=loss)
    total = dict(pruner.statistics["movement"])
    for _ in range(3):
        step(model, optimizer)
        gradient = pruner.statistics["mean_gradient"]["2.weight"]
        kept, weight = pruner.masks["2.weight"], model[2].weight.detach().numpy()
        expected = total["2.weight"] - weight.astype(np.float64) * gradient
        assert np.array_equal(pruner.statistics["movement"]["2.weight"][kept], expected[kept])
        total = dict(pruner.statistics["movement"])
    assert pruner.sparsity == pytest.approx(0.6, abs=0.01)
    assert total["2.weight"].min() < 0 < total["2.weight"].max()
    assert np.median(total["2.weight"][kept]) > np.median(total["2.weight"][~kept])


def test_movement_adds_up_over_the_training_steps_where_there_is_no_data() -> None:
    model, optimizer, pruner = torch_training(Movement())
    before = pruner.masks
    expected, masked = 0.0, []
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.CrossEntropyLoss()(model(torch.tensor(ROWS)), torch.tensor(LABELS)).backward()
        weight, gradient = (
            each.detach().numpy().astype(np.float64) for each in (model[2].weight, model[2].weight.grad)
        )
        expected = expected - weight * gradient
        optimizer.step()
        assert np.array_equal(pruner.statistics["movement"]["2.weight"], expected)
        masked.append(pruner.masks)
    assert all(mask.all() for mask in before.values())
    assert not any(
        (later[name] & ~earlier[name]).any() for earlier, later in itertools.pairwise(masked) for name in later
    )
    movement = pruner.statistics["movement"]["2.weight"]
    assert np.median(movement[masked[-1]["2.weight"]]) > np.median(movement[~masked[-1]["2.weight"]])
    pruner.release()
    step(model, optimizer)
    assert np.array_equal(pruner.statistics["movement"]["2.weight"], movement)


def test_movement_of_training_steps_begins_with_the_first() -> None:
    model = SIDES["torch"].dense()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with pytest.raises(MissingDataError, match="of which there is none before the first"):
        st.Pruner(model, Recipe(0.5, score=Movement(), schedule=Cubic(begin=0, end=3)), optimizer)
    assert all(np.count_nonzero(each) == each.size for each in SIDES["torch"].kernels(model).values())


def test_init_relative_remembers_the_beginning() -> None:
    model, optimizer, pruner = torch_training(InitRelative())
    start = {name: np.array(each) for name, each in SIDES["torch"].kernels(model).items()}
    for _ in range(2):
        step(model, optimizer)
    optimizer.step()  # the same gradients once more
    assert all(np.array_equal(start[name], pruner.statistics["initial_weight"][name]) for name in start)
    assert pruner.sparsity == pytest.approx(0.6, abs=0.01)
    twin = SIDES["torch"].dense()
    distance = {name: np.full_like(each, 0.0) for name, each in start.items()}
    distance["4.weight"][0, 0] = 1.0
    given = {"initial_weight": {name: start[name] + distance[name] for name in start}}
    recipe = Recipe(0.9, score=InitRelative(), scope="layer", include=["4*"])
    found = st.prune(twin, recipe, statistics=given).masks["4.weight"]
    assert found[0, 0]
    assert found.sum() == 3


def test_chance_is_the_same_in_both_frameworks_and_at_every_step() -> None:
    found = []
    for side in SIDES.values():
        model = side.dense()
        pruned = side.adapter.prune(model, Recipe(0.5, score=Random(5)), example=ROWS[:2])
        found.append([weight != 0 for weight in side.kernels(pruned.model).values()])
        other = side.adapter.prune(side.dense(), Recipe(0.5, score=Random(6)), example=ROWS[:2])
        assert not np.array_equal(found[-1][0], next(iter(side.kernels(other.model).values())) != 0)
    for one, another in zip(*found, strict=True):
        assert np.array_equal(one, another)


def refused(side: Side, error: Any, match: str, recipe: Recipe, model: Any = None, **options: Any) -> None:
    model = side.dense() if model is None else model
    before = side.kernels(model)
    with pytest.raises(error, match=match):
        side.adapter.prune(model, recipe, **options)
    assert all(np.array_equal(before[name], weight) for name, weight in side.kernels(model).items())


def test_what_a_score_lacks_is_named(side: Side) -> None:
    data = (ROWS, LABELS)
    for score in (Fisher(), Grasp(), Snip(), Movement(), ActivationTaylor()):
        recipe = (
            Recipe(0.5, score=score, granularity=Neurons())
            if isinstance(score, UnitScore)
            else Recipe(0.5, score=score)
        )
        refused(side, MissingDataError, f"{type(score).__name__} is computed from gradients", recipe)
    refused(side, MissingDataError, "Wanda is computed from what layers read", Recipe(0.5, score=Wanda()))
    refused(side, MissingDataError, "weights of the beginning", Recipe(0.5, score=InitRelative()), data=data)
    loader = iter([data])
    refused(
        side, MissingDataError, "read once", Recipe(0.5, score=Grasp()), data=loader, loss=side.loss, example=ROWS[:1]
    )
    refused(
        side, MissingDataError, "read once", Recipe(0.5, score=Snip(2)), data=loader, loss=side.loss, example=ROWS[:1]
    )
    recipe = Recipe(0.5, score=NormScale(), granularity=Neurons())
    refused(side, NoMatchError, "normalisation scales of units, but some of .* have none", recipe, example=ROWS[:2])


def test_ones_need_real_inputs_and_logits(side: Side) -> None:
    flow = Recipe(0.5, score=SynFlow(2))
    if side.is_keras:
        keras.utils.set_random_seed(0)
        ending = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
    else:
        ending = torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Softmax(1))
        refused(side, ExampleError, "pass example=", flow)
    refused(side, ExampleError, "ends in a softmax", flow, model=ending, example=ROWS[:2])
    with pytest.raises(ExampleError, match="int64 and no array of floats"):
        side.adapter.statistics(side.dense(), None, None, ["flow_gradient"], np.zeros((2, 8), np.int64))


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: Recipe(0.5, score=NormScale()), RecipeError, "NormScale tells how much a whole unit matters"),
        (lambda: Recipe(0.5, Layers(), score=GeometricMedian()), RecipeError, r"but Layers\(\) prunes"),
        (lambda: Recipe(0.5, Neurons(2), score=Grasp()), RecipeError, "Grasp has signs"),
        (lambda: Recipe(0.5, Neurons(relative=True), score=Movement()), RecipeError, "relative=False"),
        (lambda: Recipe(Percentile(50, "normal"), score=Grasp()), RecipeError, "distribution of magnitudes"),
        (lambda: Recipe(0.5, Neurons("inf"), score=InitRelative(increase=True)), RecipeError, "has signs"),
        (lambda: Recipe(0.5, Neurons(), scope="row"), RecipeError, "scope='row' takes the same number"),
        (lambda: Recipe(Percentile(50), scope="row"), RecipeError, "scope='row' takes the same number"),
        (lambda: Recipe(0.5, Neurons(compensate=True), score=SparseGpt()), RecipeError, "compensate=False"),
        (lambda: SparseGpt(-1), OutOfRangeError, "damping=-1"),
        (lambda: SparseGpt(block=0), OutOfRangeError, "the block is 0"),
        (lambda: Magnitude(0), OutOfRangeError, "p is 0"),
        (lambda: Magnitude(1.5), RecipeError, "p is 1.5"),
        (lambda: SynFlow(0), OutOfRangeError, "iterations=0"),
        (lambda: Snip("3"), RecipeError, "iterations"),
        (lambda: Random(-1), OutOfRangeError, "the seed is -1"),
        (lambda: InitRelative("yes"), RecipeError, "True or False"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_made(build: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        build()


def test_every_score_can_be_written_and_read() -> None:
    for kind in SCORES.values():
        granularity = {"granularity": Neurons()} if issubclass(kind, UnitScore) else {}
        recipe = Recipe(Sparsity(0.5), score=kind(), schedule=OneShot(at=5), **granularity)
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        assert recipe.score.words


def test_a_score_of_one_s_own() -> None:
    side, crop = SIDES["torch"], [0]

    @register(needs=["importance"], words="importance")
    def importance(weight: Any, statistics: Any, name: str) -> Any:
        return statistics["importance"][:, crop[0] :]

    def ordinary(weight: Any, statistics: Any, name: str) -> Any:
        return weight

    try:
        model = side.dense(4, 6, 3)
        shapes = {name: each.shape for name, each in side.kernels(model).items()}
        given = {name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in shapes.items()}
        recipe = Recipe(0.5, score=importance, scope="layer")
        pruned = st.prune(model, recipe, statistics={"importance": given})
        assert all(not mask.ravel()[: mask.size // 2].any() for mask in pruned.masks.values())
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        crop[0] = 1
        match = r"importance gave 0.weight scores of shape \(6, 3\), expected \(6, 4\)"
        refused(side, ShapeMismatchError, match, recipe, side.dense(4, 6, 3), statistics={"importance": given})
        refused(side, MissingDataError, "importance cannot be", recipe, data=(ROWS, LABELS), loss=side.loss)
        ordinary.__name__ = "importance"
        with pytest.raises(RecipeError, match="a score named importance already"):
            register()(ordinary)
    finally:
        del SCORES["importance"]
