"""What one process does: train the networks in one framework, prune them by every recipe, and measure.

Written once for all frameworks: what belongs to a framework is in its :class:`~secateur.demo.twin.Twin`, and all
pruning in its adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from secateur.demo import plan
from secateur.demo.data import DataSet
from secateur.demo.exchange import Exchange
from secateur.demo.metrics import latencies_ms, latency_inputs
from secateur.demo.networks import Network
from secateur.demo.plan import Choice, Options, Training
from secateur.demo.recipe_run import PrunedRun
from secateur.demo.training import Trainer, cosine
from secateur.demo.twin import Twin
from secateur.demo.workbench import Named, Workbench
from secateur.pruner import Pruner

Array = npt.NDArray[Any]
Emit = Callable[..., None]


class Experiment:
    """One platform's part of the demo.

    Args:
        twin: the framework.
        platform: its name, for the files that it writes.
        options: what the user asked for.
        exchange: where data and initial weights lie, and where trained weights and masks go.
        emit: called with an event's name and its fields, to tell how far things are.
    """

    def __init__(self, twin: Twin, platform: str, options: Options, exchange: Exchange, emit: Emit) -> None:
        self.twin = twin
        self.platform = platform
        self.options = options
        self.exchange = exchange
        self.emit = emit
        self._models: dict[str, Any] = {}
        self._trained_masks: dict[str, dict[str, Array]] = {}

    @cached_property
    def data(self) -> DataSet:
        """The data set, read when it is first needed."""
        return self.exchange.read_data()

    def train(self, model: str) -> dict[str, Any]:
        """Build and train a network; leave its weights and gradient statistics for everyone, return its figures."""
        bench, training = self._bench(model), self._training(model)
        self.emit("step", step="build", text=f"{model}: {bench.network.summary}")
        built = bench.build(self.exchange.read("initial", model))
        self.emit("step", step="train", text=f"{model}: {training.dense} epochs")
        trainer = Trainer(
            bench, built, self.twin.optimizer(built, training.rate), training.batch, self.options.seed, self._tick
        )
        trainer.run("dense", cosine(training.rate, training.dense))
        self.exchange.write("trained", model, bench.weights(built), self.platform)
        self.exchange.write("statistics", model, bench.gather(built), self.platform)
        self._models[f"{model}/dense"] = built
        return {"dense": bench.stage(built).to_dict(), "losses": trainer.losses}

    def compare(self, model: str, reference: str) -> dict[str, Any]:
        """Make every recipe's masks for the weights that another platform trained, and leave them for everyone.

        Twice: from the statistics that came with the weights, and from gradients that this framework computes itself.
        """
        self.emit("step", step="compare", text=f"{model}: masks for the weights that {reference} trained")
        bench = self._bench(model)
        weights = self.exchange.read("trained", model, reference)
        shared = self.exchange.read("statistics", model, reference)
        own = bench.gather(bench.build(weights))
        self.exchange.write("own-statistics", model, own, self.platform)
        for kind, gathered in {"shared-masks": shared, "own-masks": own}.items():
            masks: dict[str, Array] = {}
            for choice in plan.choices(model, self.options.everything):
                masks |= _labelled(choice, self._masks(bench, weights, gathered, choice))
            self.exchange.write(kind, model, masks, self.platform)
        return {}

    def run(self, model: str, words: list[str]) -> dict[str, Any]:
        """Score, remove, fine-tune and evaluate by one recipe, starting from the network that :meth:`train` left."""
        choice = Choice(*words)
        run = PrunedRun(self._bench(model), choice, self._training(model), self.options.seed, self.emit, self._tick)
        weights = self.exchange.read("trained", model, self.platform)
        figures = run.perform(weights, self.exchange.read("statistics", model, self.platform))
        self._trained_masks.setdefault(model, {}).update(_labelled(choice, run.masks))
        self.exchange.write("trained-masks", model, self._trained_masks[model], self.platform)
        self._models |= {f"{model}/{choice.label}/{stage}": kept for stage, kept in run.models.items()}
        return figures

    def time(self) -> dict[str, Any]:
        """Milliseconds of a forward pass of every model made so far; nothing else should run meanwhile."""
        inputs = self.twin.inputs(latency_inputs(self.data.test.images))
        forwards = {name: partial(self.twin.forward, model, inputs) for name, model in self._models.items()}
        return latencies_ms(forwards)

    def download(self, path: str) -> dict[str, Any]:
        """Fetch MNIST by the framework's own loader."""
        self.twin.download_mnist(Path(path))
        return {}

    def _masks(self, bench: Workbench, weights: Named, gathered: Named, choice: Choice) -> dict[str, Array]:
        """The masks at the end of a recipe's schedule, with weights and statistics standing still."""
        model = bench.build(weights)
        statistics = bench.statistics(model, gathered)
        pruner = Pruner(
            self.twin.ADAPTER, model, choice.recipe(plan.UPDATES), example=bench.example, statistics=statistics
        )
        pruner.advance(plan.UPDATES)
        return bench.masks(model, pruner.masks)

    def _bench(self, model: str) -> Workbench:
        return Workbench(self.twin, Network(model, self.data.image), self.data)

    def _training(self, model: str) -> Training:
        return plan.TRAININGS[self.options.data, model].scaled(self.options.epochs)

    def _tick(self) -> None:
        self.emit("tick")


def _labelled(choice: Choice, masks: Named) -> dict[str, Array]:
    return {f"{choice.label}/{name}": mask for name, mask in masks.items()}
