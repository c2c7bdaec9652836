"""How long a forward pass of a Keras model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from secateur.timing import some_calls
from secateur_keras import backends
from secateur_keras.inference import forward, values
from secateur_keras.tracing import inputs_of


def timer(model: keras.Model, example: Any) -> Callable[[], float]:
    """See :meth:`secateur.adapter.Adapter.timer`: compiled as ``model.predict`` would be, without its loop.

    Raises:
        ExampleError: the example does not fit.
    """
    backends.synchronise(model)
    state = values(model.trainable_variables), values(model.non_trainable_variables)
    inputs = backends.tensors(inputs_of(model, example))

    def run(trainable: Any, non_trainable: Any, given: Any) -> Any:
        return forward(model, trainable, non_trainable, given)

    ready = backends.inference(model, run)

    def run_to_the_end() -> None:
        for output in keras.tree.flatten(ready(*state, inputs)):
            backends.array(output)

    return lambda: min(some_calls(run_to_the_end))
