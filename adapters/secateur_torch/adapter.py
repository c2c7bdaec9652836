"""The PyTorch adapter: what :class:`secateur.adapter.Adapter` asks for, by the modules of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.adapter import Masks, Parameter, Smaller
from secateur.structure.graph import Graph
from secateur.structure.removal import Plan
from secateur_torch import (
    attributes,
    exported,
    files,
    fitting,
    inference,
    masking,
    modes,
    optimizers,
    parameters,
    statistics,
    steps,
    surgery,
    tracing,
)

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


class TorchAdapter:
    """Stateless; every method delegates to the module that owns the job. Errors are told there."""

    framework = "torch"
    backend = "torch"
    keeps_gradients = True

    def parameters(self, model: nn.Module, graph: Graph | None = None) -> list[Parameter]:
        """See :func:`secateur_torch.parameters.parameters`."""
        return parameters.parameters(model, graph)

    def reading(self, data: Any) -> AbstractContextManager[None]:
        """See :func:`secateur_torch.inference.reading`."""
        return inference.reading(data)

    def statistics(
        self,
        model: nn.Module,
        data: Any,
        loss: Any,
        needs: Iterable[str],
        example: Any | None = None,
        masks: Masks | None = None,
    ) -> dict[str, dict[str, Array]]:
        """See :func:`secateur_torch.statistics.statistics`."""
        return statistics.statistics(model, data, loss, needs, example, masks)

    def graph(self, model: nn.Module, example: Any | None) -> Graph:
        """See :func:`secateur_torch.tracing.graph`."""
        return tracing.graph(model, example)

    def outputs(self, model: nn.Module, example: Any | None, training: bool = False) -> list[Array]:
        """See :func:`secateur_torch.inference.outputs`."""
        return inference.outputs(model, example, training)

    def made_up(self, model: nn.Module, graph: Graph, example: Any | None) -> Any | None:
        """See :func:`secateur_torch.fitting.made_up`."""
        return fitting.made_up(model, graph, example)

    def step_gradients(self, model: nn.Module) -> dict[str, Array]:
        """See :func:`secateur_torch.steps.step_gradients`."""
        return steps.step_gradients(model)

    def apply(self, model: nn.Module, masks: Masks) -> None:
        """See :func:`secateur_torch.masking.apply`."""
        masking.apply(model, masks)

    def assign(self, model: nn.Module, values: Mapping[str, Array]) -> None:
        """See :func:`secateur_torch.parameters.assign`."""
        parameters.assign(model, values)

    def native(self, model: nn.Module, masks: Masks) -> dict[str, BoolArray]:
        """See :func:`secateur_torch.parameters.to_native`."""
        return parameters.to_native(model, masks)

    def canonical(self, model: nn.Module, masks: Masks) -> dict[str, BoolArray]:
        """See :func:`secateur_torch.parameters.to_canonical`."""
        return parameters.to_canonical(model, masks)

    def hold(self, model: nn.Module, masks: Masks, optimizer: torch.optim.Optimizer | None = None) -> masking.Hold:
        """See :func:`secateur_torch.masking.hold`."""
        return masking.hold(model, masks, optimizer)

    def compact(self, model: nn.Module, graph: Graph, plan: Plan, example: Any | None) -> Iterator[Smaller]:
        """See :func:`secateur_torch.surgery.compact`; if that is not enough, :func:`secateur_torch.attributes.mend`.

        Then, or at once for branches, the exported graph: no change of a module takes an addition out of its code.
        """
        if not plan.branches:
            small = surgery.compact(model, graph, plan)
            misfit = fitting.misfit(small, model, graph, plan, example)
            yield Smaller(small, "your own module, with smaller weights", misfit)
            if names := attributes.mend(small, model, graph, plan, example):
                form = f"your own module, with smaller weights and attributes ({', '.join(names)})"
                yield Smaller(small, form, fitting.misfit(small, model, graph, plan, example))
        written = exported.compact(model, graph, plan, example)
        lost = ", without what its code does in training alone" if modes.trains_otherwise(model, example) else ""
        yield Smaller(written, f"the graph that torch.export writes of your module{lost}")

    def timer(self, model: nn.Module, example: Any) -> Callable[[], float]:
        """See :func:`secateur_torch.inference.timer`."""
        return inference.timer(model, example)

    def carry_optimizer(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, small: nn.Module, plan: Plan
    ) -> torch.optim.Optimizer:
        """See :func:`secateur_torch.optimizers.carried`."""
        return optimizers.carried(optimizer, model, small, plan)

    def write_model(self, model: nn.Module, folder: Path) -> None:
        """See :func:`secateur_torch.files.write_model`."""
        files.write_model(model, folder)

    def read_model(self, folder: Path, model: nn.Module | None) -> nn.Module:
        """See :func:`secateur_torch.files.read_model`."""
        return files.read_model(folder, model)
