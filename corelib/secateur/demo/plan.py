"""What the demo does: which recipes for which network, and how long each is trained. Numbers only, no framework."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path

from secateur.errors import OutOfRangeError, RecipeError
from secateur.recipe import Gradient, KSigma, Magnitude, Neurons, Percentile, Recipe, Weights
from secateur.schedules import Cubic

GRANULARITIES = ("weights", "neurons")
SCORES = ("magnitude", "gradient")
TARGETS = ("percentile", "k-sigma")
SCHEDULES = ("static", "gradual")

# How much goes: the percentile of the scores, and the number of standard deviations above their mean, up to which a
# weight or neuron is pruned. A trained network has small gradients everywhere, so they tell little about which weights
# it can spare: 90 % taken at once by gradient would destroy it, half does not. Scores of neurons lie close together.
PERCENTILES = {
    ("weights", "magnitude"): 90.0,
    ("weights", "gradient"): 50.0,
    ("neurons", "magnitude"): 50.0,
    ("neurons", "gradient"): 50.0,
}
SIGMAS = {
    ("weights", "magnitude"): 1.0,
    ("weights", "gradient"): 0.5,
    ("neurons", "magnitude"): 0.25,
    ("neurons", "gradient"): 0.25,
}
UPDATES = 20

# The six steps of pruning by importance scores, and what each does.
STEPS = {
    "build": "the same initial weights in every framework",
    "train": "the same batches in the same order; the learning rate falls to zero",
    "score": "one number a weight or neuron: how much it matters",
    "remove": "mask the lowest scores, at once or while training goes on",
    "fine-tune": "train on; what is masked stays zero",
    "evaluate": "on the test part: dense, masked, fine-tuned, and really smaller",
}


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Args:
        data: ``digits`` or ``mnist``.
        models: ``mlp``, ``cnn`` or both.
        frameworks: entry point names of the adapters to use; those that are not installed are passed over.
        backends: backends for Keras; empty for the first one that is installed.
        everything: the whole product of recipes instead of the subset.
        seed: of training and validation part, the initial weights and the order of the batches.
        epochs: epochs of the dense training; pruning and fine-tuning change in proportion. None for the default.
        out: the folder for results, report and event files.
    """

    data: str = "digits"
    models: tuple[str, ...] = ("mlp", "cnn")
    frameworks: tuple[str, ...] = ("torch", "keras")
    backends: tuple[str, ...] = ()
    everything: bool = False
    seed: int = 0
    epochs: int | None = None
    out: Path = Path("secateur-demo")


@dataclass(frozen=True)
class Choice:
    """One recipe of the demo, in words: one of each of the tuples above."""

    granularity: str
    score: str
    target: str
    schedule: str

    def __post_init__(self) -> None:
        known = (GRANULARITIES, SCORES, TARGETS, SCHEDULES)
        for word, words in zip(self.words, known, strict=True):
            if word not in words:
                raise RecipeError(f"the demo has no {word!r}; use one of {', '.join(words)}")

    @property
    def amount(self) -> str:
        """The target with its number: ``percentile 90``, ``k-sigma 1``."""
        values = PERCENTILES if self.target == "percentile" else SIGMAS
        return f"{self.target} {values[self.granularity, self.score]:g}"

    @property
    def label(self) -> str:
        """The whole recipe in words."""
        return " · ".join((self.granularity, self.score, self.amount, self.schedule))

    @property
    def words(self) -> tuple[str, str, str, str]:
        """The words, in the order of the fields."""
        return self.granularity, self.score, self.target, self.schedule

    def recipe(self, steps: int) -> Recipe:
        """The recipe itself; a gradual one is spread over ``steps`` optimizer steps.

        Magnitudes of weights compete over the whole model. Gradients of different layers are on different scales, and a
        layer must not lose all its neurons: there each layer is ranked by itself.
        """
        kind = self.granularity, self.score
        whole = Recipe(
            Percentile(PERCENTILES[kind]) if self.target == "percentile" else KSigma(SIGMAS[kind]),
            granularity=Weights() if self.granularity == "weights" else Neurons(),
            score=Magnitude() if self.score == "magnitude" else Gradient(),
            scope="model" if kind == ("weights", "magnitude") else "layer",
        )
        if self.schedule == "static":
            return whole
        return replace(whole, schedule=Cubic(begin=0, end=steps, every=max(1, math.ceil(steps / UPDATES))))


@dataclass(frozen=True)
class Training:
    """How long and how fast a network is trained.

    Args:
        batch: examples a batch.
        dense: epochs of the training before pruning.
        gradual: epochs over which a gradual recipe prunes.
        finetune: epochs of fine-tuning after the last pruning.
        rate: AdamW's learning rate at the start of the dense training; it falls to zero along half a cosine.
        tuning_rate: the same while a gradual recipe prunes, and at the start of fine-tuning, in which it falls too.
    """

    batch: int
    dense: int
    gradual: int
    finetune: int
    rate: float
    tuning_rate: float

    def scaled(self, epochs: int | None) -> Training:
        """The same training in proportion, with ``epochs`` for the dense part."""
        if epochs is None:
            return self
        if epochs < 1:
            raise OutOfRangeError(f"--epochs {epochs}: train for at least one epoch")
        share = epochs / self.dense
        return replace(
            self,
            dense=epochs,
            gradual=max(1, round(self.gradual * share)),
            finetune=max(1, round(self.finetune * share)),
        )

    def epochs(self, choice: Choice) -> int:
        """Epochs that a run of ``choice`` takes, from the trained network to the fine-tuned one."""
        return self.finetune + (self.gradual if choice.schedule == "gradual" else 0)


# Chosen on validation parts alone, by trials that decisions.md tells of. Weight decay keeps what the network does not
# need small, so that magnitudes tell more; it is the same before and after pruning.
WEIGHT_DECAY = 0.03
TRAININGS = {
    ("digits", "mlp"): Training(32, 60, 60, 40, rate=2e-2, tuning_rate=4e-2),
    ("digits", "cnn"): Training(32, 20, 20, 20, rate=5e-3, tuning_rate=1e-2),
    ("mnist", "mlp"): Training(128, 10, 6, 4, rate=2e-3, tuning_rate=3e-3),
    ("mnist", "cnn"): Training(128, 4, 2, 3, rate=2e-3, tuning_rate=2e-3),
}

# Without --all. Half of the product for the perceptron: any three words occur in every combination. A quarter for the
# convolutional network: any two of the first three words do.
SUBSETS = {
    "mlp": (
        "weights magnitude percentile gradual",
        "weights magnitude k-sigma static",
        "weights gradient percentile static",
        "weights gradient k-sigma gradual",
        "neurons magnitude percentile static",
        "neurons magnitude k-sigma gradual",
        "neurons gradient percentile gradual",
        "neurons gradient k-sigma static",
    ),
    "cnn": (
        "weights magnitude percentile gradual",
        "weights gradient k-sigma gradual",
        "neurons magnitude k-sigma static",
        "neurons gradient percentile static",
    ),
}


def choices(model: str, everything: bool) -> list[Choice]:
    """The recipes for a network, weights first."""
    if not everything:
        return [Choice(*words.split()) for words in SUBSETS[model]]
    return list(itertools.starmap(Choice, itertools.product(GRANULARITIES, SCORES, TARGETS, SCHEDULES)))
