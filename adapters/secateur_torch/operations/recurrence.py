"""Recurrent layers and cells: one ``recurrent`` for each layer and direction, with the stacked states taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from secateur_torch.operations.calls import Call, Chain, Known, Reader, Step, Steps, stand_in


@dataclass(frozen=True, eq=False)
class _Layers:
    """The arguments of ``lstm``, ``gru`` and the plain ones, whose packed forms have one argument more."""

    x: torch.Tensor
    states: Sequence[torch.Tensor]
    flat: Sequence[torch.Tensor]
    has_biases: bool
    depth: int
    directions: int

    @property
    def weights(self) -> list[Sequence[torch.Tensor]]:
        """Those of each layer and direction."""
        count = len(self.flat) // (self.depth * self.directions)
        return [self.flat[start : start + count] for start in range(0, len(self.flat), count)]


def layers(call: Call, known: Known) -> Steps | None:
    """All layers of a recurrent module."""
    arguments = list(call.args)
    packed = isinstance(arguments[1], torch.Tensor) and not isinstance(arguments[2], tuple | list)
    if call.name == "lstm":
        packed = isinstance(arguments[1], torch.Tensor)
    if packed:
        del arguments[1]
    x, states, flat, has_biases, depth, _, _, bidirectional = arguments[:8]
    states = [states] if isinstance(states, torch.Tensor) else list(states)
    given = _Layers(x, states, list(flat), has_biases, depth, 1 + bidirectional)
    if any((weight := known.weight(tensor)) is None or weight.shape.role == "other" for tensor in given.flat):
        return None
    return _stacked(given, list(call.result))


def _stacked(given: _Layers, results: list[torch.Tensor]) -> Steps:
    steps: Steps = []
    finals: list[list[torch.Tensor]] = [[] for _ in given.states]
    x, weights = given.x, given.weights
    for layer in range(given.depth):
        outputs = []
        for number in range(layer * given.directions, (layer + 1) * given.directions):
            made, *last = _direction(steps, given, x, number, weights[number])
            outputs.append(made)
            for final, state in zip(finals, last, strict=True):
                final.append(state)
        target = results[0] if layer == given.depth - 1 else None
        x = _joined(steps, outputs, outputs[0].ndim - 1, target)
    for final, result in zip(finals, results[1:], strict=True):
        _joined(steps, [_unsqueezed(steps, state) for state in final], 0, result)
    return steps


def _direction(
    steps: Steps, given: _Layers, x: torch.Tensor, number: int, weights: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """One layer in one direction: its sequence and last states."""
    starts = []
    for state in given.states:
        chain = Chain(state).slice(0, number, number + 1).reshape(state.shape[1:])
        steps += chain.steps
        starts.append(chain.tensor)
    made = [stand_in((*x.shape[:-1], starts[0].shape[-1])), *(stand_in(start.shape) for start in starts)]
    steps.append(_recurrent(x, starts, made, weights, given.has_biases))
    return made


def _recurrent(
    x: torch.Tensor,
    starts: Sequence[torch.Tensor],
    made: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
) -> Step:
    names = ["kernel", "recurrent", *(["bias", "recurrent_bias"] if has_biases else []), "projection"]
    parameters = dict(zip(names, weights, strict=False))
    projected = (0, 1) if "projection" in parameters else ()
    settings = {"axis": -1, **({"projected": projected} if projected else {})}
    return Step("recurrent", [x, *starts], made, settings, parameters)


def _joined(steps: Steps, pieces: list[torch.Tensor], axis: int, target: torch.Tensor | None) -> torch.Tensor:
    """Concatenated to ``target``, or if that is None to a stand-in or the only piece."""
    if target is None and len(pieces) == 1:
        return pieces[0]
    shape = list(pieces[0].shape)
    shape[axis] = sum(piece.shape[axis] for piece in pieces)
    made = stand_in(shape) if target is None else target
    steps.append(Step("concat", pieces, [made], {"axis": axis}))
    return made


def _unsqueezed(steps: Steps, state: torch.Tensor) -> torch.Tensor:
    chain = Chain(state).reshape((1, *state.shape))
    steps += chain.steps
    return chain.tensor


def cell(call: Call, known: Known) -> Steps | None:
    """One step in time."""
    x, states = call.args[:2]
    states = [states] if isinstance(states, torch.Tensor) else list(states)
    weights = [tensor for tensor in (*call.args[2:], *call.kwargs.values()) if tensor is not None]
    if any((weight := known.weight(tensor)) is None or weight.shape.role == "other" for tensor in weights):
        return None
    results = [call.result] if isinstance(call.result, torch.Tensor) else list(call.result)
    return [_recurrent(x, states, results, weights, len(weights) == 4)]


READERS: dict[str, Reader] = {
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), layers),
    **{f"{name}_cell": cell for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}
