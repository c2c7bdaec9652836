"""What is verified before a smaller model is handed over, and what could verify nothing."""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as hyp
from hypothesis.extra import numpy as hnp

import secateur_keras as sk
import secateur_torch as st
from secateur import Neurons, Recipe
from secateur.errors import ExampleError, ShapeMismatchError, VerificationError
from secateur.verification import TOLERANCES, is_noise, largest_error, require_telling
from strategies import shapes

HALF = Recipe(0.5, granularity=Neurons(), scope="layer")
X = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)

numbers = hyp.floats(-1e3, 1e3).filter(lambda value: value == 0 or abs(value) > 1e-3)
outputs = hnp.arrays(np.float64, shapes(min_side=1), elements=hyp.one_of(numbers, hyp.sampled_from([np.inf, -np.inf])))


def reach(output: np.ndarray, of: np.ndarray) -> float:
    """The largest magnitude of ``output`` where ``of`` is finite."""
    return float(np.abs(output[np.isfinite(of)]).max(initial=0.0))


@given(hyp.integers(0, 99), hyp.sampled_from([(4, 4), (2, 3, 32, 32), (1, 70000)]), hyp.sampled_from("fd"))
def test_random_numbers_are_noise_and_what_repeats_is_not(seed: int, shape: tuple[int, ...], kind: str) -> None:
    noise = np.random.default_rng(seed).normal(size=shape).astype(kind)
    assert is_noise(noise) and is_noise(1e-3 * noise) and is_noise(noise.T)
    steps = np.arange(noise.size, dtype=kind).reshape(shape)
    for telling_less in (np.zeros_like(noise), np.ones_like(noise), steps, -3 * steps, np.round(noise)):
        assert not is_noise(telling_less)
    assert not is_noise(np.broadcast_to(noise[..., :1], shape)) and not is_noise(noise[..., :0])


@given(hyp.lists(outputs, min_size=1, max_size=3), hyp.floats(0, 1e-6), hyp.data())
def test_the_error_is_that_of_the_worst_output_and_rounding_is_let_pass(expected, shift, data) -> None:  # type: ignore[no-untyped-def]
    assume(any(reach(output, output) > 0 for output in expected))
    require_telling(expected)
    assert largest_error(expected, expected) == 0.0
    scales = data.draw(hyp.lists(hyp.sampled_from([0.0, shift]), min_size=len(expected), max_size=len(expected)))
    moved = [output + scale * (reach(output, output) or 1.0) for output, scale in zip(expected, scales, strict=True)]
    with np.errstate(invalid="ignore"):
        errors = [reach(b - a, a) / (reach(a, a) or 1.0) for a, b in zip(expected, moved, strict=True)]
    if max(errors) <= TOLERANCES["float64"]:
        assert largest_error(expected, moved) == max(errors)
    else:
        with pytest.raises(VerificationError, match="differ from the masked model's"):
            largest_error(expected, moved)


def test_a_model_that_computes_with_a_size_is_told_so() -> None:
    class Divided(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.first(x))
            if x.sum() < 0:  # what no exported graph can hold either
                x = -x
            return self.last(x / x.shape[-1])

    pruned = st.prune(Divided(), Recipe(0.5, granularity=Neurons()), example=torch.randn(5, 4))
    with pytest.raises(VerificationError, match=r"compute with a size, as in x / x\.shape\[-1\]\?"):
        pruned.compact()


def test_each_output_is_held_to_its_own_precision() -> None:
    rough, exact = np.ones(4, np.float16), np.ones(4, np.float64)
    assert largest_error([rough, exact], [rough * np.float16(1.005), exact]) == pytest.approx(0.005, rel=0.1)
    with pytest.raises(VerificationError, match="of output 1"):
        largest_error([rough, exact], [rough, exact * 1.005])
    with pytest.raises(VerificationError, match="of output 0"):
        largest_error([np.arange(3)], [np.array([0, 2, 2])])
    with pytest.raises(VerificationError, match="of output 0"):
        largest_error([np.array([1 + 1j])], [np.array([1 + 2j])])
    assert largest_error([np.ones(2, ml_dtypes.bfloat16)], [np.full(2, 1.03, ml_dtypes.bfloat16)]) < 0.05


