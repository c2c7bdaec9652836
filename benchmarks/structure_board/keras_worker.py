"""One Keras model, pruned by Secateur and judged. Imported once, in the process of which all others are copies."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from benchmarks.structure_board import cases, outcomes, secateur_tool
from secateur_keras.adapter import KerasAdapter

cases.cases("keras")  # their modules import what the models need


def run(name: str, tool: str, target: str) -> dict[str, Any]:
    """What the board says about a model; ``tool`` is always Secateur."""
    warnings.simplefilter("ignore")
    keras.utils.set_random_seed(0)
    model, example = cases.case("keras", name).build()
    prepare(model)
    size = model.count_params()
    secateur_tool.pruned(KerasAdapter(), _tiny(), np.ones((2, 4), "float32"), "units")
    try:
        outcome = secateur_tool.pruned(KerasAdapter(), model, example, target)
    except Exception as error:
        return {"status": "error", "error": outcomes.first_line(error)}
    share = outcome.small.count_params() / size
    difference = _difference(outcome, example)
    return {
        "status": outcomes.verdict(share, difference),
        "share": share,
        "difference": difference,
        "seconds": dict(outcome.seconds),
        "form": outcome.form,
        "max_error": outcome.max_error,
        "frozen": list(outcome.frozen),
    }


def prepare(model: keras.Model) -> None:
    """Other biases, scales and running statistics than zeros and ones, which would hide mistakes."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        if value.dtype.kind == "f" and (value.ndim < 2 or value.std() == 0):
            weight.assign(np.abs(value + 0.1 * generator.normal(size=value.shape)) if value.all() else value)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with numbers that it derived from its weights


def _difference(outcome: outcomes.Outcome, example: Any) -> float:
    """On the example's numbers in another order."""
    other = np.random.default_rng(2).permutation(example.ravel()).reshape(example.shape)
    expected, actual = (keras.ops.convert_to_numpy(model(other)) for model in (outcome.masked, outcome.small))
    return float(np.abs(expected - actual).max() / (np.abs(expected).max() or 1.0))


def _tiny() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(2)])
