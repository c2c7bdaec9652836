"""What each layer can bear is measured, kept, and divides a total over the layers, in both frameworks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import secateur_keras as sk
import secateur_torch as st
from agreement.pairs import dense_pair
from secateur import Gradient, Movement, Neurons, Random, Recipe, SynFlow
from secateur.errors import FileFormatError, MissingDataError, OutOfRangeError, RecipeError

X = np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)
WIDTHS = (6, 10, 8, 3)
SPARSITIES = (0.25, 0.5, 0.9)


def squared_error(outputs: Any, expected: Any) -> float:
    return float(np.mean((np.asarray(outputs, np.float64) - expected) ** 2))


class Torch:
    """The loss against the dense model's own outputs, and how often it was asked for."""

    def __init__(self, seed: int = 0) -> None:
        self.model = dense_pair(WIDTHS, seed=seed).torch_model
        self.expected = self.outputs(self.model)
        self.calls = 0

    def outputs(self, model: Any) -> Any:
        with torch.no_grad():
            return model(torch.tensor(X)).numpy()

    def __call__(self, model: Any) -> float:
        self.calls += 1
        return squared_error(self.outputs(model), self.expected)


def test_a_scan_prunes_one_layer_at_a_time_and_leaves_the_model_as_it_was() -> None:
    evaluate = Torch()
    before = {name: value.clone() for name, value in evaluate.model.state_dict().items()}
    scan = st.sensitivity(evaluate.model, evaluate, Recipe(0.5), SPARSITIES)
    assert all(torch.equal(value, before[name]) for name, value in evaluate.model.state_dict().items())
    assert scan.layers == ("0.weight", "2.weight", "4.weight") and scan.dense == 0.0
    assert evaluate.calls == 1 + 3 * 3
    for layer, row in zip(scan.layers, scan.losses, strict=True):
        for sparsity, loss in zip(SPARSITIES, row, strict=True):
            twin = Torch()
            st.prune(twin.model, Recipe(sparsity, include=[layer]))
            assert loss == twin(twin.model)


def test_both_frameworks_measure_and_divide_alike() -> None:
    pair = dense_pair(WIDTHS, seed=0)
    expected = pair.keras_model.predict(X, verbose=0)
    theirs = sk.sensitivity(
        pair.keras_model,
        lambda model: squared_error(model.predict(X, verbose=0), expected),
        Recipe(0.5),
        SPARSITIES,
    )
    evaluate = Torch()
    ours = st.sensitivity(evaluate.model, evaluate, Recipe(0.5), SPARSITIES)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4, atol=1e-9)
    pruned = st.prune(evaluate.model, Recipe(0.6, allocation=ours))
    other = sk.prune(pair.keras_model, Recipe(0.6, allocation=theirs))
    assert pruned.sparsity == other.sparsity == pytest.approx(0.6, abs=0.5 / 164)
    shares = [mask.mean() for mask in pruned.masks.values()]
    np.testing.assert_allclose(shares, [mask.mean() for mask in other.masks.values()], atol=0.03)
    assert max(shares) - min(shares) > 0.02, "layers differ in what they can bear"


def test_units_by_gradient_are_scanned_too() -> None:
    evaluate = Torch()
    data = torch.tensor(X), torch.arange(64) % 3
    options: dict[str, Any] = {"data": data, "loss": torch.nn.CrossEntropyLoss(), "example": torch.tensor(X[:2])}
    recipe = Recipe(0.5, granularity=Neurons(), score=Gradient())
    scan = st.sensitivity(evaluate.model, evaluate, recipe, [0.3, 0.6], **options)
    assert scan.layers == ("0.weight", "2.weight")
    divided = Recipe(0.5, granularity=Neurons(), score=Gradient(), allocation=scan)
    pruned = st.prune(evaluate.model, divided, **options)
    small = pruned.compact()
    assert small[0].out_features + small[2].out_features == 9


