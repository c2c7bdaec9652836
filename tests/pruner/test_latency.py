"""Half of the time is half of it as measured: told with a clock that does not depend on the machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as hs

import secateur_torch as st
from secateur import Latency, Linear, Neurons, OneShot, Recipe, Weights, latency, pruner
from secateur.errors import ExampleError, RecipeError, SecateurError, UnreachableTargetError, VerificationError
from secateur.latency import MODELS, Timing, search
from secateur.recipe.serial import decode, encode
from secateur_torch.adapter import TorchAdapter

X = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32))


class Clock(TorchAdapter):
    """A machine on which a pass takes a microsecond for each weight, and two for the call; nothing is timed."""

    def __init__(self, noise: Callable[[], float] = lambda: 1.0) -> None:
        self.made: list[int] = []
        self._noise = noise

    def timer(self, model: torch.nn.Module, example: Any) -> Callable[[], float]:
        count = sum(parameter.numel() for parameter in model.parameters())
        self.made.append(count)
        return lambda: 1e-6 * (2 + count) * self._noise()


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(12, 40),
        torch.nn.ReLU(),
        torch.nn.Linear(40, 30),
        torch.nn.ReLU(),
        torch.nn.Linear(30, 5),
    ]
    return torch.nn.Sequential(*layers)


def microseconds(model: torch.nn.Module) -> int:
    return 2 + sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("units", [Neurons(), Neurons(minimum=2, multiple=4)])
def test_the_smaller_model_takes_what_was_asked_for(fraction: float, units: Neurons) -> None:
    clock, model = Clock(), network()
    pruned = pruner.prune(clock, model, Recipe(Latency(fraction), granularity=units), example=X)
    assert pruned.timing is not None
    dense, small = microseconds(model), microseconds(pruned.compact())
    assert (pruned.timing.dense, pruned.timing.small) == pytest.approx((1e-6 * dense, 1e-6 * small))
    assert small <= (1 - fraction) * dense
    assert len(clock.made) <= 1 + MODELS
    if fraction == 0.0:
        assert small == dense and len(clock.made) == 1
    elif units == Neurons():
        assert small > 0.9 * (1 - fraction) * dense  # a unit of the widest layer is 3 % of all


def test_a_time_in_milliseconds_is_met() -> None:
    model = network()
    recipe = Recipe(Latency(milliseconds=0.9), granularity=Neurons())
    pruned = pruner.prune(Clock(), model, recipe, example=X)
    assert 850 < microseconds(pruned.compact()) <= 900 < microseconds(model)
    fast = pruner.prune(Clock(), network(), Recipe(Latency(milliseconds=5.0), granularity=Neurons()), example=X)
    assert fast.plan().removed == 0


def test_what_was_measured_is_shown(tmp_path: Any) -> None:
    recipe = Recipe(Latency(0.5), granularity=Neurons())
    pruned = pruner.prune(Clock(), network(), recipe, example=X)
    assert pruned.timing is not None
    told = f"({100 * pruned.timing.small / pruned.timing.dense:.1f} %), as measured"
    assert told in " ".join(str(pruned.summary()).split())
    page = pruned.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "until 50 % of the time of a forward pass is gone" in page
    assert "Latency" in page
    stages = pruned._stages(pruned._traced(None), pruned.plan())
    assert stages["dense"].latency_ms == pytest.approx(1.907)
    assert stages["compact"].latency_ms == pytest.approx(1000 * pruned.timing.small)
    pruned.save(tmp_path / "saved")
    restored = st.load(tmp_path / "saved", network(), example=X)
    assert restored.recipe == recipe and restored.timing is None


def test_what_cannot_be_met_is_told_before_anything_changes() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recipe = Recipe(Latency(0.99), granularity=Neurons(), exclude=["0.weight"])
    with pytest.raises(UnreachableTargetError) as caught:
        pruner.prune(Clock(), model, recipe, example=X)
    message = str(caught.value)
    assert "at most 19 of the 1,907 microseconds, but 573 are left" in message
    assert "0.weight (40 units: 40 of 40 stay, model: it is excluded" in message
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    reached = Recipe(Latency(0.6995), recipe.granularity, exclude=["0.weight"])
    assert microseconds(pruner.prune(Clock(), network(), reached, example=X).compact()) == 573


@pytest.mark.parametrize("schedule", [Linear(0, 6, every=2), OneShot(at=3)])
def test_a_schedule_ends_at_the_target_by_the_scores_of_then(schedule: Any) -> None:
    model, clock = network(), Clock()
    recipe = Recipe(Latency(0.5), granularity=Neurons(), schedule=schedule)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    pruning = pruner.Pruner(clock, model, recipe, optimizer=optimizer, example=X)
    for count in range(1, 8):
        if count == 2:
            with torch.no_grad():
                model[0].weight[:30].mul_(0.01)  # the scores of the start are wrong from here on
        before = pruning.masks
        pruning.advance()
        assert all((mask <= before[name]).all() for name, mask in pruning.masks.items())
        assert (pruning.timing is None) == (not pruning.finished)
    dense, small = microseconds(model), microseconds(pruning.compact())
    assert small <= 0.5 * dense
    assert pruning.timing is not None and pruning.timing.small == pytest.approx(1e-6 * small)


def test_noise_costs_no_more_models_and_the_target_is_met_as_measured() -> None:
    generator = np.random.default_rng(1)
    for _ in range(5):
        clock = Clock(lambda: 1.0 + generator.exponential(0.1))
        pruned = pruner.prune(clock, network(), Recipe(Latency(0.5), granularity=Neurons()), example=X)
        assert pruned.timing is not None
        assert pruned.timing.small <= 0.5 * pruned.timing.dense
        assert len(clock.made) <= 1 + MODELS


def test_a_model_whose_code_fixes_its_sizes_is_timed_in_the_form_that_runs() -> None:
    class Written(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(12, 40), torch.nn.Linear(40, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).view(-1, 40))

    model = Written()
    pruned = pruner.prune(Clock(), model, Recipe(Latency(0.5), granularity=Neurons()), example=X)
    assert microseconds(pruned.compact()) <= 0.5 * microseconds(model)
    assert pruned.form is not None and "torch.export" in pruned.form


def test_a_model_of_which_no_form_runs_is_refused() -> None:
    class Broken(Clock):
        def compact(self, *args: Any) -> Any:
            for small in super().compact(*args):
                small.model[0].in_features = None
                small.model[0].weight = None
                yield small
                return

    with pytest.raises(VerificationError, match="whose time could be measured"):
        pruner.prune(Broken(), network(), Recipe(Latency(0.5), granularity=Neurons()), example=X)


def test_a_real_clock_is_asked_through_the_adapter() -> None:
    """On a busy machine nothing can be said of the times but that there are some."""
    model = network()
    modes = [module.training for module in model.modules()]
    try:
        pruned = st.prune(model, Recipe(Latency(0.1), granularity=Neurons()), example=X)
    except UnreachableTargetError as error:
        assert "microseconds" in str(error)
        return
    assert pruned.timing is not None and 0.0 < pruned.timing.small <= 0.9 * pruned.timing.dense
    assert [module.training for module in model.modules()] == modes
    assert pruned.compact() is not None


def test_timing_needs_an_example_and_whole_units() -> None:
    recipe = Recipe(Latency(0.5), granularity=Neurons())
    with pytest.raises(ExampleError, match="batch of the size"):
        st.prune(network(), recipe)
    with pytest.raises(RecipeError, match=r"stays stored.*Neurons\(\).*Sparsity\(0\.5\)"):
        Recipe(Latency(milliseconds=1), granularity=Weights())
    with pytest.raises(RecipeError, match="scope='model'"):
        Recipe(Latency(0.5), granularity=Neurons(), scope="layer")


@pytest.mark.parametrize(
    "options",
    [{}, {"fraction": 0.5, "milliseconds": 1.0}, {"fraction": 1.0}, {"milliseconds": 0.0}, {"milliseconds": math.inf}],
)
def test_a_latency_is_one_fraction_or_one_time(options: dict[str, float]) -> None:
    with pytest.raises(SecateurError, match=r"one of two|0 <= fraction < 1|above 0"):
        Latency(**options)


@pytest.mark.parametrize("target", [Latency(0.25), Latency(milliseconds=2)])
def test_a_latency_is_written_down(target: Latency) -> None:
    assert decode(encode(target), {"Latency": Latency}, "target") == target


@given(hs.integers(0, 400), hs.integers(0, 2**32 - 1), hs.floats(0.0, 0.3), hs.floats(0.05, 0.95))
def test_the_search_ends_within_the_limit_or_knows_that_it_cannot(
    last: int, seed: int, noise: float, limit: float
) -> None:
    """Against all loads: without noise the first that is within the limit, or one so close to it that it counts."""
    generator = np.random.default_rng(seed)
    curve = np.sort(generator.uniform(0.2, 1.0, last + 1))[::-1] / limit
    asked: dict[int, list[float]] = {}

    def load(index: int, thorough: bool) -> float:
        found = float(curve[index] * (1.0 + noise * generator.uniform(0, 1)))
        asked.setdefault(index, []).append(found)
        return found

    index = search(last, load)
    assert len(asked.keys() - {0}) <= MODELS
    if index is not None:
        assert asked[index][-1] <= 1.0
    elif noise == 0.0:
        assert curve[last] > 1.0
    if noise == 0.0 and index is not None and len(asked.keys() - {0}) < MODELS:
        assert index == 0 or curve[index] >= 1.0 - latency.CLOSE or curve[index - 1] > 1.0


def test_timings_are_of_both_models_in_turn() -> None:
    order: list[str] = []

    def timer(gone: np.ndarray) -> Callable[[], float]:
        name = "small" if gone.any() else "dense"
        return lambda: order.append(name) or 1e-3 * len(order)  # type: ignore[func-returns-value]

    race = latency.Race(timer, [np.array([False]), np.array([True])])
    assert race.time(1, thorough=False) == Timing(dense=pytest.approx(3.5e-3), small=pytest.approx(4.5e-3))
    assert order == ["dense", "small"] * 6  # no two times are alike


def test_the_dense_model_is_as_fast_as_itself_whatever_the_noise() -> None:
    generator = np.random.default_rng(0)
    race = latency.Race(lambda gone: lambda: float(generator.exponential()), [np.array([False]), np.array([True])])
    timing = race.time(0, thorough=False)
    assert timing.small == timing.dense


@pytest.mark.parametrize(("thorough", "rounds"), [(False, 3), (True, 5)])
def test_a_quiet_machine_is_asked_only_a_few_times(thorough: bool, rounds: int) -> None:
    asked: list[int] = []
    race = latency.Race(lambda gone: lambda: asked.append(1) or 1.0, [np.array([False]), np.array([True])])  # type: ignore[func-returns-value]
    assert race.time(1, thorough) == Timing(dense=1.0, small=1.0)
    assert len(asked) == 2 * rounds
