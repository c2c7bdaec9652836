"""New Keras objects from old ones: layers and operations with an edited config, optimizers and metrics afresh.

What is rebuilt lives in this process, so classes and functions of the user's own need no registration.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any

import keras

from secateur.errors import TraceError
from secateur_keras.naming import sublayers
from secateur_keras.randomness import untouched_randomness


def inner_layers(operation: Any) -> dict[str, Any]:
    """The layers and cells that a layer of Keras's own is made with, by the entries of its config."""
    if isinstance(operation, keras.layers.TimeDistributed):
        return {"layer": operation.layer}
    if isinstance(operation, keras.layers.Bidirectional):
        return {"layer": operation.forward_layer, "backward_layer": operation.backward_layer}
    if isinstance(operation, keras.layers.StackedRNNCells):
        return {"cells": list(operation.cells)}
    return {"cell": operation.cell} if type(operation) is keras.layers.RNN else {}


def with_config(operation: Any, changes: Mapping[str, Any]) -> Any:
    """A layer or operation of the same class and config, but for ``changes``, among which may be layers.

    Raises:
        TraceError: it cannot be rebuilt from its config.
    """
    try:
        config = _accepted(type(operation), {**operation.get_config(), **changes})
        with _own_objects(operation):
            if any(isinstance(each, keras.Layer) for each in keras.tree.flatten(list(changes.values()))):
                return type(operation)(**config)
            if isinstance(operation, keras.layers.Lambda):
                return _lambda_again(operation, config)
            functions = {key: getattr(operation, key, None) for key in config}
            live = {key: function for key, function in functions.items() if isinstance(function, FunctionType)}
            return type(operation).from_config({**config, **live})
    except (NotImplementedError, TypeError, ValueError) as error:
        raise TraceError(
            f"{operation.name!r} ({type(operation).__name__}) cannot be rebuilt from its config; give its class a "
            "get_config that returns the arguments of __init__"
        ) from error


def _lambda_again(layer: keras.layers.Lambda, config: Mapping[str, Any]) -> keras.layers.Lambda:
    """Another one that calls the functions themselves: out of a config, they would have lost the names around them."""
    live = {"function": layer.function, "output_shape": layer._output_shape, "mask": layer.mask}
    return type(layer)(**{**config, **live, "arguments": dict(layer.arguments)})


@untouched_randomness()
def following_axes(layer: keras.Layer, shape: Sequence[int]) -> list[tuple[bool, ...]]:
    """For each weight of a layer without layers, which of its axes follow the last axis of the layer's input.

    Found out by making the layer anew for an input that is longer by one; nothing follows where that fails.

    Args:
        layer: a layer that was called on one input.
        shape: of the input, batch included.
    """
    own = [tuple(weight.shape) for weight in layer.weights]
    try:
        other = with_config(layer, {})
        other(keras.KerasTensor((*shape[:-1], shape[-1] + 1)))
        made = [tuple(weight.shape) for weight in other.weights]
        pairs = [list(zip(mine, its, strict=True)) for mine, its in zip(own, made, strict=True)]
    except Exception:  # whatever the user's code raises
        return [(False,) * len(each) for each in own]
    return [tuple(before == shape[-1] and after == before + 1 for before, after in pair) for pair in pairs]


def _accepted(kind: type, config: dict[str, Any]) -> dict[str, Any]:
    """Without what ``__init__`` does not take: Keras adds ``trainable`` and ``dtype`` for every layer."""
    taken = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return config
    return {key: value for key, value in config.items() if key in taken}


def fresh(thing: Any) -> Any:
    """An optimizer or metric of the same config without its state; anything else as it is."""
    if not isinstance(thing, (keras.optimizers.Optimizer, keras.metrics.Metric)):
        return thing
    with _own_objects(thing):
        return type(thing).from_config(thing.get_config())


def carry_compilation(model: keras.Model, small: keras.Model, optimizer: Any | None = None) -> None:
    """Compile ``small`` as ``model`` was compiled, with an optimizer (a fresh one if None) and metrics of its own.

    A ``compile`` of the user's own takes arguments that Keras does not remember: there the model is left as it is.
    """
    if not model.compiled or type(model).compile is not keras.Model.compile:
        return
    arguments = dict(model._compile_config.config)
    for name in ("optimizer", "metrics", "weighted_metrics"):
        if arguments.get(name) is not None:
            arguments[name] = keras.tree.map_structure(fresh, arguments[name])
    if optimizer is not None:
        arguments["optimizer"] = optimizer
    small.compile(**arguments)


def settle(model: keras.Layer) -> None:
    """Have layers that keep numbers derived from their weights (``Normalization``) derive them anew."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def carry_trainable(layer: keras.Layer, counterparts: Mapping[int, keras.Layer]) -> None:
    """Freeze what was frozen, parents first, as freezing a parent freezes its layers.

    Args:
        layer: a layer or model.
        counterparts: id of an old layer -> the new one, where there is one.
    """
    small = counterparts.get(id(layer))
    if small is not None and small.trainable != layer.trainable:
        small.trainable = layer.trainable
    for child in sublayers(layer):
        carry_trainable(child, counterparts)


def model_class(model: keras.Model, plain: type[keras.Model]) -> type[keras.Model]:
    """The class to rebuild a model with: its own, as it may have a ``train_step``, unless that has an ``__init__``.

    Args:
        model: the model.
        plain: the class of Keras's own whose arguments the new model is made with.
    """
    own = (kind for kind in type(model).__mro__ if not kind.__module__.startswith("keras."))
    if any("__init__" in vars(kind) for kind in own if issubclass(kind, keras.Model)):
        return plain
    return type(model) if isinstance(model, keras.Sequential) == (plain is keras.Sequential) else plain


def _own_objects(thing: Any) -> AbstractContextManager[Any]:
    """Makes the user's own classes and functions below ``thing`` known to Keras."""
    found: dict[str, Any] = {}
    for each in _held(thing):
        if isinstance(each, FunctionType):
            found[each.__name__] = each
        elif not type(each).__module__.startswith(("keras.", "builtins")):
            found[type(each).__name__] = type(each)
    return keras.saving.custom_object_scope(found)


def _held(thing: Any) -> Iterable[Any]:
    yield thing
    yield from vars(thing).values()
    if isinstance(thing, keras.Layer):
        for child in sublayers(thing):
            yield from _held(child)
