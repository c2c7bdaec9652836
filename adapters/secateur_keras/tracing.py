"""Reads a Keras model's structure into the core's graph, without running it, and runs it on an example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from secateur.errors import ExampleError, TraceError
from secateur.structure.graph import Graph
from secateur.verification import is_noise
from secateur_keras.backends import Array
from secateur_keras.examples import drawn_like, input_shapes, made_up, matched
from secateur_keras.functional import Symbolic, arguments_of, own_graph
from secateur_keras.inference import outputs_of
from secateur_keras.kinds import describe, unknown
from secateur_keras.kinds.own import own_weights_of, weight_alone
from secateur_keras.naming import layer_paths, require_model
from secateur_keras.outside import require_holdable
from secateur_keras.rebuilding import following_axes
from secateur_keras.recording import Edit, Number, Outputs, Recorder, Shape, Step
from secateur_keras.symbols import OPEN_SIZES, expanded, symbolic, written

SYMBOLS = (keras.KerasTensor, keras.Variable)
"""What stands for a tensor of the graph among the arguments of a call."""


@dataclass(frozen=True)
class Trace:
    """A graph and where it comes from.

    Args:
        graph: the structure.
        symbolic: the symbolic graph that was read.
        edits: how Keras's layers and operations depend on sizes.
        inner: id of a call -> the graph behind it, where it calls a model, or a layer that was expanded.
        additions: index of an operation -> the call that it is, of those that add two tensors and do nothing else.
        outside: id of a variable that operations are given, and no layer -> the tensor that stands for it.
    """

    graph: Graph
    symbolic: Symbolic
    edits: tuple[Edit, ...]
    inner: Mapping[int, Symbolic]
    additions: Mapping[int, Any]
    outside: Mapping[int, int]


def graph(model: keras.Model, example: Any | None = None) -> Graph:
    """The traced structure: one batch of one example, unless the model fixes its batch.

    Args:
        model: a built model. Functional models and ``Sequential`` are read as they are, models nested in them too; a
            model with a ``call`` of its own is called once on symbolic inputs.
        example: an input, needed where the model leaves sizes other than the batch open; only shapes are read.

    Raises:
        ExampleError: an example is needed, or does not fit.
        TraceError: the structure cannot be read.
        UnbuiltModelError: the model has no weights yet.
    """
    return trace(model, example).graph


def trace(model: keras.Model, example: Any | None = None) -> Trace:
    """As :func:`graph`, with what the operations are in Keras."""
    require_model(model)
    read = symbolic(model, example)
    recorder = Recorder(model)
    inputs = [recorder.tensor(shape) for shape in input_shapes(model, read.inputs, example)]
    reader = _Reader(recorder, layer_paths(model))
    outputs = reader.read(read, inputs, "")
    graph = recorder.graph(inputs, outputs)
    return Trace(graph, read, tuple(recorder.edits), reader.inner, reader.additions, reader.outside)


def outputs(model: keras.Model, example: Any | None = None) -> list[Array]:
    """The model's outputs in inference mode, one NumPy array a tensor.

    Args:
        model: a built model.
        example: an input; None to make one up from the shapes that the model knows.

    Raises:
        ExampleError: an example is needed, or the model does not accept it.
    """
    inputs = inputs_of(model, example)
    try:
        return outputs_of(model, inputs)
    except Exception as error:
        raise ExampleError(f"model {model.name!r} does not accept this example: {error}") from error


def made_up_like(model: keras.Model, graph: Graph, example: Any) -> Any:
    """Reproducible random numbers in the place of the example's: see :meth:`secateur.adapter.Adapter.made_up`."""
    read = symbolic(model, example)
    parts, entries = matched(read.inputs, example), graph.entries
    if all(is_noise(keras.ops.convert_to_numpy(part)) for part in parts):
        return None
    drawn = drawn_like(parts, [entries.get(number) for number in graph.inputs])
    return keras.tree.pack_sequence_as(read.input_structure, drawn)


def inputs_of(model: keras.Model, example: Any | None) -> Any:
    """What the model is called on, in the structure that it takes. Raises as :func:`outputs`."""
    require_model(model)
    known = own_graph(model)
    if example is None:
        read = symbolic(model, None)
        return keras.tree.pack_sequence_as(read.input_structure, made_up(model, read.inputs))
    if known is None:
        return example
    return keras.tree.pack_sequence_as(known.input_structure, matched(known.inputs, example))