@pytest.mark.parametrize(
    ("expected", "error", "match"),
    [
        ([np.zeros((0, 3))], ExampleError, r"output 0 of the model has shape \(0, 3\)"),
        ([np.ones(2), np.zeros((1, 0, 4))], ExampleError, r"output 1 of the model has shape \(1, 0, 4\)"),
        ([np.zeros((2, 3)), np.full(2, np.inf)], ExampleError, "all zero or infinite"),
        (
            [np.array([[1.0, 2.0], [3.0, np.nan]])],
            VerificationError,
            r"masked model itself gives NaN, first at \(1, 1\)",
        ),
    ],
)
def test_outputs_that_could_show_no_difference(expected: list[Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        require_telling(expected)


@pytest.mark.parametrize(
    ("actual", "match"),
    [
        ([np.array([1.0, np.nan])], r"only one of the two models gives NaN at \(1,\) of output 0"),
        ([np.array([np.inf, np.inf])], r"only one of the two models gives infinity at \(0,\)"),
        ([np.array([1.0, -np.inf])], r"only one of the two models gives infinity at \(1,\)"),
        ([np.array([1.0])], "other shapes"),
    ],
)
def test_numbers_that_only_one_model_gives(actual: list[Any], match: str) -> None:
    with pytest.raises(VerificationError, match=match):
        largest_error([np.array([1.0, np.inf])], actual)


def torch_model(bias: bool = True) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8, bias), torch.nn.ReLU(), torch.nn.Linear(8, 3, bias))


def keras_model(bias: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, activation="relu", use_bias=bias)
    return keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(3, use_bias=bias)])


BOTH = [(st, torch_model), (sk, keras_model)]


@pytest.mark.parametrize(("adapter", "build"), BOTH)
@pytest.mark.parametrize("empty", [X[:0], (X[:0],), [X[:0]]])
def test_an_example_without_rows(adapter: Any, build: Any, empty: Any) -> None:
    with pytest.raises(ExampleError, match="has no row"):
        adapter.prune(build(), HALF, example=empty)
    pruned = adapter.prune(build(), HALF, example=X)
    with pytest.raises(ExampleError, match="at least one row"):
        pruned.compact(X[:0])
    assert pruned.max_error is None


@pytest.mark.parametrize(("adapter", "build"), BOTH)
def test_an_example_on_which_everything_is_zero(adapter: Any, build: Any) -> None:
    pruned = adapter.prune(build(bias=False), HALF, example=X)
    with pytest.raises(ExampleError, match="all zero"):
        pruned.compact(np.zeros_like(X))
    pruned.compact()
    assert pruned.max_error < 1e-5


@pytest.mark.parametrize(("adapter", "build"), BOTH)
def test_nan_in_the_example_is_not_called_a_difference(adapter: Any, build: Any) -> None:
    pruned = adapter.prune(build(), HALF, example=X)
    with pytest.raises(VerificationError, match="masked model itself gives NaN"):
        pruned.compact(np.full_like(X, np.nan))


def test_a_model_whose_layers_were_exchanged_is_refused() -> None:
    model = torch_model()
    pruned = st.prune(model, Recipe(0.5), example=X)
    model[0] = torch.nn.Linear(6, 9)
    with pytest.raises(ShapeMismatchError, match=r"0\.weight has the shape \(9, 6\), its mask \(8, 6\)"):
        pruned.summary()


def test_the_coarsest_type_that_was_computed_with_sets_the_tolerance() -> None:
    expected, actual = [np.array([1.0, 2.0])], [np.array([1.0, 2.0 + 1e-5])]
    with pytest.raises(VerificationError, match="differ"):
        largest_error(expected, actual)
    assert largest_error(expected, actual, precision="float32") == pytest.approx(5e-6)
