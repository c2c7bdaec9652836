"""The protocol that an adapter fulfils, and nothing else.

An adapter is the only code that knows a framework. It hands weights, statistics and the traced structure to the core
as NumPy arrays in the canonical view, and takes masks and removal plans back. The loop in :mod:`secateur.pruner` is
written against this protocol alone, which is what makes both frameworks give one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from secateur.structure.graph import PRUNABLE_ROLES, Graph, producing_axis
from secateur.structure.removal import Plan

Array = npt.NDArray[Any]
Masks = Mapping[str, npt.NDArray[np.bool_]]

__all__ = ["PRUNABLE_ROLES", "Adapter", "Array", "Hold", "Masks", "Parameter", "Smaller", "prunable"]


@dataclass(frozen=True)
class Parameter:
    """One weight, as the core sees it.

    Args:
        name: the framework's own name, unique in the model (``fc1.weight``, ``dense/kernel``).
        role: ``kernel``, ``recurrent``, ``embedding``, ``bias``, ``scale``, ``shift``, ``mean``, ``variance``,
            ``other``.
        view: the numbers, oriented canonically: ``(out, in, *spatial)`` for kernels, ``(gate, out, in)`` for recurrent
            kernels, ``(out,)`` for vectors, ``(entries, features)`` for embeddings; without a copy where the framework
            allows it, and never to be written by the core.
        axes: a name for each axis of ``view``: ``out``, ``in``, ``height``, ...
        layer: the name of the layer or module that owns it (``fc1``, ``dense``).
        trainable: whether training changes it.
        refusal: for a kernel that can only be looked at: why it cannot be pruned, and what to do.
    """

    name: str
    role: str
    view: Array
    axes: tuple[str, ...]
    layer: str = ""
    trainable: bool = True
    refusal: str = ""

    @property
    def producing_axis(self) -> int | None:
        """The axis along which it makes features; None if it makes none."""
        return producing_axis(self.role, self.axes)


def prunable(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The kernels, recurrent kernels and embeddings that hold at least one number."""
    return [parameter for parameter in parameters if parameter.role in PRUNABLE_ROLES and parameter.view.size]


@dataclass(frozen=True)
class Smaller:
    """A model without the units that a plan removes.

    Args:
        model: the framework's own model object.
        form: in words, how it came about: ``your own module, with smaller weights``.
        misfit: in words, what of it is not as planned, though its outputs for the example may not show it; else empty.
    """

    model: Any
    form: str
    misfit: str = ""


class Hold(Protocol):
    """Keeps masked weights at exactly 0.0 through every optimizer step, until released.

    A deep copy holds the same masks in the deep copy of the model (made with the same memo), for any optimizer.
    """

    def update(self, masks: Masks) -> None:
        """Replace the masks (canonical layout) and apply the new ones at once."""

    def forget(self, step: int) -> None:
        """Make the optimizers that train held weights as if new: no momenta, averages or counts of steps.

        Where an optimizer's own learning rate depends on its count of steps, the count becomes ``step``.
        """

    def release(self) -> None:
        """Stop holding and leave the optimizer as it was found. Weights keep their values."""


class Adapter(Protocol):
    """What the core asks of a framework. ``model`` is always the framework's own model object."""

    framework: str
    backend: str
    keeps_gradients: bool
    """Whether :meth:`step_gradients` can tell any."""

    def parameters(self, model: Any, graph: Graph | None = None) -> list[Parameter]:
        """All weights and running statistics; in the order of first use in ``graph`` if given, else of definition.

        Raises UnbuiltModelError, MissingWeightsError, UnsupportedDtypeError (a kernel of integers or complex numbers).
        """

    def reading(self, data: Any) -> AbstractContextManager[None]:
        """A block in which data may be read: random states, and loaders, are after it as they were before."""

    def statistics(
        self,
        model: Any,
        data: Any,
        loss: Any,
        needs: Iterable[str],
        example: Any | None = None,
        masks: Masks | None = None,
    ) -> dict[str, dict[str, Array]]:
        """Statistic name -> parameter name -> array in canonical layout: :func:`secateur.gathering.gather`.

        Of the model under ``masks``, where given. The model is left as found: weights, gradients, running statistics,
        training mode; and so is the data, as :meth:`reading` tells. Raises MissingDataError, InvalidTensorError.
        """

    def graph(self, model: Any, example: Any | None) -> Graph:
        """The traced structure. Raises ExampleError, TraceError."""

    def outputs(self, model: Any, example: Any | None, training: bool = False) -> list[Array]:
        """The model's outputs in inference mode, one NumPy array a tensor, in a fixed order.

        ``training``: those of the pass in training mode; asked for only where the graph has one.
        """

    def made_up(self, model: Any, graph: Graph, example: Any | None) -> Any | None:
        """Another input of the example's shapes and types, the same each time; None if that would tell nothing new.

        It would not where the example was made up itself, or is :func:`secateur.verification.is_noise` throughout.

        Floating-point numbers are standard normal. What an ``embedding`` of the graph reads directly are whole numbers
        below the table's number of entries. Other whole numbers and booleans are those of the example.
        """

    def step_gradients(self, model: Any) -> dict[str, Array]:
        """Parameter name -> gradient of the training step that has just been made, in canonical layout.

        Raises MissingDataError: the framework keeps none, or there are none.
        """

    def apply(self, model: Any, masks: Masks) -> None:
        """Write exact zeros where a mask (canonical layout) is False. Other weights keep their bits."""

    def assign(self, model: Any, values: Mapping[str, Array]) -> None:
        """Write whole parameters or running statistics: numbers in canonical layout, of the parameter's own dtype."""

    def native(self, model: Any, masks: Masks) -> dict[str, npt.NDArray[np.bool_]]:
        """The masks in each parameter's own layout, C-contiguous."""

    def canonical(self, model: Any, masks: Masks) -> dict[str, npt.NDArray[np.bool_]]:
        """The inverse of :meth:`native`."""

    def hold(self, model: Any, masks: Masks, optimizer: Any | None = None) -> Hold:
        """Apply the masks and keep them through any optimizer's steps; ``optimizer`` must own some of the weights."""

    def compact(self, model: Any, graph: Graph, plan: Plan, example: Any | None) -> Iterator[Smaller]:
        """New, ordinary, smaller models, in the training mode of ``model``, which is not touched; best form first.

        The next one is made only if it is asked for, when the one before did not give the right outputs. Raises
        TraceError where there is no way, or no further way, to make one.
        """

    def timer(self, model: Any, example: Any) -> Callable[[], float]:
        """A function that runs the model on the example in inference mode, as its user would, and returns seconds.

        Seconds are those of one pass, the least of a few (:func:`secateur.timing.some_calls`) after warming up, until
        all results are there. Each call leaves the model as it was. Raises ExampleError.
        """

    def carry_optimizer(self, optimizer: Any, model: Any, small: Any, plan: Plan) -> Any:
        """An optimizer for ``small``, which the plan made of ``model``, that goes on where ``optimizer`` stopped.

        Raises HoldError: it trains something else than the model, or cannot be carried over.
        """

    def write_model(self, model: Any, folder: Path) -> None:
        """Write weights (safetensors) and what is needed to rebuild the architecture. Never pickle."""

    def read_model(self, folder: Path, model: Any | None) -> Any:
        """The model that was written, built from the folder or, where that is impossible, from ``model``."""
