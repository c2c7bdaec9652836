"""One recipe from the trained network to the compact one: score, remove, fine-tune, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from secateur.demo.plan import Choice, Training
from secateur.demo.training import Trainer, constant, cosine
from secateur.demo.workbench import Named, Workbench
from secateur.pruned import Pruned
from secateur.pruner import prune
from secateur.report import Curve, Details, details, measured

Array = npt.NDArray[Any]


class PrunedRun:
    """Prunes one network by one recipe.

    Args:
        bench: the network in its framework.
        choice: the recipe.
        training: how long and how fast.
        seed: of the order of the batches.
        emit: called with an event's name and fields at the beginning of each step.
        tick: called after each epoch.

    Attributes:
        masks: after :meth:`perform`, the masks by common name.
        models: after :meth:`perform`, stage -> model, for measuring latency.
    """

    def __init__(
        self,
        bench: Workbench,
        choice: Choice,
        training: Training,
        seed: int,
        emit: Callable[..., None],
        tick: Callable[[], None],
    ) -> None:
        self.bench = bench
        self.choice = choice
        self.training = training
        self.seed = seed
        self.emit = emit
        self.tick = tick
        self.masks: dict[str, Array] = {}
        self.models: dict[str, Any] = {}

    def perform(self, weights: Named, gathered: Named) -> dict[str, Any]:
        """Carry the recipe out.

        Args:
            weights: of the trained network.
            gathered: gradient statistics of the same network.

        Returns:
            ``stages`` (pruned, finetuned, compact), ``max_error`` and the report's ``details``.
        """
        bench, twin = self.bench, self.bench.twin
        model = bench.build(weights)
        trainer = Trainer(
            bench, model, twin.optimizer(model, self.training.tuning_rate), self.training.batch, self.seed, self.tick
        )
        self._say("score", f"{self.choice.granularity} by {self.choice.score}")
        pruned = self._prune(trainer, gathered)
        stages = {"pruned": bench.stage(model)}
        self._say("fine-tune", f"{self.training.finetune} epochs")
        trainer.run("finetune", cosine(self.training.tuning_rate, self.training.finetune))
        self._say("evaluate", "on the test part; masked against removed")
        small = pruned.compact(bench.example)
        stages |= {"finetuned": bench.stage(model), "compact": bench.stage(small)}
        self.masks = bench.masks(model, pruned.masks)
        self.models = {"pruned": model, "finetuned": model, "compact": small}
        return {
            "stages": {name: stage.to_dict() for name, stage in stages.items()},
            "max_error": pruned.max_error,
            "details": self._details(pruned, weights, gathered, trainer.losses).to_dict(),
        }

    def _details(self, pruned: Pruned, weights: Named, gathered: Named, losses: list[float]) -> Details:
        """Weights and gradients before and after, what was removed and why, and the validation loss of each epoch."""
        bench, model = self.bench, pruned.model
        before = measured(bench.parameters(bench.build(weights)), bench.statistics(model, gathered))
        after = bench.statistics(model, bench.gather(model))
        outcome = replace(pruned.outcome(bench.example), before=before, statistics=after)
        epochs = tuple(float(epoch) for epoch in range(1, len(losses) + 1))
        curve = Curve("validation", epochs, tuple(losses), y_label="cross-entropy (nats)")
        return replace(details(outcome), curves=(curve,))

    def _prune(self, trainer: Trainer, gathered: Named) -> Pruned:
        """Remove at once, by what is known of the trained network; or step by step, while training goes on."""
        bench, twin = self.bench, self.bench.twin
        if self.choice.schedule == "static":
            statistics = bench.statistics(trainer.model, gathered)
            pruned: Pruned = prune(
                twin.ADAPTER, trainer.model, self.choice.recipe(0), example=bench.example, statistics=statistics
            )
            self._say("remove", f"{100 * pruned.sparsity:.1f} % of the weights, at once")
            return pruned
        epochs = self.training.gradual
        self._say("remove", f"little by little, over {epochs} epochs")
        recipe = self.choice.recipe(trainer.steps(epochs))
        held = twin.pruner(trainer.model, trainer.optimizer, recipe, bench.batches)
        trainer.run("gradual", constant(self.training.tuning_rate, epochs), held)
        return twin.session(held)

    def _say(self, step: str, text: str) -> None:
        self.emit("step", step=step, text=text)
