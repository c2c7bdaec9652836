"""Every mistake gets its own error, which names what is wrong, and nothing is changed: in both frameworks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from secateur import Cubic, Gradient, KSigma, Neurons, Percentile, Recipe
from secateur.errors import (
    EmptyLayerError,
    ExampleError,
    FileFormatError,
    InvalidTensorError,
    MissingDataError,
    MissingWeightsError,
    ModelTypeError,
    NoMatchError,
    OutOfRangeError,
    RecipeError,
    SecateurError,
    ShapeMismatchError,
    UnbuiltModelError,
    UnsupportedDtypeError,
)

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 40)


@dataclass(frozen=True)
class Framework:
    """One adapter, with a model for it and ways to look at the model's weights."""

    adapter: Any
    build: Callable[[], Any]
    weights: Callable[[Any], list[np.ndarray]]
    loss: Callable[[], Any]


def torch_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


def keras_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


FRAMEWORKS = {
    "torch": Framework(
        st,
        torch_model,
        lambda model: [tensor.detach().clone().numpy() for tensor in model.state_dict().values()],
        torch.nn.CrossEntropyLoss,
    ),
    "keras": Framework(sk, keras_model, lambda model: [np.array(w) for w in model.get_weights()], lambda: None),
}


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Framework:
    return FRAMEWORKS[request.param]


def refused(framework: Framework, error: type[SecateurError], match: str, recipe: Recipe, **options: Any) -> None:
    """``prune`` raises this error and leaves every weight as it was."""
    model = options.pop("model", None) or framework.build()
    before = framework.weights(model)
    with pytest.raises(error, match=match):
        framework.adapter.prune(model, recipe, **options)
    for left, right in zip(before, framework.weights(model), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("target", [-1, 101])
def test_percentile_outside_its_range(target: float) -> None:
    with pytest.raises(OutOfRangeError, match="outside 0 to 100"):
        Recipe(Percentile(target))


def test_sparsity_of_one() -> None:
    with pytest.raises(OutOfRangeError, match="outside 0 <= sparsity < 1"):
        Recipe(1.0)


@pytest.mark.parametrize("granularity", [None, Neurons()])
def test_nan_in_a_weight(framework: Framework, granularity: Neurons | None) -> None:
    model = framework.build()
    if isinstance(model, torch.nn.Module) and framework.adapter is st:
        with torch.no_grad():
            model[0].weight[3, 2] = float("nan")
        name = "0.weight"
    else:
        kernel = model.layers[0].kernel
        values = np.array(kernel)
        values[2, 3] = np.nan
        kernel.assign(values)
        name = f"{model.layers[0].name}/kernel"
    recipe = Recipe(0.5) if granularity is None else Recipe(0.5, granularity=granularity)
    refused(framework, InvalidTensorError, rf"{name}.*\(3, 2\)", recipe, model=model, example=X[:2])


def spoil(framework: Framework, model: Any, value: float, *names: str) -> str:
    """Put ``value`` at index 1 of the first parameter whose name ends with one of these; returns its name."""
    for parameter in framework.adapter._ADAPTER.parameters(model):
        if parameter.name.endswith(names):
            if framework.adapter is st:
                with torch.no_grad():
                    model.state_dict()[parameter.name].view(-1)[1] = value
            else:
                (variable,) = [weight for weight in model.weights if weight.path.endswith(parameter.name)]
                numbers = np.array(variable)
                numbers.reshape(-1)[1] = value
                variable.assign(numbers)
            return str(parameter.name)
    raise AssertionError(f"no parameter is called {names}")


def normalised(framework: Framework) -> Any:
    if framework.adapter is st:
        torch.manual_seed(0)
        layers = [torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)]
        return torch.nn.Sequential(*layers).eval()
    keras.utils.set_random_seed(0)
    dense = [keras.layers.Dense(8, name="first"), keras.layers.BatchNormalization(name="norm")]
    return keras.Sequential([keras.Input((6,)), *dense, keras.layers.ReLU(), keras.layers.Dense(3, name="last")])


