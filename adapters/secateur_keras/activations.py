"""Statistics of what kernels read, taken from passes forward in inference mode.

For the time of a pass each layer with kernels looks at its input before it goes on. The pass runs eagerly, so that
inputs are numbers; what runs inside of a loop that a backend compiles has none to show, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from secateur.activations import Activations, Features, along, grouped_features
from secateur.windows import FLAT, Window, same_padding
from secateur_keras import backends
from secateur_keras.inference import forward
from secateur_keras.kinds.contractions import spelled
from secateur_keras.kinds.rules import dimensions
from secateur_keras.layouts import GATES
from secateur_keras.naming import below
from secateur_keras.parameters import layouts


@dataclass(frozen=True)
class Use:
    """A kernel that reads a tensor.

    Args:
        owner: the layer or cell that has the kernel.
        kernel: the name of its variable.
        x: what it reads.
        axis: of the features.
        features: which of them each weight multiplies; None if the kernel's canonical axis 1 says it.
        window: what a row of weights reads of them; None if that is no sum of products.
    """

    owner: Any
    kernel: str
    x: Any
    axis: int = -1
    features: Features | None = None
    window: Window | None = FLAT


Reader = Callable[[Any, Any], Iterator[Use]]


class Observer:
    """Runs a model on batches and sees what its kernels read.

    Args:
        model: a built model.
        needs: names of :data:`secateur.statistics.ACTIVATIONS`.
        state: the values of its trainable and other variables.
    """

    def __init__(self, model: keras.Model, needs: Sequence[str], state: tuple[Sequence[Any], Sequence[Any]]) -> None:
        self._model = model
        self._state = state
        self._activations = Activations(needs)
        self._kernels = {
            (id(weight.owner), weight.variable.name): (weight.name, form) for weight, form in layouts(model)
        }
        self._batch = 0

    def observe(self, inputs: Any, batch: int) -> None:
        """Run the model on the inputs of one batch. Raises InvalidTensorError, and whatever the model raises."""
        self._batch = batch
        with self._watched():
            forward(self._model, *self._state, backends.tensors(inputs))

    def means(self) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
        """See :meth:`secateur.activations.Activations.means`."""
        return self._activations.means()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What layers are called with is looked at, until the end of the block."""
        watched: list[tuple[keras.Layer, str]] = []
        try:
            for layer, _ in below(self._model):
                for method, function in self._functions(layer):
                    vars(layer)[method] = function
                    watched.append((layer, method))
            yield
        finally:
            for layer, method in watched:
                del vars(layer)[method]

    def _functions(self, layer: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
        kind: Any = next((kind for kind in type(layer).__mro__ if kind in READERS), None)
        if kind is not None and type(layer).call is kind.call:
            yield "call", partial(self._call, READERS[kind], layer, layer.call)
        if isinstance(layer, layers.RNN) and type(layer.cell) in GATES:
            yield "inner_loop", partial(self._inner_loop, layer, layer.inner_loop)

    def _call(self, reader: Reader, layer: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs["inputs"]
        if not isinstance(layer, layers.Embedding) or kwargs.get("reverse", args[1:] and args[1]):
            self._note(x, reader(layer, x))
        return call(*args, **kwargs)

    def _inner_loop(self, layer: Any, loop: Callable[..., Any], **given: Any) -> Any:
        """A recurrence, which for once tells all of its states: all but the last are read by the recurrent kernel."""
        sequences, start, whole = given["sequences"], given["initial_state"], layer.return_sequences
        layer.return_sequences = True
        try:
            last, outputs, states = loop(**given)
        finally:
            layer.return_sequences = whole
        self._note(sequences, [Use(layer.cell, "kernel", sequences)])
        if getattr(layer.cell, "reset_after", True):
            self._note(outputs, _states(layer.cell, start, outputs))
        return last, outputs, states

    def _note(self, x: Any, uses: Any) -> None:
        if backends.is_traced([x]):
            return
        for use in uses:
            name, form = self._kernels.get((id(use.owner), use.kernel), ("", None))
            if form is not None:
                axis = form.axes.index("in") if "in" in form.axes else 1
                features = along(axis, len(form.shape), form.shape[axis]) if use.features is None else use.features
                self._activations.add(name, _floats(use.x), use.axis, features, self._batch, use.window)


def _floats(x: Any) -> backends.Array:
    array = backends.array(x)
    return array.astype(np.float64) if array.dtype.kind in "iub" else array


def _states(cell: Any, start: Any, outputs: Any) -> Iterator[Use]:
    first = keras.tree.flatten(start)[0]
    yield Use(cell, "recurrent_kernel", first)
    yield Use(cell, "recurrent_kernel", outputs[:, :-1])


def _dense(layer: Any, x: Any) -> Iterator[Use]:
    yield Use(layer, "kernel", x)


def _convolution(layer: Any, x: Any) -> Iterator[Use]:
    axis = _channel_axis(layer, x)
    features = grouped_features(layer.filters, x.shape[axis], layer.groups, layer.rank)
    yield Use(layer, "kernel", x, axis, features, _window(layer, x, axis))


def _window(layer: Any, x: Any, axis: int) -> Window:
    """That of a convolution."""
    sides, strides, dilation = map(tuple, (layer.kernel_size, layer.strides, layer.dilation_rate))
    sizes = [size for each, size in enumerate(x.shape) if each not in (0, axis)]
    padding: tuple[tuple[int, int], ...] = ((0, 0),) * len(sides)
    if layer.padding == "same":
        padding = same_padding(sizes, sides, strides, dilation)
    if layer.padding == "causal":
        padding = (((sides[0] - 1) * dilation[0], 0),)
    return Window(sides, strides, dilation, padding)


def _transposed(layer: Any, x: Any) -> Iterator[Use]:
    yield Use(layer, "kernel", x, _channel_axis(layer, x), window=None)


def _depthwise(layer: Any, x: Any) -> Iterator[Use]:
    axis = _channel_axis(layer, x)
    yield Use(layer, "kernel", x, axis, _each_by_itself(layer, x), _window(layer, x, axis))


def _separable(layer: Any, x: Any) -> Iterator[Use]:
    """The pointwise kernel reads what the depthwise one makes, which is made once more."""
    axis = _channel_axis(layer, x)
    yield Use(layer, "depthwise_kernel", x, axis, _each_by_itself(layer, x), _window(layer, x, axis))
    if layer.padding in ("valid", "same"):
        options = {name: getattr(layer, name) for name in ("strides", "padding", "dilation_rate", "data_format")}
        yield Use(layer, "pointwise_kernel", keras.ops.depthwise_conv(x, layer.depthwise_kernel, **options), axis)


def _each_by_itself(layer: Any, x: Any) -> Features:
    """Of a depthwise kernel: so many outputs, one after the other, for each input channel."""
    channels = np.arange(x.shape[_channel_axis(layer, x)])
    return np.repeat(channels, layer.depth_multiplier).reshape(-1, 1, *[1] * layer.rank)


def _channel_axis(layer: Any, x: Any) -> int:
    return 1 if layer.data_format == "channels_first" else len(x.shape) - 1


def _einsum(layer: Any, x: Any) -> Iterator[Use]:
    """The axes that are summed over as one, in the kernel's order, as in its canonical layout."""
    known = spelled(layer.equation, [len(x.shape), len(layer.kernel.shape)])
    if known is None:
        return
    (data, kernel), result = known
    summed = [label for label in kernel if label in data and label not in result]
    others = [label for label in data if label not in summed]
    moved = keras.ops.transpose(x, [data.index(label) for label in [*others, *summed]])
    yield Use(layer, "kernel", keras.ops.reshape(moved, (*moved.shape[: len(others)], -1)))


def _scores_of_entries(layer: Any, x: Any) -> Iterator[Use]:
    """Of a table that is not looked up, but multiplied with features."""
    yield Use(layer, "embeddings" if layer.tie_weights else "reverse_embeddings", x)


READERS: dict[Any, Reader] = {
    layers.Dense: _dense,
    layers.EinsumDense: _einsum,
    **{getattr(layers, name): _convolution for name in dimensions("Conv")},
    **{getattr(layers, f"{name}Transpose"): _transposed for name in dimensions("Conv")},
    **{getattr(layers, name): _depthwise for name in dimensions("DepthwiseConv", (1, 2))},
    **{getattr(layers, name): _separable for name in dimensions("SeparableConv", (1, 2))},
    **({layers.ReversibleEmbedding: _scores_of_entries} if hasattr(layers, "ReversibleEmbedding") else {}),
}
