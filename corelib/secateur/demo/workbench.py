"""A network in one framework, seen through common names: build it, read it, measure it.

Common names are ``<layer>.<role>``, and the common order of flattened inputs is channels first; what leaves this file
is in both, whatever the framework calls and orders them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.adapter import Parameter
from secateur.batches import batches
from secateur.demo.data import DataSet
from secateur.demo.metrics import quality
from secateur.demo.networks import Network, channels_first, channels_last
from secateur.demo.twin import Twin
from secateur.report import StageMetrics
from secateur.structure.cost import cost

Array = npt.NDArray[Any]
Named = Mapping[str, Array]

STATISTIC = "mean_abs_gradient"
EXAMPLES = 64
BATCH = 128


@dataclass(frozen=True)
class Workbench:
    """Works on one network.

    Args:
        twin: the framework.
        network: which network.
        data: the data it is for.
    """

    twin: Twin
    network: Network
    data: DataSet

    @property
    def example(self) -> Any:
        """Inputs for tracing, and for verifying that the smaller model gives the masked one's outputs."""
        return self.twin.inputs(self.data.validation.images[:EXAMPLES])

    @property
    def batches(self) -> list[tuple[Any, Array]]:
        """The training part in the batches over which gradients are gathered, for scores."""
        inputs, labels = self.twin.inputs(self.data.train.images), self.data.train.labels
        return list(batches((inputs, labels), BATCH))

    def build(self, weights: Named) -> Any:
        """A new model with these weights."""
        model = self.twin.build(self.network)
        self.assign(model, weights)
        return model

    def assign(self, model: Any, weights: Named) -> None:
        """Replace the model's weights."""
        self.twin.assign(model, self._own(weights))

    def weights(self, model: Any) -> dict[str, Array]:
        """Copies of all weights and running statistics."""
        return self._common({_name(parameter): np.array(parameter.view) for parameter in self.parameters(model)})

    def gather(self, model: Any) -> dict[str, Array]:
        """The mean |gradient| of each parameter over the batches of the training part, as the framework computes it."""
        gathered = self.twin.ADAPTER.statistics(model, self.batches, self.twin.LOSS, [STATISTIC])[STATISTIC]
        names = {parameter.name: _name(parameter) for parameter in self.parameters(model)}
        return self._common({names[name]: array for name, array in gathered.items()})

    def statistics(self, model: Any, gathered: Named) -> dict[str, dict[str, Array]]:
        """The inverse of :meth:`gather`: as the adapter's functions take statistics."""
        own = self._own(gathered)
        by_name = {parameter.name: own.get(_name(parameter)) for parameter in self.parameters(model)}
        return {STATISTIC: {name: array for name, array in by_name.items() if array is not None}}

    def masks(self, model: Any, native: Named) -> dict[str, Array]:
        """Masks as a pruner hands them out, by common name."""
        canonical = self.twin.ADAPTER.canonical(model, native)
        names = {parameter.name: _name(parameter) for parameter in self.parameters(model)}
        return self._common({names[name]: mask for name, mask in canonical.items()})

    def stage(self, model: Any) -> StageMetrics:
        """How good the model is on the test part, and what it costs; its latency is measured later, in peace."""
        test = self.data.test
        trainable = [parameter.view for parameter in self.parameters(model) if parameter.trainable]
        return StageMetrics(
            **quality(self.twin.predict(model, test.images), test.labels),
            parameters=sum(view.size for view in trainable),
            nonzero=sum(int(np.count_nonzero(view)) for view in trainable),
            flops=cost(self.twin.ADAPTER.graph(model, self.example)).flops,
            bytes=self.twin.file_size(model),
        )

    def parameters(self, model: Any) -> list[Parameter]:
        """All parameters, as the adapter gives them."""
        return self.twin.ADAPTER.parameters(model)

    def _common(self, arrays: Named) -> dict[str, Array]:
        return channels_first(self.network, arrays) if self.twin.CHANNELS_LAST else dict(arrays)

    def _own(self, arrays: Named) -> dict[str, Array]:
        return channels_last(self.network, arrays) if self.twin.CHANNELS_LAST else dict(arrays)


def _name(parameter: Parameter) -> str:
    return f"{parameter.layer}.{parameter.role}"