@pytest.mark.parametrize(
    "names",
    [
        ("0.bias", "first/bias"),
        ("1.weight", "norm/gamma"),
        ("1.bias", "norm/beta"),
        ("running_mean", "moving_mean"),
        ("running_var", "moving_variance"),
    ],
)
def test_nan_anywhere_in_the_model(framework: Framework, names: tuple[str, str]) -> None:
    model = normalised(framework)
    name = spoil(framework, model, float("nan"), *names)
    for recipe in (Recipe(0.5), Recipe(0.5, granularity=Neurons()), Recipe(0.5, score=Gradient())):
        options = {} if not recipe.score.needs else {"data": (X, Y), "loss": torch.nn.CrossEntropyLoss()}
        match = rf"^{name} holds NaN at index \(1,\)"
        refused(framework, InvalidTensorError, match, recipe, model=model, example=X[:2], **options)


def test_an_infinite_weight_is_the_last_to_go(framework: Framework) -> None:
    model = framework.build()
    name = spoil(framework, model, -float("inf"), framework.adapter._ADAPTER.parameters(model)[0].name)
    pruned = framework.adapter.prune(model, Recipe(0.97, scope="layer"), example=X[:2])
    (view,) = [item.view for item in pruned.parameters() if item.name == name]
    assert np.isinf(view).sum() == np.count_nonzero(view) == 1
    with pytest.raises(SecateurError, match=r"NaN|infinite"):
        pruned.compact()


STATISTICS = {
    "a list": ([1], MissingDataError, "statistics is a list"),
    "no names": ({"mean_abs_gradient": [1]}, MissingDataError, r"statistics\['mean_abs_gradient'\] is a list"),
    "another statistic": ({"mean_gradient": {}}, MissingDataError, "lack mean_abs_gradient"),
    "nothing for a layer": ({"mean_abs_gradient": {}}, MissingDataError, "has no mean_abs_gradient"),
}


@pytest.mark.parametrize("case", STATISTICS)
def test_statistics_of_another_form(framework: Framework, case: str) -> None:
    given, error, match = STATISTICS[case]
    refused(framework, error, match, Recipe(0.5, score=Gradient()), statistics=given, example=X[:2])


