"""Training in the demo: one order of batches and one course of learning rates for all frameworks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.demo.metrics import cross_entropy
from secateur.demo.workbench import Workbench

Array = npt.NDArray[Any]

# Each part of a run shuffles by itself, so that runs do not depend on what was trained before them.
STAGES = {"dense": 0, "gradual": 1, "finetune": 2}


@dataclass
class Trainer:
    """Trains one model with one optimizer.

    Args:
        bench: the network and its data; the training and validation parts are used, the test part is not.
        model: the model.
        optimizer: its optimizer.
        batch: examples a batch.
        seed: of the order of the batches.
        tick: called after each epoch.
        losses: validation loss after each epoch, filled in as training goes on.
    """

    bench: Workbench
    model: Any
    optimizer: Any
    batch: int
    seed: int
    tick: Callable[[], None]
    losses: list[float] = field(default_factory=list)

    def steps(self, epochs: int) -> int:
        """Optimizer steps in so many epochs."""
        return epochs * math.ceil(len(self.bench.data.train) / self.batch)

    def run(self, stage: str, rates: list[float], pruner: Any | None = None) -> None:
        """Train for one epoch a learning rate. What counts is the model at the end, where the rate is all but zero.

        Args:
            stage: a key of STAGES.
            rates: the learning rate of each epoch.
            pruner: the adapter's pruner, if the recipe follows a schedule.
        """
        twin, train = self.bench.twin, self.bench.data.train
        for epoch, rate in enumerate(rates, start=1):
            twin.set_rate(self.optimizer, rate)
            order = np.random.default_rng((self.seed, STAGES[stage], epoch)).permutation(len(train))
            twin.train_epoch(self.model, self.optimizer, train.images[order], train.labels[order], self.batch, pruner)
            self.losses.append(self._validation_loss())
            self.tick()

    def _validation_loss(self) -> float:
        validation = self.bench.data.validation
        return cross_entropy(self.bench.twin.predict(self.model, validation.images), validation.labels)


def constant(rate: float, epochs: int) -> list[float]:
    """The same learning rate in every epoch."""
    return [rate] * epochs


def cosine(rate: float, epochs: int) -> list[float]:
    """From ``rate`` down half a cosine, so that the last epochs move little."""
    return [rate * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs)]
