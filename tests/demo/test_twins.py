"""Both frameworks' halves build, train and read the same network from the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from secateur.demo import data as data_sets
from secateur.demo.data import DataSet, Examples
from secateur.demo.networks import NAMES, Network, initial_weights
from secateur.demo.plan import Choice
from secateur.demo.training import Trainer, constant, cosine
from secateur.demo.twin import load
from secateur.demo.workbench import Workbench
from secateur.pruner import prune

Array = npt.NDArray[Any]
FRAMEWORKS = ("torch", "keras")


@pytest.fixture(scope="module")
def data() -> DataSet:
    """A part of the digits, enough for a few steps."""
    whole = data_sets.load("digits", 0)
    return DataSet("digits", Examples(whole.train.images[:200], whole.train.labels[:200]), whole.validation, whole.test)


def workbench(framework: str, model: str, data: DataSet) -> Workbench:
    return Workbench(load(framework), Network(model, data.image), data)


def random_weights(network: Network) -> dict[str, Array]:
    """Kernels of one scale, and biases, shifts and running statistics that are not trivial."""
    generator = np.random.default_rng(7)
    return {
        name: generator.normal(0.0, 0.1, array.shape).astype(np.float32)
        if name.endswith("kernel")
        else generator.uniform(0.5, 1.5, array.shape).astype(np.float32)
        for name, array in initial_weights(network, 7).items()
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("model", NAMES)
def test_weights_come_back_bit_for_bit_under_their_common_names(framework: str, model: str, data: DataSet) -> None:
    bench = workbench(framework, model, data)
    weights = random_weights(bench.network)
    found = bench.weights(bench.build(weights))
    assert set(found) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("model", NAMES)
def test_equal_weights_give_equal_probabilities(model: str, data: DataSet) -> None:
    benches = [workbench(framework, model, data) for framework in FRAMEWORKS]
    weights = random_weights(benches[0].network)
    first, second = (bench.twin.predict(bench.build(weights), data.test.images) for bench in benches)
    assert first.dtype == second.dtype == np.float32
    np.testing.assert_allclose(first, second, atol=2e-6)
    np.testing.assert_allclose(first.sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("model", NAMES)
def test_the_same_batches_train_to_the_same_weights(model: str, data: DataSet) -> None:
    trained = []
    for framework in FRAMEWORKS:
        bench = workbench(framework, model, data)
        built = bench.build(initial_weights(bench.network, 0))
        trainer = Trainer(bench, built, bench.twin.optimizer(built, 1e-3), 32, 0, lambda: None)
        trainer.run("dense", constant(1e-3, 2))
        trained.append(bench.weights(built))
    initial = initial_weights(Network(model, data.image), 0)
    for name in initial:
        moved, apart = trained[0][name] - initial[name], trained[0][name] - trained[1][name]
        # The two Adams add epsilon in different places, which shows where gradients are tiny; and PyTorch's running
        # variance is unbiased, Keras's is not.
        assert np.linalg.norm(apart) <= 0.05 * np.linalg.norm(moved), name


@pytest.mark.parametrize("model", NAMES)
def test_gradients_agree_to_rounding(model: str, data: DataSet) -> None:
    gathered = []
    for framework in FRAMEWORKS:
        bench = workbench(framework, model, data)
        gathered.append(bench.gather(bench.build(random_weights(bench.network))))
    kernels = {name for name in gathered[0] if name.endswith("kernel")}
    assert kernels == {f"{layer}.kernel" for layer in Network(model, data.image).kernels}
    for name in kernels:
        np.testing.assert_allclose(
            gathered[0][name], gathered[1][name], atol=1e-5 * gathered[0][name].max(), err_msg=name
        )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_statistics_go_back_in_as_they_came_out(framework: str, data: DataSet) -> None:
    bench = workbench(framework, "cnn", data)
    model = bench.build(initial_weights(bench.network, 0))
    gathered = bench.gather(model)
    handed = bench.statistics(model, gathered)["mean_abs_gradient"]
    direct = bench.twin.ADAPTER.statistics(model, bench.batches, bench.twin.LOSS, ["mean_abs_gradient"])
    assert set(handed) == set(direct["mean_abs_gradient"])
    for name, array in handed.items():
        np.testing.assert_array_equal(array, direct["mean_abs_gradient"][name], err_msg=name)


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("granularity", ["weights", "neurons"])
def test_masks_of_equal_arrays_are_equal_by_common_name(model: str, granularity: str, data: DataSet) -> None:
    benches = [workbench(framework, model, data) for framework in FRAMEWORKS]
    weights = random_weights(benches[0].network)
    gathered = benches[0].gather(benches[0].build(weights))
    for score in ("magnitude", "gradient"):
        masks = []
        for bench in benches:
            built = bench.build(weights)
            recipe = Choice(granularity, score, "percentile", "static").recipe(0)
            statistics = bench.statistics(built, gathered)
            pruned = prune(bench.twin.ADAPTER, built, recipe, example=bench.example, statistics=statistics)
            masks.append(bench.masks(built, pruned.masks))
        assert set(masks[0]) == set(masks[1])
        for name in masks[0]:
            np.testing.assert_array_equal(masks[0][name], masks[1][name], err_msg=name)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_figures_count_what_the_model_has(framework: str, data: DataSet) -> None:
    bench = workbench(framework, "mlp", data)
    weights = initial_weights(bench.network, 0)
    weights["hidden.kernel"][:64] = 0.0
    model = bench.build(weights)
    before = bench.stage(model)
    assert before.parameters == 64 * 128 + 128 + 128 * 10 + 10
    assert before.nonzero == before.parameters - 64 * 64 - 128 - 10
    assert before.flops == 2 * (64 * 128 + 128 * 10)
    assert before.bytes > 4 * before.parameters
    trainer = Trainer(bench, model, bench.twin.optimizer(model, 0.0), 32, 0, lambda: None)
    trainer.run("dense", cosine(0.0, 1))
    assert abs(bench.stage(model).bytes - before.bytes) < 64, "the file must not hold the optimizer's state"