def ones(framework: Framework, model: Any, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    parameters = framework.adapter._ADAPTER.parameters(model)
    return {item.name: np.ones(item.view.shape, dtype) for item in parameters if item.role == "kernel"}


@pytest.mark.parametrize("dtype", [np.int32, np.complex64, np.bool_, object])
def test_statistics_without_an_order(framework: Framework, dtype: Any) -> None:
    model = framework.build()
    given = {"mean_abs_gradient": ones(framework, model, dtype)}
    recipe = Recipe(0.5, score=Gradient())
    refused(
        framework, UnsupportedDtypeError, r"statistics\[.*\] of .* has dtype", recipe, model=model, statistics=given
    )


def test_statistics_of_another_model_or_shape(framework: Framework) -> None:
    model, recipe = framework.build(), Recipe(0.5, score=Gradient())
    good = ones(framework, model)
    first = next(iter(good))
    for change, error, match in (
        ({"stranger": good[first]}, NoMatchError, "has stranger, but the model's weights are"),
        ({first: np.ones((8, 7))}, ShapeMismatchError, r"has shape \(8, 7\), expected \(8, 6\).*\(out, in\)$"),
        ({first: np.full((8, 6), np.nan)}, InvalidTensorError, rf"of {first} holds NaN at index \(0, 0\)"),
    ):
        given = {"mean_abs_gradient": good | change}
        refused(framework, error, match, recipe, model=model, statistics=given, example=X[:2])


def test_statistics_in_the_layout_of_keras_are_told_from_the_canonical_one() -> None:
    framework = FRAMEWORKS["keras"]
    model = framework.build()
    given = {"mean_abs_gradient": {name: array.T for name, array in ones(framework, model).items()}}
    match = r"has shape \(6, 8\), expected \(8, 6\).*\(6, 8\) is the framework's own layout"
    refused(framework, ShapeMismatchError, match, Recipe(0.5, score=Gradient()), model=model, statistics=given)


def test_statistics_may_be_tensors_of_any_library_and_sign(framework: Framework) -> None:
    model = framework.build()
    drawn = {name: torch.randn(array.shape) for name, array in ones(framework, model).items()}
    pruned = framework.adapter.prune(model, Recipe(0.5, score=Gradient()), statistics={"mean_abs_gradient": drawn})
    assert all(isinstance(array, np.ndarray) for array in pruned.statistics["mean_abs_gradient"].values())
    kept = pruned.adapter.canonical(model, pruned.masks)
    lowest = min(float(drawn[name].abs().numpy()[mask].min()) for name, mask in kept.items())
    assert all((drawn[name].abs().numpy()[~mask] <= lowest).all() for name, mask in kept.items())


@pytest.mark.parametrize("recipe", [0.9, None, "0.9", Recipe, {"target": 0.9}])
def test_something_else_than_a_recipe(framework: Framework, recipe: Any) -> None:
    refused(framework, RecipeError, r"give a Recipe, such as Recipe\(0\.9\)", recipe)


def test_a_pruner_of_something_else_than_a_recipe() -> None:
    model = torch_model()
    with pytest.raises(RecipeError, match=r"the recipe is 0\.9, a float"):
        st.Pruner(model, 0.9, torch.optim.SGD(model.parameters(), 0.1))  # type: ignore[arg-type]


def test_a_recipe_that_would_empty_a_layer(framework: Framework) -> None:
    refused(framework, EmptyLayerError, "would prune all", Recipe(KSigma(50.0), scope="layer"))
    recipe = Recipe(KSigma(50.0), granularity=Neurons())
    refused(framework, EmptyLayerError, "would remove all", recipe, example=X[:2])


@pytest.mark.parametrize("granularity", [None, Neurons()])
def test_the_scope_that_a_recipe_has_is_not_advised(framework: Framework, granularity: Neurons | None) -> None:
    options: dict[str, Any] = {} if granularity is None else {"granularity": granularity}
    example = {} if granularity is None else {"example": X[:2]}
    match = r"exclude it or lower the target$"
    refused(framework, EmptyLayerError, match, Recipe(KSigma(50.0), scope="layer", **options), **example)
    match = r"exclude it, lower the target, or use scope='layer'$"
    refused(framework, EmptyLayerError, match, Recipe(KSigma(50.0), **options), **example)


def test_incomplete_statistics_are_named_as_a_cause(framework: Framework) -> None:
    model = framework.build()
    first, *_ = framework.adapter.parameters(model)
    given = {"mean_abs_gradient": {first.name: np.ones(first.view.shape, np.float32)}}
    recipe = Recipe(0.5, score=Gradient())
    refused(framework, MissingDataError, "statistics that were given lack it", recipe, model=model, statistics=given)


def test_a_pattern_that_matches_no_layer(framework: Framework) -> None:
    refused(framework, NoMatchError, "'convolution' matches no layer", Recipe(0.5, include=["convolution"]))
    refused(framework, NoMatchError, "'convolution' matches no layer", Recipe(0.5, exclude=["convolution"]))


def test_no_neuron_can_be_removed(framework: Framework) -> None:
    model = framework.build()
    last = framework.adapter.parameters(model)[-1].layer
    recipe = Recipe(0.5, granularity=Neurons(), include=[last])
    refused(framework, NoMatchError, "no neuron of the chosen layers", recipe, example=X[:2], model=model)


def test_data_without_labels(framework: Framework) -> None:
    recipe = Recipe(0.5, score=Gradient())
    refused(framework, MissingDataError, "without labels", recipe, data=X, loss=framework.loss())
    refused(framework, MissingDataError, "without labels", recipe, data=[X[:8], X[8:16]], loss=framework.loss())
    refused(framework, MissingDataError, "data", recipe, loss=framework.loss())
    refused(framework, MissingDataError, "no batch", recipe, data=iter([]), loss=framework.loss())


def test_gradients_without_a_loss() -> None:
    refused(FRAMEWORKS["torch"], MissingDataError, "loss", Recipe(0.5, score=Gradient()), data=(X, Y))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    refused(FRAMEWORKS["keras"], MissingDataError, "loss", Recipe(0.5, score=Gradient()), data=(X, Y), model=model)


def test_labels_of_another_length(framework: Framework) -> None:
    recipe = Recipe(0.5, score=Gradient())
    refused(framework, SecateurError, "40 inputs but 39 labels", recipe, data=(X, Y[:39]), loss=framework.loss())


def test_labels_and_inputs_that_the_loss_or_the_model_refuses(framework: Framework) -> None:
    recipe = Recipe(0.5, score=Gradient())
    match = r"does not accept batch 1, inputs \(float32 \(8, 6\)\) with labels \(int64 \(8, 2\)\): give labels"
    data = [(X[:8], Y[:8]), (X[8:16], np.stack([Y[8:16], Y[8:16]], axis=1))]
    refused(framework, MissingDataError, match, recipe, data=data, loss=framework.loss(), example=X[:2])
    match = r"does not accept batch 0, inputs \(float32 \(8, 7\)\) with labels \(int64 \(8,\)\)"
    data = [(np.zeros((8, 7), np.float32), Y[:8])]
    refused(framework, MissingDataError, match, recipe, data=data, loss=framework.loss(), example=X[:2])
    words = [(X[:8], np.array(["a", "b"] * 4))]
    refused(framework, MissingDataError, "batch 0", recipe, data=words, loss=framework.loss(), example=X[:2])


def test_an_example_of_another_shape(framework: Framework) -> None:
    recipe = Recipe(0.5, granularity=Neurons())
    refused(framework, ExampleError, "example", recipe, example=np.zeros((2, 7), np.float32))


def test_a_schedule_needs_a_pruner(framework: Framework) -> None:
    refused(framework, RecipeError, "Pruner", Recipe(0.5, schedule=Cubic(begin=0, end=10, every=1)))


def test_neurons_without_an_example() -> None:
    refused(FRAMEWORKS["torch"], ExampleError, "example=", Recipe(0.5, granularity=Neurons()))


def test_an_unbuilt_keras_model() -> None:
    with pytest.raises(UnbuiltModelError, match="has no weights yet"):
        sk.prune(keras.Sequential([keras.layers.Dense(3)]), Recipe(0.5))


@pytest.mark.parametrize("model", [None, torch_model().state_dict(), [torch.nn.Linear(3, 3)], torch.nn.Linear])
def test_something_else_than_a_torch_module(model: Any) -> None:
    match = rf"the model is a {type(model).__name__}: give the torch\.nn\.Module itself"
    calls: list[Callable[[], Any]] = [
        lambda: st.prune(model, Recipe(0.5)),
        lambda: st.Pruner(model, Recipe(0.5), torch.optim.SGD(torch_model().parameters(), 0.1)),
        lambda: st.statistics(model, (X, Y), torch.nn.CrossEntropyLoss(), ["mean_gradient"]),
        lambda: st.graph(model, X),
        lambda: st.parameters(model),
    ]
    for call in calls:
        with pytest.raises(ModelTypeError, match=match):
            call()


def test_a_report_in_the_place_of_a_folder(tmp_path: Path) -> None:
    pruned = st.prune(torch_model(), Recipe(0.5))
    with pytest.raises(FileFormatError, match=r"is a folder: give the name of a file, such as .*report\.html"):
        pruned.report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.parent.glob(".*.part")) == []


