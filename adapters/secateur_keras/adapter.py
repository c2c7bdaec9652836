"""Fulfils :class:`secateur.adapter.Adapter` for Keras 3; each method belongs to the module that owns its subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from secateur.adapter import Masks, Parameter, Smaller
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_keras import carrying, files, masking, parameters, reading, statistics, steps, surgery, timing, tracing

Array = npt.NDArray[Any]
BoolArrays = dict[str, npt.NDArray[np.bool_]]


class KerasAdapter:
    """Keras 3 on the active backend: ``tensorflow``, ``jax`` or ``torch``."""

    framework = "keras"
    keeps_gradients = False

    def __init__(self) -> None:
        self.backend = str(keras.backend.backend())

    def parameters(self, model: keras.Model, graph: Graph | None = None) -> list[Parameter]:
        """See :func:`secateur_keras.parameters.parameters`."""
        return parameters.parameters(model, graph)

    def reading(self, data: Any) -> AbstractContextManager[None]:
        """See :func:`secateur_keras.reading.reading`."""
        return reading.reading(data)

    def statistics(
        self,
        model: keras.Model,
        data: Any,
        loss: Any,
        needs: Iterable[str],
        example: Any | None = None,
        masks: Masks | None = None,
    ) -> dict[str, dict[str, Array]]:
        """See :func:`secateur_keras.statistics.statistics`."""
        return statistics.statistics(model, data, loss, needs, example, masks)

    def graph(self, model: keras.Model, example: Any | None = None) -> Graph:
        """See :func:`secateur_keras.tracing.graph`."""
        return tracing.graph(model, example)

    def outputs(self, model: keras.Model, example: Any | None = None, training: bool = False) -> list[Array]:
        """See :func:`secateur_keras.tracing.outputs`; a pass in training mode is never traced."""
        return tracing.outputs(model, example)

    def made_up(self, model: keras.Model, graph: Graph, example: Any | None) -> Any | None:
        """See :func:`secateur_keras.tracing.made_up_like`; without an example, outputs are those of a made-up one."""
        return None if example is None else tracing.made_up_like(model, graph, example)

    def step_gradients(self, model: keras.Model) -> dict[str, Array]:
        """See :func:`secateur_keras.steps.step_gradients`."""
        return steps.step_gradients(model)

    def apply(self, model: keras.Model, masks: Masks) -> None:
        """See :func:`secateur_keras.masking.apply`."""
        masking.apply(model, masks)

    def assign(self, model: keras.Model, values: Mapping[str, Array]) -> None:
        """See :func:`secateur_keras.parameters.assign`."""
        parameters.assign(model, values)

    def native(self, model: keras.Model, masks: Masks) -> BoolArrays:
        """See :func:`secateur_keras.parameters.to_native`."""
        return parameters.to_native(model, masks)

    def canonical(self, model: keras.Model, masks: Masks) -> BoolArrays:
        """See :func:`secateur_keras.parameters.to_canonical`."""
        return parameters.to_canonical(model, masks)

    def hold(self, model: keras.Model, masks: Masks, optimizer: Any | None = None) -> masking.Hold:
        """See :func:`secateur_keras.masking.hold`."""
        return masking.hold(model, masks, optimizer)

    def compact(self, model: keras.Model, graph: Graph, plan: Plan, example: Any | None) -> Iterator[Smaller]:
        """See :func:`secateur_keras.surgery.compact`."""
        small = surgery.compact(model, graph, plan)
        yield Smaller(small, surgery.form(model, small))

    def timer(self, model: keras.Model, example: Any) -> Callable[[], float]:
        """See :func:`secateur_keras.timing.timer`."""
        return timing.timer(model, example)

    def carry_optimizer(self, optimizer: Any, model: keras.Model, small: keras.Model, plan: Plan) -> Any:
        """See :func:`secateur_keras.carrying.carried`."""
        return carrying.carried(optimizer, model, small, plan)

    def write_model(self, model: keras.Model, folder: Path) -> None:
        """See :func:`secateur_keras.files.write_model`."""
        files.write_model(model, folder)

    def read_model(self, folder: Path, model: keras.Model | None = None) -> keras.Model:
        """See :func:`secateur_keras.files.read_model`."""
        return files.read_model(folder, model)