class _Reader:
    """Walks a symbolic graph and the models nested in it, and has each call described."""

    def __init__(self, recorder: Recorder, paths: dict[int, str]) -> None:
        self.inner: dict[int, Symbolic] = {}
        self.additions: dict[int, Any] = {}
        self.outside: dict[int, int] = {}
        self._recorder = recorder
        self._own: dict[int, int] = {}
        self._paths = paths

    def read(self, graph: Symbolic, inputs: Sequence[int], path: str) -> list[int]:
        """Describe all calls between ``inputs`` and the graph's outputs, whose tensors are returned."""
        numbers = {id(tensor): number for tensor, number in zip(graph.inputs, inputs, strict=True)}
        for node in graph.nodes:
            results = self._call(node, numbers, path)
            numbers.update(zip(map(id, node.outputs), results, strict=True))
        return [numbers[id(tensor)] for tensor in graph.outputs]

    def _call(self, node: Any, numbers: dict[int, int], path: str) -> Sequence[int]:
        operation = node.operation
        given = [numbers[id(tensor)] for tensor in node.input_tensors]
        source = self._paths.get(id(operation)) or (f"{path}/{operation.name}" if path else operation.name)
        nested = own_graph(operation) or expanded(node)
        if nested is not None and len(nested.inputs) == len(given):
            self.inner[id(node)] = nested
            return self.read(nested, given, source)
        self._note_outside(Step(self._recorder, operation, (), {}, (), source, self._inside), node)
        known = {**self._own, **self.outside, **numbers}
        arguments, keywords = node.arguments.convert(
            lambda value: Number(known[id(value)]) if isinstance(value, SYMBOLS) and id(value) in known else value
        )
        shapes = self._shapes(node, numbers)
        step = Step(self._recorder, operation, tuple(arguments), keywords, shapes, source, self._inside)
        before = len(self._recorder.operations)
        results = unknown(step) if nested is not None else self._as_written(node, step) or describe(step)
        self._note_addition(node, before)
        return results

    def _note_outside(self, step: Step, node: Any) -> None:
        """Write down the weights that an operation is given by itself; raises TraceError where that cannot be kept."""
        if isinstance(node.operation, keras.Layer) or self._own:
            return
        for variable in arguments_of(node):
            weight = self._recorder.weights.get(id(variable))
            if weight is not None and id(variable) not in self.outside:
                require_holdable(weight, node.operation)
                self.outside[id(variable)] = weight_alone(step, weight)

    def _note_addition(self, node: Any, before: int) -> None:
        """Remember which operation a sum is; those inside of layers, but for models that they call, are none."""
        written = self._recorder.operations[before:]
        if type(node.operation).__name__ == "Add":
            self.additions.update(
                (before + index, node) for index, each in enumerate(written) if "adds" in each.settings
            )
            return
        self._recorder.operations[before:] = [
            each if before + index in self.additions else replace(each, settings=_without(each.settings, "adds"))
            for index, each in enumerate(written)
        ]

    def _as_written(self, node: Any, step: Step) -> Sequence[int] | None:
        """Read the code of a layer of the user's own with weights of its own, which stays as it is.

        It must adapt to smaller inputs by itself: no size may stand in its operations, and axes of its weights that do
        not follow its inputs stay.
        """
        graph, given = written(node), step.inputs
        if graph is None or len(given) != 1 or self._own:
            return None
        before = self._recorder.position
        self._own = own_weights_of(step, following_axes(step.operation, step.shape(given[0])))
        outputs = self.read(graph, given, step.source)
        self._own = {}
        if self._recorder.is_fixed(before):
            return outputs
        self._recorder.rewind(before)
        return None

    def _inside(self, step: Step) -> Outputs:
        """A call inside of another: of a layer that a layer wraps, or of a model."""
        nested = own_graph(step.operation)
        if nested is None:
            return describe(step)
        return tuple(self.read(nested, step.inputs, step.source))

    def _shapes(self, node: Any, numbers: dict[int, int]) -> tuple[Shape, ...]:
        """The shapes of the outputs for the shapes of the inputs at hand."""
        actual = [self._recorder.tensors[numbers[id(tensor)]] for tensor in node.input_tensors]
        recorded = [tuple(tensor.shape) for tensor in node.input_tensors]
        batches = {shape[:1] for shape in actual}
        shapes = [tuple(tensor.shape) for tensor in node.outputs]
        if isinstance(node.operation, keras.Layer) and len(batches) == 1 and () not in batches:
            (batch,) = batches
            kept = all(batch + shape[1:] == size for shape, size in zip(recorded, actual, strict=True))
            if kept and not any(None in shape[1:] for shape in shapes):
                return tuple(batch + shape[1:] for shape in shapes)
        return self._inferred(node, actual)

    def _inferred(self, node: Any, actual: Sequence[Shape]) -> tuple[Shape, ...]:
        """By Keras's rules for shapes; where those leave a size open, by a run on zeros."""
        stand_ins = {
            id(tensor): keras.KerasTensor(shape, dtype=tensor.dtype)
            for tensor, shape in zip(node.input_tensors, actual, strict=True)
        }
        try:
            shapes = _shapes_of(node, node.operation.compute_output_spec, stand_ins)
            if not any(None in shape for shape in shapes):
                return shapes
            zeros = {key: keras.ops.zeros(tensor.shape, tensor.dtype) for key, tensor in stand_ins.items()}
            with keras.StatelessScope():
                return _shapes_of(node, node.operation, zeros)
        except Exception as error:  # whatever Keras, the backend, or a layer of the user's own raises
            raise TraceError(
                f"{node.operation.name!r} ({type(node.operation).__name__}) does not run as it was recorded in the "
                f"call: {OPEN_SIZES} ({error})"
            ) from error


def _without(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}


def _shapes_of(node: Any, function: Callable[..., Any], tensors: dict[int, Any]) -> tuple[Shape, ...]:
    arguments, keywords = node.arguments.fill_in(tensors)
    return tuple(tuple(tensor.shape) for tensor in keras.tree.flatten(function(*arguments, **keywords)))