def test_a_lazy_torch_module() -> None:
    with pytest.raises(UnbuiltModelError):
        st.prune(torch.nn.Sequential(torch.nn.LazyLinear(3)), Recipe(0.5))


def test_a_model_on_the_meta_device() -> None:
    with pytest.raises(MissingWeightsError, match="meta"):
        st.prune(torch.nn.Linear(3, 3, device="meta"), Recipe(0.5))


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_an_integer_or_complex_weight(dtype: torch.dtype) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = torch.nn.Parameter(torch.ones(3, 3, dtype=dtype), requires_grad=False)
    with pytest.raises(UnsupportedDtypeError, match=r"1\.weight"):
        st.prune(model, Recipe(0.5))


def test_a_generator_cannot_feed_a_schedule() -> None:
    model = torch_model()
    recipe = Recipe(0.5, score=Gradient(), schedule=Cubic(begin=0, end=10, every=1))
    batches = (pair for pair in [(X, Y)])
    with pytest.raises(MissingDataError, match="generator"):
        st.Pruner(
            model, recipe, torch.optim.SGD(model.parameters(), 0.1), data=batches, loss=torch.nn.CrossEntropyLoss()
        )


def test_a_keras_pruner_before_training_says_so() -> None:
    with pytest.raises(SecateurError, match="fit"):
        _ = sk.Pruner(Recipe(0.5)).masks
