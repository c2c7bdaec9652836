"""One call on symbolic inputs, as a graph: the layers forget it, and no variable changes.

Keras computes at once what does not depend on an input, so that the weights in it would be lost: a table of positions
that is looked up at ``arange(length)``. Where that happens the call is made again with symbols in place of such
numbers: the numbers, plus a zero made of the first input.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.ops.node import Node
from keras.src.ops.numpy import Reshape

from secateur_keras.functional import Symbolic
from secateur_keras.patching import wrap


def record(inputs: list[Any], structure: Any, call: Callable[[], Any]) -> Symbolic:
    """The graph of the calls that ``call`` makes.

    Args:
        inputs: the symbolic tensors that it works on.
        structure: the same in the structure in which the model takes them.
        call: returns tensors.

    Raises:
        TypeError: it returns something else.
        Exception: whatever the code that is called raises.
    """
    try:
        graph = _recorded(inputs, structure, call)
    except Exception:  # it may be what the second way mends
        graph = None
    if graph is not None and not graph.baked:
        return graph
    with _numbers_as_symbols():
        return _recorded(inputs, structure, call)


def _recorded(inputs: list[Any], structure: Any, call: Callable[[], Any]) -> Symbolic:
    recording = _Recording(_Reads(), inputs[0])
    token = _now.set(recording)
    try:
        with recording.reads:
            outputs = call()
        flat = keras.tree.flatten(outputs)
        if not all(isinstance(tensor, keras.KerasTensor) for tensor in flat):
            raise TypeError("call returns something else than tensors")
        graph = Symbolic(inputs, flat, structure, outputs, recording.made, tuple(recording.reads.variables.values()))
        _ = graph.nodes  # found through what is forgotten now
        return graph
    finally:
        _now.reset(token)
        _forget(recording.made)


def _forget(nodes: Sequence[Any]) -> None:
    """Take the records of calls away from the layers again."""
    for node in nodes:
        if node in node.operation._inbound_nodes:
            node.operation._inbound_nodes.remove(node)
        for parent in {id(tensor): tensor._keras_history.operation for tensor in node.input_tensors}.values():
            if parent is not None and node in parent._outbound_nodes:
                parent._outbound_nodes.remove(node)


def zero_of(tensor: Any, dtype: str) -> Any:
    """A symbolic zero without axes that depends on a symbolic tensor of any shape and type."""
    return keras.ops.cast(keras.ops.sum(keras.ops.zeros_like(tensor, dtype="float32")), dtype)


class _Reads(keras.StatelessScope):
    """Notes whose numbers are read in it. Keras opens a scope of its own for each call that becomes part of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: dict[int, keras.Variable] = {}

    def get_current_value(self, variable: keras.Variable) -> Any:
        self.variables[id(variable)] = variable
        return super().get_current_value(variable)


@dataclass(frozen=True)
class _Recording:
    """What is recorded: the nodes in the order in which they are made."""

    reads: _Reads
    first: Any
    made: list[Any] = field(default_factory=list)


_now: ContextVar[_Recording | None] = ContextVar("now", default=None)


def _after_node(original: Callable[..., Any], node: Any, *args: Any, **kwargs: Any) -> None:
    original(node, *args, **kwargs)
    recording = _now.get()
    if recording is not None:
        recording.made.append(node)


wrap(Node, "__init__", _after_node)


def _before_reshape(original: Callable[..., Any], operation: Any, x: Any) -> Any:
    if _now.get() is not None:
        operation.newshape = with_one_open(operation.newshape, tuple(x.shape))
        operation._auto_config.config["newshape"] = operation.newshape  # of which a clone is made
    return original(operation, x)


wrap(Reshape, "compute_output_spec", _before_reshape)


def with_one_open(target: Any, shape: Sequence[int | None]) -> Any:
    """The target of a reshape of ``shape``, with -1 for the one size that is None, which no backend could run.

    ``keras.ops.shape(x)[0]`` is None in a symbolic call. Where a -1 stands besides, it is what ``shape`` leaves for it.
    """
    sizes = tuple(target) if isinstance(target, tuple | list) else (target,)
    if sizes.count(None) != 1 or not all(size is None or isinstance(size, int) for size in sizes):
        return target
    if -1 in sizes:
        known, others = math.prod(size or 1 for size in shape), math.prod(size or 1 for size in sizes if size != -1)
        if tuple(shape).count(None) != 1 or 0 in shape or known % others:
            return target
        sizes = tuple(known // others if size == -1 else size for size in sizes)
    return tuple(-1 if size is None else size for size in sizes)


@contextmanager
def _numbers_as_symbols() -> Iterator[None]:
    """A block in which layers that are called on numbers alone, and variables that meet symbols, become symbols.

    Only what is being recorded is concerned: for other threads nothing changes.
    """
    methods: list[tuple[Any, str, Callable[..., Any]]] = [(keras.Layer, "__call__", _on_symbols)]
    methods += [(keras.Variable, "__getitem__", _picked)]
    methods += [(keras.Variable, f"__{name}__", partial(_reflected, f"__r{name}__")) for name in REFLECTED]
    with _patching:
        kept = [(kind, name, vars(kind).get(name), inspect.getattr_static(kind, name)) for kind, name, _ in methods]
        try:
            for (kind, name, replacement), (*_, original) in zip(methods, kept, strict=True):
                setattr(kind, name, _bound(replacement, original))
            yield
        finally:
            for kind, name, own, _ in kept:
                if own is None:
                    delattr(kind, name)
                else:
                    setattr(kind, name, own)


REFLECTED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
"""Keras knows ``symbol * variable``, but not the other way round."""

_patching = threading.Lock()


def _bound(replacement: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda instance, *args, **kwargs: replacement(original, instance, *args, **kwargs)


def _here() -> _Recording | None:
    """What is being recorded, but not inside of the calls that are; there Keras opens scopes of its own."""
    recording = _now.get()
    return recording if recording is not None and get_stateless_scope() is recording.reads else None


def _on_symbols(original: Callable[..., Any], layer: Any, *args: Any, **kwargs: Any) -> Any:
    recording = _here()
    if recording is not None and layer.weights:
        flat = keras.tree.flatten((args, kwargs))
        if not any(isinstance(each, keras.KerasTensor) for each in flat):
            args, kwargs = keras.tree.map_structure(lambda each: _as_symbol(each, recording.first), (args, kwargs))
    return original(layer, *args, **kwargs)


def _as_symbol(value: Any, first: Any) -> Any:
    """Numbers as a symbol that depends on ``first``; anything else, and what is true or false, as it is."""
    if not isinstance(value, keras.Variable | np.ndarray) and not keras.ops.is_tensor(value):
        return value
    dtype = keras.backend.standardize_dtype(value.dtype)
    return value if dtype == "bool" else keras.ops.add(value, zero_of(first, dtype))


def _picked(original: Callable[..., Any], variable: Any, key: Any) -> Any:
    recording = _here()
    if recording is None:
        return original(variable, key)
    return _as_symbol(variable, recording.first)[(key,) if isinstance(key, slice) else key]  # of symbols Keras asks it


def _reflected(name: str, original: Callable[..., Any], variable: Any, other: Any) -> Any:
    return getattr(other, name)(variable) if isinstance(other, keras.KerasTensor) else original(variable, other)
