"""What the families of rules share: how a rule looks, tables of them, and what an operation makes of zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from secateur_keras import backends
from secateur_keras.recording import Number, Outputs, Step, numbers

Rule = Callable[[Step], "Outputs | None"]


def of_operations(rule: Rule, *names: str) -> dict[str, Rule]:
    """Operations of these names."""
    return dict.fromkeys(names, rule)


def of_layers(rule: Rule, *names: str) -> dict[Any, Rule]:
    """The layers of these names that this version of Keras has."""
    return {getattr(layers, name): rule for name in names if hasattr(layers, name)}


def dimensions(name: str, counts: Sequence[int] = (1, 2, 3)) -> list[str]:
    """The names of a layer for different numbers of spatial axes."""
    return [f"{name}{count}D" for count in counts]


def channels(step: Step) -> int:
    """The channel axis of the first input."""
    rank = len(step.shape(step.inputs[0]))
    return 1 if getattr(step.operation, "data_format", "channels_last") == "channels_first" else rank - 1


def several(axis: Any, rank: int) -> tuple[int, ...]:
    """Axes given as a number, several or None (all), counted from the front."""
    return tuple(range(rank)) if axis is None else tuple(int(each) % rank for each in np.atleast_1d(axis))


def frozen(step: Step, tensor: int, axes: Iterable[int], label: str = "", reason: str = "") -> int:
    """The same tensor, none of whose indices along ``axes`` can go: all depend on one another, or see ``reason``."""
    settings: dict[str, Any] = {"reason": reason} if reason else {}
    for axis in axes:
        tensor = step.emit("softmax", [tensor], step.shape(tensor), label=label, axis=axis, **settings)
    return tensor


def zeros(step: Step) -> dict[str, Any]:
    """The setting ``zero`` of an elementwise step, found by calling its operation on zeros."""
    function, arguments = step.operation.call, (step.arguments, dict(step.keywords))
    ranks = [len(step.shape(number)) for number in numbers(arguments)]
    key = repr((type(step.operation), _settings(step.operation), arguments, ranks))
    if key not in _known:
        _known[key] = settings_for(lambda values: _filled(function, arguments, values), ranks)
    return _known[key]


def reduces_zeros(step: Step) -> bool:
    """Whether a step that reduces axes gives zero for zeros, found by calling its operation on some, two an axis."""
    function, arguments = step.operation.call, (step.arguments, dict(step.keywords))
    ranks = [len(step.shape(number)) for number in numbers(arguments)]
    key = repr((type(step.operation), _settings(step.operation), arguments, ranks, "reduced"))
    if key not in _known:
        given = [keras.ops.zeros((2,) * rank, "float32") for rank in ranks]
        try:
            with keras.StatelessScope():
                results = keras.tree.flatten(_filled(function, arguments, given))
            _known[key] = {} if all(not np.any(backends.array(result)) for result in results) else {"zero": False}
        except Exception:  # whatever a backend raises
            _known[key] = {"zero": False}
    return not _known[key]


def settings_for(function: Callable[[Sequence[Any]], Any], ranks: Sequence[int]) -> dict[str, Any]:
    """The setting ``zero`` of a function of a list of arrays of these ranks.

    What cannot be called on arrays of one element is not known, which is never wrong.
    """
    try:
        if not _vanishes(function, ranks, range(len(ranks))):
            return {}
        alone = len(ranks) > 1 and all(_vanishes(function, ranks, [index]) for index in range(len(ranks)))
        return {"zero": "any" if alone else "all"}
    except Exception:  # whatever a backend raises
        return {}


def _vanishes(function: Callable[[Sequence[Any]], Any], ranks: Sequence[int], gone: Iterable[int]) -> bool:
    """Whether the result is 0 where the operands numbered ``gone`` are, whatever the others."""
    results = []
    for other in (0.625, -1.75):
        values = [np.full((1,) * rank, 0.0 if index in set(gone) else other) for index, rank in enumerate(ranks)]
        with keras.StatelessScope():
            results.append(function([keras.ops.convert_to_tensor(value, "float32") for value in values]))
    return all(not np.any(backends.array(result)) for result in keras.tree.flatten(results))


_known: dict[str, dict[str, Any]] = {}
"""What calls have shown: the same operation is met often."""


def _settings(operation: Any) -> Any:
    if isinstance(operation, keras.Layer):
        return {key: value for key, value in operation.get_config().items() if key != "name"}
    return {key: value for key, value in sorted(vars(operation).items()) if key != "name" and not key.startswith("_")}


def _filled(function: Callable[..., Any], arguments: Any, values: Sequence[Any]) -> Any:
    given = iter(values)
    positions, keywords = keras.tree.map_structure(
        lambda each: next(given) if isinstance(each, Number) else each, arguments
    )
    return function(*positions, **keywords)
