"""Recurrent layers: one layer or cell in one direction, cells on top of one another, both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from secateur_keras.kinds.activations import zero_of
from secateur_keras.kinds.rules import Rule
from secateur_keras.recording import Outputs, Shape, Step, numbers

CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)


def recurrent(step: Step) -> Outputs | None:
    """``LSTM``, ``GRU``, ``SimpleRNN``, and ``RNN`` with such cells; not if it keeps its state between batches."""
    return None if step.operation.stateful else _run(step, step.inputs[0], numbers(step.argument("initial_state")))


def _run(step: Step, sequence: int, states: Sequence[int]) -> Outputs | None:
    """Cell after cell: all but the last one give sequences."""
    layer, cell = step.operation, step.operation.cell
    cells = list(cell.cells) if isinstance(cell, layers.StackedRNNCells) else [cell]
    if not all(type(each) in CELLS for each in cells):
        return None
    batch, length = step.shape(sequence)[:2]
    whole = layer.return_sequences
    left, final = list(states), list[int]()
    for number, each in enumerate(cells):
        count = len(np.atleast_1d(each.state_size))
        starts, left = left[:count], left[count:]
        is_sequence = whole or number + 1 < len(cells)
        shape = (batch, length, each.units) if is_sequence else (batch, each.units)
        shapes = [shape, *[(batch, each.units)] * count]
        own = layer if each is cell and type(layer) is not layers.RNN else each
        outputs = _cell(step, own, each, (sequence, *starts), shapes)
        if outputs is None:
            return None
        sequence = outputs[0]
        final += outputs[1:]
    return (sequence, *final) if layer.return_state else (sequence,)


def _cell(step: Step, owner: Any, cell: Any, inputs: Sequence[int], shapes: Sequence[Shape]) -> Outputs | None:
    """One recurrence; ``owner`` is the layer or cell whose config has the number of units."""
    within = step if owner is step.operation else step.within(owner, (), ())
    parts = within.parts(kernel="kernel", recurrent="recurrent_kernel", bias="bias")
    if parts is None:
        return None
    outputs = within.emit_all("recurrent", inputs, shapes, parts, axis=2)
    within.sizes(units=(outputs[0], -1))
    if _keeps_zeros(cell):
        return outputs
    return tuple(within.emit("elementwise", [tensor], step.shape(tensor), label="activation") for tensor in outputs)


def _keeps_zeros(cell: Any) -> bool:
    """Whether a unit without weights stays at zero: not if its activation gives something for nothing."""
    function = cell.activation
    if function is None:
        return True
    return getattr(keras.activations, getattr(function, "__name__", ""), None) is function and bool(zero_of(function))


def bidirectional(step: Step) -> Outputs | None:
    """Both directions, merged; Keras takes it that both have as many units, even where they stand side by side."""
    layer, states = step.operation, numbers(step.argument("initial_state"))
    if layer.stateful or not all(type(each).call in _CALLS for each in (layer.forward_layer, layer.backward_layer)):
        return None
    half, results = len(states) // 2, []
    for inner, starts in ((layer.forward_layer, states[:half]), (layer.backward_layer, states[half:])):
        outputs = _run(step.within(inner, (), ()), step.inputs[0], starts)
        if outputs is None:
            return None
        results.append(outputs)
    (forward, *first), (backward, *second) = results
    return (*_merged(step, forward, backward), *first, *second)


def _merged(step: Step, forward: int, backward: int) -> Outputs:
    mode, shape = step.operation.merge_mode, step.shape(forward)
    if mode in ("sum", "ave", "mul"):
        zero = "any" if mode == "mul" else "all"
        return (step.emit("elementwise", [forward, backward], shape, label=mode, zero=zero),)
    axis, units = len(shape) - 1, shape[-1]
    both = (*shape[:-1], 2 * units)
    joined = step.emit("concat", [forward, backward], both, axis=axis)
    halves = step.emit_all("split", [joined], [shape] * 2, axis=axis, sizes=(units, units), equal=True)
    return halves if mode is None else (step.emit("concat", halves, both, axis=axis),)


LAYERS: dict[Any, Rule] = {
    layers.LSTM: recurrent,
    layers.GRU: recurrent,
    layers.SimpleRNN: recurrent,
    layers.RNN: recurrent,
    layers.Bidirectional: bidirectional,
}

_CALLS = {layers.LSTM.call, layers.GRU.call, layers.SimpleRNN.call, layers.RNN.call}

OPERATIONS: dict[str, Rule] = {}