def test_what_is_known_is_read_from_the_cache(tmp_path: Path) -> None:
    evaluate, path = Torch(), tmp_path / "scan.json"
    first = st.sensitivity(evaluate.model, evaluate, Recipe(0.5), SPARSITIES, cache=path)
    document = json.loads(path.read_text())
    del document["losses"]["4.weight"]
    path.write_text(json.dumps(document))
    evaluate.calls = 0
    assert st.sensitivity(evaluate.model, evaluate, Recipe(0.9), SPARSITIES, cache=path) == first
    assert evaluate.calls == 1 + 3
    evaluate.calls = 0
    st.sensitivity(evaluate.model, evaluate, Recipe(0.9), SPARSITIES[:2], cache=path)
    assert evaluate.calls == 1 + 3 * 2
    other = Torch(seed=1)
    assert st.sensitivity(other.model, other, Recipe(0.5), SPARSITIES[:2], cache=path).losses != first.losses
    assert other.calls == 1 + 3 * 2
    path.write_text("no scan")
    with pytest.raises(FileFormatError, match="no cache"):
        st.sensitivity(other.model, other, Recipe(0.5), cache=path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"evaluate": None}, MissingDataError, "give a function"),
        ({"evaluate": lambda model: "good"}, MissingDataError, "no number for the dense model"),
        ({"evaluate": lambda model: float("nan")}, OutOfRangeError, "nan for the dense model"),
        ({"evaluate": lambda model: 1 / (model[0].weight != 0).all().item()}, ZeroDivisionError, "zero"),
        ({"sparsities": [0.5, 0.4]}, OutOfRangeError, "ascending"),
        ({"sparsities": [0.5, 1.0]}, OutOfRangeError, "stay below 1"),
        ({"sparsities": 0.5}, RecipeError, "give several"),
        ({"sparsities": ["half"]}, RecipeError, "one of sparsities is 'half'"),
        ({"evaluate": lambda model: int("mine")}, ValueError, "invalid literal"),
        ({"cache": "no folder/scan.json"}, FileFormatError, "in a folder that there is"),
        ({"cache": "."}, FileFormatError, "in a folder that there is"),
        ({"recipe": 0.5}, RecipeError, "give a Recipe"),
        ({"recipe": Recipe(0.5, score=Gradient())}, MissingDataError, "Gradient"),
    ],
)
def test_bad_input_is_refused_in_words(options: dict[str, Any], error: Any, words: str) -> None:
    evaluate = Torch()
    before = {name: value.clone() for name, value in evaluate.model.state_dict().items()}
    with pytest.raises(error, match=words):
        st.sensitivity(evaluate.model, **{"evaluate": evaluate, "recipe": Recipe(0.5), **options})
    assert all(torch.equal(value, before[name]) for name, value in evaluate.model.state_dict().items())


@pytest.mark.parametrize("row", [[], [0.1], 3, ["a", 0.1, 0.2], [float("nan"), 0.1, 0.2], None])
def test_a_damaged_cache_is_named(row: Any, tmp_path: Path) -> None:
    evaluate, path = Torch(), tmp_path / "scan.json"
    st.sensitivity(evaluate.model, evaluate, Recipe(0.5), SPARSITIES, cache=path)
    document = json.loads(path.read_text())
    document["losses"]["2.weight"] = row
    path.write_text(json.dumps(document))
    with pytest.raises(FileFormatError, match=r"scan\.json is no cache"):
        st.sensitivity(evaluate.model, evaluate, Recipe(0.5), SPARSITIES, cache=path)


def test_scores_that_a_pruner_keeps_itself_are_scanned_as_it_prunes() -> None:
    data = torch.tensor(X), torch.arange(64) % 3
    for score in (Random(3), Movement(), SynFlow(iterations=1)):
        evaluate = Torch()
        options = {"data": data, "loss": torch.nn.CrossEntropyLoss()}
        scan = st.sensitivity(evaluate.model, evaluate, Recipe(0.5, score=score), [0.5], **options)
        pruned = st.prune(evaluate.model, Recipe({"2": 0.5}, score=score), **options)
        assert scan.losses[1] == (evaluate(pruned.model),)


def test_the_first_batch_of_the_data_is_the_example() -> None:
    evaluate = Torch()
    scan = st.sensitivity(evaluate.model, evaluate, Recipe(0.5, granularity=Neurons()), [0.5], data=torch.tensor(X))
    assert scan.layers == ("0.weight", "2.weight")
