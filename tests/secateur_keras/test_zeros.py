"""What the rules say of zeros, for every operation and activation that they know: tried out on arrays with zeros."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.activations import activations as functions
from keras.src.ops import core, linalg, math, nn, numpy

from secateur.structure.elements import Elements
from secateur.structure.graph import Graph, Operation
from secateur.structure.rules import read
from secateur_keras.kinds import activations, arithmetic, normalizations, reductions
from secateur_keras.tracing import graph

Case = Callable[[Any, Any], Any]
BATCH, LENGTH, FEATURES = 2, 3, 6
MASKED = 4
"""The feature that is zero in both operands."""


def made(name: str, *arguments: Any, **options: Any) -> Any:
    kind = next(getattr(module, name) for module in (numpy, nn, core, math, linalg, functions) if hasattr(module, name))
    return kind(*arguments, **options)


def unary(name: str, *arguments: Any, **options: Any) -> Case:
    return lambda x, y: made(name, *arguments, **options)(x)


TWO = "Add Subtract Multiply Maximum Minimum Fmax Fmin Heaviside Logaddexp"
COMPARING = "Equal NotEqual Greater GreaterEqual Less LessEqual"
LOGICAL = "LogicalAnd LogicalOr LogicalXor"
SPECIAL: dict[str, Case] = {
    "Clip": unary("Clip", -0.5, 0.7),
    "Clip above zero": unary("Clip", 0.2, 0.7),
    "Cast": unary("Cast", "int32"),
    "SaturateCast": unary("SaturateCast", "int32"),
    "ConvertToTensor": lambda x, y: made("ConvertToTensor")(x),
    "Threshold": unary("Threshold", 0.3, 0.0),
    "Threshold to one": unary("Threshold", 0.3, 1.0),
    "Where": lambda x, y: made("Where")(ops.greater(x, 0.1), x, y),
    "Where or one": lambda x, y: made("Where")(ops.greater(x, 0.1), x, 1.0),
    "LogicalNot": lambda x, y: made("LogicalNot")(ops.greater(x, 0.1)),
    "Power": lambda x, y: made("Power")(x, 2),
    "Divide": lambda x, y: made("Divide")(x, 3.0),
    "Divide by a tensor": lambda x, y: made("Divide")(x, ops.exp(y)),
    "TrueDivide": lambda x, y: made("TrueDivide")(x, 3.0),
    "DivideNoNan": lambda x, y: made("DivideNoNan")(x, 3.0),
    "FloorDivide": lambda x, y: made("FloorDivide")(x, 3.0),
    "Mod": lambda x, y: made("Mod")(x, 3.0),
    "Glu": lambda x, y: made("Glu")(ops.concatenate([x, y], axis=-1)),
    "Normalize": unary("Normalize", axis=-1),
    "LayerNorm": lambda x, y: ops.layer_normalization(x, axis=-1),
    "RMSNorm": lambda x, y: ops.rms_normalization(x, axis=-1),
    "Add a number": lambda x, y: made("Add")(x, 0.5),
    "Multiply by a number": lambda x, y: made("Multiply")(x, 0.5),
    "Add numbers": lambda x, y: made("Add")(x, np.arange(6, dtype=np.float32)),
}
ALONG = ("Softmax", "LogSoftmax", "Sparsemax", "Sort", "Argsort", "Cumsum", "Cumprod", "Nancumsum", "Nancumprod")
FAMILIES = (activations, arithmetic, normalizations, reductions)
KNOWN = {name: rule for family in FAMILIES for name, rule in family.OPERATIONS.items()}


def cases() -> dict[str, Case]:
    found = dict(SPECIAL)
    for name in f"{TWO} {COMPARING}".split():
        found[name] = lambda x, y, name=name: made(name)(x, y)
    for name in LOGICAL.split():
        found[name] = lambda x, y, name=name: made(name)(ops.greater(x, 0.1), ops.less(y, -0.1))
    for name in reductions.OPERATIONS:
        found[name] = unary(name, axis=1)
        found[f"{name} of features"] = unary(name, axis=-1)
    for name in ("Max", "Min"):
        found[f"{name} from 2 on"] = unary(name, axis=1, initial=2.0 if name == "Max" else -2.0)
    for name in ALONG:
        found[f"{name}"] = unary(name, axis=1)
    for name in KNOWN:
        if name not in found:
            found[name] = unary(name)
    for name in dir(keras.activations):
        if not name.startswith("_") and name not in ("get", "serialize", "deserialize", "glu", "threshold"):
            found[f"Activation {name}"] = lambda x, y, name=name: layers.Activation(name)(x)
    return found


CASES = cases()


@pytest.fixture(scope="module")
def traced() -> tuple[Graph, Elements, list[Any]]:
    """All cases in one model, and what the solver knows of its tensors."""
    inputs = keras.Input((LENGTH, 5))
    x, y = (layers.Dense(FEATURES, name=name)(inputs) for name in "xy")
    known = graph(keras.Model(inputs, [case(x, y) for case in CASES.values()]))
    elements = Elements(known)
    return known, elements, read(elements)


def operands() -> tuple[Any, Any]:
    drawn = np.random.default_rng(0).normal(size=(2, BATCH, LENGTH, FEATURES)).astype(np.float32)
    drawn[..., MASKED] = 0.0
    return drawn[0], drawn[1]


def computed(name: str, *given: Any) -> Any:
    return ops.convert_to_numpy(CASES[name](*(ops.convert_to_tensor(each) for each in given)))


@cache
def masked(name: str) -> Any:
    return computed(name, *operands())


def last(known: Graph, tensor: int) -> Operation:
    return next(each for each in known.operations if tensor in each.outputs)


def test_every_operation_has_a_case() -> None:
    assert set(KNOWN) <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_to_be_zero_is_zero(name: str, traced: Any) -> None:
    known, elements, layouts = traced
    tensor = known.outputs[list(CASES).index(name)]
    feature = layouts[next(each.outputs[0] for each in known.operations if each.kind == "linear")][-1][MASKED]
    units = {int(feature)} | {int(layout[-1][MASKED]) for layout in layouts if layout and layout[-1].size == FEATURES}
    result = masked(name)
    if result.shape[1:] != known.tensors[tensor][1:]:
        pytest.skip("Keras gives another shape on this backend than it says")
    stays = [freeze.nodes for freeze in elements.freezes if tensor in known.operations[freeze.operation].outputs]
    units -= set(np.concatenate([np.zeros(0, np.int64), *stays]).tolist())
    for axis, nodes in enumerate(layouts[tensor]):
        places = np.flatnonzero(np.isin(nodes, list(units)) & (nodes != 0))
        if elements.is_zero(tensor, axis) and places.size:
            assert not result.take(places, axis=axis).any()


@pytest.mark.parametrize("name", [name for name in CASES if KNOWN.get(name.split(" ")[0]) is arithmetic.elementwise])
def test_of_elements_all_is_said_that_is_true(name: str, traced: Any) -> None:
    known, elements, _ = traced
    tensor = known.outputs[list(CASES).index(name)]
    keeps = not masked(name)[..., MASKED].any()
    assert elements.is_zero(tensor, -1) == keeps


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("of features")])
def test_a_sum_without_zeros_is_the_same_sum(name: str, traced: Any) -> None:
    known, _, _ = traced
    operation = last(known, known.outputs[list(CASES).index(name)])
    if operation.settings.get("sum"):
        x, y = operands()
        shorter = (np.delete(each, MASKED, axis=-1) for each in (x, y))
        np.testing.assert_allclose(computed(name, *shorter), computed(name, x, y), rtol=1e-6)
    else:
        assert name.split(" ")[0] not in ("Sum", "Nansum", "Any", "CountNonzero")


def slopes(function: Callable[[Any], Any], x: Any) -> Any:
    """The gradient of the sum of what the function gives; None where it has none."""
    backend = keras.backend.backend()

    def total(tensor: Any) -> Any:
        return ops.sum(ops.cast(function(tensor), "float32"))

    if backend == "tensorflow":
        import tensorflow as tf

        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            result = total(tensor)
        return tape.gradient(result, tensor)
    if backend == "jax":
        import jax

        return jax.grad(total)(x)
    import torch

    tensor = torch.tensor(x, requires_grad=True)
    try:
        result = total(tensor)
        return torch.autograd.grad(result, tensor)[0] if result.requires_grad else None
    except RuntimeError:  # PyTorch's words for what has no derivative
        return None


ON_JAX = keras.backend.backend() == "jax"
"""It compiles each of these for a second."""


@pytest.mark.parametrize("name", [name for name in CASES if not ON_JAX or name in reductions.OPERATIONS])
def test_what_may_be_removed_has_a_finite_slope_at_zero(name: str) -> None:
    x, y = operands()
    found = slopes(lambda tensor: CASES[name](tensor, ops.convert_to_tensor(y)), 0.2 * x)
    assert found is None or np.isfinite(ops.convert_to_numpy(found)).all()


def test_logarithms_of_sums_and_bounds_are_known_to_give_other_numbers(traced: Any) -> None:
    known, elements, _ = traced
    said = {name: elements.is_zero(tensor, -1) for name, tensor in zip(CASES, known.outputs, strict=True)}
    assert not any(said[name] for name in ("Logsumexp", "Max from 2 on", "Min from 2 on", "Exp", "Cos", "Softplus"))
    assert all(said[name] for name in ("Mean", "Max", "Prod", "Var", "Sum", "Relu", "Log1p", "Multiply"))
